"""PNG as a row of chunks, each (length, name, data, checksum): what of a file Pillow is given.

Pillow gives up a whole picture over one text or profile that unpacks to more than 1 MiB, and over
a wrong checksum anywhere. So it is given the pixels and the metadata that is used and readable.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 2**20  # of one text when unpacked, Pillow's limit
MAX_PROFILE_BYTES = 2**24  # of a colour profile when unpacked; large ones of printers have 3 MiB
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEYWORDS = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # of the texts that are used


@dataclass(frozen=True)
class Chunk:
    """Where a chunk lies: its first byte, the name, and how many bytes of data it has."""

    start: int
    name: bytes
    size: int

    @property
    def end(self) -> int:
        """The byte after its checksum."""
        return self.start + 12 + self.size


def reaches_end(file: BinaryIO) -> bool:
    """Whether the chunks lead to a whole end chunk."""
    length = file.seek(0, io.SEEK_END)
    return any(chunk.name == b"IEND" and chunk.end <= length for chunk in _chunks(file, length))


def without_needless(file: BinaryIO) -> tuple[BinaryIO, bytes | None]:
    """A copy of the pixels, orientation and XMP of a PNG, and its ICC profile, None without one."""
    copy, profile, seen = io.BytesIO(), None, set()
    file.seek(0)
    copy.write(file.read(len(SIGNATURE)))
    for chunk in _chunks(file, file.seek(0, io.SEEK_END)):
        file.seek(chunk.start)
        if chunk.name in _PIXELS:
            copy.write(file.read(chunk.end - chunk.start))
        elif chunk.name in (b"iCCP", b"eXIf", *_TEXTS):
            whole = file.read(chunk.end - chunk.start)
            data, checksum = whole[8:-4], whole[-4:]
            if struct.pack(">I", zlib.crc32(chunk.name + data)) != checksum:
                continue
            keyword, _, rest = data.partition(b"\0")
            if chunk.name == b"iCCP":
                profile = profile or _unpacked(rest[1:], MAX_PROFILE_BYTES)
            elif chunk.name == b"eXIf":
                copy.write(whole)
            elif keyword in _KEYWORDS and keyword not in seen and _fits(chunk.name, rest):
                seen.add(keyword)
                copy.write(whole)
    copy.seek(0)
    return copy, profile


def _chunks(file: BinaryIO, length: int) -> Iterator[Chunk]:
    """The chunks up to the end chunk or the end of the file, which may lie within the last."""
    position = len(SIGNATURE)
    while position + 12 <= length:
        file.seek(position)
        size, name = struct.unpack(">I4s", file.read(8))
        chunk = Chunk(position, name, size)
        yield chunk
        if name == b"IEND":
            return
        position = chunk.end


def _fits(name: bytes, rest: bytes) -> bool:
    """Whether Pillow takes a text chunk, of which `rest` comes after the keyword."""
    if name == b"tEXt":
        return len(rest) <= MAX_TEXT_BYTES
    if name == b"zTXt":
        return rest[:1] == b"\0" and _unpacked(rest[1:], MAX_TEXT_BYTES) is not None
    packed, parts = rest[:1] != b"\0", rest[2:].split(b"\0", 2)  # language, translation, text
    if len(parts) < 3:
        return False
    if packed:
        return rest[1:2] == b"\0" and _unpacked(parts[2], MAX_TEXT_BYTES) is not None
    return len(parts[2]) <= MAX_TEXT_BYTES


def _unpacked(data: bytes, limit: int) -> bytes | None:
    """Unpacked zlib data; None if it is damaged or longer than `limit`."""
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(data, limit)
    except zlib.error:
        return None
    return None if unpacking.unconsumed_tail else unpacked
