"""Whole files or none: write under a temporary name in the same folder, then rename."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from text2layer.errors import InputError, WriteError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would exceed the size limit of this disk or process",
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
    target = Path(os.path.realpath(path))  # a link stays a link, the file it names is replaced
    _check_parent(path, target)
    if os.path.isdir(target):  # os.path says no, where Path raises, to names it cannot look up
        raise InputError(f"{path} is a folder: give the name of a file.")
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"{path} is not a regular file: give the name of a file.")
    temporary = target.parent / _temporary_name()
    try:
        handle = os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), "w+b")
        try:
            if os.path.exists(target):
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        finally:
            with suppress(OSError):  # a full disk speaks once, not again when closing
                handle.close()
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _sentence(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


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
    temporary = target.parent / _temporary_name()
    try:
        temporary.mkdir()
        yield temporary
        for file in (*temporary.iterdir(), temporary):
            _sync_folder(file)
        _swap_in(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _sentence(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename a finished folder to `target`; the old one is put back if that fails."""
    if not os.path.exists(target):
        temporary.rename(target)
        return
    old = target.parent / _temporary_name()
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_parent(path: str | os.PathLike[str], target: Path) -> None:
    if not os.path.isdir(target.parent):
        raise InputError(f"The folder for {path} does not exist: make it first.")


def _temporary_name() -> str:
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
