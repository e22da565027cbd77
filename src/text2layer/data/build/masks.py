"""What can be measured on a saliency mask, and the hole that is cut around its object."""

from __future__ import annotations

from typing import Any

import numpy as np

from text2layer.errors import InputError

OBJECT_LEVEL = 128  # mask level (0..255) from which a pixel counts as object: .5
PART_PIXELS = 100  # smaller parts are specks (PAPER.md section 5.6)


def object_share(mask: np.ndarray) -> float:
    """Share (0..1) of a (H, W) uint8 mask that is object."""
    return float((mask >= OBJECT_LEVEL).mean())


def border_share(mask: np.ndarray) -> float:
    """Share (0..1) of the picture's outermost pixels that are object."""
    inside = mask >= OBJECT_LEVEL
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    return float(border.mean())


def count_parts(mask: np.ndarray) -> int:
    """Number of 8-connected parts of the object with at least `PART_PIXELS` pixels."""
    cv2 = _opencv()
    inside = (mask >= OBJECT_LEVEL).astype(np.uint8)
    statistics = cv2.connectedComponentsWithStats(inside, connectivity=8)[2]
    return int((statistics[1:, cv2.CC_STAT_AREA] >= PART_PIXELS).sum())


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    """IoU (0..1) of two masks' objects; 0 if neither has one, for then nothing was agreed on."""
    one, other = first >= OBJECT_LEVEL, second >= OBJECT_LEVEL
    union = int((one | other).sum())
    return float((one & other).sum() / union) if union else 0.0


def threshold_level(threshold: float) -> int:
    """Least mask level (1..255) that lies above a threshold of 0..1."""
    return min(int(threshold * 255) + 1, 255)


def cut_hole(
    mask: np.ndarray, threshold: float, dilation: float, dilation_below: float
) -> np.ndarray:
    """The object grown to all sides, and further below it, where its contact shadow lies.

    Args:
        mask: (H, W) uint8.
        threshold: mask value (0..1) above which a pixel belongs to the object.
        dilation: growth as a share of the longest side.
        dilation_below: growth downward as a share of the longest side; less than `dilation` is
            taken as `dilation`.

    Returns:
        (H, W) bool.
    """
    cv2 = _opencv()
    longest = max(mask.shape)
    radius = round(dilation * longest)
    extra = max(round(dilation_below * longest) - radius, 0)
    grown = (mask >= threshold_level(threshold)).astype(np.uint8)
    if extra:
        # a column whose last row is the anchor: a pixel is set if one of those above it is
        grown = cv2.dilate(grown, np.ones((extra + 1, 1), np.uint8), anchor=(0, extra))
    if radius:
        size = (2 * radius + 1, 2 * radius + 1)
        grown = cv2.dilate(grown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
    return np.asarray(grown).astype(bool)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError("Building needs OpenCV: pip install 'text2layer[build]'.") from None
    return cv2
