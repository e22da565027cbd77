"""Stage 1: from the bytes of a file to an upright sRGB picture at working size, or a reason."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from text2layer.data.build.photo import Photo
from text2layer.data.build.settings import BuildSettings

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # by content; the suffix does not count
ANIMATED = ("GIF", "PNG", "WEBP")  # frames of a TIFF are pages, those of a camera's JPEG previews
MAX_PIXELS = 200_000_000  # of one photo; more is refused before a pixel is decoded
TRANSPARENT_SHARE = 0.01  # a picture with more see-through pixels is a cut-out, not a photo
OPAQUE = 250  # alpha from which a pixel counts as opaque


class UnusablePicture(Exception):
    """Why a picture cannot be used: a short reason and what was measured."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Decode:
    """Reads, checks and shrinks photos.

    Reasons: "unreadable" (the file cannot be read), "not a picture", "damaged" (cut short or
    broken inside), "too many pixels", "animated", "too small", "too elongated", "transparent",
    "grey".
    """

    name = "decode"

    def __init__(self, settings: BuildSettings) -> None:
        self.settings = settings
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Set `image` of each photo, or reject it."""
        for photo in photos:
            try:
                photo.image = self.decode(photo.ref.read())
            except UnusablePicture as problem:
                photo.reject(self.name, problem.reason, problem.detail)
            except (OSError, MemoryError) as error:
                photo.reject(self.name, "unreadable", str(error) or type(error).__name__)

    def decode(self, data: bytes) -> np.ndarray:
        """Return (H, W, 3) uint8; raises UnusablePicture."""
        settings = self.settings
        with open_picture(data) as picture:
            width, height = upright_size(picture)
            if min(width, height) < settings.min_size:
                least = f"at least {settings.min_size} are needed"
                raise UnusablePicture("too small", f"{width}x{height} px, {least}")
            aspect = max(width, height) / min(width, height)
            if aspect > settings.max_aspect:
                most = f"at most {settings.max_aspect:g} is allowed"
                raise UnusablePicture("too elongated", f"aspect {aspect:.2f}, {most}")
            shrink = min(1.0, settings.size / max(width, height))
            # the JPEG decoder shrinks by powers of two for free; the last factor is a good filter's
            picture.draft(None, (int(2 * shrink * picture.width), int(2 * shrink * picture.height)))
            upright = loaded(picture)
        if shrink < 1:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            upright = upright.resize(size, Image.Resampling.LANCZOS)
        pixels = np.array(upright)
        chroma = float((pixels.max(2).astype(np.int16) - pixels.min(2)).mean())
        if chroma < settings.min_colour:
            least = f"at least {settings.min_colour:g} is needed"
            raise UnusablePicture("grey", f"mean chroma {chroma:.1f}, {least}")
        return pixels


def open_picture(data: bytes) -> Image.Image:
    """Open a single picture of bounded size without decoding it; raises UnusablePicture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked below
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UnusablePicture("too many pixels", f"at most {MAX_PIXELS:,} are read") from None
    except UnidentifiedImageError:
        raise UnusablePicture("not a picture", f"{len(data):,} bytes of no known format") from None
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise UnusablePicture("damaged", str(error)) from None
    if picture.width * picture.height > MAX_PIXELS:
        detail = f"{picture.width}x{picture.height} px, at most {MAX_PIXELS:,} are read"
        raise UnusablePicture("too many pixels", detail)
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format in ANIMATED:
        raise UnusablePicture("animated", f"{frames} frames")
    return picture


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) after the rotation that EXIF asks for; raises UnusablePicture."""
    try:
        sideways = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError) as error:  # a PNG is decoded in search of its EXIF
        raise UnusablePicture("damaged", str(error)) from None
    return (picture.height, picture.width) if sideways else picture.size


def loaded(picture: Image.Image) -> Image.Image:
    """Decode an open picture into upright 8-bit sRGB; raises UnusablePicture."""
    try:
        upright = ImageOps.exif_transpose(picture)
        return _opaque(_in_srgb(_eight_bit(upright)))
    except UnusablePicture:
        raise
    except (OSError, ValueError, SyntaxError, TypeError, EOFError, IndexError) as error:
        raise UnusablePicture("damaged", str(error) or type(error).__name__) from None


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit and floating-point grey to 8 bits; other modes have 8 bits already."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    top = 65535.0 if picture.mode.startswith("I") else max(float(values.max()), 1e-12)
    return Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8))


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Follow the embedded colour profile to sRGB; without a usable one only the mode changes."""
    target = "RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB"
    profile = picture.info.get("icc_profile")
    if profile and picture.mode in ("RGB", "RGBA", "CMYK", "L"):
        alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
        colour = picture.convert("RGB") if picture.mode == "RGBA" else picture
        try:
            converted = ImageCms.profileToProfile(
                colour,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None  # a broken profile: the pixels are taken as they are
        if converted is not None:
            if alpha is not None:
                converted.putalpha(alpha)
            return converted
    return picture.convert(target)


def _opaque(picture: Image.Image) -> Image.Image:
    """Lay a few see-through pixels over white; a picture with many is refused."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    see_through = float((np.asarray(picture.getchannel("A")) < OPAQUE).mean())
    if see_through > TRANSPARENT_SHARE:
        raise UnusablePicture("transparent", f"{see_through:.0%} of the pixels are see-through")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
