"""Single pictures: files of any common format in, sRGB 8-bit arrays out; PNG, WebP, JPEG out."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from text2layer.errors import FormatError, InputError
from text2layer.io import jpeg, png, srgb
from text2layer.io.budget import PixelBudget
from text2layer.options import require

MAX_WEBP_SIDE = 16383  # VP8L has 14 bits for each side
MAX_JPEG_SIDE = 65535
MAX_JPEG_XMP = 65502  # bytes of a packet in one segment
JPEG_QUALITY = 95
READABLE = ("PNG", "WEBP", "JPEG", "TIFF", "BMP", "GIF", "AVIF", "HEIC")  # single pictures
HEAD_BYTES = 64  # of a file, by which its format is known
_SIGNATURES = {
    png.SIGNATURE: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"8BPS": "PSD",
    b"PK\x03\x04": "ORA",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # of more than 4 GiB
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Picture:
    """A decoded picture: colour (H, W, 3) uint8 sRGB, alpha (H, W) uint8 or None if opaque."""

    colour: np.ndarray
    alpha: np.ndarray | None
    xmp: bytes | str | None


def sniff(head: bytes) -> str | None:
    """The format that the first HEAD_BYTES (at least 16) of a file announce, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":  # length of the box, "ftyp", main brand, version, other brands
        others = head[16 : int.from_bytes(head[:4], "big")]
        if head[8:12] in (b"avif", b"avis") or b"avif" in others:
            return "AVIF"
        return "HEIC" if head[8:12] in _HEIF_BRANDS else None
    return next((name for magic, name in _SIGNATURES.items() if head.startswith(magic)), None)


def check_signature(head: bytes, expected: str, where: str) -> None:
    """Raise FormatError unless a file begins as `expected` does."""
    found = sniff(head)
    if found == expected:
        return
    if not head:
        raise FormatError(f"{where} is empty.")
    if found is None:
        raise FormatError(f"{where} is damaged or not of the format {expected}.")
    raise FormatError(f"{where} holds {found} data, not {expected}: rename it to what it is.")


def open_image(file: BinaryIO, expected: str) -> Image.Image:
    """Open a picture of a known format with Pillow; no pixel is decoded yet.

    Args:
        file: seekable, stays open while the picture is used.
        expected: one of READABLE.

    Raises:
        InputError: HEIC, and pillow-heif is not installed.
        Exception: whatever Pillow raises over a damaged file.
    """
    file.seek(0)
    if expected == "HEIC":
        image: Image.Image = _heif().HeifImageFile(file)
    elif expected == "PNG":
        pixels, profile = png.without_needless(file)
        image = Image.open(pixels, formats=["PNG"])
        image.info["icc_profile"] = profile
    else:
        try:
            image = Image.open(file, formats=[expected])
        except UnidentifiedImageError:
            if expected != "JPEG":
                raise
            image = Image.open(jpeg.without_broken_metadata(file), formats=["JPEG"])
    return image


