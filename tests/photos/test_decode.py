"""The decode stage: every kind of picture file, and the reason for each that cannot be used."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.toy_profiles import grey_profile, rgb_profile
from text2layer.photos.decode import Decode
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.settings import BuildSettings

SETTINGS = BuildSettings(size=64, min_size=32, max_aspect=2.5)


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth colours, red to the right and blue downwards, with a green corner."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, np.full_like(x, 40), 255 * y / height], -1)
    pixels[: height // 4, : width // 4] = (0, 220, 0)
    return Image.fromarray(pixels.astype(np.uint8))


MORE = [picture().rotate(9)]  # a second frame


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(tmp_path: Path, data: bytes, settings: BuildSettings = SETTINGS, name="a.jpg") -> Photo:
    path = tmp_path / name
    path.write_bytes(data)
    photo = Photo(PhotoRef("a", str(path)))
    Decode(settings).run([photo])
    return photo


def assert_like(photo: Photo, expected: Image.Image, tolerance: float = 8) -> None:
    assert photo.rejected is None, photo.rejected
    assert photo.image.dtype == np.uint8
    small = np.asarray(expected.convert("RGB").resize((64, 43), Image.Resampling.LANCZOS), float)
    assert photo.image.shape == small.shape
    assert np.abs(photo.image - small).mean() < tolerance


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"quality": 95}), ("TIFF", {}), ("BMP", {})],
)
def test_every_format_gives_the_same_picture_whatever_its_suffix(tmp_path, kind, options):
    assert_like(decode(tmp_path, encoded(picture(), kind, **options), name="a.txt"), picture())


def test_other_modes_become_rgb(tmp_path):
    assert_like(decode(tmp_path, encoded(picture().convert("CMYK"), "JPEG", quality=95)), picture())
    assert_like(decode(tmp_path, encoded(picture().quantize(256))), picture(), 12)
    almost_opaque = picture().convert("RGBA")
    assert_like(decode(tmp_path, encoded(almost_opaque)), picture())


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path):
    grey = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)
    data = encoded(Image.fromarray(grey), "TIFF")
    photo = decode(tmp_path, data, BuildSettings(size=64, min_size=32, min_colour=0))
    assert photo.rejected is None
    np.testing.assert_allclose(photo.image[..., 0].mean(), 127.5, atol=2)
    assert decode(tmp_path, data).rejected.reason == "grey"
    assert_like(decode(tmp_path, png_of_16_bits(picture())), picture())


def png_of_16_bits(image: Image.Image) -> bytes:
    """An RGB PNG of 16 bits a channel, which Pillow itself cannot write."""
    wide = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", image.width, image.height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_followed(tmp_path, orientation):
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # inverse transpose
    image = picture()
    if stored is not None:
        image = image.transpose(Image.Transpose(stored))
    data = encoded(image, "JPEG", quality=95, exif=exif_of(orientation))
    assert_like(decode(tmp_path, data), picture())


def test_an_embedded_profile_is_followed_and_a_broken_one_ignored(tmp_path):
    linear = ImageCms.createProfile("XYZ")  # not usable for RGB pixels: ignored
    data = encoded(picture(), icc_profile=ImageCms.ImageCmsProfile(linear).tobytes())
    assert_like(decode(tmp_path, data), picture())
    assert_like(decode(tmp_path, encoded(picture(), icc_profile=b"nonsense")), picture())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_like(decode(tmp_path, encoded(picture(), icc_profile=srgb)), picture())


def test_profiles_of_palettes_and_of_grey_are_followed(tmp_path):
    profile = rgb_profile(1.0, "built-in linear sRGB")
    image = picture().quantize(64)
    expected = decode(tmp_path, encoded(image.convert("RGB"), icc_profile=profile)).image
    assert (
        np.abs(expected.astype(int) - np.array(decode(tmp_path, encoded(image)).image)).max() > 40
    )
    for options in ({}, {"transparency": 200}):  # an entry that no pixel has
        found = decode(tmp_path, encoded(image, icc_profile=profile, **options)).image
        assert np.abs(found.astype(int) - expected).max() <= 1, options
    grey = BuildSettings(size=64, min_size=32, min_colour=0)
    for stored in (Image.new("L", (64, 64), 128), Image.new("LA", (64, 64), (128, 255)),
                   Image.fromarray(np.full((64, 64), 128 * 257, np.uint16))):  # fmt: skip
        photo = decode(tmp_path, encoded(stored, icc_profile=grey_profile(1.0)), grey)
        assert np.abs(photo.image.astype(int) - 188).max() <= 1, stored.mode


def test_a_sideways_tiff_keeps_its_proportions(tmp_path):
    image = picture(96, 64).transpose(Image.Transpose.ROTATE_90)
    photo = decode(tmp_path, encoded(image, "TIFF", exif=exif_of(6)))
    assert_like(photo, picture())


def test_metadata_that_cannot_be_read_damages_nothing(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "x" * (2**20 + 1), zip=True)
    assert_like(decode(tmp_path, encoded(picture(), pnginfo=text)), picture())
    assert_like(decode(tmp_path, encoded(picture(), "WEBP", exif=b"no TIFF")), picture())


def test_heic_is_decoded_or_says_what_is_missing(tmp_path):
    try:
        import pillow_heif
    except ImportError:
        photo = decode(tmp_path, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(99, b"\0"))
        assert photo.rejected.reason == "not a picture"
        assert "pillow-heif" in photo.rejected.detail
        return
    file = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(file, quality=95)
    assert_like(decode(tmp_path, file.getvalue(), name="a.heic"), picture())


def test_pixels_without_an_eight_bit_meaning_are_no_picture(tmp_path):
    photo = decode(tmp_path, encoded(Image.new("F", (64, 64)), "TIFF"))
    assert photo.rejected.reason == "not a picture"
    assert "32-bit" in photo.rejected.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a picture"),
        (b"hello, I am a text file", "not a picture"),
        (encoded(picture(), "JPEG")[:600], "damaged"),
        (encoded(Image.effect_noise((96, 64), 90))[:3000], "damaged"),
        (encoded(picture(1, 1)), "too small"),
        (encoded(picture(96, 20)), "too small"),
        (encoded(picture(200, 40)), "too elongated"),
        (encoded(picture(40, 200)), "too elongated"),
        (encoded(picture().convert("L").convert("RGB")), "grey"),
        (encoded(picture(), "GIF", save_all=True, append_images=MORE), "animated"),
        (encoded(picture(), "WEBP", save_all=True, append_images=MORE), "animated"),
        (encoded(picture(), "PNG", save_all=True, append_images=MORE), "animated"),
    ],
    ids=["empty", "text", "short jpeg", "short png", "1x1", "small", "wide", "high", "grey",
         "gif", "webp", "png"],
)  # fmt: skip
def test_what_cannot_be_used_has_a_reason(tmp_path, data, reason):
    photo = decode(tmp_path, data)
    assert photo.image is None
    assert (photo.rejected.stage, photo.rejected.reason) == ("decode", reason)
    assert photo.rejected.detail


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damage_of_any_kind_is_a_reason_and_no_error(tmp_path, kind):
    options = {"exif": exif_of(6)} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    whole, random = encoded(picture(), kind, **options), np.random.default_rng(0)
    rejected = 0
    for number in range(60):
        data = bytearray(whole[: random.integers(1, len(whole))] if number % 3 == 0 else whole)
        for place in random.integers(0, min(len(data), 20 * (number + 1)), 3):
            data[place] = random.integers(256)
        photo = decode(tmp_path, bytes(data))
        assert (photo.image is None) == (photo.rejected is not None)
        rejected += photo.rejected is not None
    assert rejected > 10


def test_pages_after_the_first_are_not_looked_at(tmp_path):
    data = bytearray(encoded(picture(), "TIFF", save_all=True, append_images=MORE))
    (first,) = struct.unpack_from("<I", data, 4)  # place of the first page's directory
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    assert struct.unpack_from("<H", data, second + 2) == (256,)  # its first entry is the width
    data[second + 2 : second + 4] = b"\x77\x77"
    assert_like(decode(tmp_path, bytes(data)), picture())


def test_a_file_larger_than_any_photo_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(2**30)  # a hole: it takes no space on the disk
    photo = Photo(PhotoRef("a", str(tmp_path / "a.jpg")))
    Decode(SETTINGS).run([photo])
    assert photo.rejected.reason == "unreadable"
    assert "1,073,741,824 bytes" in photo.rejected.detail


def test_cut_outs_are_not_photos(tmp_path):
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert decode(tmp_path, encoded(image)).rejected.reason == "transparent"


@pytest.mark.parametrize("side", [30_000, 100_000])
def test_giants_are_refused_before_a_pixel_is_decoded(tmp_path, side):
    data = bytearray(encoded(picture()))
    data[16:24] = struct.pack(">II", side, side)  # of the PNG's header
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    assert decode(tmp_path, bytes(data)).rejected.reason == "too many pixels"


def test_a_missing_file_is_unreadable_and_the_others_go_on(tmp_path):
    (tmp_path / "b.png").write_bytes(encoded(picture()))
    photos = [Photo(PhotoRef("a", str(tmp_path / "no.png"))),
              Photo(PhotoRef("b", str(tmp_path / "b.png")))]  # fmt: skip
    Decode(SETTINGS).run(photos)
    assert photos[0].rejected.reason == "unreadable"
    assert photos[1].rejected is None


def test_small_photos_are_not_enlarged(tmp_path):
    photo = decode(tmp_path, encoded(picture(50, 40)))
    np.testing.assert_array_equal(photo.image, np.asarray(picture(50, 40)))


@pytest.mark.parametrize("ground", ["white", "#808080"])
def test_a_small_coloured_subject_on_a_grey_ground_is_not_grey(tmp_path, ground):
    product = Image.new("RGB", (400, 400), ground)
    product.paste("#8b5a2b", (150, 170, 250, 240))  # a brown box on a 23rd of the frame
    assert decode(tmp_path, encoded(product)).rejected is None


def test_coloured_noise_and_a_faint_cast_do_not_make_a_grey_scan_colourful(tmp_path):
    random = np.random.default_rng(0)
    grey = random.integers(40, 200, (8, 8, 1)).repeat(50, 0).repeat(50, 1)
    scan = grey + np.array([5, 2, 0]) + random.normal(0, 6, (400, 400, 3))
    photo = decode(tmp_path, encoded(Image.fromarray(scan.clip(0, 255).astype(np.uint8))))
    assert photo.rejected.reason == "grey"
