"""Where samples lie in the tars: names and offsets, tolerant of damage."""

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from text2layer.data.places import Place, is_address, named, place_of, size_of
from text2layer.data.schema import (
    BACKGROUNDS,
    FOREGROUND,
    IMAGES,
    MAX_BYTES,
    METADATA,
    TEXT,
    check_members,
    decode_metadata,
)
from text2layer.data.shard_file import MARK
from text2layer.errors import DataError
from text2layer.files import file_sha256

Places = dict[str, tuple[int, int]]  # suffix -> offset and size of its bytes in the tar
Skip = Callable[[str, str], None]  # takes a reason to count and a sentence about the case
BLOCK = 512  # bytes of a header, and what everything in a tar is padded to
END_OF_ARCHIVE = 2 * BLOCK  # a whole tar ends in two empty blocks
MOST_PADDING = 2**16  # empty bytes behind them: 10,240 in all by default; more is taken for damage
# files that begin so; offsets in them would be those of the packed bytes
COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd",
}  # fmt: skip
PIECE = 2**20  # bytes read at a time where a header is looked for
# reasons of what damage takes away: for these every case is named, see `Skipped`
DAMAGED = ("truncated shard", "compressed shard", "damaged shard")
DAMAGE = (*DAMAGED, "oversized member", "bad sample")


def shard_paths(shards: str | Path | Sequence[str | Path]) -> list[Path]:
    """The tars of this machine that a folder, a path or several name, in order; DataError if none.

    A folder whose shards are not all written, because a tool was killed, is refused too.
    """
    for one in several(shards):
        if is_address(one):
            raise DataError(
                f"The shards at '{one}' cannot be used from there: they are read in any order, "
                "again and again; copy them to a folder of this machine first."
            )
    return [place for place in shard_places(shards) if isinstance(place, Path)]


def shard_places(shards: str | Path | Sequence[str | Path]) -> list[Place]:
    """The same, addresses included, for those that read a shard once from its beginning to its end.

    Raises:
        DataError: see `shard_paths`; or an address cannot be reached.
    """
    given = several(shards)
    found: list[Place] = []
    for path in given:
        place = place_of(path) if is_address(path) else Path(path)
        if place.is_dir():
            names = [entry.name for entry in named(place)]
            if MARK in names:
                raise DataError(
                    f"The shards in '{path}' are not all written: the tool that '{MARK}' there "
                    "names was stopped. Run it again, or delete that file to use what is there."
                )
            found += [place / name for name in names if name.endswith(".tar")]
        elif place.suffix == ".index":
            raise DataError(f"'{path}' is an index; name the folders of its shards here.")
        elif place.is_file():
            found.append(place)
        else:
            raise DataError(f"There is no shard at '{path}'; give a folder of .tar files.")
    if not found:
        raise DataError(f"There is no .tar file in {', '.join(map(str, given))}.")
    return found


