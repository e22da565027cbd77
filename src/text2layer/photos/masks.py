"""What can be measured on a saliency mask."""

from __future__ import annotations

import numpy as np

from text2layer.models.hole import opencv

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
    cv2 = opencv()
    inside = (mask >= OBJECT_LEVEL).astype(np.uint8)
    statistics = cv2.connectedComponentsWithStats(inside, connectivity=8)[2]
    return int((statistics[1:, cv2.CC_STAT_AREA] >= PART_PIXELS).sum())


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    """IoU (0..1) of two masks' objects; 0 if neither has one, for then nothing was agreed on."""
    one, other = first >= OBJECT_LEVEL, second >= OBJECT_LEVEL
    union = int((one | other).sum())
    return float((one & other).sum() / union) if union else 0.0
