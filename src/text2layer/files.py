"""Files: whole or not there, and the hashes that name them.

A file or folder is written under a temporary name beside its place, then renamed. SHA256SUMS of a
model folder has the form that `sha256sum --check` reads too.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from text2layer.errors import InputError, WeightsError, WriteError

if TYPE_CHECKING:
    from filelock import FileLock

UNFINISHED = ".text2layer-*.part"  # what is left when a process is killed while it writes
OLD = 24 * 3600  # seconds without a change, from which an unfinished file belongs to nobody
CHECKSUMS = "SHA256SUMS"
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")  # a path of one has a slash less; "C:/" is a drive
WEIGHTS_FILES = "*.safetensors"
# what a network disk answers that was mounted without locks
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_REASONS = {
    errno.ENOENT: "its folder takes no files, or is gone; choose another folder",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would exceed the size limit of this disk or process; raise the limit "
    "or choose another folder",
    errno.EACCES: "permission is denied; choose a folder that you may write to",
    errno.EPERM: "permission is denied; choose a folder that you may write to",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and leaves nothing if it fails.

    An existing file stays untouched until it is replaced in one step, also on Ctrl-C.

    Raises:
        InputError: the folder is missing, or `path` is a folder or a device.
        WriteError: the system refused, for example because the disk is full.
    """
    with _becoming(path) as (temporary, target):
        handle = os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), "w+b")
        try:
            _copy_mode(target, temporary)
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        finally:
            with suppress(OSError):  # a full disk speaks once, not again when closing
                handle.close()


@contextmanager
def writing_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like `writing`, for what opens its file itself: the name of a file that becomes `path`."""
    with _becoming(path) as (temporary, target):
        yield temporary
        _copy_mode(target, temporary)
        _sync_folder(temporary)


@contextmanager
def writing_folder(
    path: str | os.PathLike[str], may_replace: Callable[[Path], None]
) -> Iterator[Path]:
    """An empty folder that becomes `path` when the block ends, and leaves nothing if it fails.

    Args:
        path: the folder to make.
        may_replace: called with an existing folder before it is replaced; raises to refuse.
    """
    target = Path(os.path.realpath(path))
    _check_parent(path, target)
    if os.path.exists(target):
        if not os.path.isdir(target):
            raise InputError(f"{path} is a file: give the name of a folder.")
        may_replace(target)
    _remove_old(target.parent)
    temporary = target.parent / temporary_name()
    try:
        temporary.mkdir()
        yield temporary
        for file in (*temporary.rglob("*"), temporary):
            _sync_folder(file)
        _swap_in(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _sentence(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_file() -> Iterator[Path]:
    """The name of a file of this machine that is gone after the block.

    What a killed process leaves is removed by another one, a day later.

    Raises:
        WriteError: the system refused, for example because the disk is full.
    """
    folder = Path(tempfile.gettempdir())
    _remove_old(folder)
    path = folder / temporary_name()
    try:
        yield path
    except OSError as error:
        raise _sentence(path, error) from None
    finally:
        path.unlink(missing_ok=True)


def try_lock(file: Path) -> FileLock | None:
    """Lock a file for this process, or return None if another holds it.

    The lock of a process that has died is no obstacle: a soft lock, a mere file, would outlive it.

    Raises:
        InputError: the disk knows no locks.
        OSError: the file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"'{Path(file).parent}' lies on a disk that cannot lock files "
            f"({(error.strerror or '').lower()}), so another program could write there at the "
            "same time; choose a folder on another disk."
        ) from None
    return lock


