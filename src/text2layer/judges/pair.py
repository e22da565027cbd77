"""The judge of the pair: are mask and fill of a sample both good.

The judges of mask and fill look at one layer each. One more neuron on the same frozen network sees
layers and composite of a sample together:

    layers      what the judges of mask and fill see
    composite   the cut-out, smaller and moved aside, over the filled background: what a user who
                moves the layer gets; and the whole filled background: last features, pooled
    measures    `MEASURES`, numbers such as the size of the object and the error of recomposition

How it compares with simpler forms is in docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from text2layer.blend import composite_over, resize_colour_and_alpha
from text2layer.errors import InputError, WeightsError
from text2layer.judges.quality import PAIR, Backbone, QualityModel, features_of
from text2layer.masks import OBJECT_LEVEL, connected_components
from text2layer.models.efficientnet import network_input

MEASURES = ("object", "hole", "border", "parts", "softness", "recomposition", "change", "seam")
SMALLER = 0.75  # scale of the moved cut-out
SEAM_WIDTH = 3  # pixels on either side of the hole's edge
LEAST_SHARE = 1e-3  # of the picture; smaller objects count as this large
SMALLEST_PART = 100  # pixels; smaller parts of an object do not count


@dataclass(frozen=True)
class Layers:
    """A sample as a build holds it after its last stage.

    Attributes:
        image: (H, W, 3) uint8, the photo.
        mask: (H, W) uint8.
        foreground: (H, W, 3) uint8.
        background: (H, W, 3) uint8, filled in.
        hole: (H, W) bool, where it was filled in.

    Raises:
        InputError: the sizes differ.
    """

    image: np.ndarray
    mask: np.ndarray
    foreground: np.ndarray
    background: np.ndarray
    hole: np.ndarray

    def __post_init__(self) -> None:
        sizes = [layer.shape[:2] for layer in vars(self).values()]
        if len(set(sizes)) > 1:
            raise InputError(f"Layers of {', '.join(map(str, sizes))} make no sample.")


def pair_scores(model: QualityModel, samples: Sequence[Layers]) -> list[float]:
    """Probability (0..1) that mask and fill of each sample are both good.

    Raises:
        WeightsError: the classifiers were trained without a judge of the pair.
    """
    if PAIR not in model.heads:
        raise WeightsError(
            "These quality classifiers have no judge of the pair; train them again with "
            "`train quality`, on photos whose masks and fills are labelled."
        )
    head = model.heads[PAIR]
    device = next(head.parameters()).device
    scores = []
    for sample in samples:
        logit: Tensor = head(pair_features(model.backbone, sample).to(device))
        scores.append(float(torch.sigmoid(logit)))
    return scores


def pair_features(backbone: Backbone, sample: Layers) -> Tensor:
    """What the neuron sees of one sample: (C,) float32 on the CPU."""
    layers = [
        features_of("mask", backbone, sample.image, sample.mask),
        features_of("fill", backbone, sample.background, sample.hole),
    ]
    return torch.cat([one.cpu() for one in (*layers, composite_features(backbone, sample))])


def composite_features(backbone: Backbone, sample: Layers) -> Tensor:
    """The last part of `pair_features`: composite, whole fill and measures; on the CPU."""
    given = network_input([moved_composite(sample), sample.background])
    weights = list(backbone.parameters()) if isinstance(backbone, nn.Module) else []
    if weights:
        given = given.to(weights[0].device)
    with torch.no_grad():
        views = backbone.maps(given)[-1].mean(dim=(2, 3)).flatten().cpu()
    return torch.cat([views, torch.from_numpy(measures(sample))])


def moved_composite(sample: Layers) -> np.ndarray:
    """(H, W, 3) uint8: the cut-out at `SMALLER` of its size, moved aside, over the background.

    It moves towards the border that is farther away, by half of the room there is, and keeps its
    foot where it was. Without an object it is the background.
    """
    foreground, mask, background = sample.foreground, sample.mask, sample.background
    rows, columns = np.nonzero(mask >= OBJECT_LEVEL)
    if not len(rows):
        return background.copy()
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    box = (slice(top, bottom), slice(left, right))
    width = max(round((right - left) * SMALLER), 1)
    height = max(round((bottom - top) * SMALLER), 1)
    colour, alpha = resize_colour_and_alpha(foreground[box], mask[box], (width, height))
    room_left, room_right = left, mask.shape[1] - right
    start = left // 2 if room_left > room_right else right - width + room_right // 2
    result = background.copy()
    place = (slice(bottom - height, bottom), slice(start, start + width))
    result[place] = composite_over(background[place], colour, alpha)
    return result


def measures(sample: Layers) -> np.ndarray:
    """`MEASURES` of a sample: (8,) float32.

    object and hole are logarithms of their share of the picture, border the share of its border
    that the object touches, parts the logarithm of the number of its pieces, softness how much of
    the mask is neither 0 nor 255, recomposition the logarithm of the mean difference in levels
    between the photo and its layers laid over one another, change that between photo and fill
    inside the hole, seam how much steeper the fill is inside the hole's edge than outside.
    """
    from scipy import ndimage

    image, mask, background, hole = sample.image, sample.mask, sample.background, sample.hole
    inside = mask >= OBJECT_LEVEL
    share = mask.astype(np.float32) / 255
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    parts = int((connected_components(inside, 8)[1] >= SMALLEST_PART).sum())
    soft = float((4 * share * (1 - share)).mean() / max(float(share.mean()), LEAST_SHARE))
    whole = composite_over(background, sample.foreground, mask).astype(np.int16)
    recomposed = float(np.abs(whole - image).mean())
    difference = np.abs(image.astype(np.int16) - background).mean(axis=2)
    change = float(difference[hole].mean()) if hole.any() else 0.0
    inner = hole & ~ndimage.binary_erosion(hole, iterations=SEAM_WIDTH)
    outer = ndimage.binary_dilation(hole, iterations=SEAM_WIDTH) & ~hole
    grey = background.mean(axis=2)
    slope = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)) / 8
    seam = float(slope[inner].mean() - slope[outer].mean()) if inner.any() and outer.any() else 0.0
    return np.array(
        [
            np.log(max(float(inside.mean()), LEAST_SHARE)),
            np.log(max(float(hole.mean()), LEAST_SHARE)),
            float(border.mean()),
            np.log1p(parts),
            soft,
            np.log1p(recomposed),
            np.log1p(change),
            seam,
        ],
        np.float32,
    )
