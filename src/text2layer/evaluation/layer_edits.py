"""LayerD's comparison of layer stacks of unequal length (arXiv 2509.25134, ICCV 2025).

Both stacks are regrouped, aligned by dynamic time warping, and then brought closer by merging
neighbours; colour error and alpha overlap are reported after 0, 1, ... 5 merges. Two variants:

`layerd` follows the published evaluation to the letter, for comparison with published figures:
colour counts wherever the other layer's alpha is above 0 however faint, two empty layers overlap
by 0, and pictures with fewer than two layers on either side are left out (NaN here).

`corrected` weights the colour error by the true alpha, also when a true layer is about to be
merged, lets two empty layers agree, and gives a missing prediction the worst score. A flat picture
counts as a stack of one layer.

Both share the published choice of merges, which favours coarse stacks: never compare a score after
k merges with one after fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from text2layer.errors import InputError

Variant: TypeAlias = Literal["layerd", "corrected"]
Stack: TypeAlias = Sequence[np.ndarray]  # (H, W, 4) each, back to front

MAX_MERGES = 5
FEWEST_LAYERS = 2  # no merge leaves fewer; `layerd` scores no stack of fewer
EPSILON = 1e-8  # pixels, in the published colour error
WORST = (1.0, 0.0)  # colour error and overlap of a prediction that is missing


@dataclass(frozen=True)
class LayerEditScores:
    """One picture's scores after 0, 1, ... `max_merges` merges, the last carried on.

    Attributes:
        rgb_l1: colour error in [0, 1], mean over the aligned pairs; less is better.
        alpha_iou: soft overlap of the alphas in [0, 1], mean over the aligned pairs.
        cost: mean of (rgb_l1 + 1 - alpha_iou) / 2 over the pairs, by which they were aligned.
        merges: how many merges were made before none helped.
    """

    rgb_l1: tuple[float, ...]
    alpha_iou: tuple[float, ...]
    cost: tuple[float, ...]
    merges: int


def layer_edit_scores(
    predicted: Stack | None, true: Stack, variant: Variant = "layerd", max_merges: int = MAX_MERGES
) -> LayerEditScores:
    """Compare a predicted stack of layers with the true one.

    Args:
        predicted: (H, W, 4) each, back to front, the background first; uint8, or float in [0, 1],
            which is rounded to 8 bits. None or empty if there is no prediction.
        true: likewise, at least one layer.
        variant: "layerd" or "corrected", see the module.
        max_merges: at least 0.

    Returns:
        Curves of `max_merges` + 1 values. With "layerd" all NaN if a stack has fewer than two
        layers; with "corrected" the worst scores if there is no prediction.

    Raises:
        InputError: a layer is not (H, W, 4) uint8 or float in [0, 1] (NaN is not), the sizes
            differ, there is no true layer, or there is no such variant.

    Example:
        >>> ground, cutout = np.full((2, 4, 4, 4), 255, np.uint8)
        >>> cutout[:2] = 0
        >>> layer_edit_scores([ground, cutout], [ground, cutout]).alpha_iou[0]
        1.0
    """
    if variant not in get_args(Variant):
        raise InputError(f"The variants are 'layerd' and 'corrected', not {variant!r}.")
    if max_merges < 0:
        raise InputError(f"The number of merges must be at least 0, but {max_merges} was given.")
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
        return _constant_scores(np.nan, np.nan, max_merges)
    if not made:
        return _constant_scores(*WORST, max_merges)
    return _merge_and_score(regroup(made), regroup(wanted), PairScores(variant), max_merges)


def _merge_and_score(
    predicted: list[np.ndarray], true: list[np.ndarray], pairs: PairScores, max_merges: int
) -> LayerEditScores:
    rows: list[list[float]] = []  # colour error, overlap, cost
    while True:
        costs = np.array([[pairs.cost(p, t) for t in true] for p in predicted])
        path = align(costs)
        scores = np.array([(*pairs(predicted[i], true[j]), costs[i, j]) for i, j in path])
        rows.append(scores.mean(axis=0).tolist())
        merges = len(rows) - 1
        if merges == max_merges:
            break
        back = [(j, i) for i, j in path]
        mine = best_merge(predicted, true, path, lambda p, t: 1 - pairs.cost(p, t))
        theirs = best_merge(true, predicted, back, lambda t, p: 1 - pairs.cost_of_truth(t, p))
        if mine and (theirs is None or mine[1] > theirs[1]):
            predicted = _merged_at(predicted, mine[0])
        elif theirs:
            true = _merged_at(true, theirs[0])
        else:
            break
    rows += rows[-1:] * (max_merges - merges)
    colour, overlap, cost = zip(*rows, strict=True)
    return LayerEditScores(colour, overlap, cost, merges)


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


class PairScores:
    """Colour error and overlap of pairs of layers, each computed once.

    Args:
        variant: "layerd" or "corrected".
    """

    def __init__(self, variant: Variant) -> None:
        self.variant: Variant = variant
        # the layers are kept beside their scores, so that no identity is given out twice
        self.known: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, tuple[float, float]]] = {}

    def __call__(self, predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
        """`rgb_l1` and `alpha_iou`."""
        key = id(predicted), id(true)
        if key not in self.known:
            functions = (rgb_l1, alpha_iou)
            colour, overlap = (function(predicted, true, self.variant) for function in functions)
            self.known[key] = predicted, true, (colour, overlap)
        return self.known[key][2]

    def cost(self, predicted: np.ndarray, true: np.ndarray) -> float:
        """(rgb_l1 + 1 - alpha_iou) / 2, in [0, 1]."""
        colour, overlap = self(predicted, true)
        return (colour + (1 - overlap)) / 2

    def cost_of_truth(self, true: np.ndarray, predicted: np.ndarray) -> float:
        """The cost by which a true layer is merged: LayerD lets the two change their places."""
        return (
            self.cost(true, predicted) if self.variant == "layerd" else self.cost(predicted, true)
        )


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


def best_merge(
    stack: Stack,
    others: Stack,
    path: Sequence[tuple[int, int]],
    similarity: Callable[[np.ndarray, np.ndarray], float],
) -> tuple[int, float] | None:
    """The merge of two neighbours that gains most similarity to their partners.

    With partners P of layer i, Q of layer i + 1, the merged layer M and the layer N after it, the
    similarity goes from s(i, P) + s(i + 1, Q) to s(M, P) + max(s(M, Q), s(N, P), s(N, Q)), as
    published: the second term may count P again.

    Args:
        stack: layers of which two may be merged, back to front.
        others: the layers they are aligned with.
        path: pairs (index in `stack`, index in `others`).
        similarity: of a layer of `stack` and one of `others`.

    Returns:
        Index of the back layer and the gain, above 0; the first of equals. None where no merge
        gains or would leave fewer than two layers.
    """
    if len(stack) <= FEWEST_LAYERS:
        return None

    def total(layer: np.ndarray, group: list[np.ndarray]) -> float:
        return sum(similarity(layer, other) for other in group)

    best: tuple[int, float] | None = None
    for index in range(len(stack) - 1):
        partners = [[others[j] for i, j in path if i == place] for place in (index, index + 1)]
        merged = merge(stack[index], stack[index + 1])
        now = total(stack[index], partners[0]) + total(stack[index + 1], partners[1])
        options = [total(merged, partners[1])]
        if index + 2 < len(stack):
            options += [total(stack[index + 2], group) for group in partners]
        after = total(merged, partners[0]) + max(options)
        if after > now and (best is None or after - now > best[1]):
            best = index, after - now
    return best


def _merged_at(stack: list[np.ndarray], index: int) -> list[np.ndarray]:
    return [*stack[:index], merge(stack[index], stack[index + 1]), *stack[index + 2 :]]


def _constant_scores(colour: float, overlap: float, max_merges: int) -> LayerEditScores:
    count = max_merges + 1
    cost = (colour + (1 - overlap)) / 2
    return LayerEditScores((colour,) * count, (overlap,) * count, (cost,) * count, merges=0)


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
