"""Where photos lie: paths of this machine, and addresses of any fsspec file system (s3://, hf://).

An address stands where a path would, with the few methods of `pathlib.Path` that sources need. What
fails for a moment is asked for again (`data/retries.py`). A file that is written there appears
whole or not at all.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from text2layer.data.retries import BACK, ask
from text2layer.errors import DataError, InputError
from text2layer.files import temporary_file, temporary_name, writing
from text2layer.options import require

T = TypeVar("T")

BUFFER = 4 * 2**20  # bytes of a remote file that are asked for at a time
# file systems whose files appear whole: elsewhere one is renamed into place
OBJECT_STORES = {
    "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2", "hf", "memory",
}  # fmt: skip
# a disk of this machine that is gone: unmounted, or its server does not answer
GONE = (errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENXIO)


@dataclass(frozen=True)
class Listed:
    """An entry of a folder.

    Attributes:
        name: without its folder.
        kind: "folder", "file", "link" (to no file) or "other".
        size: bytes of a remote file; -1 where it is not known.
    """

    name: str
    kind: str
    size: int = -1


class Address:
    """A file or folder of an fsspec file system, by its address.

    Args:
        address: like "s3://bucket/folder/a.tar".

    Raises:
        InputError: nothing can open such an address: the protocol is unknown, or its package is
            not installed.
    """

    def __init__(self, address: str) -> None:
        fsspec = require("fsspec", "fsspec", "An address", extra="build")
        self.address = address.rstrip("/")
        if not self.address.partition("://")[2]:
            raise InputError(f"'{address}' names no place; give one, such as s3://bucket/folder.")
        try:
            self._fs, self._path = fsspec.url_to_fs(self.address)
        except ImportError as error:
            said = " ".join(str(error).split())
            raise InputError(f"'{address}' cannot be opened: {said}.") from None
        except ValueError as error:
            raise InputError(f"'{address}' is no address that can be opened: {error}.") from None

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.address}/{name}")

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self.address.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> Address:
        """The folder around it."""
        return Address(self.address.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> Address:
        """The same with another suffix."""
        return self.parent / Path(self.name).with_suffix(suffix).name

    def exists(self) -> bool:
        """Whether there is anything."""
        return self._info() is not None

    def is_dir(self) -> bool:
        """Whether it is a folder, or on an object store the beginning of names."""
        return (self._info() or {}).get("type") == "directory"

    def is_file(self) -> bool:
        """Whether it is a file."""
        return (self._info() or {}).get("type") == "file"

    def size(self) -> int:
        """Bytes of the file; FileNotFoundError if there is none."""
        info = self._info()
        if info is None:
            raise FileNotFoundError(errno.ENOENT, "is not there", self.address)
        return int(info["size"])

    def listed(self) -> list[Listed]:
        """What is in the folder, by name."""
        entries = self._asked(lambda: self._fs.ls(self._path, detail=True, refresh=True))
        found = {}
        for entry in entries:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if entry["name"].strip("/") == self._path.strip("/") or not name:
                continue  # object stores list the folder's own mark too
            kind = "folder" if entry["type"] == "directory" else "file"
            found[name] = Listed(name, kind, int(entry.get("size") or 0))
        return [found[name] for name in sorted(found)]

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file; fewer where it ends."""
        if size <= 0:
            return b""
        return bytes(
            self._asked(lambda: self._fs.cat_file(self._path, start=offset, end=offset + size))
        )

    def read_bytes(self) -> bytes:
        """The whole file as it is now; FileNotFoundError if there is none."""
        self._fs.invalidate_cache(self._path)  # another machine may have written it
        return bytes(self._asked(lambda: self._fs.cat_file(self._path)))

    def fetch(self, file: Path) -> None:
        """Copy the file to one of this machine; FileNotFoundError if there is none."""
        self._fs.invalidate_cache(self._path)
        self._asked(lambda: self._fs.get_file(self._path, str(file)))

    def put(self, file: Path) -> None:
        """Make the file, or replace it, with the content of one of this machine.

        Raises:
            WriteError: there is no such bucket, access is refused, the store is full, or it cannot
                be reached.
            InputError: nothing can be written there.
        """
        self._asked(lambda: self._put(str(file)), writes=True)

    def _put(self, file: str) -> None:
        protocols = self._fs.protocol
        if not OBJECT_STORES.isdisjoint((protocols,) if isinstance(protocols, str) else protocols):
            self._fs.put_file(file, self._path)
            return
        folder = self._path.rpartition("/")[0]
        self._fs.makedirs(folder, exist_ok=True)
        part = f"{folder}/{temporary_name()}"
        try:
            self._fs.put_file(file, part)
            self._fs.mv(part, self._path)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(part)
            raise

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""
        try:
            self._asked(lambda: self._fs.rm_file(self._path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: folders come with their first file."""

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, to be read and searched; every piece is asked for with retries."""
        assert mode == "rb"
        return cast(BinaryIO, io.BufferedReader(_RemoteFile(self), BUFFER))

    def _info(self) -> dict[str, Any] | None:
        try:
            # `exists` of some clients takes every error for a no
            return self._asked(lambda: self._fs.info(self._path))
        except FileNotFoundError:
            return None

    def _asked(self, call: Callable[[], T], *, writes: bool = False) -> T:
        """See `retries.ask`."""
        return ask(call, self.address, writes=writes)


Place = Path | Address


class _RemoteFile(io.RawIOBase):
    """A remote file as a raw stream: what is read is a range of bytes that is asked for."""

    def __init__(self, address: Address) -> None:
        self._address, self._at, self._size = address, 0, address.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._address.read(self._at, min(len(buffer), self._size - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def place_of(path: str | Path | Address) -> Place:
    """A path, absolute, or an address; "file://" is a path."""
    if isinstance(path, Address):
        return path
    text = str(path)
    if not is_address(text):
        return Path(path).absolute()
    return Path(text.removeprefix("file://")) if text.startswith("file://") else Address(text)


def is_address(path: str | Path) -> bool:
    """Whether it names a protocol, like "s3://bucket"."""
    return "://" in str(path)


def size_of(place: Place) -> int:
    """Bytes of a file; OSError if there is none."""
    return place.size() if isinstance(place, Address) else place.stat().st_size


def listed(folder: Place) -> list[Listed]:
    """The entries of a folder by name; OSError when it cannot be read."""
    if isinstance(folder, Address):
        return folder.listed()
    return sorted(_local(folder), key=lambda entry: entry.name)


def named(folder: Place, pattern: str = "*") -> list[Listed]:
    """The entries of a folder whose names fit a pattern; none if there is no such folder."""
    try:
        return [entry for entry in listed(folder) if fnmatch(entry.name, pattern)]
    except FileNotFoundError:
        return []


@contextmanager
def writing_to(place: Place) -> Iterator[BinaryIO]:
    """A binary file that becomes `place` when the block ends, and leaves nothing if it fails.

    For an address it is made on this machine first.

    Raises:
        InputError, WriteError: see `files.writing` and `Address.put`.
    """
    if isinstance(place, Path):
        with writing(place) as file:
            yield file
        return
    with temporary_file() as path:
        with path.open("x+b") as file:
            yield file
        place.put(path)


@contextmanager
def on_this_machine(place: Place) -> Iterator[Path]:
    """A file to be read as a whole; what lies at an address is copied for the time of the block."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="text2layer-") as folder:
        place.fetch(Path(folder) / place.name)
        yield Path(folder) / place.name


def check_there(place: Place) -> None:
    """DataError if a file or folder that was there a moment ago is gone: its disk, or its server.

    Args:
        place: of a source that is being read.
    """
    try:
        there = place.exists()
    except OSError:
        there = False
    if not there:
        raise DataError(f"'{place}' is not there any more; {BACK}.")


def read_bytes(location: str, offset: int = -1, size: int = -1) -> bytes:
    """A file, or a stretch of it.

    Raises:
        OSError: it cannot be read, or ends inside the stretch.
        DataError: not this file alone is gone: its shard, its folder, its disk or its server.
    """
    place = place_of(location)
    if isinstance(place, Address):
        data = place.read(max(offset, 0), size if offset >= 0 else place.size())
    else:
        try:
            with place.open("rb") as file:
                if offset < 0:
                    return file.read()
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            _check_disk(place, error, in_shard=offset >= 0)
            raise
    if offset >= 0 and len(data) != size:
        raise OSError(f"{location} ends inside the picture")
    return data


def _check_disk(place: Path, error: OSError, in_shard: bool) -> None:
    """DataError if more than one photo's file has gone."""
    if error.errno in GONE:
        raise DataError(f"'{place}' cannot be read ({error.strerror}); {BACK}.") from None
    if not isinstance(error, FileNotFoundError):
        return
    if in_shard:
        raise DataError(
            f"'{place}' is not there any more; {BACK} (an empty file in its place goes on without "
            "its photos)."
        ) from None
    try:
        there = any(place.parent.iterdir())
    except OSError:
        there = False
    if not there:
        raise DataError(
            f"The photos in '{place.parent}' have vanished; bring them back, then the same command "
            "goes on."
        ) from None


def _local(folder: Path) -> Iterator[Listed]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield Listed(entry.name, "folder")
            elif _names_a_file(entry):
                yield Listed(entry.name, "file")
            else:
                yield Listed(entry.name, "link" if entry.is_symlink() else "other")


def _names_a_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads back to itself, or to where nobody may look
        return False
