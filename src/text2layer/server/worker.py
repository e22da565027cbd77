"""The queue: jobs wait, one thread draws, whoever asks sees how far it is."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from text2layer.errors import Text2LayerError
from text2layer.server.drawing import Preview, Studio
from text2layer.server.schema import REQUESTS, Drawn, Job, Request, request_of
from text2layer.server.store import Store

LOG = logging.getLogger("text2layer.server")
FIRST_GUESS = 10.0  # seconds that a job takes, before one was seen
MAX_WAIT = 600  # seconds, the most that a client is told to wait
SWEEP_SECONDS = 600  # between two removals of what was kept long enough
PREVIEW_SHARE = 0.04  # of a job's time, the most that goes into previews but for the first one
PREVIEW_SIDE = 192  # pixels
STOPPED = "The server was stopped while the job ran; ask for it again."


class QueueFull(Text2LayerError):
    """As many jobs wait as may; `retry_after` says in how many seconds one may be done."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass
class Running:
    """The job that is drawn now."""

    id: str
    step: int = 0
    steps: int = 0
    cancelled: bool = False
    watched: bool = False  # whether a client wants previews
    previews: int = 0  # how often they were drawn
    pictures: tuple[bytes, ...] = ()  # the previews, WebP


class Worker:
    """A bounded queue and the thread that empties it.

    Args:
        store: where jobs and pictures are.
        studio: what does the jobs.
        limit: jobs that may wait.
    """

    def __init__(self, store: Store, studio: Studio, limit: int) -> None:
        self.store, self.studio, self.limit = store, studio, limit
        self.model_error: str | None = None
        self._waiting = deque(store.queued())  # those of before a restart too
        self._running: Running | None = None
        self._changed = threading.Condition()
        self._stop = False
        self._seconds = FIRST_GUESS  # of a job, a moving mean
        self._thread = threading.Thread(target=self._work, name="text2layer worker", daemon=True)

    def start(self) -> None:
        """Load the model and begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is drawn now; what waits is kept for the next start."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def submit(self, request: Request) -> Job:
        """Queue a job; one that draws without a seed gets one, so that it can be drawn again.

        Raises:
            QueueFull: too many wait.
        """
        if isinstance(request, Drawn) and request.seed is None:
            request = request.model_copy(update={"seed": secrets.randbelow(2**31)})
        with self._changed:
            if len(self._waiting) >= self.limit:
                wait = min(max(round(self._seconds), 1), MAX_WAIT)
                raise QueueFull(
                    f"{len(self._waiting)} jobs wait, as many as may; try again in {wait} s.", wait
                )
            kind = next(name for name, made in REQUESTS.items() if type(request) is made)
            job = self.store.add_job(kind, request.model_dump_json())  # type: ignore[arg-type]
            self._waiting.append(job.id)
            self._changed.notify()
        return self.seen(job)

    def cancel(self, job_id: str) -> Job:
        """Take a job out of the queue, or stop it after the step that is drawn now."""
        with self._changed:
            if job_id in self._waiting:
                self._waiting.remove(job_id)
                self.store.finish_job(job_id, "cancelled")
            elif self._running is not None and self._running.id == job_id:
                self._running.cancelled = True
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        """A job with its progress, or NotKept."""
        return self.seen(self.store.job(job_id))

    def seen(self, job: Job) -> Job:
        """A stored job with its place in the queue, or its steps."""
        with self._changed:
            if job.id in self._waiting:
                ahead = self._waiting.index(job.id) + (self._running is not None)
                return job.model_copy(update={"position": ahead})
            running = self._running
            if running is not None and running.id == job.id:
                names = ("step", "steps", "previews")
                return job.model_copy(update={name: getattr(running, name) for name in names})
        return job

    def watch(self, job_id: str) -> None:
        """Draw previews of a job, if it runs."""
        running = self._running
        if running is not None and running.id == job_id:
            running.watched = True

    def preview(self, job_id: str, number: int) -> bytes | None:
        """What a candidate of the running job is expected to become, WebP, once that is known."""
        running = self._running
        if running is None or running.id != job_id or number >= len(running.pictures):
            return None
        return running.pictures[number]

    def _work(self) -> None:
        try:
            self.studio.load()
        except Exception as error:  # the server stays up and says so
            self.model_error = sentence(error)
            LOG.error("the model cannot be used: %s", self.model_error)
        swept = time.monotonic()
        while True:
            with self._changed:
                while not self._waiting and not self._stop:
                    self._changed.wait(SWEEP_SECONDS)
                    if time.monotonic() - swept > SWEEP_SECONDS:
                        break
                if self._stop:
                    return
                job_id = self._waiting.popleft() if self._waiting else None
                self._running = Running(job_id) if job_id else None
                if job_id:
                    self.store.start_job(job_id)
            try:
                if job_id and self._running:
                    self._do(self._running)
                if time.monotonic() - swept > SWEEP_SECONDS:
                    swept = time.monotonic()
                    self.store.expire()
            except Exception:  # the index cannot be written: the next job may have more luck
                LOG.exception("the folder of jobs cannot be used")
                self._running = None

    def _do(self, running: Running) -> None:
        """Run a job to its end, whatever that is."""

        began, drawing, kept = time.monotonic(), 0.0, []

        def on_step(step: int, steps: int, draw: Preview | None) -> bool:
            nonlocal drawing
            running.step, running.steps = step, steps
            start = time.monotonic()
            if draw is not None and running.watched and drawing <= PREVIEW_SHARE * (start - began):
                running.pictures = tuple(_webp(one) for one in draw())
                running.previews += 1
                drawing += time.monotonic() - start
            return running.cancelled or self._stop

        try:
            if self.model_error is not None:
                raise Text2LayerError(self.model_error)
            stored = self.store.job(running.id)
            request = request_of(stored.kind, self.store.request(running.id))
            self.studio.check(request)
            made = self.studio.draw(request, self.store.load_picture, on_step)
            if running.cancelled:
                self._end(running, "cancelled")
            elif self._stop:
                self._end(running, "failed", STOPPED)
            else:
                kept = [self.store.add_picture(one) for one in made]
                self._end(running, "done", None, kept)
                self._seconds += 0.3 * (time.monotonic() - began - self._seconds)
        except Exception as error:
            if not isinstance(error, Text2LayerError):
                LOG.exception("job %s", running.id)
            self._end(running, "failed", sentence(error))

    def _end(
        self, running: Running, state: str, error: str | None = None, kept: list[str] | None = None
    ) -> None:
        with self._changed:
            self.store.finish_job(running.id, state, error, kept or [])  # type: ignore[arg-type]
            self._running = None


def _webp(pixels: np.ndarray) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    stream = BytesIO()
    picture.save(stream, "WEBP", quality=70)
    return stream.getvalue()


def sentence(error: Exception) -> str:
    """What went wrong, for a client; nothing of the machine's insides."""
    if isinstance(error, Text2LayerError):
        return str(error)
    # torch.OutOfMemoryError, known by name so that nothing here imports torch
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There is not enough memory; ask for a smaller picture or fewer at once."
    return f"Unexpected {type(error).__name__}; the server's log says more."
