"""One shard written member by member: a plain tar that gets its name only when it is whole."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from text2layer.errors import DataError
from text2layer.io.atomic import writing


class ShardFile:
    """A tar that is being written; the same samples give the same bytes (no time, no owner).

    Attributes:
        count: samples written.
    """

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.count = 0
        self._tar = tar
        self._keys: set[str] = set()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample, given as its members by suffix; DataError if the key was used."""
        if key in self._keys:
            raise DataError(f"The key '{key}' was written before; keys must differ.")
        self._keys.add(key)
        for suffix, data in members.items():
            header = tarfile.TarInfo(f"{key}.{suffix}")
            header.size, header.mode = len(data), 0o644
            self._tar.addfile(header, io.BytesIO(data))
        self.count += 1


@contextmanager
def writing_shard(path: Path) -> Iterator[ShardFile]:
    """A shard that becomes `path` when the block ends, and leaves nothing if it fails.

    The format is that of POSIX 2001: the same bytes as older ones for names up to 100 characters,
    and longer names, which keys of the schema may give, are held too.

    Raises:
        InputError, FormatError: `path` cannot be written (see `io.atomic.writing`).
    """
    with writing(path) as handle, tarfile.open(
        fileobj=handle, mode="w", format=tarfile.PAX_FORMAT
    ) as tar:  # fmt: skip
        yield ShardFile(tar)