def remove_unfinished(folder: Path, unchanged_for: float = 0.0) -> None:
    """Remove what killed processes left half-written.

    Args:
        folder: that no other process writes to now, unless `unchanged_for` says which are old.
        unchanged_for: seconds; what was changed later stays.
    """
    unfinished = list(folder.glob(UNFINISHED))
    now = _clock_of(folder) if unfinished and unchanged_for else 0.0
    for path in unfinished:
        if unchanged_for and now - _last_change(path) < unchanged_for:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def file_sha256(file: Path) -> str:
    """SHA-256 (hex) of a file, computed once per process while its size and time stay the same."""
    status = file.stat()
    return _sha256_of_state(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _remove_old(folder: Path) -> None:
    """Remove unfinished files of a day ago and older; once per folder and process."""
    with suppress(OSError):
        remove_unfinished(folder, OLD)


def _clock_of(folder: Path) -> float:
    """The time as the disk tells it, seconds since 1970; the clock of this machine may be off."""
    probe = folder / temporary_name()
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _last_change(path: Path) -> float:
    """When a file, or the newest one of a folder, was changed: seconds since 1970."""
    times = [path.lstat().st_mtime] if path.exists() else [math.inf]
    if path.is_dir():
        times += [file.lstat().st_mtime for file in path.rglob("*")]
    return max(times)


@lru_cache(maxsize=64)
def _sha256_of_state(file: Path, size: int, mtime_ns: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_checksums(folder: Path) -> Path:
    """Write the hashes of all files of a model folder beside them; return the file."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS
    )
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    with writing(folder / CHECKSUMS) as file:
        file.write("".join(lines).encode())
    return folder / CHECKSUMS


def verify_checksums(folder: Path) -> int:
    """Compare every file that SHA256SUMS names with its hash; return how many there are.

    Raises:
        WeightsError: the folder has no readable SHA256SUMS, a file is missing or has another hash,
            or weights lie there that it does not name.
    """
    expected = _read_checksums(folder)
    for name, digest in expected.items():
        _verify_file(folder / name, digest)
    for file in sorted(folder.rglob(WEIGHTS_FILES)):
        if file.relative_to(folder).as_posix() not in expected:
            raise WeightsError(f"{str(file)!r} is no part of this model; remove it.")
    return len(expected)


def verify_weights(folder: Path) -> None:
    """Compare the weights of a folder with its SHA256SUMS, if it has one, before they are used.

    A file is read once per process while its size and time stay the same.

    Raises:
        WeightsError: a file is missing or has another hash.
    """
    if (folder / CHECKSUMS).is_file():
        for name, digest in _read_checksums(folder).items():
            if fnmatch(name, WEIGHTS_FILES):
                _verify_file(folder / name, digest)


def _read_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, relative to the folder."""
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{str(folder)!r} has no readable {CHECKSUMS}; give the folder of an exported model."
        ) from error


def _verify_file(file: Path, digest: str) -> None:
    if not file.is_file():
        raise WeightsError(f"{str(file)!r} is missing; copy the model again.")
    if file_sha256(file) != digest:
        raise WeightsError(
            f"{str(file)!r} is not the file that was released ({CHECKSUMS} names another hash); "
            f"copy it again, or remove {CHECKSUMS} if you changed it yourself."
        )


@contextmanager
def refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    """For what writes files of its own on the way to `path`: WriteError if the system refuses."""
    try:
        yield
    except OSError as error:
        raise _sentence(path, error) from None


@contextmanager
def _becoming(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A name that nothing has yet, whose file becomes the target of `path`; and that target."""
    target = _file_target(path)
    _remove_old(target.parent)
    temporary = target.parent / temporary_name()
    try:
        yield temporary, target
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _sentence(path, error) from None
    finally:
        with suppress(OSError):  # a disk that refuses once does so again; the first says why
            temporary.unlink(missing_ok=True)


def _copy_mode(target: Path, temporary: Path) -> None:
    """Give a file the permissions of the one that it replaces, if there is one."""
    if os.path.exists(target):
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename a finished folder to `target`; the old one is put back if that fails."""
    if not os.path.exists(target):
        temporary.rename(target)
        return
    old = target.parent / temporary_name()
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _file_target(path: str | os.PathLike[str]) -> Path:
    """The file that `path` means; InputError if none can be there."""
    target = Path(os.path.realpath(path))  # a link stays a link, the file it names is replaced
    _check_parent(path, target)
    if os.path.isdir(target):  # os.path says no, where Path raises, to names it cannot look up
        raise InputError(f"{path} is a folder: give the name of a file.")
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"{path} is not a regular file: give the name of a file.")
    return target


def check_local(path: str | os.PathLike[str]) -> None:
    """InputError if a path is an address: "s3://bucket/fox.psd" is a file in a folder "s3:" here.

    Nobody means that file, unless it is there.
    """
    text = str(path)
    if ADDRESS.match(text) and not os.path.exists(text):
        raise InputError(
            f"'{re.sub(':/+', '://', text, count=1)}' is an address, and a path of this machine is "
            "asked for; copy from there, or to there, with the program of its store."
        )


def _check_parent(path: str | os.PathLike[str], target: Path) -> None:
    check_local(path)
    if not os.path.isdir(target.parent):
        raise InputError(f"The folder for {path} does not exist: make it first.")


def temporary_name() -> str:
    """A name of no file yet, that `UNFINISHED` fits."""
    return f".text2layer-{secrets.token_hex(6)}.part"


def _sync_folder(path: Path) -> None:
    """Bring a folder's or file's content to the disk, where the system can do so."""
    with suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sentence(path: str | os.PathLike[str], error: OSError) -> WriteError:
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return WriteError(f"{path} could not be written: {reason}.")
