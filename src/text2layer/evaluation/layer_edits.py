"""LayerD's comparison of layer stacks of unequal length (arXiv 2509.25134, ICCV 2025).

Both stacks are regrouped and aligned by dynamic time warping; then colour error and alpha overlap
are taken. The published tables go on and merge neighbours, up to five times; figures here are those
before any merge. Two variants:

`layerd` follows the published evaluation to the letter, for comparison with published figures:
colour counts wherever the other layer's alpha is above 0 however faint, two empty layers overlap
by 0, and pictures with fewer than two layers on either side are left out (NaN here).

`corrected` weights the colour error by the true alpha, lets two empty layers agree, and gives a
missing prediction the worst score. A flat picture counts as a stack of one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from text2layer.errors import InputError

Variant: TypeAlias = Literal["layerd", "corrected"]
Stack: TypeAlias = Sequence[np.ndarray]  # (H, W, 4) each, back to front

FEWEST_LAYERS = 2  # `layerd` scores no stack of fewer
EPSILON = 1e-8  # pixels, in the published colour error
WORST = (1.0, 0.0)  # colour error and overlap of a prediction that is missing


@dataclass(frozen=True)
class LayerEditScores:
    """One picture's scores.

    Attributes:
        rgb_l1: colour error in [0, 1], mean over the aligned pairs; less is better.
        alpha_iou: soft overlap of the alphas in [0, 1], mean over the aligned pairs.
        cost: mean of (rgb_l1 + 1 - alpha_iou) / 2 over the pairs, by which they were aligned.
    """

    rgb_l1: float
    alpha_iou: float
    cost: float


def layer_edit_scores(
    predicted: Stack | None, true: Stack, variant: Variant = "layerd"
) -> LayerEditScores:
    """Compare a predicted stack of layers with the true one.

    Args:
        predicted: (H, W, 4) each, back to front, the background first; uint8, or float in [0, 1],
            which is rounded to 8 bits. None or empty if there is no prediction.
        true: likewise, at least one layer.
        variant: "layerd" or "corrected", see the module.

    Returns:
        With "layerd" all NaN if a stack has fewer than two layers; with "corrected" the worst
        scores if there is no prediction.

    Raises:
        InputError: a layer is not (H, W, 4) uint8 or float in [0, 1] (NaN is not), the sizes
            differ, there is no true layer, or there is no such variant.

    Example:
        >>> ground, cutout = np.full((2, 4, 4, 4), 255, np.uint8)
        >>> cutout[:2] = 0
        >>> layer_edit_scores([ground, cutout], [ground, cutout]).alpha_iou
        1.0
    """
    if variant not in get_args(Variant):
        raise InputError(f"The variants are 'layerd' and 'corrected', not {variant!r}.")
    made, wanted = [_as_bytes(layer) for layer in predicted or ()], [_as_bytes(x) for x in true]
    if not wanted:
        raise InputError("A stack of layers needs at least one true layer to compare with.")
    for layer in made + wanted:
        if layer.shape != wanted[0].shape:
            raise InputError(
                f"Layers to compare must have one size, got {layer.shape[:2]} and "
                f"{wanted[0].shape[:2]}."
            )
    if variant == "layerd" and min(len(made), len(wanted)) < FEWEST_LAYERS:
        return LayerEditScores(np.nan, np.nan, np.nan)
    if not made:
        return LayerEditScores(*WORST, cost=1.0)
    pairs = np.array(
        [
            [(rgb_l1(p, t, variant), alpha_iou(p, t, variant)) for t in regroup(wanted)]
            for p in regroup(made)
        ]
    )  # (n, m, 2)
    costs = (pairs[..., 0] + 1 - pairs[..., 1]) / 2
    path = tuple(zip(*align(costs), strict=True))
    colour, overlap = pairs[path].mean(axis=0)
    return LayerEditScores(float(colour), float(overlap), float(costs[path].mean()))


def regroup(layers: Stack) -> list[np.ndarray]:
    """Merge layers that lie side by side, peeling off the top ones again and again.

    A layer is on top when no layer in front of it that is still there shares a pixel with it
    (alpha above 0); all that are on top at once become one.

    Args:
        layers: (H, W, 4) uint8 each, back to front.

    Returns:
        As many or fewer, back to front.
    """
    covered = [layer[..., 3] > 0 for layer in layers]
    left = list(range(len(layers)))
    groups: list[np.ndarray] = []
    while left:
        top = [
            index
            for position, index in enumerate(left)
            if not any((covered[index] & covered[front]).any() for front in left[position + 1 :])
        ]
        group = layers[top[0]]
        for index in top[1:]:
            group = merge(group, layers[index])
        groups.insert(0, group)
        left = [index for index in left if index not in top]
    return groups


def merge(back: np.ndarray, front: np.ndarray) -> np.ndarray:
    """`front` over `back`, (H, W, 4) uint8 with straight alpha, by Pillow, as LayerD does it."""
    back, front = np.ascontiguousarray(back), np.ascontiguousarray(front)
    return np.asarray(Image.alpha_composite(Image.fromarray(back), Image.fromarray(front)))


def rgb_l1(predicted: np.ndarray, true: np.ndarray, variant: Variant = "layerd") -> float:
    """Mean absolute difference of straight colour, in [0, 1], where the true layer is.

    Args:
        predicted: (H, W, 4) uint8.
        true: likewise; its alpha is the weight: above 0 or not ("layerd"), or itself ("corrected").
        variant: "layerd" or "corrected".

    Returns:
        0 for equal colours, and if the true layer is empty.

    Example:
        >>> black, white = np.full((2, 2, 2, 4), 255, np.uint8)
        >>> black[..., :3] = 0
        >>> rgb_l1(black, white, "corrected")
        1.0
    """
    difference = np.abs(predicted[..., :3] / 255.0 - true[..., :3] / 255.0).mean(-1)
    if variant == "layerd":
        inside = true[..., 3] > 0
        return float((difference * inside).sum() / (inside.sum() + EPSILON))
    weight = true[..., 3] / 255.0
    return float((difference * weight).sum() / weight.sum()) if weight.any() else 0.0


def alpha_iou(predicted: np.ndarray, true: np.ndarray, variant: Variant = "layerd") -> float:
    """Sum of the lesser over sum of the greater alphas of two (H, W, 4) uint8 layers, in [0, 1].

    Two empty layers score 0 with "layerd" and 1 with "corrected".
    """
    union = np.maximum(predicted[..., 3], true[..., 3]).sum(dtype=np.int64)
    if union == 0:
        return 0.0 if variant == "layerd" else 1.0
    return float(np.minimum(predicted[..., 3], true[..., 3]).sum(dtype=np.int64) / union)


def align(costs: np.ndarray) -> list[tuple[int, int]]:
    """Dynamic time warping: the cheapest path of pairs from the first to the last.

    Args:
        costs: (n, m), of every pair; steps go one forward in either index or in both.

    Returns:
        Pairs (i, j) from (0, 0) to (n - 1, m - 1). Of equal ways back the diagonal is taken first,
        then the one in i.

    Example:
        >>> align(np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1]]))
        [(0, 0), (1, 0), (2, 1)]
    """
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)  # a border before the first
    total[0, 0] = 0
    for i, j in np.ndindex(*costs.shape):
        total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    i, j = costs.shape[0] - 1, costs.shape[1] - 1
    path = [(i, j)]
    while (i, j) != (0, 0):
        diagonal, in_i, in_j = total[i, j], total[i, j + 1], total[i + 1, j]
        if diagonal <= min(in_i, in_j):
            i, j = i - 1, j - 1
        elif in_i <= in_j:
            i -= 1
        else:
            j -= 1
        path.append((i, j))
    return path[::-1]


def _as_bytes(layer: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 of a layer that is uint8 or float in [0, 1]."""
    if layer.ndim != 3 or layer.shape[2] != 4:
        raise InputError(f"A layer of a stack must be (H, W, 4), but {layer.shape} was given.")
    if layer.dtype == np.uint8:
        return layer
    inside = np.issubdtype(layer.dtype, np.floating) and bool(((layer >= 0) & (layer <= 1)).all())
    if not inside:
        raise InputError(
            f"A layer of a stack must be uint8, or float in [0, 1], but {layer.dtype} from "
            f"{layer.min()} to {layer.max()} was given."
        )
    return np.rint(layer * 255).astype(np.uint8)
