"""Protocols `generate`, `given-background` and `given-foreground`: prompts in, layers out.

What is drawn is compared with pictures of known layers. One layer may be given; the other is drawn.

The prompts are the captions of the samples that the data set, split, size, count and seed name, in
their order; the seed of picture i is i. So the same command always asks the same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.evaluation.collector import Collector, gathered, on_neutral
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.halo import halo_without_truth
from text2layer.evaluation.interval import Interval
from text2layer.evaluation.mask_overlap import hard_iou, mean_absolute_error, soft_iou
from text2layer.evaluation.picture_similarity import (
    perceptual_distance,
    psnr,
    recomposition_error,
    squared_error,
    ssim,
)
from text2layer.evaluation.relevance import clip_cosine, cosine, embed_pairs
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Networks, Run
from text2layer.judges.relevance import RelevanceProbe, retrieval_figures, with_colours
from text2layer.models.saliency import SaliencyModel
from text2layer.parts import Parts, joined, pictures_of
from text2layer.tensors import mask_to_tensor

VERSION = 1
Part = Literal["background", "foreground"]
# numbers, unit vectors of the pictures and of the texts, texts: one batch's
Probed: TypeAlias = tuple[Tensor, Tensor, Tensor, list[str]]

GALLERY = 100  # prompts among which a picture must find its own, or as many as differ
EMPTY = 0.001  # share of the picture below which a mask counts as empty


def generate(drawer: Drawer, known: KnownSamples, networks: Networks, run: Run) -> ProtocolResult:
    """Draw every prompt once and score the layers.

    Figures: FID and KID of composite, foreground on grey and background; precision, recall,
    density and coverage of the composite; IoU of the mask with the judge's on the composite;
    relevance and retrieval by the probe, cosine by a CLIP if one is named; share of the old
    background in the edge (halo); the layers' difference from the picture that the model itself
    drew: in levels (a flat picture and its layers) or as PSNR, SSIM and LPIPS (auxiliary head).
    """
    result = ProtocolResult("generate", VERSION, len(known))
    inception = networks.get("inception")
    probed: list[Probed] = []
    with run.collector(inception, known) as collector:
        for batch in run.batches(known, "generate"):
            prompts = batch.captions["whole"]
            drawn = drawer(prompts, batch.numbers.tolist())
            features = add_features(collector, batch, drawn)
            rows = layer_rows(batch, drawn, networks, run, drawer.is_flat)
            if (pair := embedded(networks, features, drawn, prompts)) is not None:
                rows["relevance"] = cosine(*pair)
                probed.append((batch.numbers, *pair, prompts))
            if (clip := networks.get("clip")) is not None:
                rows["clip_cosine"] = clip_cosine(clip, drawn.composite, prompts)
            collector.add(batch.numbers, rows)
            run.show(result, batch, drawn)
        result.add_means(collector.per_sample())
        collector.measure_sets(result)
    probed = gathered(probed)
    if probed and (probe := networks.get("probe")) is not None:
        add_retrieval(result, probe, probed)
    return run.finish(result, drawer, known, networks)


def add_features(collector: Collector, batch: KnownBatch, drawn: Parts) -> Tensor | None:
    """Keep the features of all parts, real and made; return those of the made composites."""
    collector.known("composite", batch.image)
    collector.known("foreground", on_neutral(batch.foreground, batch.soft_mask))
    collector.known("background", batch.background)
    collector.made("foreground", on_neutral(drawn.foreground, drawn.soft_mask))
    collector.made("background", drawn.background)
    return collector.made("composite", drawn.composite)


def embedded(
    networks: Networks, features: Tensor | None, drawn: Parts, texts: list[str]
) -> tuple[Tensor, Tensor] | None:
    """What the relevance probe makes of drawn composites and their texts; None without it.

    Raises:
        WeightsError: the features are not of the network that the probe was trained on.
    """
    probe, inception = networks.get("probe"), networks.get("inception")
    if features is None or probe is None or inception is None:
        return None
    probe.check_extractor(inception)
    return embed_pairs(probe, with_colours(features, drawn.composite), texts)


def layer_rows(
    batch: KnownBatch, drawn: Parts, networks: Networks, run: Run, is_flat: bool
) -> dict[str, Tensor]:
    """What can be said of drawn layers alone, (B,) each."""
    mask, composite = drawn.soft_mask, drawn.composite
    share = mask.mean((1, 2, 3))
    rows = {
        "mask_share": share,
        "empty_masks": (share < EMPTY).double(),
        "halo_share": halo_without_truth(drawn.foreground, drawn.background, mask),
    }
    if (judge := networks.get("judge")) is not None:
        rows |= judged_rows(judge, drawn, batch.numbers, run.judge_samples)
    picture = drawn.image if is_flat and drawn.image is not None else composite
    error = recomposition_error(picture, drawn.foreground, drawn.background, mask)
    rows["recomposition_max"], rows["recomposition_mean"] = error.maximum, error.mean
    if drawn.image is not None and not is_flat:
        rows["psnr_predicted"] = psnr(squared_error(drawn.image, composite))
        rows["ssim_predicted"] = ssim(drawn.image, composite)
        if (lpips := networks.get("lpips")) is not None:
            rows["lpips_predicted"] = perceptual_distance(drawn.image, composite, lpips)
    return rows


def judged_rows(
    judge: SaliencyModel, drawn: Parts, numbers: Tensor, limit: int = 0
) -> dict[str, Tensor]:
    """Agreement of masks with those that a judge finds on the composites.

    Args:
        judge: saliency network.
        drawn: B pictures.
        numbers: (B,) of the samples.
        limit: samples of this number and later are left out, NaN; 0 for none.
    """
    names = ("hard_iou_judge", "soft_iou_judge", "mean_absolute_error_judge")
    rows = {name: torch.full((len(numbers),), torch.nan, dtype=torch.float64) for name in names}
    seen = (numbers < limit).nonzero()[:, 0] if limit else torch.arange(len(numbers))
    if len(seen):
        images = pictures_of(drawn.composite[seen])
        found = torch.cat([mask_to_tensor(item.mask) for item in judge.predict(images)])
        mask = drawn.soft_mask[seen]
        for name, score in zip(names, (hard_iou, soft_iou, mean_absolute_error), strict=True):
            rows[name][seen] = score(mask, found)
    return rows


def add_retrieval(result: ProtocolResult, probe: RelevanceProbe, probed: list[Probed]) -> None:
    """R@1 and R@5 of prompts among others, by the probe, on the pictures drawn from them."""
    order = torch.cat([numbers for numbers, *_ in probed]).argsort()
    pictures = torch.cat([part[1] for part in probed])[order]
    texts = torch.cat([part[2] for part in probed])[order]
    prompts = [text for part in probed for text in part[3]]
    prompts = [prompts[int(place)] for place in order]
    gallery = min(GALLERY, len(set(prompts)))
    figures: list[dict[str, Any]] = []

    def figure(rank: str) -> Interval:
        if not figures:
            figures.append(retrieval_figures(pictures, texts, prompts, gallery))
        value = figures[0]["text_to_picture"][rank]
        return Interval(value, -math.inf, math.inf, len(prompts), note=f"of {gallery}")

    for rank in ("r1", "r5"):
        result.measure(f"relevance_{rank}", lambda rank=rank: figure(rank))
    result.about["probe_held_out"] = dict(probe.config.held_out)


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


def draw_with(part: Part, drawer: Drawer, batch: KnownBatch) -> Parts:
    """Draw each sample of a batch with its known part given; layers alone, without the image."""
    made = []
    rows = zip(batch.layered(), batch.captions["whole"], batch.numbers.tolist(), strict=True)
    for known, prompt, number in rows:
        what = known.background if part == "background" else known.foregrounds[0]
        made.append(drawer([prompt], [number], **{part: what}))
    return replace(joined(made), image=None)


def changed(part: Part, batch: KnownBatch, drawn: Parts) -> Tensor:
    """Largest difference (B,) in levels between the given part and the delivered one."""
    pairs = [(batch.background, drawn.background)]
    if part == "foreground":
        pairs = [(batch.foreground, drawn.foreground), (batch.mask, drawn.mask)]
    differences = [
        torch.amax((true.int() - made.int()).abs().flatten(1), 1) for true, made in pairs
    ]
    return torch.stack(differences).amax(0).double()
