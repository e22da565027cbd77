"""The one owner of how a layered sample lies in a shard (docs/data-format.md).

A sample of key K is five members of a tar, next to one another:

    K.foreground.webp   RGBA, lossless, colour kept under alpha 0
    K.background.webp   RGB, lossless (composed samples), or K.background.jpg (photos)
    K.image.webp        RGB, lossless (composed samples), or K.image.jpg (photos)
    K.txt               the caption, UTF-8
    K.json              where it comes from: `SampleMetadata`
"""

import io
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from text2layer.errors import DataError
from text2layer.io.srgb import upright_srgb

SCHEMA_VERSION = 1
FOREGROUND = "foreground.webp"
BACKGROUND = "background"
IMAGE = "image"
TEXT = "txt"
METADATA = "json"
BACKGROUNDS = (f"{BACKGROUND}.webp", f"{BACKGROUND}.jpg")  # one of these
IMAGES = (f"{IMAGE}.webp", f"{IMAGE}.jpg")
JPEG_QUALITY = 95
MAX_PIXELS = 64_000_000  # of one picture: larger ones are taken for damage or malice
MAX_BYTES = 256 * 2**20  # of one member
KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")  # no dot: a reader splits names at the first one
SPLITS = ("train", "val", "test")

T = TypeVar("T")


