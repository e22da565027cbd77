"""Ctrl-C and a polite kill: the first ends a build after the chunks in work, the second at once."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTE = (
    "Stopping after the chunks in work; once more stops at once. "
    "The same command goes on from there."
)


@contextmanager
def stopping_cleanly() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether the person, or the system, asked to stop.

    Signals are only caught in the main thread; elsewhere they act as before.
    """
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print(f"\n{NOTE}", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
