"""Subjects of a mask told apart, and lifted off a picture whose layers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label, regionprops

from text2layer.blend import composite_over
from text2layer.errors import InputError
from text2layer.pipelines import photo_layers as subjects
from text2layer.pipelines.photo_layers import (
    edge_colours,
    find_subjects,
    lift_subjects,
    nearest_label,
    nearness,
)

SIDE = 100


def boxes(*corners: tuple[int, int, int, int], level: int = 255) -> np.ndarray:
    """A mask of boxes (top, bottom, left, right)."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for top, bottom, left, right in corners:
        mask[top:bottom, left:right] = level
    return mask


SMALL, LARGE, MIDDLE = (10, 20, 5, 15), (10, 50, 30, 60), (10, 35, 70, 90)


def test_the_largest_subject_comes_first() -> None:
    labels = find_subjects(boxes(SMALL, LARGE, MIDDLE), 4)
    assert [labels[12, 40], labels[12, 80], labels[12, 10]] == [1, 2, 3]
    assert np.array_equal(labels > 0, boxes(SMALL, LARGE, MIDDLE) > 0)


def test_subjects_beyond_the_limit_join_the_nearest() -> None:
    labels = find_subjects(boxes(SMALL, LARGE, MIDDLE, (45, 55, 75, 85)), 2)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert labels[12, 10] == labels[12, 40] == 1
    assert labels[50, 80] == labels[12, 80] == 2


def test_specks_and_faint_parts_are_no_subjects() -> None:
    mask = boxes(LARGE)
    mask[90:93, 90:93] = 255  # 9 of 10,000 pixels
    mask |= boxes((70, 90, 5, 25), level=100)
    assert np.array_equal(find_subjects(mask, 4), boxes(LARGE) > 0)


def test_one_small_subject_is_still_one() -> None:
    assert find_subjects(boxes((50, 53, 50, 53)), 4).sum() == 9


@pytest.mark.parametrize("level", [0, 100])
def test_where_nothing_is_sure_there_is_no_subject(level: int) -> None:
    assert not find_subjects(boxes(LARGE, level=level), 4).any()


def test_a_soft_bridge_joins_a_small_part_to_a_large_one() -> None:
    mask = boxes(LARGE, (20, 30, 75, 85)) | boxes((20, 25, 55, 80), level=60)
    labels = find_subjects(mask, 4)
    assert labels.max() == 1
    assert labels[25, 80] == 1


def test_two_large_parts_with_a_soft_bridge_are_two_subjects() -> None:
    mask = boxes(LARGE, MIDDLE) | boxes((20, 25, 55, 75), level=60)
    labels = find_subjects(mask, 4)
    assert labels.max() == 2
    assert np.array_equal(labels > 0, mask > 0)
    assert (labels[22, 61], labels[22, 69]) == (1, 2)  # the bridge is divided in its middle


def test_a_subject_of_many_fragments_stays_one() -> None:
    mask = boxes(LARGE, level=100)
    mask[12:48:4, 32:58:4] = 255
    assert find_subjects(mask, 100).max() == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_subjects_are_the_connected_parts(seed: int, limit: int) -> None:
    """scikit-image, an independent labelling, finds the same parts and areas."""
    noise = np.random.default_rng(seed).normal(size=(48, 64))
    mask = np.where(ndimage.gaussian_filter(noise, 4) > 0.05, 255, 0).astype(np.uint8)
    labels = find_subjects(mask, limit)
    areas = sorted((int(r.area) for r in regionprops(label(mask, connectivity=2))), reverse=True)
    large = [a for a in areas if a >= subjects.LEAST_SHARE * mask.size] or areas[:1]
    assert labels.max() == min(len(large), limit)
    assert (labels > 0).sum() == sum(large)
    assert not labels[mask == 0].any()
    if len(large) <= limit:
        assert np.bincount(labels.ravel())[1:].tolist() == large


def test_a_limit_of_none_is_refused() -> None:
    with pytest.raises(InputError, match="At least one layer"):
        find_subjects(boxes(LARGE), 0)


def test_soft_pixels_far_from_what_is_sure_fade_without_a_cut() -> None:
    mask = boxes(LARGE) | boxes((20, 30, 60, 95), level=90)
    near = nearness(mask)
    assert (near[mask != 90] == 1).all()
    row = near[25, 59:95]
    assert (row[:3] == 1).all()
    assert (row[10:] == 0).all()
    assert 0 < row[4] < 1
    assert np.abs(np.diff(row)).max() < 0.4  # a cut would be 1; 3 % of 120 pixels are three steps
    assert (nearness(boxes(LARGE, level=100)) == 1).all()


def plain_layers() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Photo, true colour, background and alpha: a soft disc of a smooth colour over another."""
    y, x = np.mgrid[:SIDE, :SIDE]
    alpha = np.clip(128 + 12 * (30 - np.hypot(x - 50, y - 50)), 0, 255).astype(np.uint8)
    colour = np.stack([120 + x, 200 - y, np.full_like(x, 60)], -1).astype(np.uint8)
    background = np.stack([60 + 0 * x, 80 + y // 2, 180 - x // 2], -1).astype(np.uint8)
    return composite_over(background, colour, alpha), colour, background, alpha


@pytest.mark.parametrize("coarse_side", [1024, 40])
def test_edge_colours_are_those_of_the_subject_and_not_of_what_was_behind(
    monkeypatch, coarse_side: int
) -> None:
    monkeypatch.setattr(subjects, "COARSE_SIDE", coarse_side)
    photo, colour, _, alpha = plain_layers()
    made = edge_colours(photo, alpha)
    soft = (alpha > 25) & (alpha < 255)
    assert np.abs(made.astype(int) - colour)[soft].mean() < 6
    assert np.abs(photo.astype(int) - colour)[soft].mean() > 30
    assert np.array_equal(made[alpha == 255], photo[alpha == 255])


def test_a_mask_that_is_too_wide_gives_no_bright_or_dark_rim() -> None:
    photo, _, background, alpha = plain_layers()
    wide = ndimage.maximum_filter(alpha, 5)  # as a network's mask is: it takes in some wall
    made = edge_colours(photo, wide)
    soft = (wide > 25) & (wide < 255)
    lowest, highest = (
        np.minimum(photo.min((0, 1)), background.min((0, 1))),
        np.maximum(photo.max((0, 1)), background.max((0, 1))),
    )
    assert ((made[soft] >= lowest - 1) & (made[soft] <= highest + 1)).all()


def test_layers_are_cropped_and_add_up_to_the_mask() -> None:
    mask = np.array(ndimage.gaussian_filter(boxes(LARGE, MIDDLE).astype(float), 2), np.uint8)
    random = np.random.default_rng(4)
    photo = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    hole = ndimage.binary_dilation(mask > 25, iterations=3)
    regions = np.where(hole, nearest_label(find_subjects(mask, 4))[0], 0)
    first, second = lift_subjects(photo, mask, regions)
    assert (first.name, second.name) == ("Subject 1", "Subject 2")
    assert first.size[0] < SIDE
    total = np.zeros(mask.shape, int)
    for layer in (first, second):
        (x, y), (width, height) = layer.offset, layer.size
        assert first.alpha.max() == 255
        total[y : y + height, x : x + width] += layer.alpha
    assert np.array_equal(total, np.where(hole, mask, 0))
