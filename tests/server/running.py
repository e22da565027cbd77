"""A real server on a free port, with the tiny model of random weights."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn

from text2layer.server.app import build_app
from text2layer.server.client import StudioClient
from text2layer.server.drawing import Studio
from text2layer.server.settings import ServeSettings
from text2layer.server.store import Store
from text2layer.server.worker import Worker

LONG = {"steps": 1000, "count": 4, "width": 64, "height": 64}  # a job that is still running


class Server:
    """A server's address, and its parts for a look inside."""

    def __init__(self, port, worker):
        self.address, self.worker = f"http://127.0.0.1:{port}", worker

    def client(self, **options):
        return StudioClient(self.address, **options)

    def http(self, **options):
        return httpx.Client(base_url=self.address, timeout=30, **options)

    def until(self, job_id, *states, seconds=60):
        """The job once it is in one of these states."""
        end = time.monotonic() + seconds
        while (job := self.worker.job(job_id)).state not in states:
            assert time.monotonic() < end, job
            time.sleep(0.02)
        return job

    def drained(self):
        """Wait until nothing is queued or running, after cancelling all that is."""
        for job in self.worker.store.jobs():
            if job.state in ("queued", "running"):
                self.worker.cancel(job.id)
        for job in self.worker.store.jobs():
            self.until(job.id, "done", "failed", "cancelled")


@contextmanager
def running(folder, model, hosts=(), token=None, studio=None, **limits):
    """Serve from a folder; stops in the end as Ctrl-C does."""
    settings = ServeSettings(**limits)
    store = Store(folder, settings.keep_hours * 3600, settings.max_disk * 2**30)
    worker = Worker(store, studio or Studio(model, "cpu"), settings.queue)
    app = build_app(worker, settings, hosts, token)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, lifespan="on")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    made = Server(listening.getsockname()[1], worker)
    try:
        end = time.monotonic() + 60
        while worker.studio.info is None and worker.model_error is None:
            assert time.monotonic() < end, "the model does not load"
            time.sleep(0.05)
        yield made
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
