"""Protocols `given-background` and `given-foreground`: one layer is given, the other is drawn."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.evaluation.drawing import Drawer, DrawnBatch, as_batch, pictures_of
from text2layer.evaluation.generate import add_features, embedded, layer_rows
from text2layer.evaluation.networks import Networks
from text2layer.evaluation.relevance import cosine
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Run
from text2layer.layers import Layer
from text2layer.tensors import mask_to_bytes

VERSION = 1

Part = Literal["background", "foreground"]


def given(
    part: Part, drawer: Drawer, known: KnownSamples, networks: Networks, run: Run
) -> ProtocolResult:
    """Give the known part of every sample and its caption of the whole; draw the other part.

    Figures: how far the given part was changed, at most (it must be 0); the figures of `generate`
    but for those of the auxiliary head. Flat models take no layers and are not asked.
    """
    result = ProtocolResult(f"given-{part}", VERSION, len(known))
    inception = networks.get("inception")
    with run.collector(inception, known) as collector:
        for batch in run.batches(known, result.protocol):
            drawn = draw_with(part, drawer, batch)
            features = add_features(collector, batch, drawn)
            rows = layer_rows(batch, drawn, networks, run, is_flat=False)
            rows["given_changed"] = changed(part, batch, drawn)
            if (pair := embedded(networks, features, drawn, batch.captions["whole"])) is not None:
                rows["relevance"] = cosine(*pair)
            collector.add(batch.numbers, rows)
            run.show(result, batch, drawn)
        result.add_means(collector.per_sample())
        collector.measure_sets(result)
    return run.finish(result, drawer, known, networks)


def draw_with(part: Part, drawer: Drawer, batch: KnownBatch) -> DrawnBatch:
    """Draw each sample of a batch with its known part given."""
    backgrounds, colours = pictures_of(batch.background), pictures_of(batch.foreground)
    masks = list(batch.mask[:, 0].cpu().numpy())
    made = []
    for place, number in enumerate(batch.numbers.tolist()):
        one = Layer(colours[place], np.ascontiguousarray(masks[place]))
        what = backgrounds[place] if part == "background" else one
        made.append(drawer([batch.captions["whole"][place]], [number], **{part: what}))
    return as_batch([layered for one in made for layered in one.layers])


def changed(part: Part, batch: KnownBatch, drawn: DrawnBatch) -> Tensor:
    """Largest difference (B,) in levels between the given part and the delivered one."""
    pairs = [(batch.background, drawn.background)]
    if part == "foreground":
        made_mask = mask_to_bytes(drawn.mask)
        pairs = [(batch.foreground, drawn.foreground), (batch.mask, made_mask)]
    differences = [
        torch.amax((true.int() - made.int()).abs().flatten(1), 1) for true, made in pairs
    ]
    return torch.stack(differences).amax(0).double()
