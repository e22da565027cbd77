"""The workers of one machine, and how a build is stopped.

Ctrl-C or a polite kill: the first ends a build after the chunks in work, the second at once.
"""

import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType

from text2layer.photos.chunk import ChunkResult, Entry
from text2layer.photos.guard import Guard

Task = tuple[int, Sequence[Entry]]  # number of a chunk, and its photos
Stop = Callable[[], bool]
Results = Generator[ChunkResult, None, None]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTE = (
    "Stopping after the chunks in work; once more stops at once. "
    "The same command goes on from there."
)


def run_in_pool(guards: Sequence[Guard], tasks: Iterator[Task], stop: Stop) -> Results:
    """Do the tasks in a process for each guard, which ends with them; results come when ready.

    No task waits in a queue: each worker holds one chunk and the next is read when it is done, so
    memory does not grow with the number of photos and stopping need only await chunks in work.

    Raises:
        DataError: workers die, and it is not about a photo.
        Text2LayerError: what a worker met, such as a full disk.
    """
    free: queue.SimpleQueue[Guard] = queue.SimpleQueue()
    for guard in guards:
        free.put(guard)

    def do(number: int, entries: Sequence[Entry]) -> ChunkResult:
        guard = free.get()
        try:
            return guard.chunk(number, entries)
        finally:
            free.put(guard)

    pool = ThreadPoolExecutor(len(guards))
    at_work: set[Future[ChunkResult]] = set()
    try:
        for number, entries in tasks:
            if stop():
                break
            at_work.add(pool.submit(do, number, entries))
            if len(at_work) == len(guards):
                done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while at_work:
            done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for guard in guards:
            guard.close()  # nothing is lost: a chunk in work is not committed
        pool.shutdown(wait=True, cancel_futures=True)


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
