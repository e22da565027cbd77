"""A process whose death or hang a build survives, as its parent sees it.

A child is sent one task at a time. Before it looks at photos it says which (a message in a pipe,
which the system keeps when the child dies), so its parent knows what it died on.
"""

import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

TICK = 0.2  # seconds between two looks at the time and memory of a child
TOO_MUCH_MEMORY = "used too much memory"
# how the reasons begin for which a photo is set aside
SET_ASIDE = ("killed its worker", "ended its worker", "took longer than", TOO_MUCH_MEMORY)

BEGIN, END, DONE, FAILED = "begin", "end", "done", "failed"  # what a child says
GRACE = 5  # seconds after its time that a child ends by itself, if its parent did not end it
KILL = 9  # the signal; not every system has its name
NO_MEMORY = 86  # exit status of a child to which the system gave no memory


class Died(Exception):
    """A child has died.

    Attributes:
        reason: one of the forms of `SET_ASIDE`.
        keys: of the photos that it was looking at; empty if it was loading or writing.
    """

    def __init__(self, reason: str, keys: tuple[str, ...]) -> None:
        super().__init__(reason, keys)
        self.reason, self.keys = reason, keys


class Closed(Exception):
    """The child was ended by `Child.close`, from another thread."""


class Child:
    """A process of its own that does tasks one by one; started by the first task.

    Args:
        serve: `module:function` that the process calls; see `worker.serve`.
        setup: sent first; any value that can be pickled.
        photo_seconds: that one photo may take; a batch of n may take n times as long.
        memory: bytes that the process may hold; 0 sets no bound.
    """

    def __init__(self, serve: str, setup: Any, photo_seconds: float, memory: int = 0) -> None:
        self._serve, self._setup = serve, setup
        self._photo_seconds, self._memory = photo_seconds, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._closed = False
        self._oom_kills = 0

    def call(self, *task: Any) -> Any:
        """The child's answer to a task.

        Raises:
            Died: it died or was killed; the next call starts another.
            Closed: `close` was called.
            Exception: what the task raised.
        """
        deadlines: dict[tuple[str, ...], float] = {}
        try:
            self._send(task)
        except OSError:  # it died after its last answer
            raise self._ended("", ()) from None
        while True:
            try:
                answer = self._answers.get(timeout=TICK)
            except queue.Empty:
                answer = ()
            if answer is None:
                raise self._ended("", _all(deadlines))
            if answer:
                kind, what = answer
                if kind == DONE:
                    return what
                if kind == FAILED:
                    raise what
                if kind == BEGIN:
                    deadlines[what] = time.monotonic() + self._photo_seconds * len(what)
                else:
                    deadlines.pop(what, None)
            reason = self._over(deadlines)
            if reason:
                raise self._ended(reason, _all(deadlines))

    def close(self) -> None:
        """End the process at once; calls at work in other threads raise `Closed`."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _send(self, task: tuple[Any, ...]) -> None:
        if self._closed:
            raise Closed
        if self._process is None:
            self._process = self._started()
            if self._closed:  # meanwhile
                self._process.kill()
        assert self._process.stdin is not None
        pickle.dump(task, self._process.stdin)
        self._process.stdin.flush()

    def _started(self) -> subprocess.Popen[bytes]:
        module, _, function = self._serve.partition(":")
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {module} import {function}; {function}()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which decides
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._answers = queue.SimpleQueue()
        self._oom_kills = oom_kills()
        threading.Thread(target=_read, args=(process.stdout, self._answers), daemon=True).start()
        pickle.dump(self._setup, process.stdin)
        return process

    def _over(self, deadlines: dict[tuple[str, ...], float]) -> str:
        """Why the child must be killed, or nothing."""
        if deadlines and time.monotonic() > min(deadlines.values()):
            return f"took longer than {self._photo_seconds:g} s"
        if self._memory and self._process is not None:
            held = resident_bytes(self._process.pid)
            return TOO_MUCH_MEMORY if held > self._memory else ""
        return ""

    def _ended(self, reason: str, keys: tuple[str, ...]) -> Exception:
        """Wait for the end of the process, and what to raise about it."""
        process, self._process = self._process, None
        assert process is not None
        if reason:
            process.kill()
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        if self._closed:
            return Closed()
        out_of_memory = status == -KILL and oom_kills() > self._oom_kills
        if not reason and (out_of_memory or status == NO_MEMORY):
            reason = TOO_MUCH_MEMORY
        elif not reason and status < 0:
            reason = f"killed its worker: signal {-status}"
        return Died(reason or f"ended its worker: exit status {status}", keys)


def is_set_aside(reason: str) -> bool:
    """Whether a photo was left out because a worker died or hung on it."""
    return reason.startswith(SET_ASIDE)


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory since it started; 0 if unknown."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 if the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read(pipe: IO[bytes], answers: "queue.SimpleQueue[tuple[Any, ...] | None]") -> None:
    """Pass on what a child says; None when it says no more, a message cut short included."""
    with suppress(Exception):
        while True:
            answers.put(pickle.load(pipe))
    answers.put(None)


def _all(deadlines: dict[tuple[str, ...], float]) -> tuple[str, ...]:
    return tuple(key for keys in deadlines for key in keys)


# what follows runs in the child


class Parent:
    """The other end: tasks come from it, answers go to it. Made once, at the child's start."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what a library prints must not get among the answers
        self._lock = threading.Lock()
        self._looked_at: set[tuple[str, ...]] = set()
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _be_killed_first()
        threading.Thread(
            target=self._listen, args=(os.fdopen(os.dup(0), "rb"),), daemon=True
        ).start()
        self.setup = self._tasks.get()

    def serve(self, do: Callable[..., Any]) -> None:
        """Answer every task with `do(*task)`, or with what it raises; never returns."""
        while True:
            task = self._tasks.get()
            try:
                self._say(DONE, do(*task))
            except MemoryError:
                os._exit(NO_MEMORY)
            except Exception as error:
                self._say(FAILED, error)

    def _say(self, kind: str, what: Any) -> None:
        try:
            said = pickle.dumps((kind, what))
            if kind == FAILED:
                pickle.loads(said)  # some exceptions are pickled and cannot be read again
        except Exception:
            text = f"{type(what).__name__}: {' '.join(str(what).split())}"
            said = pickle.dumps((FAILED, RuntimeError(text)))
        with self._lock:
            self._answers.write(said)
            self._answers.flush()

    def begin(self, keys: tuple[str, ...], seconds: float) -> None:
        """These photos are looked at from now on, and may take so long."""
        self._looked_at.add(keys)
        _end_after(seconds + GRACE)
        self._say(BEGIN, keys)

    def end(self, keys: tuple[str, ...]) -> None:
        """They are done, and the child is alive."""
        self._looked_at.discard(keys)
        if not self._looked_at:
            _end_after(0)
        self._say(END, keys)

    def _listen(self, pipe: IO[bytes]) -> None:
        """Take in tasks; end when the parent does, however it does."""
        with suppress(Exception):
            while True:
                self._tasks.put(pickle.load(pipe))
        os._exit(0)


def _end_after(seconds: float) -> None:
    """Let the system end this process then, even if it hangs and nobody watches; 0: never."""
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(seconds))


def _be_killed_first() -> None:
    """Of all processes the system should end this one when memory runs out, and dump no core."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
