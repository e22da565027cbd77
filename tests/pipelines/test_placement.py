"""Where a new layer is asked for."""

import numpy as np
import pytest

from text2layer.canonical import canonical_box
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.pipelines.placement import WORDS, box_at, place, window_around


def test_words_are_squares_of_half_the_shorter_side():
    assert box_at("left", (200, 100)) == (5, 25, 50, 50)
    assert box_at("centre", (200, 100)) == box_at(" Center ", (200, 100)) == (75, 25, 50, 50)
    assert box_at("bottom-right", (200, 100)) == (145, 45, 50, 50)
    assert box_at("top", (200, 100)) == (75, 5, 50, 50)
    assert len({box_at(word, (100, 100)) for word in WORDS}) == 9


def test_numbers_are_pixels():
    assert box_at("10, 20,30,40", (100, 100)) == (10, 20, 30, 40)
    assert box_at((-10, 20, 30, 40), (100, 100)) == (-10, 20, 30, 40)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("middle", "is no place: say left, centre"),
        ("1,2,3", "is no place"),
        ("1,2,3,x", "is no place"),
        ("", "is no place"),
        ((1, 2), "is no place"),
        ("0,0,3,50", "sides of 4 pixels to the canvas's 100 x 80, got 3 x 50"),
        ("0,0,50,81", "got 50 x 81"),
        ("100,0,50,50", "lies outside"),
        ("0,-50,50,50", "lies outside"),
    ],
)
def test_places_that_cannot_be_used(at, words):
    with pytest.raises(InputError, match=words):
        box_at(at, (100, 80))


@pytest.mark.parametrize("box", [(100, 120, 60, 60), (80, 150, 90, 40), (150, 90, 30, 75)])
def test_what_is_drawn_in_the_canonical_place_of_the_window_lands_in_the_box(box):
    x, y, width, height = window_around(box, (300, 300))
    assert width == height
    left, top, wide, high = canonical_box((width, height))
    assert abs(wide - max(box[2:])) <= 1  # as large as the box lets it be, in this or that shape
    assert abs(x + left + wide / 2 - (box[0] + box[2] / 2)) <= 1  # its middle
    assert abs(y + top + high - (box[1] + box[3])) <= 1  # on its bottom


def test_the_window_stays_on_the_canvas():
    assert window_around((30, 30, 40, 40), (100, 100)) == (23, 21, 53, 53)
    assert window_around((0, 60, 40, 40), (100, 100)) == (0, 47, 53, 53)
    assert window_around((-20, 0, 100, 100), (100, 100)) == (0, 0, 100, 100)
    assert window_around((0, 0, 300, 20), (300, 200)) == (0, 0, 300, 200)
    assert window_around((200, 150, 90, 40), (300, 200)) == (180, 80, 120, 120)


# A drawn object, moved


CANVAS = (200, 100)


def drawn() -> Layer:
    """An object of 60 x 40 on a canvas of 200 x 100, its foot at 92."""
    alpha = np.zeros((100, 200), np.uint8)
    alpha[52:92, 70:130] = 255
    alpha[0, 0] = 9  # so faint that it does not count
    colour = np.full((100, 200, 3), 90, np.uint8)
    colour[alpha == 255] = (200, 30, 60)
    return Layer(colour, alpha)


@pytest.mark.parametrize(
    ("at", "scale", "box"),
    [
        ("left", None, (5, 42, 50, 33)),  # the word's square, filled, on its bottom
        ("bottom-right", None, (145, 62, 50, 33)),
        ("10,20,30,40", None, (10, 40, 30, 20)),
        ((-10, 0, 90, 30), None, (12, 0, 45, 30)),
        (None, 0.5, (85, 72, 30, 20)),  # stands where it stood
        (None, 2.0, (40, 12, 120, 80)),
        ("left", 1.0, (5, 30, 60, 40)),
        ("right", 0.5, (165, 40, 30, 20)),
        ("top", 0.5, (85, 5, 30, 20)),
        ("bottom-left", 1.5, (5, 35, 90, 60)),
        (" Center ", 1, (70, 30, 60, 40)),
    ],
)
def test_an_object_is_scaled_and_put_where_it_is_asked_for(at, scale, box):
    placed = place(drawn(), at, scale, CANVAS)
    assert placed.box == box
    assert (*placed.offset, *placed.size) == box  # cut to the object
    assert (placed.alpha == 255).all()
    assert np.abs(placed.colour.astype(int) - (200, 30, 60)).max() <= 1  # no halo of the grey


def test_colour_goes_on_under_alpha_0_and_the_composite_is_the_blend():
    y, x = np.mgrid[:100, :200]
    alpha = np.clip(255 * (30 - np.hypot(x - 100, y - 60)), 0, 255).astype(np.uint8)
    red = np.where(alpha[..., None] > 0, (200, 30, 60), (0, 255, 0)).astype(np.uint8)
    placed = place(Layer(red, alpha), "top-left", 0.7, CANVAS)
    clear = placed.alpha == 0
    assert clear.any()
    assert np.abs(placed.colour[clear].astype(int) - (200, 30, 60)).max() <= 2
    white = LayeredImage(np.full((100, 200, 3), 255, np.uint8), (placed,))
    assert white.composite[..., 1].min() <= 31
    assert not (white.composite[..., 0] < 199).any()  # no green fringe
    assert np.array_equal(white.composite[60:, 100:], white.background[60:, 100:])


def test_without_a_place_and_a_scale_or_an_object_a_layer_stays():
    layer = drawn()
    assert place(layer, None, None, CANVAS) is layer
    empty = Layer(layer.colour, np.zeros((100, 200), np.uint8))
    assert place(empty, "left", 2.0, CANVAS) is empty


@pytest.mark.parametrize(
    ("at", "scale", "words"),
    [
        (None, 0, r"The scale must lie in 0.05..4, got 0\."),
        (None, -1.0, "got -1"),
        (None, 1000.0, "got 1000"),
        (None, float("nan"), "got nan"),
        (None, "2", "A scale must be a number, got '2'"),
        (None, True, "A scale must be a number"),
        ("10,20,30,40", 2.0, "A box says how large the object is"),
        ("middle", 2.0, "is no place"),
        ("200,0,50,50", None, "lies outside of the canvas"),
    ],
)
def test_places_and_scales_that_cannot_be_used(at, scale, words):
    with pytest.raises(InputError, match=words):
        place(drawn(), at, scale, CANVAS)


def test_an_object_of_a_huge_canvas_is_not_scaled_beyond_what_a_file_holds():
    alpha = np.full((2, 8000), 255, np.uint8)
    layer = Layer(np.zeros((2, 8000, 3), np.uint8), alpha)
    with pytest.raises(InputError, match="would become 32000 x 8 pixels"):
        place(layer, None, 4.0, (8000, 2))
