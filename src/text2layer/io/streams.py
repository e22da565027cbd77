"""Files without a name: open streams such as a BytesIO, standard input and standard output.

``-`` is standard input or output, ``psd:-`` standard output in a format other than PNG.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from text2layer.errors import FormatError, InputError, WriteError

STDIN, STDOUT = "Standard input", "Standard output"
MAX_STREAM_BYTES = 2**32  # of one that is read, which is held in memory
_STANDARD = re.compile(r"(?:([a-z]+):)?-", re.IGNORECASE)


def is_standard(path: object) -> bool:
    """Whether a path means standard input or output: ``-``, or with a format as in ``psd:-``."""
    return isinstance(path, (str, os.PathLike)) and bool(_STANDARD.fullmatch(str(path)))


def standard_format(path: str | os.PathLike[str]) -> str:
    """The format that ``psd:-`` names; "png" for ``-``."""
    named = _STANDARD.fullmatch(str(path))
    return (named[1] if named else None) or "png"


def read_all(stream: IO[Any], where: str, head_bytes: int) -> Iterator[bytes]:
    """Yield the first bytes of a stream, then the rest; the caller may stop at the first.

    Raises:
        InputError: it is open for writing or as text.
        FormatError: it holds more than MAX_STREAM_BYTES, or the system refused to read it.
    """
    try:
        head = stream.read(head_bytes)
        if not isinstance(head, bytes):
            raise InputError(f"{where} gives text: open the file in binary mode.")
        yield head
        rest = stream.read(MAX_STREAM_BYTES)
    except (OSError, AttributeError) as error:  # io.UnsupportedOperation is an OSError
        raise InputError(f"{where} cannot be read ({error}).") from None
    if len(rest) == MAX_STREAM_BYTES:
        raise FormatError(f"{where} holds more than {MAX_STREAM_BYTES} bytes: give a file.")
    yield rest


def standard_input() -> BinaryIO:
    """Standard input; InputError if it is a terminal or closed."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("Standard input is a terminal: send a file into it, as in `< FILE`.")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Standard output; InputError if it is a terminal or closed."""
    if sys.stdout is None or sys.stdout.isatty():
        raise InputError("Standard output is a terminal: send it to a file, as in `> FILE`.")
    return sys.stdout.buffer


def write_all(stream: IO[Any], data: bytes, where: str) -> None:
    """Write bytes at once.

    Raises:
        InputError: it is open for reading or as text.
        WriteError: the system refused, for example because the reader has gone.
    """
    try:
        view = memoryview(data)
        while view:  # a raw file may take a part only
            view = view[stream.write(view) :]
        stream.flush()
    except (TypeError, AttributeError, ValueError):
        raise InputError(
            f"{where} takes no bytes: open the file for writing in binary mode."
        ) from None
    except OSError as error:
        raise WriteError(f"{where} could not be written: {error.strerror or error}.") from None


@contextmanager
def on_disk(data: bytes, suffix: str) -> Iterator[Path]:
    """The bytes of a stream as a file, for readers that open their file themselves."""
    with tempfile.TemporaryDirectory(prefix="text2layer-") as folder:
        path = Path(folder) / f"stream{suffix}"
        path.write_bytes(data)
        yield path
