"""Agreement of hard masks, the same in every room, and their connected components."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from text2layer.evaluation.mask_overlap import hard_iou, soft_iou
from text2layer.masks import OBJECT_LEVEL, connected_components, intersection_over_union


def rectangle(left: int, top: int, right: int, bottom: int, level: int = 255) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[top:bottom, left:right] = level
    return mask


def by_score(score: Callable) -> Callable:
    """A score of float masks (N, 1, H, W), called with two uint8 masks."""

    def called(*masks: np.ndarray) -> float:
        return score(*(torch.from_numpy(mask / 255)[None, None] for mask in masks)).item()

    return called


MEASURES = [
    pytest.param(intersection_over_union, id="masks"),
    pytest.param(by_score(hard_iou), id="hard_iou"),
    pytest.param(by_score(soft_iou), id="soft_iou"),
]


@pytest.mark.parametrize("measure", MEASURES)
def test_every_iou_says_the_same_of_the_same_masks(measure: Callable) -> None:
    first, second, empty = rectangle(0, 0, 10, 4), rectangle(5, 0, 15, 4), rectangle(0, 0, 0, 0)
    assert measure(first, second) == pytest.approx(20 / 60)
    assert measure(first, first) == 1
    assert measure(first, rectangle(10, 10, 20, 15)) == 0
    assert measure(first, empty) == measure(empty, first) == 0
    assert measure(empty, empty) == 1


def test_a_pixel_counts_from_one_half() -> None:
    below, half = (rectangle(0, 0, 4, 4, level) for level in (OBJECT_LEVEL - 1, OBJECT_LEVEL))
    assert intersection_over_union(half, rectangle(0, 0, 4, 4)) == 1
    assert intersection_over_union(below, rectangle(0, 0, 4, 4)) == 0


@pytest.mark.parametrize("neighbours", [4, 8])
def test_components_are_those_that_opencv_finds(neighbours: int) -> None:
    cv2 = pytest.importorskip("cv2")
    inside = np.random.default_rng(0).random((40, 60)) < 0.45
    count, theirs, statistics, _ = cv2.connectedComponentsWithStats(
        inside.astype(np.uint8), connectivity=neighbours
    )
    labels, sizes = connected_components(inside, neighbours)
    assert len(sizes) == count - 1
    assert sorted(sizes) == sorted(statistics[1:, cv2.CC_STAT_AREA])
    assert len(set(zip(labels.ravel(), theirs.ravel(), strict=True))) == count  # one to one


def test_components_are_numbered_by_rows_and_none_is_none() -> None:
    inside = np.zeros((4, 6), bool)
    inside[0, 5] = inside[1, 0] = inside[2, 0] = True
    labels, sizes = connected_components(inside, 4)
    assert (labels[0, 5], labels[1, 0], labels[2, 0], labels[3, 3]) == (1, 2, 2, 0)
    assert sizes.tolist() == [1, 2]
    labels, sizes = connected_components(np.zeros((4, 6), bool), 8)
    assert not labels.any()
    assert len(sizes) == 0
