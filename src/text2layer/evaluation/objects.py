"""Protocol `objects`: which of the things that a model learnt does it draw when asked by name?

Object accuracy asks whether what was drawn is nearest to the thing that was asked for. A drawn
foreground is cut to its mask's bounding box, laid on mid grey in a square, and looked at through
EfficientNet-lite0 (pooled features, 1280 numbers, cosine). Its neighbours are all drawings that the
model learnt, seen at the same size in the same way; several of one thing count once, by the
nearest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from text2layer.data.named_things import AskedThings
from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.collector import NEUTRAL, Collector, is_first_process, on_neutral
from text2layer.evaluation.drawing import Drawer, reconstructed
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Networks, Run
from text2layer.models.efficientnet import network_input
from text2layer.models.frozen import module_sha256
from text2layer.parts import Parts
from text2layer.tensors import colour_to_bytes

VERSION = 2
NEAREST = 5
INSIDE = 0.5  # mask above which a pixel belongs to the object's bounding box
GALLERY_BATCH = 16  # fixed, so that no option changes a gallery
GALLERIES = {  # suffix of the figures -> what drawn objects are compared with
    "": "the drawings, encoded and decoded by the model's autoencoder",
    "_real": "the drawings as they are",
}
ROWS = ("", "_ceiling", "_chance")  # as drawn; real, encoded and decoded; another thing's


def objects(drawer: Drawer, asked: AskedThings, networks: Networks, run: Run) -> ProtocolResult:
    """Draw every thing as often as it is asked for and look which learnt thing it is nearest to.

    Figures: share of pictures whose nearest thing, and whose five nearest, hold the asked one;
    beside it the same for a real drawing of the thing that went through the autoencoder before the
    background of the picture (ceiling) and for the drawn picture as if another thing had been asked
    for (chance). The neighbours are the drawings as the autoencoder decodes them; figures named
    `_real` are the same with the drawings as they are, which are sharper than anything that the
    model can draw. Each is the mean over things of the mean over their pictures, with a bootstrap
    over things. `about["things"]` counts each.

    Raises:
        WeightsError: the network that looks is not to be had.
    """
    network = networks.get("objects")
    if network is None:
        raise WeightsError(f"Objects cannot be looked at: {networks.missing['objects']}")
    autoencoder = drawer.pipeline.autoencoder
    galleries = {
        "": make_gallery(asked, network, run, autoencoder),
        "_real": make_gallery(asked, network, run),
    }
    result = ProtocolResult("objects", VERSION, len(asked.things))
    with Collector() as collector:
        for batch in run.batches(asked, "objects"):
            numbers = batch.numbers.tolist()
            drawn = drawer(batch.captions["whole"], [asked.picture_seed(n) for n in numbers])
            seen = object_features(network, drawn.foreground, drawn.soft_mask)
            real = decoded_features(autoencoder, batch.to_float(), network)
            answer = asked.answer(numbers)
            another = (answer + len(asked.names) // 2) % len(asked.names)
            near = galleries[""].similarity(seen).nan_to_num(-1.0)
            found = {"nearest": near.argmax(1), "empty": seen.isnan().any(1)}
            for name, gallery in galleries.items():
                near = gallery.similarity(seen)
                found |= {
                    name: ranks(near, answer),
                    f"{name}_ceiling": ranks(gallery.similarity(real), answer),
                    f"{name}_chance": ranks(near, another),
                }
            collector.add(batch.numbers, found)
            run.show(result, batch, drawn)
        rows = collector.per_sample()
    by_thing = {name: row.reshape(len(asked.things), asked.seeds) for name, row in rows.items()}
    for name in GALLERIES:
        for row in ROWS:
            for within in (1, NEAREST):
                right = (by_thing[name + row] < within).mean(1)
                result.add_means({f"object_top{within}{name}{row}": right})
    result.add_means({"empty_masks": by_thing["empty"].mean(1)})
    result.about |= {
        "seeds": asked.seeds,
        "known_things": len(asked.names),
        "known_drawings": len(asked.owners),
        "drawings_sha256": _ids_sha256(asked),
        "galleries": {f"object_top1{name}": of for name, of in GALLERIES.items()},
        "autoencoder_sha256": module_sha256(autoencoder),
        "things": counts(asked, by_thing),
    }
    finished = run.finish(result, drawer, asked, networks)
    finished.about["split"] = "train"
    finished.about["picture_seeds"] = "first 8 hexadecimal digits of SHA-256, see docs/benchmark.md"
    return finished


def make_gallery(asked: AskedThings, network: Any, run: Run, autoencoder: Any = None) -> Gallery:
    """The features of all drawings that the model learnt, kept in `run.references`.

    Args:
        asked: whose composer holds the drawings.
        network: that looks at them.
        run: whose references keep the features.
        autoencoder: that encodes and decodes them first; None takes them as they are.
    """
    decided_by = (
        "objects", VERSION, asked.fingerprint, _ids_sha256(asked), asked.composer.height,
        asked.composer.width, getattr(network, "sha256", ""),
        "" if autoencoder is None else module_sha256(autoencoder),
    )  # fmt: skip
    kept = run.references.get("objects", decided_by)
    if kept is None:
        rows = []
        for made in asked.gallery(GALLERY_BATCH):
            if autoencoder is None:
                rows.append(object_features(network, colour_to_bytes(made.foreground), made.mask))
            else:
                rows.append(decoded_features(autoencoder, made, network))
        features = torch.cat(rows)
        if is_first_process():
            run.references.put("objects", decided_by, features.numpy())
    else:
        features = torch.from_numpy(np.array(kept))
    return Gallery(asked.names, asked.owners, features.nan_to_num(0.0))


def decoded_features(autoencoder: Any, parts: Parts, network: Any) -> Tensor:
    """Features (B, D) of real drawings that went through the autoencoder."""
    made = reconstructed(autoencoder, parts)
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
                "prompt": thing.phrase, **{
                    f"top{within}{name}": int((by_thing[name][place] < within).sum())
                    for name in GALLERIES for within in (1, NEAREST)
                },
                "seeds": asked.seeds,
                "taken_for": [name for name, _ in wrong.most_common()],
            }
        )  # fmt: skip
    return found


def _ids_sha256(asked: AskedThings) -> str:
    ids = "\n".join(record.id for record in asked.composer.foregrounds)
    return hashlib.sha256(ids.encode()).hexdigest()


def cut_to_object(
    picture: np.ndarray, mask: np.ndarray, ground: int = NEUTRAL
) -> np.ndarray | None:
    """The part of a picture that its object fills, in the middle of a square.

    Args:
        picture: (H, W, 3) or (H, W) uint8, the object on its ground.
        mask: (H, W) in [0, 1].
        ground: level of the ground, which the square is filled up with.

    Returns:
        (S, S[, 3]) uint8, S the longer side of the bounding box; None where the mask is nowhere
        above .5.
    """
    rows, columns = np.nonzero(mask > INSIDE)
    if not len(rows):
        return None
    part = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = part.shape[:2]
    side = max(height, width)
    square = np.full((side, side, *picture.shape[2:]), ground, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = part
    return square


@torch.no_grad()
def object_features(network: Any, foreground: Tensor, mask: Tensor) -> Tensor:
    """Features of objects, of unit length.

    Args:
        network: `EfficientNetLite0`, or another that maps `network_input` to features (N, D).
        foreground: (N, 3, H, W) uint8, straight colour.
        mask: (N, 1, H, W) in [0, 1].

    Returns:
        (N, D) float32 on the CPU; NaN where the mask is empty.

    Raises:
        InputError: foreground and mask do not fit one another.
    """
    if foreground.shape[0] != mask.shape[0] or foreground.shape[2:] != mask.shape[2:]:
        raise InputError(
            f"A mask of shape {tuple(mask.shape)} does not fit a foreground of shape "
            f"{tuple(foreground.shape)}."
        )
    mask = mask.float().cpu()
    pictures = on_neutral(foreground.cpu(), mask).permute(0, 2, 3, 1).numpy()
    squares = [cut_to_object(*pair) for pair in zip(pictures, mask[:, 0].numpy(), strict=True)]
    seen = [place for place, square in enumerate(squares) if square is not None]
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    found = [square for square in squares if square is not None]
    rows = network(network_input(found or [np.zeros((8, 8, 3), np.uint8)]).to(device)).cpu().float()
    features = torch.full((len(squares), rows.shape[1]), torch.nan)
    features[seen] = F.normalize(rows[: len(seen)], dim=1)
    return features


@dataclass(frozen=True)
class Gallery:
    """What drawn objects are compared with.

    Attributes:
        names: of the T things.
        owners: (G,) which thing each drawing shows, 0 to T - 1; every thing has one.
        features: (G, D) of unit length.
    """

    names: list[str]
    owners: Tensor
    features: Tensor

    def similarity(self, features: Tensor) -> Tensor:
        """Cosine (N, T) of objects with the nearest drawing of each thing; NaN for NaN.

        Args:
            features: (N, D) of unit length, or NaN.
        """
        cosines = features @ self.features.T  # (N, G)
        best = torch.full((len(features), len(self.names)), -torch.inf)
        return best.scatter_reduce(1, self.owners.expand_as(cosines), cosines, "amax")


def ranks(similarity: Tensor, asked: Tensor) -> Tensor:
    """How many things are nearer than the asked one: 0 is right, below 5 is among the five nearest.

    Args:
        similarity: (N, T), see `Gallery.similarity`; a row of NaN is a missing object.
        asked: (N,) indices of things.

    Returns:
        (N,) float64, infinite for a missing object. Things as near as the asked one count as
        nearer, so that features which tell nothing apart score nothing.

    Example:
        >>> ranks(torch.tensor([[0.9, 0.2, 0.5]]), torch.tensor([2])).item()
        1.0
    """
    own = similarity.gather(1, asked[:, None])
    nearer = (similarity >= own).sum(1) - 1
    missing = similarity.isnan().any(1)
    return nearer.double().masked_fill(missing, torch.inf)
