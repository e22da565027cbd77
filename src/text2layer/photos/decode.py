"""Stage 1: from the bytes of a file to an upright sRGB picture at working size, or a reason."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from text2layer.blend import composite_over
from text2layer.data.schema import MAX_BYTES
from text2layer.errors import FormatError, InputError
from text2layer.io.pictures import HEAD_BYTES, READABLE, open_image, sniff
from text2layer.io.srgb import upright_srgb
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.settings import BuildSettings

# frames of a TIFF are pages, those of a camera's JPEG or HEIC previews
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
MAX_PIXELS = 80_000_000  # of one photo, 320 MB decoded; more is refused before that
TRANSPARENT_SHARE = 0.01  # a picture with more see-through pixels is a cut-out, not a photo
COLOUR_CELLS = 32  # to each side, among which colour is looked for
COLOURFUL_SHARE = 0.05  # of the cells; their mean chroma decides whether a photo is grey
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
                photo.image = self.decode(read_photo(photo.ref))
            except UnusablePicture as problem:
                photo.reject(self.name, problem.reason, problem.detail)

    def decode(self, data: bytes) -> np.ndarray:
        """Return (H, W, 3) uint8; raises UnusablePicture."""
        settings = self.settings
        with open_picture(data) as picture:
            check_shape(picture, settings)
            width, height = picture.size
            shrink = min(1.0, settings.size / max(width, height))
            # the JPEG decoder shrinks by powers of two for free; the last factor is a good filter's
            picture.draft(None, (int(2 * shrink * width), int(2 * shrink * height)))
            upright = loaded(picture)
        if shrink < 1:
            if (upright.width > upright.height) != (width > height):  # it stands upright now
                width, height = height, width
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            upright = upright.resize(size, Image.Resampling.LANCZOS)
        pixels = np.array(upright)
        check_colour(pixels, settings)
        return pixels


def read_photo(ref: PhotoRef) -> bytes:
    """The encoded picture; UnusablePicture when it cannot be read or is larger than any photo."""
    try:
        alone = ref.offset < 0 and os.path.isfile(ref.location)
        size = os.path.getsize(ref.location) if alone else ref.size
        if size > MAX_BYTES:
            raise UnusablePicture("unreadable", f"{size:,} bytes, at most {MAX_BYTES:,} are read")
        return ref.read()
    except (OSError, ValueError) as error:
        raise UnusablePicture("unreadable", _said(error)) from None


def check_shape(picture: Image.Image, settings: BuildSettings) -> None:
    """Check the size of an open picture, of which no pixel is decoded; raises UnusablePicture."""
    width, height = picture.size
    if min(width, height) < settings.min_size:
        least = f"at least {settings.min_size} are needed"
        raise UnusablePicture("too small", f"{width}x{height} px, {least}")
    aspect = max(width, height) / min(width, height)
    if aspect > settings.max_aspect:
        most = f"at most {settings.max_aspect:g} is allowed"
        raise UnusablePicture("too elongated", f"aspect {aspect:.2f}, {most}")


def check_colour(pixels: np.ndarray, settings: BuildSettings) -> None:
    """Check that (H, W, 3) uint8 pixels have colour somewhere; raises UnusablePicture.

    The most colourful twentieth of the frame decides, so that a subject on white may be small. It
    is looked for among 32 x 32 cells: a grey scan's coloured noise averages out.
    """
    cells = Image.fromarray(pixels).resize((COLOUR_CELLS,) * 2, Image.Resampling.BOX)
    chroma = np.ptp(np.asarray(cells), axis=2).ravel()
    count = max(1, round(COLOURFUL_SHARE * chroma.size))
    mean = float(np.sort(chroma)[-count:].mean())
    if mean < settings.min_colour:
        least = f"at least {settings.min_colour:g} is needed"
        raise UnusablePicture("grey", f"chroma {mean:.1f} where it is largest, {least}")


def open_picture(data: bytes) -> Image.Image:
    """Open a single picture of bounded size without decoding it; raises UnusablePicture."""
    found = sniff(data[:HEAD_BYTES])  # by content; the suffix does not count
    if found not in READABLE:
        raise UnusablePicture("not a picture", f"{len(data):,} bytes of no known format")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked below
            picture = open_image(io.BytesIO(data), found)
    except InputError as error:  # HEIC without its library
        raise UnusablePicture("not a picture", _said(error)) from None
    except Image.DecompressionBombError:
        raise UnusablePicture("too many pixels", f"at most {MAX_PIXELS:,} are read") from None
    except UnidentifiedImageError:
        raise UnusablePicture("not a picture", f"{len(data):,} bytes of no known format") from None
    except MemoryError:
        raise
    except Exception as error:  # over damaged files Pillow raises nearly anything
        raise UnusablePicture("damaged", _said(error)) from None
    if picture.width * picture.height > MAX_PIXELS:
        detail = f"{picture.width}x{picture.height} px, at most {MAX_PIXELS:,} are read"
        raise UnusablePicture("too many pixels", detail)
    try:  # is_animated looks at two frames, n_frames would read all
        animated = picture.format in ANIMATED and getattr(picture, "is_animated", False)
    except Exception as error:
        raise UnusablePicture("damaged", _said(error)) from None
    if animated:
        raise UnusablePicture("animated", f"a {picture.format} of several frames")
    return picture


def loaded(picture: Image.Image) -> Image.Image:
    """Decode an open picture into upright 8-bit sRGB; raises UnusablePicture."""
    try:
        colour, alpha = upright_srgb(picture, "it")
    except MemoryError:
        raise
    except FormatError as error:  # pixels without an 8-bit meaning
        raise UnusablePicture("not a picture", _said(error)) from None
    except Exception as error:
        raise UnusablePicture("damaged", _said(error)) from None
    return Image.fromarray(colour if alpha is None else _opaque(colour, alpha))


def _opaque(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay a few see-through pixels over white; a picture with many is refused."""
    see_through = float((alpha < OPAQUE).mean())
    if see_through > TRANSPARENT_SHARE:
        raise UnusablePicture("transparent", f"{see_through:.0%} of the pixels are see-through")
    return composite_over(np.full_like(colour, 255), colour, alpha)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
