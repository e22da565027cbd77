"""What hard masks have in common: how far two agree, and the connected components of one."""

from __future__ import annotations

from typing import Literal

import numpy as np

OBJECT_LEVEL = 128  # mask level (0..255) from which a pixel counts as object: .5


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of the objects of two masks; 1 where both are empty, for then they agree.

    The scores of `evaluation.mask_overlap` say the same of two empty masks.

    Args:
        first: (H, W) uint8.
        second: likewise.

    Returns:
        0 to 1.

    Example:
        >>> empty = np.zeros((2, 2), np.uint8)
        >>> intersection_over_union(empty, empty), intersection_over_union(empty, empty + 128)
        (1.0, 0.0)
    """
    one, other = first >= OBJECT_LEVEL, second >= OBJECT_LEVEL
    union = int(np.count_nonzero(one | other))
    return float(np.count_nonzero(one & other)) / union if union else 1.0


def connected_components(
    inside: np.ndarray, neighbours: Literal[4, 8]
) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected components of a hard mask.

    Args:
        inside: (H, W) bool.
        neighbours: 4, pixels that share a side are connected; 8, a corner suffices.

    Returns:
        Labels (H, W) int32: 1 on the component that comes first by rows, 2 on the next ..., 0
        outside; and the sizes (components,) in pixels, of component 1 first.

    Example:
        >>> diagonal = np.eye(3, dtype=bool)
        >>> [len(connected_components(diagonal, neighbours)[1]) for neighbours in (4, 8)]
        [3, 1]
    """
    from scipy import ndimage

    labels, _ = ndimage.label(inside, ndimage.generate_binary_structure(2, neighbours // 4))
    return labels, np.bincount(labels.ravel())[1:]