def read_picture(file: BinaryIO, expected: str, where: str, budget: PixelBudget) -> Picture:
    """Decode one picture: first frame, upright, converted to sRGB 8 bit.

    Args:
        file: seekable, at its start.
        expected: one of READABLE.
        where: the file's name for errors.
        budget: pixels that may be decoded.

    Raises:
        FormatError: damaged, cut short, another format, over the limit, or of a pixel type without
            an 8-bit meaning (32-bit floats and integers).
        InputError: HEIC, and pillow-heif is not installed.
    """
    check_signature(file.read(HEAD_BYTES), expected, where)
    _check_complete(file, expected, where)
    try:
        with open_image(file, expected) as image:
            budget.take(*image.size)
            xmp = image.info.get("xmp")
            colour, alpha = srgb.upright_srgb(image, where)
            return Picture(colour, alpha, xmp if isinstance(xmp, (bytes, str)) else None)
    except (FormatError, InputError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise FormatError(
            f"{where} has more pixels than the limit of {budget.max_pixels}: make it smaller."
        ) from None
    except Exception as error:  # Pillow raises whatever its parsers stumble over
        raise FormatError(f"{where} is damaged or cut short ({error}).") from None


def read_any(path: Path) -> Picture:
    """Decode a picture file of any format in READABLE, whatever its suffix says.

    Raises:
        OSError: the file cannot be read.
        FormatError, InputError: see `read_picture`.
    """
    with path.open("rb") as file:
        found = sniff(file.read(HEAD_BYTES))
        if found not in READABLE:
            raise FormatError(f"{path} is no picture of a known format ({', '.join(READABLE)}).")
        file.seek(0)
        return read_picture(file, found, str(path), PixelBudget(str(path)))


def to_srgb(colour: np.ndarray, profile: bytes | None) -> np.ndarray:
    """See `srgb.to_srgb`."""
    return srgb.to_srgb(colour, profile)


def write_png(file: BinaryIO, pixels: np.ndarray, xmp: bytes | None = None) -> None:
    """Write (H, W), (H, W, 3) or (H, W, 4) uint8; hidden colour is kept."""
    text = PngImagePlugin.PngInfo()
    if xmp is not None:
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", pnginfo=text)


def write_webp(file: BinaryIO, pixels: np.ndarray, xmp: bytes | None = None) -> None:
    """Write (H, W), (H, W, 3) or (H, W, 4) uint8 as lossless WebP; hidden colour is kept."""
    if max(pixels.shape[:2]) > MAX_WEBP_SIDE:
        raise FormatError(
            f"WebP holds at most {MAX_WEBP_SIDE} pixels a side, this picture has "
            f"{pixels.shape[1]} x {pixels.shape[0]}: save it as PNG."
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(file, "WEBP", lossless=True, exact=True, quality=60, xmp=xmp or b"")


def write_jpeg(file: BinaryIO, pixels: np.ndarray, xmp: bytes | None = None) -> None:
    """Write (H, W) or (H, W, 3) uint8 as JPEG of quality 95 with full colour resolution.

    Raises:
        FormatError: pixels with alpha, more than 65,535 a side, or more metadata than JPEG holds.
    """
    if pixels.shape[2:] == (4,):
        raise FormatError("JPEG holds no transparency: save a foreground as PNG or WebP.")
    if max(pixels.shape[:2]) > MAX_JPEG_SIDE:
        raise FormatError(
            f"JPEG holds at most {MAX_JPEG_SIDE} pixels a side, this picture has "
            f"{pixels.shape[1]} x {pixels.shape[0]}: save it as PNG."
        )
    if len(xmp or b"") > MAX_JPEG_XMP:
        raise FormatError(
            f"JPEG holds at most {MAX_JPEG_XMP} bytes of metadata, this picture has "
            f"{len(xmp or b'')}: save it as PNG, or shorten the prompt or other texts."
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0, xmp=xmp or b"")


def encode_png(pixels: np.ndarray, xmp: bytes | None = None) -> bytes:
    """The bytes of a PNG, see `write_png`."""
    buffer = io.BytesIO()
    write_png(buffer, pixels, xmp)
    return buffer.getvalue()


def _heif() -> Any:
    return require("pillow_heif", "pillow-heif", "Reading HEIC", extra="heic")


def _check_complete(file: BinaryIO, expected: str, where: str) -> None:
    """Refuse a PNG without its end chunk or a WebP shorter than it says: Pillow lets some pass."""
    file.seek(0, io.SEEK_END)
    length = file.tell()
    complete = True
    if expected == "WEBP":
        file.seek(4)
        complete = length >= struct.unpack("<I", file.read(4).ljust(4, b"\xff"))[0] + 8
    elif expected == "PNG":
        complete = png.reaches_end(file)
    if not complete:
        raise FormatError(f"{where} is cut short: it ends before its picture does.")