@dataclass(frozen=True)
class SampleMetadata:
    """Where a sample comes from, and what was found out about it.

    Attributes:
        source: package, data set or address the picture was taken from.
        license: SPDX name, or the words of the source; "" is unknown.
        author: who made it; "" is unknown.
        split: "train", "val" or "test".
        opt_out: the owner has asked for it not to be used in training.
        model_hashes: SHA-256 of each model that took part in making it, by role.
        scores: measured values by name, e.g. {"mask": 0.97}.
        captions: captions by part: "whole", "foreground", "background".
        extra: anything else that JSON can hold.
    """

    source: str
    license: str
    author: str
    split: str
    opt_out: bool = False
    model_hashes: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field and the schema's version."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"schema": SCHEMA_VERSION} | {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in fields.items()
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "SampleMetadata":
        """Read and check a JSON object; DataError names the field that is wrong."""
        version = fields.get("schema", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise DataError(f"its schema is {version!r}; this release reads {SCHEMA_VERSION}")
        values: dict[str, Any] = {}
        for name in ("source", "license", "author", "split"):
            if not isinstance(fields.get(name), str):
                raise DataError(f"its json has no text field '{name}'")
            values[name] = fields[name]
        if values["split"] not in SPLITS:
            raise DataError(f"its split '{values['split']}' is none of {', '.join(SPLITS)}")
        values["opt_out"] = bool(fields.get("opt_out", False))
        for name in ("model_hashes", "scores", "captions", "extra"):
            value = fields.get(name) or {}
            if not isinstance(value, dict):
                raise DataError(f"its json field '{name}' is not an object")
            values[name] = value
        return cls(**values)


@dataclass(frozen=True)
class Sample:
    """One layered picture as it lies on disk; all pictures have the same height and width.

    Attributes:
        key: letters, digits, "_" and "-"; unique in a data set.
        foreground: (H, W, 3) uint8, straight colour, defined also where the mask is 0.
        mask: (H, W) uint8.
        background: (H, W, 3) uint8.
        image: (H, W, 3) uint8, the picture as a whole.
        text: caption of the whole.
        metadata: where it comes from.
    """

    key: str
    foreground: np.ndarray
    mask: np.ndarray
    background: np.ndarray
    image: np.ndarray
    text: str
    metadata: SampleMetadata


def encode_sample(sample: Sample, *, lossless: bool = True) -> dict[str, bytes]:
    """The members of a sample by suffix; `lossless=False` stores photos' opaque parts as JPEG.

    Raises:
        DataError: the key, the caption or a shape is not what the schema asks for.
    """
    if not KEY.fullmatch(sample.key):
        raise DataError(f"The key '{sample.key}' may hold only letters, digits, '_' and '-'.")
    if not sample.text.strip():
        raise DataError(f"Sample '{sample.key}' has an empty caption; give it one.")
    shape = sample.mask.shape
    for name in ("foreground", "background", "image"):
        picture = getattr(sample, name)
        if picture.shape != (*shape, 3) or picture.dtype != np.uint8:
            raise DataError(
                f"The {name} of sample '{sample.key}' is {picture.dtype} {picture.shape}; "
                f"it must be uint8 {(*shape, 3)} like the mask."
            )
    suffix = "webp" if lossless else "jpg"
    metadata = json.dumps(sample.metadata.to_json(), ensure_ascii=False, sort_keys=True)
    return {
        FOREGROUND: _webp(np.dstack([sample.foreground, sample.mask])),
        f"{BACKGROUND}.{suffix}": _opaque(sample.background, lossless),
        f"{IMAGE}.{suffix}": _opaque(sample.image, lossless),
        TEXT: sample.text.encode(),
        METADATA: metadata.encode(),
    }


def decode_sample(key: str, members: Mapping[str, bytes]) -> Sample:
    """Read a sample from its members by suffix; members that the schema does not name are ignored.

    Raises:
        DataError: a member is missing, damaged or of another size; says which.
    """
    try:
        foreground = _decode(members, (FOREGROUND,), "RGBA")
        background = _decode(members, BACKGROUNDS, "RGB")
        image = _decode(members, IMAGES, "RGB")
        text = _member(members, (TEXT,)).decode().strip()
        metadata = decode_metadata(members)
        if not text:
            raise DataError("its caption is empty")
        if not foreground.shape[:2] == background.shape[:2] == image.shape[:2]:
            raise DataError("its foreground, background and image differ in size")
    except UnicodeDecodeError:
        raise DataError(f"Sample '{key}' cannot be used: its caption is not UTF-8.") from None
    except DataError as error:
        raise DataError(f"Sample '{key}' cannot be used: {error}.") from None
    colour = np.ascontiguousarray(foreground[..., :3])
    mask = np.ascontiguousarray(foreground[..., 3])
    return Sample(key, colour, mask, background, image, text, metadata)


def check_members(suffixes: Collection[str]) -> None:
    """DataError, as a clause ("it has no txt"), if a member of the schema is not among these."""
    present = dict.fromkeys(suffixes)
    for one_of in ((FOREGROUND,), BACKGROUNDS, IMAGES, (TEXT,), (METADATA,)):
        _member(present, one_of)


def decode_metadata(members: Mapping[str, bytes]) -> SampleMetadata:
    """The metadata alone, without decoding pictures; DataError as a clause ("its json ...")."""
    try:
        fields = json.loads(_member(members, (METADATA,)))
    except (ValueError, RecursionError):  # the latter where it is nested a thousand deep
        raise DataError("its json cannot be read") from None
    if not isinstance(fields, dict):
        raise DataError("its json is not an object")
    return SampleMetadata.from_json(fields)


def _member(members: Mapping[str, T], suffixes: tuple[str, ...]) -> T:
    for suffix in suffixes:
        if suffix in members:
            return members[suffix]
    raise DataError(f"it has no {' or '.join(suffixes)}")


def _decode(members: Mapping[str, bytes], suffixes: tuple[str, ...], mode: str) -> np.ndarray:
    data = _member(members, suffixes)
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"its {suffixes[0]} has more than {MAX_PIXELS} pixels")
            colour, alpha = upright_srgb(picture, "it")
        if mode == "RGB":
            return colour
        if alpha is None:  # WebP leaves out an alpha channel that is 255 everywhere
            alpha = np.full(colour.shape[:2], 255, np.uint8)
        return np.dstack([colour, alpha])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"its {suffixes[0]} cannot be decoded") from None


def _opaque(picture: np.ndarray, lossless: bool) -> bytes:
    if lossless:
        return _webp(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _webp(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    # exact: else colour under alpha 0 is lost; method 1: twice as fast as 4, 3 % larger
    Image.fromarray(picture).save(buffer, "WEBP", lossless=True, exact=True, quality=0, method=1)
    return buffer.getvalue()
