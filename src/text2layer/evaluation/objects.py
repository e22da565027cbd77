"""Protocol `objects`: which of the things that a model learnt does it draw when asked by name?"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text2layer.data.known_samples import KnownBatch
from text2layer.data.named_things import AskedThings
from text2layer.errors import WeightsError
from text2layer.evaluation.collector import Collector, is_first_process
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.networks import Networks
from text2layer.evaluation.object_accuracy import Gallery, object_features, ranks
from text2layer.evaluation.reconstruction import as_components
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Run
from text2layer.tensors import colour_to_bytes

VERSION = 1
NEAREST = 5
ROWS = ("", "_ceiling", "_chance")  # as drawn; real, encoded and decoded; another thing's


def objects(drawer: Drawer, asked: AskedThings, networks: Networks, run: Run) -> ProtocolResult:
    """Draw every thing as often as it is asked for and look which learnt thing it is nearest to.

    Figures: share of pictures whose nearest thing, and whose five nearest, hold the asked one;
    beside it the same for a real drawing of the thing that went through the autoencoder (ceiling)
    and for the drawn picture as if another thing had been asked for (chance). Each is the mean over
    things of the mean over their pictures, with a bootstrap over things. `about["things"]` counts
    each.

    Raises:
        WeightsError: the network that looks is not to be had.
    """
    network = networks.get("objects")
    if network is None:
        raise WeightsError(f"Objects cannot be looked at: {networks.missing['objects']}")
    gallery = make_gallery(asked, network, run)
    result = ProtocolResult("objects", VERSION, len(asked.things))
    with Collector() as collector:
        for batch in run.batches(asked, "objects"):
            numbers = batch.numbers.tolist()
            drawn = drawer(batch.captions["whole"], [asked.picture_seed(n) for n in numbers])
            near = gallery.similarity(object_features(network, drawn.foreground, drawn.mask))
            real = gallery.similarity(decoded_features(drawer, batch, network))
            answer = asked.answer(numbers)
            another = (answer + len(asked.names) // 2) % len(asked.names)
            collector.add(
                batch.numbers,
                {
                    "": ranks(near, answer),
                    "_ceiling": ranks(real, answer),
                    "_chance": ranks(near, another),
                    "nearest": near.nan_to_num(-1.0).argmax(1),
                    "empty": near.isnan().any(1),
                },
            )
            run.show(result, batch, drawn)
        rows = collector.per_sample()
    by_thing = {name: row.reshape(len(asked.things), asked.seeds) for name, row in rows.items()}
    for name in ROWS:
        for within in (1, NEAREST):
            found = (by_thing[name] < within).mean(1)
            result.add_means({f"object_top{within}{name}": found})
    result.add_means({"empty_masks": by_thing["empty"].mean(1)})
    result.about |= {
        "seeds": asked.seeds,
        "known_things": len(gallery.names),
        "known_drawings": len(gallery.owners),
        "drawings_sha256": _ids_sha256(asked),
        "things": counts(asked, by_thing),
    }
    finished = run.finish(result, drawer, asked, networks)
    finished.about["split"] = "train"
    finished.about["picture_seeds"] = "first 8 hexadecimal digits of SHA-256, see docs/benchmark.md"
    return finished


def make_gallery(asked: AskedThings, network: Any, run: Run) -> Gallery:
    """The features of all drawings that the model learnt, kept in `run.references`."""
    decided_by = (
        "objects", VERSION, asked.fingerprint, _ids_sha256(asked), asked.composer.height,
        asked.composer.width, getattr(network, "sha256", ""),
    )  # fmt: skip
    kept = run.references.get("objects", decided_by)
    if kept is None:
        features = torch.cat(
            [object_features(network, *parts) for parts in asked.gallery(run.batch_size)]
        )
        if is_first_process():
            run.references.put("objects", decided_by, features.numpy())
    else:
        features = torch.from_numpy(np.array(kept))
    return Gallery(asked.names, asked.owners, features.nan_to_num(0.0))


def decoded_features(drawer: Drawer, batch: KnownBatch, network: Any) -> Tensor:
    """Features of real drawings that went through the autoencoder."""
    autoencoder = drawer.pipeline.autoencoder
    parts = as_components(batch, autoencoder.device)
    with torch.no_grad():
        made = autoencoder(parts.foreground, parts.background, parts.mask)
    return object_features(network, colour_to_bytes(made.foreground), made.mask)


def counts(asked: AskedThings, by_thing: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """For each thing how many of its pictures were right, and what the others were taken for."""
    found = []
    for place, thing in enumerate(asked.things):
        rank, nearest = by_thing[""][place], by_thing["nearest"][place]
        wrong = Counter(
            asked.names[int(name)]
            for name, away, empty in zip(nearest, rank, by_thing["empty"][place], strict=True)
            if away >= 1 and not empty
        )
        found.append(
            {
                "name": thing.caption, "style": thing.style, "concept": thing.concept,
                "prompt": thing.phrase, "top1": int((rank < 1).sum()),
                "top5": int((rank < NEAREST).sum()), "seeds": asked.seeds,
                "taken_for": [name for name, _ in wrong.most_common()],
            }
        )  # fmt: skip
    return found


def _ids_sha256(asked: AskedThings) -> str:
    ids = "\n".join(record.id for record in asked.composer.foregrounds)
    return hashlib.sha256(ids.encode()).hexdigest()
