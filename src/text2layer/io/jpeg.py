"""JPEG as a row of segments, each (0xFF, marker, length, data), before its picture begins."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

_START_OF_SCAN = 0xDA
_APPLICATIONS = range(0xE0, 0xF0)
_COMMENT = 0xFE
# what an application segment begins with -> least bytes that Pillow reads of it
_USED = {b"JFIF\0": 14, b"Adobe": 12, b"ICC_PROFILE\0": 15, b"Exif\0\0": 6, b"http://ns.adobe": 29}


def without_broken_metadata(file: BinaryIO) -> BinaryIO:
    """A copy without comments and without application segments that are of no use or too short.

    Pillow gives up the whole picture over one that ends early. Orientation, profile, XMP and what
    tells the colour space stay, where they are whole.
    """
    file.seek(0)
    copy = io.BytesIO()
    copy.write(file.read(2))
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != _START_OF_SCAN:
        marker, length = struct.unpack(">xBH", head)
        data = file.read(max(0, length - 2))
        needless = marker == _COMMENT or (marker in _APPLICATIONS and not _is_usable(data))
        if not needless:
            copy.write(head + data)
    copy.write(head + file.read())
    copy.seek(0)
    return copy


def _is_usable(data: bytes) -> bool:
    return any(data.startswith(name) and len(data) >= least for name, least in _USED.items())
