"""Pillow pictures given to the pipeline mean what a file of them means."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.toy_profiles import rgb_profile
from text2layer import load
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.pipelines.inputs import check_given

KINDS = ("image", "background", "foreground", "reference")


def colour() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def picture(kind: str) -> Image.Image:
    """A cut-out where one is needed, else an opaque picture."""
    if kind in ("image", "background"):
        return Image.fromarray(colour())
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[:, 10:] = 40
    return Image.fromarray(np.dstack([colour(), alpha]))


def assert_given_as_loaded(kind: str, path: Path) -> np.ndarray:
    """The colour of what is given; the same as that of the loaded file."""
    with Image.open(path) as opened:
        given = check_given(**{kind: opened})
    expected = check_given(**{kind: load(path)})
    np.testing.assert_array_equal(given.colour, expected.colour)
    if kind in ("foreground", "reference"):
        np.testing.assert_array_equal(given.alpha, expected.alpha)
    return given.colour


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_picture_stands_upright(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(kind).save(tmp_path / "a.png", exif=exif)
    assert assert_given_as_loaded(kind, tmp_path / "a.png").shape == (24, 16, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_profile_of_a_given_picture_is_followed(tmp_path, kind):
    picture(kind).save(tmp_path / "a.png", icc_profile=rgb_profile(1.0, "sRGB of a sort"))
    found = assert_given_as_loaded(kind, tmp_path / "a.png")
    assert np.abs(found.astype(int) - colour()).max() > 30


@pytest.mark.parametrize("kind", ["image", "background"])
def test_given_grey_of_sixteen_bits_is_scaled(kind):
    wide = Image.fromarray(np.full((8, 8), 128 * 257, np.uint16))
    assert (check_given(**{kind: wide}).colour == 128).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_picture_that_cannot_be_decoded_gets_one_sentence(kind):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    half = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))
    with pytest.raises(InputError, match=f"The given {kind} is damaged or cut short"):
        check_given(**{kind: half})
    with pytest.raises(ValueError, match=f"The given {kind} has 32-bit pixels"):
        check_given(**{kind: Image.new("F", (8, 8))})


@pytest.mark.parametrize("kind", ["foreground", "reference"])
def test_a_blended_layer_is_given_in_its_own_colours(kind: str) -> None:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    layer = Layer(np.full((8, 8, 3), 90, np.uint8), alpha, blend_mode="multiply")
    scene = LayeredImage(np.full((8, 8, 3), 40, np.uint8), (layer,))
    for value in (layer, scene):
        given = check_given(**{kind: value})
        assert (given.colour == 90).all()
    assert check_given(foreground=scene).layers == (layer,)
