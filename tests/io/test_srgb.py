"""Colour profiles, orientation and metadata that cannot be read: pixels are what counts."""

import io as streams
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from tests.toy_profiles import grey_profile, rgb_profile
from text2layer import io
from text2layer.errors import FormatError
from text2layer.io.srgb import to_srgb, upright_srgb

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LINEAR_128 = 188  # 128 / 255 of light as an sRGB value: 255 (1.055 (128 / 255)^(1 / 2.4) - 0.055)
TURNED = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)  # EXIF orientation 6


def colours() -> np.ndarray:
    """(6, 8, 3) uint8, 48 colours: no more than a palette holds."""
    return np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = streams.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def background(data: bytes) -> np.ndarray:
    return io.load(streams.BytesIO(data)).background


def with_chunk(png: bytes, name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """A PNG with one more chunk after its header."""
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("name", ["GIMP built-in linear sRGB", "linear"])
def test_a_profile_is_followed_whatever_its_name(name):
    grey = np.full((2, 2, 3), 128, np.uint8)
    linear = to_srgb(grey, rgb_profile(1.0, name))
    assert np.abs(linear.astype(int) - LINEAR_128).max() <= 1


def test_srgb_under_any_name_changes_no_pixel():
    every_grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, 2)
    name = "sRGB".encode("utf-16-be")
    assert name in SRGB
    for profile in (SRGB, SRGB.replace(name, "mine".encode("utf-16-be"))):
        np.testing.assert_array_equal(to_srgb(colours(), profile), colours())
        np.testing.assert_array_equal(to_srgb(every_grey, profile), every_grey)


def test_the_profile_of_a_palette_is_followed():
    profile = rgb_profile(1.4)
    image = Image.fromarray(colours())
    expected = background(encoded(image, "PNG", icc_profile=profile))
    assert np.abs(expected.astype(int) - colours()).max() > 20
    palette = image.quantize(64, dither=Image.Dither.NONE)
    stored = np.array(palette.convert("RGB"))
    np.testing.assert_array_equal(stored, colours())
    np.testing.assert_array_equal(
        background(encoded(palette, "PNG", icc_profile=profile)), expected
    )
    see_through = streams.BytesIO(encoded(palette, "PNG", icc_profile=profile, transparency=3))
    cutout = io.load(see_through).foregrounds[0]
    assert (cutout.alpha == 0).any()
    np.testing.assert_array_equal(cutout.colour[cutout.alpha > 0], expected[cutout.alpha > 0])


def test_the_profile_of_grey_is_followed_with_alpha_and_sixteen_bits():
    profile = grey_profile(1.0)
    grey = Image.fromarray(np.full((3, 4), 128, np.uint8))
    both = Image.merge("LA", (grey, Image.fromarray(np.full((3, 4), 60, np.uint8))))
    wide = Image.fromarray(np.full((3, 4), 128 * 257, np.uint16))
    for image in (grey, wide):
        found = background(encoded(image, "PNG", icc_profile=profile))
        assert np.abs(found.astype(int) - LINEAR_128).max() <= 1
    layer = io.load(streams.BytesIO(encoded(both, "PNG", icc_profile=profile))).foregrounds[0]
    assert np.abs(layer.colour.astype(int) - LINEAR_128).max() <= 1
    assert (layer.alpha == 60).all()


def test_a_profile_of_other_pixels_is_left_aside():
    for profile in (grey_profile(1.0), b"not a profile"):
        np.testing.assert_array_equal(to_srgb(colours(), profile), colours())
    grey = encoded(Image.new("L", (2, 2), 128), "PNG", icc_profile=rgb_profile(1.0))
    assert (background(grey) == 128).all()


