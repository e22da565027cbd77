"""Libraries and shards of others are read upright and in sRGB, as every picture is."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_shards import make_sample
from tests.toy_library import build_toy_library
from tests.toy_profiles import rgb_profile
from text2layer.data.decoding import BackgroundStore, ForegroundStore
from text2layer.data.library import Library
from text2layer.data.schema import decode_sample, encode_sample
from text2layer.io.srgb import to_srgb

TURNED = {"exif": Image.Exif()}
TURNED["exif"][0x0112] = 6
CPU = torch.device("cpu")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(build_toy_library(tmp_path / "library", 2, 2))


def cutouts(library: Library) -> ForegroundStore:
    return ForegroundStore(library, library.foregrounds[:1], 128, CPU, 1, False)


def backgrounds(library: Library) -> BackgroundStore:
    return BackgroundStore(library, library.backgrounds[:1], 64, CPU, 1, False)


def test_a_background_of_a_library_stands_upright(library: Library) -> None:
    sky = np.zeros((40, 64, 3), np.uint8)
    sky[:, :20] = (80, 140, 250)  # at the left of what is stored, so at the top
    path = library.path(library.backgrounds[0])
    Image.fromarray(sky).save(path, "JPEG", quality=95, **TURNED)
    store = backgrounds(library)
    assert store.sizes == [(40, 64)]
    pixels = store.levels[0][0].float()
    assert pixels[2, :12].mean() > 230
    assert pixels[2, 30:].mean() < 20


def test_a_cut_out_of_a_library_stands_upright(library: Library) -> None:
    rgba = np.full((40, 64, 4), 255, np.uint8)
    rgba[:5, :5, 3] = 0
    path = library.path(library.foregrounds[0])
    Image.fromarray(rgba).save(path, "WEBP", lossless=True, exact=True, **TURNED)
    store = cutouts(library)
    assert store.sizes == [(40, 64)]
    corner = store.levels[0][0, 3, 32 : 32 + 5, 44 + 35 : 44 + 40]
    assert (corner == 0).all()  # the left top corner came to the right


def test_profiles_of_a_library_are_followed(library: Library) -> None:
    profile = rgb_profile(1.0)
    grey = np.full((32, 32, 3), 128, np.uint8)
    expected = int(to_srgb(grey, profile)[0, 0, 0])
    assert expected > 180
    rgba = np.dstack([grey, np.full((32, 32), 200, np.uint8)])
    Image.fromarray(rgba).save(library.path(library.foregrounds[0]), "PNG", icc_profile=profile)
    Image.fromarray(grey).save(library.path(library.backgrounds[0]), "PNG", icc_profile=profile)
    assert (cutouts(library).levels[0][0, :3, 64, 64] == expected).all()
    assert (backgrounds(library).levels[0][0, :, :, :16] == expected).all()


def test_a_picture_of_sixteen_bits_and_one_with_a_long_text_are_read(library: Library) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "x" * (2**20 + 1), zip=True)
    path = library.path(library.backgrounds[0])
    Image.fromarray(np.full((32, 32), 128 * 257, np.uint16)).save(path, "PNG", pnginfo=text)
    store = backgrounds(library)
    assert (store.levels[0][0, :, :, :16] == 128).all()


def test_a_damaged_picture_of_a_library_is_counted(library: Library) -> None:
    path = library.path(library.backgrounds[0])
    path.write_bytes(path.read_bytes()[:200])
    assert backgrounds(library).records == []
    assert library.skipped["corrupt file"] == 1
    assert library.messages[0].endswith(".")
    assert not library.messages[0].endswith("..")


def test_foreign_shards_are_read_upright_and_in_srgb() -> None:
    sample = make_sample(0)
    members = encode_sample(sample)
    profile = rgb_profile(1.0)
    for name, pixels in (
        ("foreground.webp", np.dstack([sample.foreground, sample.mask])),
        ("background.webp", sample.background),
        ("image.webp", sample.image),
    ):
        assert name in members
        file = io.BytesIO()
        Image.fromarray(pixels).save(
            file, "WEBP", lossless=True, exact=True, icc_profile=profile, **TURNED
        )
        members[name] = file.getvalue()
    read = decode_sample(sample.key, members)
    for name in ("foreground", "background", "image"):
        expected = np.rot90(to_srgb(getattr(sample, name), profile), -1)
        np.testing.assert_array_equal(getattr(read, name), expected)
    np.testing.assert_array_equal(read.mask, np.rot90(sample.mask, -1))
