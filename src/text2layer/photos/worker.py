"""Who works on chunks: one worker in this process, or one in each process of a pool.

Ctrl-C or a polite kill: the first ends a build after the chunks in work, the second at once.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from text2layer.errors import DataError, InputError
from text2layer.photos.chunk import (
    ChunkResult,
    Entry,
    hashes_of,
    load_stages,
    process_chunk,
)
from text2layer.photos.settings import BuildSettings

Task = tuple[int, Sequence[Entry]]  # number of a chunk, and its photos
Stop = Callable[[], bool]
Results = Generator[ChunkResult, None, None]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTE = (
    "Stopping after the chunks in work; once more stops at once. "
    "The same command goes on from there."
)


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to know, wherever it is.

    Attributes:
        stages: `module:function` that makes the stages.
        settings: of the build.
        out: folder of the build.
        threads: that a worker may use.
        model_hashes: of the models that earlier chunks were made with; empty before the first.
    """

    stages: str
    settings: BuildSettings
    out: Path
    threads: int = 1
    model_hashes: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """Makes the stages once, then works on one chunk after the other.

    Raises:
        InputError: the stages cannot be loaded, or their models are not those of earlier chunks.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self.stages = load_stages(setup.stages, setup.settings, setup.threads)
        hashes = hashes_of(self.stages)
        if setup.model_hashes and dict(setup.model_hashes) != hashes:
            roles = {*hashes, *setup.model_hashes}
            changed = sorted(r for r in roles if hashes.get(r) != setup.model_hashes.get(r))
            raise InputError(
                f"'{setup.out}' was begun with other models (not the same: {', '.join(changed)}); "
                "go on with those, or build into another folder."
            )

    def run(self, number: int, entries: Sequence[Entry]) -> ChunkResult:
        """See `process_chunk`."""
        return process_chunk(number, entries, self.stages, self.setup.settings, self.setup.out)


def run_here(setup: WorkerSetup, tasks: Iterator[Task], stop: Stop) -> Results:
    """Do the tasks one by one in this process, until there are none or `stop()` is true."""
    worker: Worker | None = None
    for number, entries in tasks:
        if stop():
            return
        worker = worker or Worker(setup)
        yield worker.run(number, entries)


def run_in_pool(setup: WorkerSetup, tasks: Iterator[Task], workers: int, stop: Stop) -> Results:
    """Do the tasks in `workers` processes; results come as they are ready.

    No task waits in a queue: each worker holds one chunk and the next is read when it is done, so
    memory does not grow with the number of photos and stopping need only await chunks in work.

    Raises:
        DataError: a process died, for example for want of memory.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin_process, (setup,)
    )
    at_work: set[Future[ChunkResult]] = set()
    try:
        for number, entries in tasks:
            if stop():
                break
            at_work.add(pool.submit(_run_in_process, number, entries))
            if len(at_work) == workers:
                done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while at_work:
            done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        if not stop():
            raise DataError(
                "A worker process died, perhaps for want of memory; run the same command again "
                "with fewer --workers to go on."
            ) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # nothing is lost: their chunks are not committed
        raise
    finally:
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


_setup: WorkerSetup | None = None  # of this process of a pool
_worker: Worker | None = None


def _begin_process(setup: WorkerSetup) -> None:
    """Called once in each process of the pool, before its first task."""
    global _setup
    _setup = setup
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has been killed, which would else leave it waiting."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_in_process(number: int, entries: Sequence[Entry]) -> ChunkResult:
    """The task of a pool; makes the stages when the first one comes, so that errors get out."""
    global _worker
    assert _setup is not None
    if _worker is None:
        _worker = Worker(_setup)
    return _worker.run(number, entries)