def test_lab_and_a_transparent_grey_of_sixteen_bits():
    lab = ImageCms.profileToProfile(
        Image.fromarray(colours()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert np.abs(background(encoded(lab, "TIFF")).astype(int) - colours()).mean() <= 2
    wide = np.full((2, 3), 1000, np.uint16)
    wide[0, 0] = 2000
    layer = io.load(
        streams.BytesIO(encoded(Image.fromarray(wide), "PNG", transparency=2000))
    ).foregrounds[0]
    assert layer.alpha.tolist() == [[0, 255, 255], [255, 255, 255]]


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "YCbCr", "HSV"])
def test_pictures_that_only_programs_make_are_taken_too(mode):
    image = Image.merge("RGBA", [Image.new("L", (4, 4), value) for value in (90, 90, 90, 255)])
    image = image.convert("LA").convert(mode) if mode == "La" else image.convert(
        {"PA": "LA", "YCbCr": "RGB", "HSV": "RGB"}.get(mode, "RGBA")
    ).convert(mode)  # fmt: skip
    colour, _ = upright_srgb(image, "it")
    assert np.abs(colour.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_an_eight_bit_meaning_are_refused(mode):
    with pytest.raises(FormatError, match=r"^a\.tif has 32-bit pixels \(mode"):
        upright_srgb(Image.new(mode, (2, 2)), "a.tif")
    with pytest.raises(FormatError, match="32-bit pixels"):
        background(encoded(Image.new(mode, (2, 2)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF", "AVIF"])
def test_orientation_is_followed_once(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (32, 16), (0, 0, 200))
    image.paste((200, 0, 0), (0, 0, 16, 16))
    pixels = background(encoded(image, kind, exif=exif))
    assert pixels.shape == (32, 16, 3)
    assert (pixels[4, 8] > (150, -1, -1)).all()  # left became top
    assert pixels[28, 8, 2] > 150


def test_one_exif_tag_of_a_wrong_type_spoils_nothing():
    """An exposure time that is text, which Pillow cannot write back after turning the picture."""
    tags = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    image = Image.fromarray(colours())
    assert TiffImagePlugin.X_RESOLUTION == 0x011A  # a rational
    for kind, options in (("JPEG", {"quality": 100}), ("PNG", {}), ("WEBP", {"lossless": True})):
        pixels = background(encoded(image, kind, exif=exif, **options))
        assert pixels.shape == (8, 6, 3), kind


@pytest.mark.parametrize("exif", [b"no TIFF at all", b"II*\0", b"II*\0\xff\xff\xff\xff", b""])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_that_cannot_be_read_is_left_aside(kind, exif):
    image = Image.fromarray(colours())
    if kind == "PNG":
        data = with_chunk(encoded(image, "PNG"), b"eXIf", exif)
    else:
        data = encoded(image, "WEBP", lossless=True, exif=exif)
    np.testing.assert_array_equal(background(data), colours())


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"tEXt"])
@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp"])
def test_a_text_of_any_length_spoils_no_png(name, keyword):
    text = bytes(2**20 + 1)
    body = {b"zTXt": b"\0\0" + zlib.compress(text), b"tEXt": b"\0" + text.replace(b"\0", b"a"),
            b"iTXt": b"\0\1\0\0\0" + zlib.compress(text)}[name]  # fmt: skip
    data = with_chunk(encoded(Image.fromarray(colours()), "PNG"), name, keyword + body)
    np.testing.assert_array_equal(background(data), colours())


def test_many_texts_spoil_no_png():
    data = encoded(Image.fromarray(colours()), "PNG")
    packed = zlib.compress(bytes(2**20 - 1))
    for _ in range(70):  # Pillow stops at 64 MiB together
        data = with_chunk(data, b"zTXt", b"Raw profile type exif\0\0" + packed)
    np.testing.assert_array_equal(background(data), colours())


def test_a_long_profile_is_followed():
    profile = rgb_profile(1.0, padding=2**20)
    grey = Image.new("RGB", (4, 4), (128, 128, 128))
    assert np.abs(background(encoded(grey, "PNG", icc_profile=profile)).astype(int)
                  - LINEAR_128).max() <= 1  # fmt: skip
    endless = b"name\0\0" + zlib.compress(bytes(2**24 + 1))
    data = with_chunk(encoded(grey, "PNG"), b"iCCP", endless)
    assert (background(data) == 128).all()


@pytest.mark.parametrize(
    ("name", "data"),
    [(b"tEXt", b"a\0b"), (b"pHYs", bytes(9)), (b"iCCP", b"a\0\0x"), (b"gAMA", b"\1")],
)
def test_a_wrong_checksum_of_metadata_spoils_nothing_and_one_of_pixels_does(name, data):
    whole = encoded(Image.fromarray(colours()), "PNG")
    np.testing.assert_array_equal(background(with_chunk(whole, name, data, 1)), colours())
    np.testing.assert_array_equal(background(with_chunk(whole, name, data)), colours())
    with pytest.raises(FormatError, match="damaged"):
        background(with_chunk(whole, b"tRNS", bytes(6), 1))


def test_xmp_and_orientation_of_a_png_are_still_read():
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:CreatorTool='a program'/></rdf:RDF></x:xmpmeta>"  # noqa: E501
    data = encoded(Image.fromarray(colours()), "PNG")
    data = with_chunk(data, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet))
    data = with_chunk(data, b"eXIf", TURNED)
    layered = io.load(streams.BytesIO(data))
    assert layered.metadata == {"creator_tool": "a program"}
    np.testing.assert_array_equal(layered.background, np.rot90(colours(), -1))


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """A JPEG with one more segment after its first two bytes."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


@pytest.mark.parametrize(
    ("marker", "data"),
    [
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0II*\0\xff"),
        (0xE1, b"Exif\0\0no TIFF"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    ],
)
def test_a_segment_of_a_jpeg_that_cannot_be_read_is_left_aside(marker, data):
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.new("RGB", (32, 16), (128, 128, 128))
    whole = encoded(grey, "JPEG", quality=95, exif=exif, icc_profile=rgb_profile(1.0))
    pixels = background(with_segment(whole, marker, data))
    assert pixels.shape == ((16, 32, 3) if data.startswith(b"Exif") else (32, 16, 3))
    assert np.abs(pixels.astype(int) - LINEAR_128).max() <= 2
