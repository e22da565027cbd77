"""Cases to train the quality classifiers on: a picture, its mask or hole, and a verdict.

`composed_cases` makes them from a picture library, where the truth is known; `photo_cases` reads
samples of a build that someone looked at. The same arguments give the same cases.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from text2layer.judges import damage
from text2layer.judges.labels import Kind, Label
from text2layer.masks import intersection_over_union
from text2layer.models.hole import cut_hole

if TYPE_CHECKING:
    from text2layer.data.composer import Composer
    from text2layer.data.source import Placement
    from text2layer.judges.pair import Layers

Saliency = Callable[[np.ndarray], np.ndarray]  # picture -> soft mask

FRAME = 256  # pixels; side of the composed pictures
SOLID_STYLES = ("3d render", "3d icon")
SMALL_SCALE = (0.06, 0.17)  # of objects that are too small: longest side / shorter side of frame
MASK_WAYS = ("good", "good", "incomplete", "spilled", "small", "stray")
FILL_WAYS = (
    "true", "inpainted", "inpainted", "inpainted", "inpainted", "smeared", "object", "remains",
    "foreign", "seam", "streaks",
)  # fmt: skip
NETWORK_SHARE = 1 / 3  # of the masks, where there is a network
MASK_REASONS = {
    "incomplete": "incomplete",
    "spilled": "background included",
    "small": "too small",
    "stray": "no object",
}
FILL_REASONS = {
    "object": "object left",
    "remains": "object left",
    "foreign": "not cohesive",
    "seam": "not cohesive",
    "streaks": "artefact",
}


@dataclass(frozen=True)
class Case:
    """What a classifier sees, and the verdict it should give.

    Attributes:
        label: the verdict.
        picture: (H, W, 3) uint8; the photo for a mask, the filled background for a fill.
        mask: (H, W) uint8; the soft mask, or 255 where the background was filled in.
        group: what it was made from; cases of one group never lie on both sides of a split.
        way: how it was made, for reports.
    """

    label: Label
    picture: np.ndarray
    mask: np.ndarray
    group: str
    way: str = ""


def composed_cases(
    composer: Composer,
    count: int,
    seed: int = 0,
    *,
    inpaint: damage.Inpaint | None = None,
    saliency: Saliency | None = None,
) -> Iterator[Case]:
    """One mask case and, where a verdict can be given, one fill case from each composed picture.

    Args:
        composer: draws the pictures; its split is the cases' group, as concepts and backgrounds
            lie in one split of a library only.
        count: pictures to compose.
        seed: of the pictures and of the damage.
        inpaint: fills holes; without it none of the fills is a network's.
        saliency: finds masks; with it a third of the masks are a network's, with the verdict that
            their IoU with the truth gives.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        placements = composer.draw(2, generator)
        key = f"composed-{composer.split}-{seed}-{number:06d}"
        label = Label(key, "mask", True, source="composed")
        case = _mask_case(composer, placements[0], rng, label, saliency)
        if case is not None:
            yield case
        case = _fill_case(composer, placements, rng, replace(label, kind="fill"), inpaint)
        if case is not None:
            yield case


def composer_of(library: str | Path, split: str, objects: int, seed: int = 0) -> Composer:
    """A composer of a random part of a library: decoding every object would fill the memory.

    Objects that look most like photographed ones are taken, as far as the library has any.

    Raises:
        DataError: the library cannot be used, or has nothing of that split.
    """
    from text2layer.data.composer import Composer
    from text2layer.data.library import Library

    source = Library(library, split)
    found = [record for record in source.foregrounds if record.style in SOLID_STYLES]
    found = found or source.foregrounds
    source.foregrounds = random.Random(seed).sample(found, min(objects, len(found)))
    return Composer(source, split, FRAME, progress=False)


def photo_cases(shards: str | Path, labels: Mapping[tuple[str, Kind], Label]) -> Iterator[Case]:
    """The labelled samples of a build; a sample without a label is passed over."""
    from text2layer.data.shards import ShardReader

    wanted = {key for key, _ in labels}
    for sample in ShardReader(shards):
        if sample.key not in wanted:
            continue
        if label := labels.get((sample.key, "mask")):
            yield Case(label, sample.image, sample.mask, sample.key)
        if label := labels.get((sample.key, "fill")):
            yield Case(label, sample.background, hole_of(sample.mask), sample.key)


def photo_pairs(
    shards: str | Path, labels: Mapping[tuple[str, Kind], Label]
) -> Iterator[tuple[str, bool, Layers]]:
    """Key, verdict and layers of the samples of a build whose mask and fill are both labelled.

    The verdict is whether both are good.
    """
    from text2layer.data.shards import ShardReader
    from text2layer.judges.pair import Layers

    for sample in ShardReader(shards):
        mask, fill = labels.get((sample.key, "mask")), labels.get((sample.key, "fill"))
        if mask and fill:
            hole = hole_of(sample.mask) > 0
            layers = Layers(sample.image, sample.mask, sample.foreground, sample.background, hole)
            yield sample.key, bool(mask.good and fill.good), layers


