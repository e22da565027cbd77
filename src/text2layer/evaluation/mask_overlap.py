"""How far two masks agree: intersection over union, soft and hard, and the mean absolute error.

Two empty masks agree: their overlap is 1 and their error 0. A mask that holds NaN scores NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from text2layer.errors import InputError

OPAQUE = 0.5  # mask level above which a pixel counts as foreground


def soft_iou(a: Tensor, b: Tensor) -> Tensor:
    """Soft intersection over union per sample: sum min(a, b) / sum max(a, b); 1 if both are empty.

    Args:
        a: (N, 1, H, W) float in [0, 1].
        b: likewise.

    Returns:
        (N,) float64 in [0, 1]; NaN where a mask holds NaN.

    Raises:
        InputError: the masks differ in shape, are not float, or leave [0, 1].

    Example:
        >>> soft_iou(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)).item()
        0.5
    """
    check_masks(a, b)
    shared = torch.minimum(a, b).double().sum((1, 2, 3))
    union = torch.maximum(a, b).double().sum((1, 2, 3))
    return _share(shared, union)


def hard_iou(a: Tensor, b: Tensor, threshold: float = OPAQUE) -> Tensor:
    """Intersection over union per sample of the pixels above `threshold`; 1 if both have none.

    The Jaccard index. Scores of different thresholds do not compare: published ones use 0.1 (CLD,
    Text2Layer's filter) as well as 0.5.

    Args:
        a: (N, 1, H, W) float in [0, 1].
        b: likewise.
        threshold: a pixel belongs to the object when its mask is strictly above it, 0 to below 1.

    Returns:
        (N,) float64 in [0, 1]; NaN where a mask holds NaN.

    Raises:
        InputError: as for `soft_iou`, or the threshold is out of range.

    Example:
        >>> mask = torch.tensor([[[[0.2, 0.7], [0.0, 1.0]]]])
        >>> hard_iou(mask, torch.ones(1, 1, 2, 2)).item()
        0.5
    """
    check_masks(a, b)
    if not 0 <= threshold < 1:
        raise InputError(f"A mask's threshold must lie in [0, 1), but {threshold} was given.")
    first, second = a > threshold, b > threshold
    shared = (first & second).double().sum((1, 2, 3))
    union = (first | second).double().sum((1, 2, 3))
    return nan_if_unknown(_share(shared, union), a, b)


def mean_absolute_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean of |a - b| per sample over the whole picture.

    Args:
        a: (N, 1, H, W) float in [0, 1].
        b: likewise.

    Returns:
        (N,) float64 in [0, 1]; NaN where a mask holds NaN.

    Raises:
        InputError: as for `soft_iou`.

    Example:
        >>> mean_absolute_error(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.25)).item()
        0.25
    """
    check_masks(a, b)
    return (a.double() - b.double()).abs().mean((1, 2, 3))


def check_masks(*masks: Tensor) -> None:
    """InputError unless all masks are float (N, 1, H, W) in [0, 1], of one shape; NaN may pass."""
    for mask in masks:
        if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape != masks[0].shape:
            shapes = " and ".join(str(tuple(other.shape)) for other in masks)
            raise InputError(f"Masks to compare must have one shape (N, 1, H, W), got {shapes}.")
        if not mask.is_floating_point():
            raise InputError(f"A mask must be float in [0, 1], but {mask.dtype} was given.")
        if bool(((mask < 0) | (mask > 1)).any()):
            low, high = float(mask.nan_to_num(0).min()), float(mask.nan_to_num(0).max())
            raise InputError(f"A mask must lie in [0, 1], but {low:.3g} to {high:.3g} was given.")


def nan_if_unknown(scores: Tensor, *masks: Tensor) -> Tensor:
    """(N,) scores, turned into NaN for the samples of which a mask (N, 1, H, W) holds NaN."""
    for mask in masks:
        scores = scores.masked_fill(mask.isnan().flatten(1).any(1), torch.nan)
    return scores


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole; 1 where the whole is 0, and NaN stays NaN."""
    return torch.where(whole == 0, torch.ones_like(whole), part / whole)
