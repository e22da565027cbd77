"""How given pictures are fitted: stretched a little, else padded, never cropped."""

import numpy as np
import pytest

from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.pipelines.frame import MAX_STRETCH, Frame, frame_for, window_of


def noise(height: int, width: int, *more: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, *more), dtype=np.uint8)


def test_without_anything_given_the_canvas_is_delivered():
    assert frame_for((None, None), 128, 8) == Frame((128, 128), (128, 128), (128, 128))
    assert frame_for((160, None), 128, 8) == Frame((160, 128), (160, 128), (160, 128))


@pytest.mark.parametrize(
    ("size", "canvas", "content"),
    [
        ((256, 256), (128, 128), (128, 128)),
        ((1920, 1080), (168, 96), (168, 96)),  # 1.78 becomes 1.75
        ((300, 150), (184, 96), (184, 96)),
        ((2000, 100), (576, 64), (576, 29)),  # the shortest side that a canvas has
        ((100, 30000), (64, 1024), (3, 1024)),
        ((1, 1), (128, 128), (128, 128)),
    ],
)
def test_the_canvas_has_the_shape_of_what_is_given(size, canvas, content):
    frame = frame_for((None, None), 128, 8, size)
    assert frame == Frame(size, canvas, content)


def test_no_picture_of_usual_shape_is_stretched_visibly():
    random = np.random.default_rng(1)
    for _ in range(2000):
        size = tuple(int(side) for side in np.exp(random.uniform(0, 9, 2)) + 1)
        frame = frame_for((None, None), 128, 8, size)
        across, down = (frame.content[i] / size[i] for i in (0, 1))
        one_pixel = 1 + 1 / min(frame.content)
        assert max(across / down, down / across) <= MAX_STRETCH * one_pixel**2
        assert all(inner <= outer for inner, outer in zip(frame.content, frame.canvas, strict=True))


def test_another_shape_that_is_asked_for_is_padded():
    frame = frame_for((128, 128), 64, 8, (300, 100))
    assert frame == Frame((300, 100), (128, 128), (128, 43))
    fitted = frame.fit_colour(noise(100, 300, 3))
    assert fitted.shape == (128, 128, 3)
    assert (fitted[43:] == fitted[42]).all()  # colour is continued
    _, alpha = frame.fit_layer(noise(100, 300, 3), np.full((100, 300), 255, np.uint8))
    assert (alpha[:43] == 255).all()
    assert (alpha[43:] == 0).all()


def test_what_is_drawn_is_cut_to_where_the_picture_lies_and_resized():
    frame = Frame((256, 64), (128, 64), (128, 32))
    canvas = np.zeros((64, 128, 3), np.uint8)
    canvas[:32], canvas[32:] = 200, 90
    assert frame.deliver_colour(canvas).shape == (64, 256, 3)
    assert (frame.deliver_colour(canvas) == 200).all()
    colour, alpha = frame.deliver_layer(canvas, canvas[..., 0])
    assert (colour == 200).all()
    assert (alpha == 200).all()


def test_equal_sizes_pass_unchanged():
    frame = frame_for((None, None), 64, 8, (64, 64))
    colour, alpha = noise(64, 64, 3), noise(64, 64)
    assert np.array_equal(frame.fit_colour(colour), colour)
    assert np.array_equal(frame.deliver_layer(colour, alpha)[1], alpha)


@pytest.mark.parametrize("asked", [(60, None), (None, 2048), (0, None), (64.0, 64), (True, 64)])
def test_sides_that_cannot_be_used(asked):
    with pytest.raises(InputError, match="must be a"):
        frame_for(asked, 128, 8)


def test_a_wide_background_is_seen_through_a_square_window_at_its_foot() -> None:
    picture = np.arange(40 * 100 * 3, dtype=np.uint8).reshape(40, 100, 3)
    window = window_of(picture)
    assert window is not None
    assert (window.x, window.y, window.side) == (30, 0, 40)
    assert np.array_equal(window.inside, picture[:, 30:70])
    tall = window_of(picture.transpose(1, 0, 2))
    assert tall is not None
    assert (tall.x, tall.y, tall.side) == (0, 60, 40)
    assert window_of(picture[:, :42]) is None  # square enough
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    layer = Layer(window.inside, alpha, "Foreground")
    whole = window.whole(LayeredImage(window.inside, (layer,)), {"scale": 2.0})
    assert whole.size == whole.foregrounds[0].size == (100, 40)
    assert np.array_equal(whole.background, picture)
    assert np.argwhere(whole.foregrounds[0].alpha).min(0).tolist() == [10, 40]
    assert np.argwhere(whole.foregrounds[0].alpha).max(0).tolist() == [29, 59]
    assert whole.metadata["scale"] == 2.0
