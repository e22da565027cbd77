"""Measures of masks against slow independent ones, and the hole's growth pixel by pixel."""

import numpy as np
import pytest
from scipy import ndimage

from text2layer.models.hole import cut_hole, threshold_level
from text2layer.photos.rules import (
    border_share,
    count_parts,
    object_share,
)


def blobs(seed: int, shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 4)
    return np.clip(smooth / smooth.std() * 60 + 100, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_measures_agree_with_slow_ones(seed: int) -> None:
    mask = blobs(seed)
    inside = mask >= 128
    labelled, count = ndimage.label(inside, np.ones((3, 3)))
    sizes = [int((labelled == label).sum()) for label in range(1, count + 1)]
    assert count_parts(mask) == sum(size >= 100 for size in sizes)
    assert object_share(mask) == pytest.approx(sum(sizes) / mask.size)
    height, width = mask.shape
    border = [inside[y, x] for y in range(height) for x in range(width)
              if y in (0, height - 1) or x in (0, width - 1)]  # fmt: skip
    assert border_share(mask) == pytest.approx(sum(border) / len(border))


def test_specks_are_no_parts() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[:10, :10] = 255  # 100 pixels
    mask[20:29, 20:31] = 255  # 99 pixels
    mask[40:60, 40:60] = 127  # below the level of an object
    assert count_parts(mask) == 1


def test_the_threshold_is_exclusive() -> None:
    assert threshold_level(0.1) == 26  # 25.5 is not above .1, 26 is
    assert threshold_level(0) == 1
    assert threshold_level(1) == 255
    mask = np.full((10, 10), 25, np.uint8)
    mask[5, 5] = 26
    hole = cut_hole(mask, 0.1, 0, 0)
    assert hole.sum() == 1
    assert hole[5, 5]


def test_the_hole_grows_to_all_sides_and_further_below() -> None:
    mask = np.zeros((100, 80), np.uint8)
    mask[50, 40] = 255
    rows, columns = np.nonzero(cut_hole(mask, 0.1, 0.05, 0.12))
    assert (rows.min(), rows.max()) == (45, 62)
    assert (columns.min(), columns.max()) == (35, 45)
    rows, columns = np.nonzero(cut_hole(mask, 0.1, 0.05, 0))
    assert (rows.min(), rows.max()) == (45, 55)
    assert len(rows) < 11 * 11  # round, not square


def test_the_hole_holds_the_object_and_stays_near_it() -> None:
    mask = blobs(3)
    object_ = mask >= 26
    hole = cut_hole(mask, 0.1, 0.05, 0.1)
    assert hole[object_].all()
    far = ndimage.distance_transform_edt(~object_) > 12.5
    assert not hole[far].any()
