"""An address that one build holds alone: there are no file locks, and clocks may differ.

The holder writes a small file with a token of its own and a number, and a higher number every few
seconds. A newcomer that finds the file watches it: if the number rises, the holder is at work; if
not, it has died, and the newcomer takes over. Only spans of time of one machine are measured. Two
that take over in the same moment, or a holder that was silent for too long, find the other's token
in the file, and end. Until then they do the same work twice, with the same results.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from text2layer.data.places import Address, writing_to
from text2layer.errors import InputError, Text2LayerError

RENEWED = 5.0  # seconds between two signs of life
SILENT = 30.0  # seconds without one, after which a holder is taken for dead
SETTLED = 1.0  # seconds after which a newcomer looks whether another came in the same moment


@contextmanager
def held(file: Address) -> Iterator[Callable[[], bool]]:
    """Hold the folder of a file; gives a function that says whether another build has it now.

    Raises:
        InputError: another build holds it, or has taken it over meanwhile.
        WriteError: the file cannot be written.
        DataError: it cannot be read.
    """
    _wait_for_silence(file)
    hold = _Hold(file)
    hold.say()
    time.sleep(SETTLED)
    if not hold.is_ours():
        raise _taken(file, _read(file))
    renewing = threading.Thread(target=hold.renew, daemon=True)
    renewing.start()
    try:
        yield hold.lost.is_set
    finally:
        hold.ended.set()
        renewing.join(RENEWED)
        if not hold.lost.is_set():
            with suppress(Text2LayerError, OSError):  # left there, it is silent from now on
                if hold.is_ours():
                    file.unlink(missing_ok=True)
    if hold.lost.is_set():
        raise _taken(file, _read(file))


class _Hold:
    """The signs of life of one holder."""

    def __init__(self, file: Address) -> None:
        self.lost, self.ended = threading.Event(), threading.Event()
        self._file, self._token, self._count = file, secrets.token_hex(8), 0

    def say(self) -> None:
        """Write the next sign of life."""
        who = f"process {os.getpid()} on {socket.gethostname()}"
        said = {"holder": who, "token": self._token, "count": self._count}
        with writing_to(self._file) as file:
            file.write(json.dumps(said).encode() + b"\n")
        self._count += 1

    def is_ours(self) -> bool:
        """Whether no other token is there; a file that someone deleted is written again."""
        return (_read(self._file) or {"token": self._token}).get("token") == self._token

    def renew(self) -> None:
        """Say it until the block has ended, or another token is there."""
        while not self.ended.wait(RENEWED):
            with suppress(Text2LayerError):  # the build itself meets it too, and says so
                if not self.is_ours():
                    self.lost.set()
                    return
                if not self.ended.is_set():
                    self.say()


def _wait_for_silence(file: Address) -> None:
    """Return when nobody shows a sign of life; InputError if someone does."""
    first = _read(file)
    if first is None:
        return
    print(
        f"'{file.parent}' names a build that has not ended; watching for {SILENT:g} s whether it "
        "is at work.",
        file=sys.stderr,
        flush=True,
    )
    until = time.monotonic() + SILENT
    while time.monotonic() < until:
        time.sleep(min(RENEWED, SILENT) / 2)
        now = _read(file)
        if now is None:
            return
        if now != first:
            raise _taken(file, now)


def _taken(file: Address, found: dict[str, Any] | None) -> InputError:
    holder = (found or {}).get("holder", "unknown")
    return InputError(
        f"Another build ({holder}) is writing into '{file.parent}'; wait until it has ended, or "
        "choose another place."
    )


def _read(file: Address) -> dict[str, Any] | None:
    """What the file says; None if there is none."""
    try:
        said = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
