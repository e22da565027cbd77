"""What sources of photos share: what counts as a picture, how texts are read, what is counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from text2layer.data.places import Address, Place
from text2layer.errors import Skipped
from text2layer.photos.photo import PhotoRef
from text2layer.photos.provenance import windows_text

PICTURES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp",
    ".gif",
)  # fmt: skip
# pictures too, which the builder does not decode: counted, not passed over
OTHER_PICTURES = (
    ".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng",
    ".orf", ".raf", ".rw2",
)  # fmt: skip
ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")  # counted, not unpacked
MAX_TEXT = 2**20  # bytes of a caption or of a picture's JSON; more is taken for damage
NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_-]+")


class Counting:
    """Counts what a source leaves out."""

    def __init__(self) -> None:
        self.skip = Skipped()
        self.skipped, self.messages = self.skip.counts, self.skip.messages

    def text(self, data: bytes, where: str) -> str:
        """A caption's bytes as text; what is not UTF-8 or UTF-16 is read as Windows-1252.

        Nearly any bytes are Windows-1252, so it is only believed where most are plain letters.
        """
        if len(data) > MAX_TEXT:
            self.skip("text too long", f"'{where}' has {len(data):,} bytes of text; left out.")
            return ""
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = "" if sum(byte > 127 for byte in data) > len(data) * 0.3 else windows_text(data)
            if text:
                said = f"'{where}' is not UTF-8; it was read as Windows-1252."
                self.skip("text not UTF-8", said)
                return text
        if "\0" in text or (data and not text):
            self.skip("text not readable", f"'{where}' is in no known encoding; left out.")
            return ""
        return text.strip()

    def fields(self, data: bytes, where: str) -> dict[str, Any]:
        """A picture's JSON object; {} when it cannot be read."""
        try:
            fields = json.loads(data) if data.strip() else {}
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            return fields
        self.skip("JSON not readable", f"'{where}' holds no JSON object; it was passed over.")
        return {}

    def unread(self, where: str) -> None:
        """Count a picture of a format that the builder does not decode."""
        said = f"'{where}' is not decoded; save it as JPEG, PNG or TIFF."
        self.skip("format not read", said)

    def packed(self, where: str) -> None:
        """Count an archive that the builder does not unpack."""
        said = f"'{where}' is compressed and not read; unpack it, shards to plain .tar files."
        self.skip("archive not read", said)


def photo_in_file(path: Place, place: str, size: int, said: Mapping[str, Any]) -> PhotoRef:
    """A photo in a file of its own.

    Args:
        path: of the file.
        place: the same, relative to its source.
        size: bytes of a remote file, which spares a question later.
        said: what the source says of it, see `known_fields`.
    """
    key = photo_key(path.stem, place)
    if isinstance(path, Address):
        return PhotoRef(key, str(path), 0, size, **said)
    return PhotoRef(key, str(path), **said)


def photo_key(stem: str, place: str) -> str:
    """Name of a photo, unique by its place in the source: "red-fox-1f3a9c2e04b7"."""
    readable = NOT_IN_KEYS.sub("_", stem).strip("_")[:150] or "photo"
    return f"{readable}-{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
