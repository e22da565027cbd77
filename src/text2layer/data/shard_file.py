"""Shards written sample by sample: plain tars that get their names only when they are whole."""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from text2layer.data.places import Place, writing_to
from text2layer.errors import DataError, InputError
from text2layer.files import writing

SHARD_NAME = "{prefix}-{number:06d}.tar"
MARK = "unfinished.json"  # in a folder of shards while a tool writes them, and when it was killed


@contextmanager
def marked_unfinished(folder: Path, made_by: Mapping[str, Any]) -> Iterator[None]:
    """Keep a file `unfinished.json` in a folder of shards until the block has ended well.

    Args:
        folder: where the shards go; it exists.
        made_by: what the file says: the tool and its settings, as JSON can hold them.
    """
    with writing(folder / MARK) as file:
        file.write((json.dumps(made_by, indent=2) + "\n").encode())
    try:
        yield
    except BaseException:
        if not any(folder.glob("*.tar")):  # nothing that could be taken for a whole set
            (folder / MARK).unlink()
        raise
    (folder / MARK).unlink()


def finished_shards(folder: Path, prefix: str) -> list[Path]:
    """The shards of a prefix that are there, from number 0 up to the first that is not."""
    paths: list[Path] = []
    while (path := folder / SHARD_NAME.format(prefix=prefix, number=len(paths))).is_file():
        paths.append(path)
    return paths


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
def writing_shard(path: Place) -> Iterator[ShardFile]:
    """A shard that becomes `path` when the block ends, and leaves nothing if it fails.

    The format is that of POSIX 2001: the same bytes as older ones for names up to 100 characters,
    and longer names, which keys of the schema may give, are held too.

    Raises:
        InputError, FormatError: `path` cannot be written (see `places.writing_to`).
    """
    with writing_to(path) as handle, tarfile.open(
        fileobj=handle, mode="w", format=tarfile.PAX_FORMAT
    ) as tar:  # fmt: skip
        yield ShardFile(tar)


class ShardSeries:
    """Numbered shards of one prefix, the next begun when one is full; a context manager.

    When the block fails, the unfinished shard is dropped and the finished ones stay.

    Args:
        folder: where the shards go; it exists.
        prefix: begin of the shards' names.
        samples_per_shard: most samples in one shard.
        finished: shards that an earlier run has written; the next one follows them.

    Attributes:
        paths: finished shards.
        count: samples written by this run.

    Raises:
        InputError: samples_per_shard is below 1.
        DataError: a shard of that name exists, or a key was used twice in one shard.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        samples_per_shard: int,
        finished: Sequence[Path] = (),
    ) -> None:
        if samples_per_shard < 1:
            raise InputError(f"samples_per_shard is {samples_per_shard}; use 1 or more.")
        self.paths = list(finished)
        self.count = 0
        self._folder, self._prefix = folder, prefix
        self._samples_per_shard = samples_per_shard
        self._open: tuple[ExitStack, Path, ShardFile] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._open is not None:
            (stack, _, _), self._open = self._open, None
            stack.__exit__(kind, error, trace)

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append a sample, given as its members by suffix."""
        shard = self._open[2] if self._open is not None else self._begin()
        shard.add(key, members)
        self.count += 1
        if shard.count == self._samples_per_shard:
            self.close()

    def close(self) -> None:
        """Finish the shard that is being written, if any."""
        if self._open is not None:
            (stack, path, _), self._open = self._open, None
            stack.close()
            self.paths.append(path)

    def _begin(self) -> ShardFile:
        path = self._folder / SHARD_NAME.format(prefix=self._prefix, number=len(self.paths))
        if path.exists():
            raise DataError(f"'{path}' exists already; write into an empty folder.")
        stack = ExitStack()
        shard = stack.enter_context(writing_shard(path))
        self._open = stack, path, shard
        return shard
