"""A few pictures of what was kept and of each kind of rejected, for the report.

Which ones are taken depends on who comes first, not on the settings alone: they are illustrations.
"""

import io
import re
from collections import Counter

import numpy as np
from PIL import Image

from text2layer.data.places import Place, named, writing_to
from text2layer.io.srgb import upright_srgb
from text2layer.photos.decode import open_picture
from text2layer.photos.photo import Photo

PER_KIND = 6  # strips of each kind
SIDE = 192  # longest side of each picture of a strip in pixels
GAP = 4
PAPER = 250
KEPT = "kept"
SEPARATOR = "--"  # between the kind and the key in a file's name
JPEG_QUALITY = 80
MOST_PIXELS = 64_000_000  # of a photo that is decoded for a strip alone


class Examples:
    """Strips of photos, written when these are done: PER_KIND of each kind in the folder.

    A few more may come when workers write at the same time.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self._counts = Counter(map(_kind_in, self._names()))
        self._strips: dict[str, bytes] = {}

    def offer(self, photo: Photo) -> None:
        """Take a strip of the photo if there are too few of its kind."""
        kind = kind_of(photo)
        if self._counts[kind] >= PER_KIND:
            return
        strip = strip_of(photo)
        if strip is not None:
            buffer = io.BytesIO()
            Image.fromarray(strip).save(buffer, "JPEG", quality=JPEG_QUALITY)
            self._strips[f"{kind}{SEPARATOR}{photo.ref.key}.jpg"] = buffer.getvalue()
            self._counts[kind] += 1

    def write(self) -> None:
        """Write those that other workers have not made superfluous meanwhile."""
        if not self._strips:
            return
        self.folder.mkdir(exist_ok=True)
        counts = Counter(map(_kind_in, self._names()))
        for name, strip in self._strips.items():
            if counts[_kind_in(name)] < PER_KIND:
                with writing_to(self.folder / name) as file:
                    file.write(strip)
                counts[_kind_in(name)] += 1
        self._counts, self._strips = counts, {}

    def _names(self) -> list[str]:
        return [entry.name for entry in named(self.folder, f"*{SEPARATOR}*.jpg")]


def _kind_in(name: str) -> str:
    return name.partition(SEPARATOR)[0]


def kind_of(photo: Photo) -> str:
    """`kept`, or stage and reason as part of a file's name: "rules-touches_the_border"."""
    if photo.rejected is None:
        return KEPT
    words = (photo.rejected.stage, photo.rejected.reason)
    return "-".join(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in words)


def strip_of(photo: Photo) -> np.ndarray | None:
    """(SIDE, W, 3) uint8: photo, mask, cut-out and background, as far as there are any.

    None when not even the photo can be decoded.
    """
    image = photo.image if photo.image is not None else _decoded(photo)
    if image is None:
        return None
    pictures = [image]
    if photo.mask is not None:
        pictures.append(photo.mask[..., None].repeat(3, axis=2))
        if photo.foreground is not None:
            # over middle grey: dark and light objects both stand out
            weight = photo.mask[..., None].astype(np.float32) / 255
            over = photo.foreground * weight + 128 * (1 - weight)
            pictures.append(np.rint(over).astype(np.uint8))
    if photo.background is not None:
        pictures.append(photo.background)
    small = [_shrunk(picture) for picture in pictures]
    width = sum(picture.shape[1] + GAP for picture in small) - GAP
    strip = np.full((max(picture.shape[0] for picture in small), width, 3), PAPER, np.uint8)
    left = 0
    for picture in small:
        strip[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return strip


def _shrunk(picture: np.ndarray) -> np.ndarray:
    small = Image.fromarray(np.ascontiguousarray(picture))
    small.thumbnail((SIDE, SIDE))
    return np.asarray(small)


def _decoded(photo: Photo) -> np.ndarray | None:
    """A small version of a photo that no stage has decoded; None if that is not possible."""
    try:
        with open_picture(photo.ref.read()) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            picture.draft("RGB", (SIDE, SIDE))
            colour, _ = upright_srgb(picture, "it")  # a cut-out too, though it is no photo
    except MemoryError:
        raise
    except Exception:  # over damaged files Pillow raises nearly anything
        return None
    return _shrunk(colour)
