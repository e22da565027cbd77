"""Where a new layer is asked for."""

import pytest

from text2layer.errors import InputError
from text2layer.pipelines.placement import WORDS, box_at, window_around


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


def test_the_window_has_room_and_stays_on_the_canvas():
    assert window_around((30, 30, 40, 40), (100, 100)) == (22, 22, 56, 56)
    assert window_around((0, 60, 40, 40), (100, 100)) == (0, 44, 56, 56)
    assert window_around((-20, 0, 100, 100), (100, 100)) == (0, 0, 100, 100)
    x, y, width, height = window_around((0, 0, 300, 20), (300, 200))
    assert (x, y, width, height) == (0, 0, 300, 28)
