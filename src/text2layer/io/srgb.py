"""The one door for pixels: any picture of Pillow becomes upright sRGB with 8 bits a channel.

Files, pictures that a program hands over, libraries, shards and photographs all pass here, so that
orientation, bit depth and colour profile mean the same everywhere. Pixels are what counts:
metadata that cannot be read is left aside.
"""

from __future__ import annotations

import io
from itertools import product

import numpy as np
from PIL import ExifTags, Image, ImageCms

from text2layer.errors import FormatError

SRGB_TOLERANCE = 2  # levels of 255: a profile that changes no colour by more is sRGB itself
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # of the EXIF orientation, 1 apart
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
_UNREADABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)  # of a profile


def upright_srgb(image: Image.Image, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and alpha of a picture, turned as its EXIF says and converted by its profile.

    Args:
        image: any Pillow picture, loaded or not; it is not changed.
        where: its name for errors, as the subject of a sentence.

    Returns:
        Colour (H, W, 3) uint8 in sRGB and alpha (H, W) uint8, None without transparency.

    Raises:
        FormatError: pixels without an 8-bit meaning (32-bit integers and floats).
        Exception: whatever Pillow raises over a damaged file that is decoded only now.
    """
    image.load()
    profile = image.info.get("icc_profile")
    turn = TURNS.get(orientation(image))  # after loading: Pillow turns a TIFF while it loads it
    if turn is not None:
        image = image.transpose(turn)
    colour, alpha = _colour_and_alpha(image, where)
    return np.array(_converted(colour, profile)), alpha


def to_srgb(colour: np.ndarray, profile: bytes | None) -> np.ndarray:
    """(H, W, 3) uint8 of an ICC profile as sRGB; unchanged if it is sRGB or cannot be used."""
    if not profile:
        return colour
    return np.array(_converted(Image.fromarray(colour), profile))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 where none can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:  # Pillow raises nearly anything over EXIF that is no TIFF
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def _colour_and_alpha(image: Image.Image, where: str) -> tuple[Image.Image, np.ndarray | None]:
    """Colour of the mode L, RGB, CMYK or LAB, so that a profile can be applied, and alpha."""
    if image.mode.startswith("I;16"):
        return _sixteen_bits(image)
    if image.mode in ("I", "F"):
        raise FormatError(
            f"{where} has 32-bit pixels (mode {image.mode}): convert it to 8 bits a channel."
        )
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        if image.mode == "1":
            image = image.convert("L")
        return (image if image.mode in ("L", "CMYK", "LAB") else _rgb(image)), None
    whole = image.convert("RGBA")
    alpha = np.array(whole.getchannel("A"))
    if image.mode in ("L", "LA"):
        return image.getchannel(0), alpha
    return whole.convert("RGB"), alpha  # drops the alpha, keeps the colour under it


def _sixteen_bits(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """16-bit grey as 8 bits; a PNG may name one grey that is transparent."""
    wide = np.asarray(image).astype(np.uint32)
    clear = image.info.get("transparency")
    alpha = np.where(wide == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8)), alpha  # 65535 / 255 = 257


def _converted(image: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB, CMYK or LAB as sRGB; a profile that is broken or of other pixels is ignored."""
    if profile:
        try:
            return _by_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except _UNREADABLE:
            pass
    if image.mode == "LAB":
        return _by_profile(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return _rgb(image)


def _by_profile(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """Convert by a profile; pixels stay as they are where it says what sRGB says.

    What a profile does to colours is asked, not its name: GIMP's "built-in linear sRGB" is another.
    """
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    if image.mode in ("L", "RGB"):
        probe = _probe(image.mode)
        given = np.asarray(probe.convert("RGB"), np.int16)
        became = np.asarray(_applied(transform, probe), np.int16)
        if np.abs(became - given).max() <= SRGB_TOLERANCE:
            return _rgb(image)
    return _applied(transform, image)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise ValueError("the profile gave no picture")
    return converted


def _probe(mode: str) -> Image.Image:
    """All greys, and for RGB nine steps of each channel, as one row of pixels."""
    greys = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(greys[None])
    steps = np.array(list(product(range(0, 257, 32), repeat=3))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([np.repeat(greys[:, None], 3, 1), steps])[None])
