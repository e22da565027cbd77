"""Pictures of other programs: every common pixel type becomes upright sRGB with 8 bits."""

import numpy as np
import pytest
from PIL import Image

from tests.io.stacks import pixels
from text2layer import io
from text2layer.errors import FormatError
from text2layer.io.budget import PixelBudget

COLOUR, ALPHA = pixels(7, 6, 9)
RGB = Image.fromarray(COLOUR)
RGBA = Image.fromarray(np.dstack([COLOUR, ALPHA]))


def loaded(image, path, **options):
    image.save(path, **options)
    return io.load(path)


def test_an_opaque_picture_is_a_background(tmp_path):
    for name, image in (
        ("a.png", RGB),
        ("b.png", Image.fromarray(np.dstack([COLOUR, ALPHA | 255]))),
    ):
        layered = loaded(image, tmp_path / name)
        assert (layered.foregrounds, layered.metadata) == ((), {})
        np.testing.assert_array_equal(layered.background, COLOUR)


def test_a_cut_out_is_a_foreground_over_white(tmp_path):
    layered = loaded(RGBA, tmp_path / "a.png")
    assert layered.metadata == {"background_added": True}
    np.testing.assert_array_equal(layered.foregrounds[0].colour, COLOUR)
    np.testing.assert_array_equal(layered.foregrounds[0].alpha, ALPHA)
    assert (layered.background == 255).all()


def test_hidden_colour_that_was_stripped_is_continued_from_the_edge(tmp_path):
    rgba = np.zeros((9, 9, 4), np.uint8)
    rgba[3:6, 3:6] = (250, 120, 10, 255)
    layered = loaded(Image.fromarray(rgba), tmp_path / "a.png")
    assert (layered.foregrounds[0].colour == (250, 120, 10)).all()


def test_a_palette_with_a_transparent_entry_is_a_cut_out(tmp_path):
    image = Image.fromarray((np.arange(54).reshape(6, 9) % 3).astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    layered = loaded(image, tmp_path / "a.png", transparency=1)
    assert sorted(set(layered.foregrounds[0].alpha.flat)) == [0, 255]
    np.testing.assert_array_equal(layered.foregrounds[0].colour[0, 0], (255, 0, 0))
    np.testing.assert_array_equal(layered.foregrounds[0].colour[0, 2], (0, 0, 255))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "I;16"])
def test_other_pixel_types_become_rgb(tmp_path, mode):
    grey = Image.fromarray(ALPHA)
    if mode == "I;16":
        image, expected = Image.fromarray(ALPHA.astype(np.uint16) * 257), grey.convert("RGB")
    elif mode == "CMYK":
        image = Image.new("CMYK", (9, 6), (0, 255, 255, 0))
        expected = Image.new("RGB", (9, 6), (255, 0, 0))
    else:
        image = (RGB if mode == "P" else grey).convert(mode)
        expected = image.convert("RGB")
    name = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    layered = loaded(image, name, **({"quality": 100} if mode == "CMYK" else {}))
    difference = layered.background.astype(int) - np.array(expected)
    assert np.abs(difference).max() <= (2 if mode == "CMYK" else 0)


def test_a_picture_turned_by_exif_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    layered = loaded(RGB, tmp_path / "a.png", exif=exif)
    assert layered.size == (6, 9)
    np.testing.assert_array_equal(layered.background, np.rot90(COLOUR, -1))


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {}
    second = Image.fromarray(COLOUR[::-1].copy())
    layered = loaded(RGB, tmp_path / name, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(layered.background, COLOUR)


def test_the_budget_names_what_is_too_large():
    budget = PixelBudget("a.psd", 100)
    with pytest.raises(FormatError, match="0 x 3"):
        budget.take(0, 3)
    with pytest.raises(FormatError, match=r"The mask of a\.psd has 101 x 1 pixels"):
        budget.take(101, 1, "mask")
    for _ in range(4):
        budget.take(10, 10)
    with pytest.raises(FormatError, match="400"):
        budget.take(1, 1)
