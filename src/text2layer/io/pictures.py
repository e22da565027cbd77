"""Single pictures: any PNG, WebP or JPEG in, sRGB 8-bit arrays out; lossless PNG and WebP out."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from text2layer.blend import extend_edge_colours
from text2layer.errors import FormatError
from text2layer.io.budget import PixelBudget

MAX_WEBP_SIDE = 16383  # VP8L has 14 bits for each side
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"8BPS": "PSD",
    b"PK\x03\x04": "ORA",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture: colour (H, W, 3) uint8 sRGB, alpha (H, W) uint8 or None if opaque."""

    colour: np.ndarray
    alpha: np.ndarray | None
    xmp: bytes | str | None


def sniff(head: bytes) -> str | None:
    """The format that the first 16 bytes of a file announce, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
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


def read_picture(file: BinaryIO, expected: str, where: str, budget: PixelBudget) -> Picture:
    """Decode one picture: first frame, upright, converted to sRGB 8 bit.

    Args:
        file: seekable, at its start.
        expected: "PNG", "WEBP" or "JPEG".
        where: the file's name for errors.
        budget: pixels that may be decoded.

    Raises:
        FormatError: damaged, cut short, another format, over the limit, or of a pixel type without
            an 8-bit meaning (32-bit floats and integers).
    """
    check_signature(file.read(16), expected, where)
    _check_complete(file, expected, where)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own pixel limit is below ours
            with Image.open(file, formats=[expected]) as image:
                budget.take(*image.size)
                xmp = image.info.get("xmp")
                image.load()
                return Picture(*_srgb(image, where), xmp)
    except FormatError:
        raise
    except Image.DecompressionBombError:
        raise FormatError(
            f"{where} has more pixels than the limit of {budget.max_pixels}: make it smaller."
        ) from None
    except Exception as error:  # Pillow raises whatever its parsers stumble over
        raise FormatError(f"{where} is damaged or cut short ({error}).") from None


def to_srgb(colour: np.ndarray, profile: bytes | None) -> np.ndarray:
    """(H, W, 3) uint8 of an ICC profile as sRGB; unchanged if it is sRGB or cannot be used."""
    if not profile:
        return colour
    return np.array(_apply_profile(Image.fromarray(colour), profile))


def continue_stripped_colour(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Continue edge colours if the file has thrown the hidden ones away (all are the same)."""
    hidden = colour[alpha == 0]
    if len(hidden) and (hidden == hidden[0]).all():
        return extend_edge_colours(colour, alpha)
    return colour


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


def encode_png(pixels: np.ndarray, xmp: bytes | None = None) -> bytes:
    """The bytes of a PNG, see `write_png`."""
    buffer = io.BytesIO()
    write_png(buffer, pixels, xmp)
    return buffer.getvalue()


def _srgb(image: Image.Image, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and alpha of a loaded image, upright and in sRGB 8 bit."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16-bit grey; 65535 / 255 = 257
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise FormatError(
            f"{where} has 32-bit pixels (mode {image.mode}): convert it to 8 bits a channel."
        )
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
        image = image.convert("RGB")  # drops the alpha, keeps the colour under it
    if profile:
        image = _apply_profile(image, profile)
    return np.array(image.convert("RGB")), alpha


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB; as it is if the profile is sRGB already, unreadable or does not fit."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted


def _check_complete(file: BinaryIO, expected: str, where: str) -> None:
    """Refuse a PNG without its end chunk or a WebP shorter than it says: Pillow lets some pass."""
    file.seek(0, io.SEEK_END)
    length = file.tell()
    complete = True
    if expected == "WEBP":
        file.seek(4)
        complete = length >= struct.unpack("<I", file.read(4).ljust(4, b"\xff"))[0] + 8
    elif expected == "PNG":
        complete = _reaches_png_end(file, length)
    if not complete:
        raise FormatError(f"{where} is cut short: it ends before its picture does.")


def _reaches_png_end(file: BinaryIO, length: int) -> bool:
    """Whether the chunks, each (length, name, data, checksum), lead to a whole IEND."""
    position = 8
    while position + 12 <= length:
        file.seek(position)
        size, name = struct.unpack(">I4s", file.read(8))
        position += 12 + size
        if name == b"IEND":
            return bool(position <= length)
    return False
