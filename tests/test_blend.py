"""The integer composite, edge colours and resizing, each against an independent statement of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from text2layer import blend
from text2layer.errors import InputError
from text2layer.layers import Layer

SIDES = st.integers(1, 9)


@st.composite
def pictures(draw, channels=(3, 3, 1)):
    height, width = draw(SIDES), draw(SIDES)
    return [draw(hnp.arrays(np.uint8, (height, width, c))) for c in channels]


def over_in_floats(background, colour, alpha):
    share = alpha.astype(np.float64) / 255
    return share * colour + (1 - share) * background


@given(pictures())
def test_composite_is_the_nearest_integer_to_the_exact_value(parts):
    colour, background, alpha = parts
    exact = over_in_floats(background, colour, alpha)
    got = blend.composite_over(background, colour, alpha)
    assert got.dtype == np.uint8
    assert np.abs(got - exact).max() <= 0.5 + 1e-9


def test_composite_equals_the_formula_for_every_alpha_and_many_colours():
    alpha, colour, under = np.meshgrid(range(256), range(0, 256, 5), range(0, 256, 5))
    formula = (alpha * colour + (255 - alpha) * under + 127) // 255  # in 64-bit integers
    got = blend.composite_over(*(x.astype(np.uint8) for x in (under, colour, alpha)))
    np.testing.assert_array_equal(got, formula)


@given(pictures())
def test_torch_and_numpy_agree_to_the_bit(parts):
    colour, background, alpha = parts
    expected = blend.composite_over(background, colour, alpha)
    planes = [torch.tensor(x).permute(2, 0, 1)[None] for x in (background, colour, alpha)]
    got = blend.composite_over(*planes)
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got[0].permute(1, 2, 0).numpy(), expected)
    doubled = blend.multiply_alpha(torch.tensor(alpha), torch.tensor(alpha))
    np.testing.assert_array_equal(doubled.numpy(), blend.multiply_alpha(alpha, alpha))


@given(pictures())
def test_alpha_at_its_ends_gives_one_of_the_two_pictures(parts):
    colour, background, alpha = parts
    opaque, clear = np.full_like(alpha, 255), np.zeros_like(alpha)
    np.testing.assert_array_equal(blend.composite_over(background, colour, opaque), colour)
    np.testing.assert_array_equal(blend.composite_over(background, colour, clear), background)


@given(pictures())
def test_mask_of_two_dimensions_means_one_channel(parts):
    colour, background, alpha = parts
    flat, deep = (blend.composite_over(background, colour, a) for a in (alpha[..., 0], alpha))
    np.testing.assert_array_equal(flat, deep)


def test_opacity_is_folded_into_alpha_first():
    background, colour = np.full((1, 256, 3), 30, np.uint8), np.full((1, 256, 3), 200, np.uint8)
    alpha = np.arange(256, dtype=np.uint8)[None]
    for opacity in range(256):
        layer = Layer(colour, alpha, opacity=opacity / 255)
        folded = ((alpha.astype(int) * opacity + 127) // 255)[..., None]
        expected = (folded * 200 + (255 - folded) * 30 + 127) // 255
        np.testing.assert_array_equal(blend.blend(background, [layer])[..., :1], expected)


@given(
    st.integers(-12, 12), st.integers(-12, 12), SIDES, SIDES, st.integers(1, 7), st.integers(1, 7)
)
def test_a_moved_layer_paints_exactly_where_it_lies(x, y, w, h, width, height):
    background = np.zeros((height, width, 3), np.uint8)
    painted = blend.blend(
        background,
        [Layer(np.full((h, w, 3), 9, np.uint8), np.full((h, w), 255, np.uint8), offset=(x, y))],
    )
    for row in range(height):
        for column in range(width):
            inside = x <= column < x + w and y <= row < y + h
            assert painted[row, column, 0] == (9 if inside else 0)
    assert not background.any()  # the background given is not painted on


@settings(deadline=None)
@given(hnp.arrays(np.uint8, (7, 6, 3)), hnp.arrays(np.uint8, (7, 6)), st.integers(1, 255))
def test_edge_colours_keep_covered_pixels_and_stay_within_their_range(colour, alpha, threshold):
    continued = blend.extend_edge_colours(colour, alpha, threshold)
    known = alpha >= threshold
    np.testing.assert_array_equal(continued[known], colour[known])
    if known.any():
        assert (continued >= colour[known].min(axis=0)).all()
        assert (continued <= colour[known].max(axis=0)).all()
    else:
        np.testing.assert_array_equal(continued, colour)


def test_hidden_pixels_take_the_colour_of_the_nearest_covered_ones():
    colour = np.zeros((64, 65, 3), np.uint8)
    alpha = np.zeros((64, 65), np.uint8)
    colour[:, :8], colour[:, -8:] = (200, 10, 10), (10, 10, 200)
    alpha[:, :8] = alpha[:, -8:] = 255
    continued = blend.extend_edge_colours(colour, alpha).astype(int)
    assert np.abs(continued[:, 8:12] - (200, 10, 10)).max() < 40
    assert np.abs(continued[:, -12:-8] - (10, 10, 200)).max() < 40


def test_the_mean_is_of_what_is_covered_and_what_lies_far_outside_tends_to_it():
    colour = np.zeros((256, 256, 3), np.uint8)
    alpha = np.zeros((256, 256), np.uint8)
    colour[120:128, 120:128], colour[128:136, 120:128] = (200, 10, 10), (100, 10, 210)
    alpha[120:136, 120:128] = 255
    continued, mean = blend.extend_with_mean(colour, alpha)
    np.testing.assert_allclose(mean, (150, 10, 110), atol=1e-3)
    assert np.abs(continued[128, [0, -1]] - mean).max() < 30
    np.testing.assert_array_equal(continued, blend.extend_edge_colours(colour, alpha))
    whole = blend.extend_with_mean(colour, np.full_like(alpha, 255))[1]
    np.testing.assert_allclose(whole, colour.mean((0, 1)), atol=1e-3)


@pytest.mark.parametrize("threshold", [0, 256, -1])
def test_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match=str(threshold)):
        blend.extend_edge_colours(
            np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), threshold
        )


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, (11, 13), elements=st.sampled_from([0, 0, 1, 100, 255])),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_resizing_a_layer_of_one_colour_keeps_it_everywhere(alpha, shade, size):
    alpha[5, 5] = 255
    colour = np.zeros((11, 13, 3), np.uint8)  # black where hidden: the halo others draw
    colour[alpha > 0] = shade
    resized, mask = blend.resize_colour_and_alpha(colour, alpha, size)
    assert (resized.shape, mask.shape) == ((size[1], size[0], 3), (size[1], size[0]))
    if size != (13, 11):
        assert (resized == shade).all()


def test_resizing_draws_no_second_contour():
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, 32:] = 255
    _, mask = blend.resize_colour_and_alpha(np.zeros((64, 64, 3), np.uint8), alpha, (150, 150))
    assert not mask[:, :70].any()
    assert (mask[:, 80:] == 255).all()


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (3,), "ab", None])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(InputError, match="size"):
        blend.resize_colour(np.zeros((2, 2, 3), np.uint8), size)


@pytest.mark.parametrize("extreme", [False, True])
def test_matched_layers_make_the_picture_exactly(extreme, monkeypatch):
    monkeypatch.setattr(blend, "BAND_PIXELS", 1700)  # bands of 8 rows
    random = np.random.default_rng(0)
    picture, colour, background = random.integers(0, 256, (3, 205, 200, 3), dtype=np.uint8)
    if extreme:  # nothing but 0 and 255, the hardest to reach
        picture, colour, background = (np.where(part > 127, 255, 0).astype(np.uint8)
                                       for part in (picture, colour, background))  # fmt: skip
    alpha = random.integers(0, 256, (205, 200), dtype=np.uint8)
    new_colour, new_background = blend.match_composite(picture, colour, background, alpha)
    assert np.array_equal(blend.composite_over(new_background, new_colour, alpha), picture)
    assert np.array_equal(new_colour[alpha == 0], colour[alpha == 0])
    assert np.array_equal(new_background[alpha == 255], background[alpha == 255])


def test_layers_that_match_already_stay():
    random = np.random.default_rng(1)
    colour, background = random.integers(20, 236, (2, 200, 200, 3), dtype=np.uint8)
    alpha = random.integers(0, 256, (200, 200), dtype=np.uint8)
    picture = blend.composite_over(background, colour, alpha)
    same = blend.match_composite(picture, colour, background, alpha)
    assert np.array_equal(same[0], colour)
    assert np.array_equal(same[1], background)
    new_colour, new_background = blend.match_composite(picture + 3, colour, background, alpha)
    sure = alpha >= 128
    assert np.array_equal(new_background[sure], background[sure])  # the colour alone gives way
    assert 3 <= np.abs(new_colour.astype(int) - colour)[sure].max() <= 7
