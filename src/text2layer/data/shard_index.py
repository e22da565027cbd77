"""Where samples lie in the tars: names and offsets, tolerant of damage."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from text2layer.data.schema import MAX_BYTES
from text2layer.errors import DataError
from text2layer.files import file_sha256

Places = dict[str, tuple[int, int]]  # suffix -> offset and size of its bytes in the tar
Skip = Callable[[str, str], None]  # takes a reason to count and a sentence about the case
END_OF_ARCHIVE = 1024  # a whole tar ends in two empty blocks of 512 bytes


def shard_paths(shards: str | Path | Sequence[str | Path]) -> list[Path]:
    """The tars that a folder, a path or several paths name, in order; DataError if none."""
    given = [shards] if isinstance(shards, str | Path) else list(shards)
    paths: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            paths += sorted(path.glob("*.tar"))
        elif path.is_file():
            paths.append(path)
        else:
            raise DataError(f"There is no shard at '{path}'; give a folder of .tar files.")
    if not paths:
        raise DataError(f"There is no .tar file in {', '.join(map(str, given))}.")
    return paths


def index_shard(path: Path, skip: Skip) -> Iterator[tuple[str, Places]]:
    """Where each sample of a tar lies: (key, places). Damage is reported to `skip`, not raised."""
    key, places = "", Places()
    if _is_truncated(path):
        skip("truncated shard", f"'{path.name}' is cut short; samples at its end are lost.")
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile() or "." not in member.name:
                    continue
                stem, _, suffix = member.name.rpartition("/")[2].partition(".")
                if stem != key and places:
                    yield key, places
                    places = {}
                key = stem
                if member.size > MAX_BYTES:
                    skip("oversized member", f"'{member.name}' in '{path.name}' is too large.")
                else:
                    places[suffix] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        if not _is_truncated(path):
            skip("damaged shard", f"'{path.name}' cannot be read to its end: {error}.")
    if places:
        yield key, places


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


def _is_truncated(path: Path) -> bool:
    size = path.stat().st_size
    if size < END_OF_ARCHIVE or size % 512:
        return True
    with path.open("rb") as file:
        file.seek(size - END_OF_ARCHIVE)
        return any(file.read())