def several(shards: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Shards that are named by one path or by several, as a list."""
    return [shards] if isinstance(shards, str | Path) else list(shards)


def index_shard(path: Path, skip: Skip) -> Iterator[tuple[str, Places]]:
    """Where each sample of a tar lies: (key, places). Damage is reported to `skip`, not raised."""
    own, places = ("", ""), Places()
    for member in tar_members(path, skip):
        if not member.isfile() or "." not in member.name:
            continue
        folder, _, name = member.name.rpartition("/")
        key, _, suffix = name.partition(".")
        if places and ((folder, key) != own or suffix in places):  # the same key twice, too
            yield own[1], places
            places = {}
        own = folder, key
        if member.size > MAX_BYTES:
            skip("oversized member", f"'{member.name}' in '{path.name}' is too large.")
        else:
            places[suffix] = (member.offset_data, member.size)
    if places:
        yield own[1], places


def tar_members(path: Place, skip: Skip) -> Iterator[tarfile.TarInfo]:
    """The members of a tar in order; past a damaged header the next whole one is looked for.

    Every gap, and an end that is missing, is reported to `skip`. Nothing is raised.
    """
    try:
        with path.open("rb") as file:
            if (kind := _compression(file.read(6))) is not None:
                said = f"'{path.name}' is compressed with {kind}; unpack it to a plain tar."
                skip("compressed shard", said)
                return
        truncated, size = _is_truncated(path), size_of(path)
        if truncated:
            skip("truncated shard", f"'{path.name}' is cut short; samples at its end are lost.")
        with path.open("rb") as file:
            start: int | None = 0
            while start is not None:
                end = yield from _run_of_members(file, start)
                start = _next_header(file, end + BLOCK)
                if start is not None:
                    skip(
                        "damaged shard",
                        f"'{path.name}' is damaged at byte {end:,}; what lies before byte "
                        f"{start:,} is lost.",
                    )
                elif not truncated and (_holds_data(file, end) or size - end > MOST_PADDING):
                    said = f"'{path.name}' is damaged at byte {end:,}; what comes after is lost."
                    skip("damaged shard", said)
    except OSError as error:
        skip("damaged shard", f"'{path.name}' cannot be read to its end: {error}.")


@dataclass(frozen=True)
class IndexedSample:
    """A sample of a shard that can be drawn: what an index keeps of it.

    Attributes:
        key: of the sample.
        places: offset and size of the members that the schema names, by suffix.
        split: "train", "val" or "test".
        opt_out: the owner has asked for it not to be used in training.
        caption: of the whole; "" where it was not read or cannot be.
        crc: CRC-32 of its members one after the other; 0 where they were not read.
    """

    key: str
    places: Places
    split: str
    opt_out: bool
    caption: str = ""
    crc: int = 0


@dataclass
class IndexedShard:
    """What a shard holds.

    Attributes:
        samples: those that can be drawn, in order.
        found: how many there are, with those that cannot be used.
        lost: of those, how many damage took.
        cases: (reason, sentence) of everything that is left out.
    """

    samples: list[IndexedSample] = field(default_factory=list)
    found: int = 0
    lost: int = 0
    cases: list[tuple[str, str]] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        """Whether more samples may be missing than are known."""
        return any(reason in DAMAGED for reason, _ in self.cases)


def scan_shard(path: Path, *, whole: bool = False) -> IndexedShard:
    """Read what an index keeps of a shard: of each sample the metadata, or all if `whole`."""
    shard = IndexedShard()

    def skip(reason: str, message: str) -> None:
        shard.cases.append((reason, message))

    for key, places in index_shard(path, skip):
        shard.found += 1
        try:
            check_members(places)
            metadata = decode_metadata(read_members(path, places, only=METADATA))
        except DataError as error:
            shard.lost += 1
            skip("bad sample", f"Sample '{key}' of '{path.name}': {error}.")
            continue
        if metadata.opt_out:
            skip("opted out", f"The owner of sample '{key}' has opted out.")
        own = {suffix: places[suffix] for suffix in schema_suffixes(places)}
        caption, crc = "", 0
        if whole:
            members = read_members(path, own)
            text = members.get(TEXT, b"").decode(errors="replace").strip()
            caption = metadata.captions.get("whole") or text
            crc = members_crc(members)
        shard.samples.append(
            IndexedSample(key, own, metadata.split, metadata.opt_out, caption, crc)
        )
    return shard


def schema_suffixes(places: Places) -> list[str]:
    """The five suffixes of a sample that the schema names, as `decode_sample` chooses them."""
    background = next(suffix for suffix in BACKGROUNDS if suffix in places)
    image = next(suffix for suffix in IMAGES if suffix in places)
    return [FOREGROUND, background, image, TEXT, METADATA]


def members_crc(members: dict[str, bytes]) -> int:
    """CRC-32 of a sample's members, one after the other."""
    crc = 0
    for data in members.values():
        crc = zlib.crc32(data, crc)
    return crc


def read_members(path: Path, places: Places, only: str | None = None) -> dict[str, bytes]:
    """The bytes of a sample's members (of one with `only`), less those that are cut off."""
    members = {}
    with path.open("rb") as file:
        for suffix, (offset, size) in places.items():
            if only is not None and suffix != only:
                continue
            file.seek(offset)
            data = file.read(size)
            if len(data) == size:
                members[suffix] = data
    return members


def hash_shards(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) over the content of all shards, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def _run_of_members(file: BinaryIO, start: int) -> Generator[tarfile.TarInfo, None, int]:
    """Members from offset `start` up to a block that is no header; returns the block's offset."""
    end = start
    try:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or memory would grow
                end = tar.offset  # of the next header
                yield member
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        pass  # damage: the caller looks on from `end`
    return end


def _next_header(file: BinaryIO, start: int) -> int | None:
    """Offset of the first whole header from `start` on, None if there is none."""
    file.seek(start)
    while piece := file.read(PIECE):
        for place in range(0, len(piece) - BLOCK + 1, BLOCK):
            block = piece[place : place + BLOCK]
            if block[257:262] != b"ustar":
                continue
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")  # checks its checksum
            except (tarfile.HeaderError, ValueError):
                continue
            return start + place
        start += len(piece)
    return None


def _holds_data(file: BinaryIO, start: int) -> bool:
    """Whether any byte from `start` on is not 0."""
    file.seek(start)
    while piece := file.read(PIECE):
        if piece.strip(b"\0"):
            return True
    return False


def _compression(head: bytes) -> str | None:
    """How a file is compressed, by its first bytes; None for another file."""
    return next((name for start, name in COMPRESSED.items() if head.startswith(start)), None)


def _is_truncated(path: Place) -> bool:
    size = size_of(path)
    if size < END_OF_ARCHIVE or size % BLOCK:
        return True
    with path.open("rb") as file:
        file.seek(size - END_OF_ARCHIVE)
        return any(file.read())