def hole_of(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 255 where a build fills in the background behind a mask (H, W), else 0.

    Stored samples carry no hole; this is the one that the default settings cut.
    """
    return np.where(cut_hole(mask), 255, 0).astype(np.uint8)


def _mask_case(
    composer: Composer, placement: Placement, rng: np.random.Generator, label: Label,
    saliency: Saliency | None,
) -> Case | None:  # fmt: skip
    way = str(rng.choice(MASK_WAYS))
    if saliency is not None and rng.random() < NETWORK_SHARE:
        way = "network"
    elif way == "small":
        placement = replace(placement, scale=float(rng.uniform(*SMALL_SCALE)))
    image, mask = _rendered(composer, placement)[:2]
    split = str(composer.split)
    if way == "network" and saliency is not None:
        found = saliency(image)
        reason = network_verdict(found, mask)
        if reason is None:
            return None
        judged = replace(label, good=not reason, reason=reason)
        return Case(judged, image, found, split, way)
    if way == "good" or way == "small":
        found = damage.good_mask(mask, rng)
        if (np.count_nonzero(mask > 127) < damage.SMALL_SHARE * mask.size) != (way == "small"):
            return None
    else:
        make = {
            "incomplete": damage.incomplete_mask,
            "spilled": damage.spilled_mask,
            "stray": damage.stray_mask,
        }[way]
        found = make(mask, rng)
        if intersection_over_union(found, mask) > damage.BAD_IOU:
            return None
    if way != "good":
        label = replace(label, good=False, reason=MASK_REASONS[way])
    return Case(label, image, found, split, way)


def network_verdict(found: np.ndarray, truth: np.ndarray) -> str | None:
    """The reason why a network's mask is bad, "" if it is good, None if it is neither."""
    overlap = intersection_over_union(found, truth)
    if overlap >= damage.GOOD_IOU:
        return ""
    if overlap > damage.BAD_IOU:
        return None
    one, other = found > 127, truth > 127
    both = np.count_nonzero(one & other)
    if not both:
        return "no object"
    missing, added = np.count_nonzero(other) - both, np.count_nonzero(one) - both
    return "incomplete" if missing > added else "background included"


def _fill_case(
    composer: Composer, placements: list[Placement], rng: np.random.Generator, label: Label,
    inpaint: damage.Inpaint | None,
) -> Case | None:  # fmt: skip
    way = str(rng.choice(FILL_WAYS))
    placement = replace(placements[0], shadow=0.0)
    image, mask, truth, _ = _rendered(composer, placement)
    side = max(mask.shape)
    growth, below = int(rng.integers(side // 64, side // 26 + 1)), side // 25
    if way in ("inpainted", "remains") and inpaint is None:
        return None
    found = damage.incomplete_mask(mask, rng) if way == "remains" else mask
    hole = damage.grown_hole(found, growth, below)
    if not hole.any() or hole.mean() > 0.6:
        return None
    if way == "true":
        picture = truth
    elif way == "smeared":
        picture = damage.smeared(truth, hole)
    elif way in ("inpainted", "remains") and inpaint is not None:
        picture = np.where(hole[..., None], inpaint(image, hole), image)
    elif way == "seam":
        picture = damage.seamed(truth, hole, rng)
    elif way == "streaks":
        picture = damage.streaked(truth, hole, rng)
    else:
        _, alpha, donor, colour = _rendered(composer, replace(placements[1], shadow=0.0))
        if way == "foreign":
            picture = damage.foreign_texture(truth, hole, donor, rng)
        else:
            top, left, bottom, right = damage.box_of(alpha)
            box = (slice(top, bottom), slice(left, right))
            picture = damage.pasted_object(truth, hole, colour[box], alpha[box], rng)
    judged = _judged(label, way, picture, truth, hole, (mask > 127) & ~hole)
    if judged is None:
        return None
    return Case(judged, picture, np.where(hole, 255, 0).astype(np.uint8), str(composer.split), way)


def _judged(
    label: Label, way: str, picture: np.ndarray, truth: np.ndarray, hole: np.ndarray,
    left_over: np.ndarray,
) -> Label | None:  # fmt: skip
    """The label of a fill by its measured error; None where nothing can be claimed."""
    if way == "remains":  # what the mask missed is still there, whatever the fill is like
        enough = np.count_nonzero(left_over) > 0.005 * hole.size
        return replace(label, good=False, reason=FILL_REASONS[way]) if enough else None
    error = damage.fill_error(picture, truth, hole)
    if way in FILL_REASONS:  # damage that cannot be seen (a white object before snow) is not bad
        visible = np.abs(picture.astype(np.int16) - truth)[hole].mean() > 6
        return replace(label, good=False, reason=FILL_REASONS[way]) if visible else None
    if error.verdict is None:
        return None
    return replace(label, good=error.verdict, reason="" if error.verdict else error.reason)


def _rendered(
    composer: Composer, placement: Placement
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(image, mask, background, foreground colour) of a placement as uint8."""
    from text2layer.tensors import tensor_to_colour, tensor_to_mask

    made = composer.compose_at([placement])
    return (
        tensor_to_colour(made.image)[0],
        tensor_to_mask(made.mask)[0],
        tensor_to_colour(made.background)[0],
        tensor_to_colour(made.foreground)[0],
    )
