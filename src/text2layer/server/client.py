"""A client of the studio's API: jobs and pictures as plain dataclasses, errors as exceptions.

>>> with StudioClient() as studio:                                       # doctest: +SKIP
...     job = studio.wait(studio.generate("a fox in a meadow", count=4))
...     studio.save(job.pictures[0], "fox.psd")
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from text2layer.errors import InputError, Text2LayerError
from text2layer.files import writing

ADDRESS = "http://127.0.0.1:8766"
FINISHED = ("done", "failed", "cancelled")
T = TypeVar("T")


class StudioError(Text2LayerError):
    """The server refused or failed; `status` is that of HTTP, 0 where none came.

    `retry_after` says in how many seconds to come back, where the server said so.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class Job:
    """A job: queued, running, done, failed or cancelled; `pictures` are the ids of its results."""

    id: str
    kind: str
    state: str
    request: dict[str, Any]
    step: int
    steps: int
    position: int | None
    error: str | None
    pictures: list[str]


@dataclass(frozen=True)
class Picture:
    """A picture that the server keeps; `layers` are dicts, lowest first: name, offset, size, ..."""

    id: str
    size: list[int]
    layers: list[dict[str, Any]]
    metadata: dict[str, Any]


class StudioClient:
    """Talks to one server.

    Args:
        address: of the server.
        token: if it wants one.
        patience: seconds to keep trying where the queue is full (429).
        http: a client to send requests with, for other timeouts or transports.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        token: str | None = None,
        patience: float = 0.0,
        http: httpx.Client | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = http or httpx.Client(timeout=60.0)
        self._http.base_url, self.patience = httpx.URL(address), patience
        self._http.headers.update(headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def generate(self, prompt: str, **options: Any) -> Job:
        """Draw from text; options are those of POST /api/jobs/generate: count, seed, steps, ..."""
        return self._job("POST", "/api/jobs/generate", json={"prompt": prompt, **options})

    def add(self, picture: str, prompt: str, **options: Any) -> Job:
        """Draw one more layer on top of a picture."""
        body = {"picture": picture, "prompt": prompt, **options}
        return self._job("POST", "/api/jobs/add", json=body)

    def replace(self, picture: str, layer: str, **options: Any) -> Job:
        """Draw one layer of a picture anew."""
        body = {"picture": picture, "layer": layer, **options}
        return self._job("POST", "/api/jobs/replace", json=body)

    def decompose(self, picture: str, **options: Any) -> Job:
        """Take a photograph apart."""
        return self._job("POST", "/api/jobs/decompose", json={"picture": picture, **options})

    def text_to_image(self, prompt: str, **options: Any) -> Job:
        """Draw flat pictures by the server's text-to-image pipeline, and take each apart."""
        body = {"prompt": prompt, **options}
        return self._job("POST", "/api/jobs/text-to-image", json=body)

    def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return self._job("GET", f"/api/jobs/{job_id}")

    def cancel(self, job_id: str) -> Job:
        """Stop a job."""
        return self._job("POST", f"/api/jobs/{job_id}/cancel")

    def events(self, job: Job, previews: bool = False) -> Iterator[Job]:
        """The job at each change, until it is finished; `previews` has the server draw some."""
        path, params = f"/api/jobs/{job.id}/events", {"previews": previews}
        with self._http.stream("GET", path, params=params) as stream:
            if stream.is_error:
                stream.read()
                raise _error(stream)
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    yield _read(Job, json.loads(line.removeprefix("data: ")))

    def wait(self, job: Job, on_change: Callable[[Job], None] | None = None) -> Job:
        """Wait until a job is done.

        Raises:
            StudioError: it failed or was cancelled.
        """
        now = job
        for now in self.events(job):
            if on_change is not None:
                on_change(now)
        if now.state != "done":
            raise StudioError(now.error or f"The job {now.id} is {now.state}.")
        return now

    def upload(self, file: str | Path | bytes) -> Picture:
        """Give the server a PSD, ORA, PNG, JPEG or WebP."""
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        return self._picture("POST", "/api/pictures", content=data)

    def arrange(self, background: str, layers: list[dict[str, Any]]) -> Picture:
        """A new picture from kept ones; layers as POST /api/pictures/arrange takes them."""
        body = {"background": background, "layers": layers}
        return self._picture("POST", "/api/pictures/arrange", json=body)

    def picture(self, picture: str, pngs: bool = False) -> Picture:
        """Describe a picture; `pngs` adds the layers in base64."""
        return self._picture("GET", f"/api/pictures/{picture}", params={"pngs": pngs})

    def download(self, picture: str, format: str = "psd", part: str = "composite") -> bytes:
        """A picture as psd, ora, zip, png, webp, sprites (a zip) or parallax (a WebP)."""
        params = {"format": format, "part": part}
        return self._ask("GET", f"/api/pictures/{picture}/file", params=params).content

    def save(self, picture: str, path: str | Path) -> Path:
        """Download a picture to a file; its suffix chooses the format."""
        path = Path(path)
        if not path.suffix:
            raise InputError(f"{path} has no suffix; end it in .psd, .ora, .zip, .png or .webp.")
        data = self.download(picture, path.suffix[1:].lower())
        with writing(path) as file:
            file.write(data)
        return path

    def model(self) -> dict[str, Any]:
        """The model that draws."""
        return dict(self._ask("GET", "/api/model").json())

    def _job(self, method: str, path: str, **options: Any) -> Job:
        return _read(Job, self._ask(method, path, **options).json())

    def _picture(self, method: str, path: str, **options: Any) -> Picture:
        return _read(Picture, self._ask(method, path, **options).json())

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        until = time.monotonic() + self.patience
        while True:
            try:
                answer = self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                raise StudioError(f"The server cannot be reached ({error}).") from error
            if not answer.is_error:
                return answer
            refused = _error(answer)
            wait = refused.retry_after or 1.0
            if refused.status != 429 or time.monotonic() + wait > until:
                raise refused
            time.sleep(wait)


def _error(answer: httpx.Response) -> StudioError:
    try:
        told = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        told = f"The server answered {answer.status_code}."
    after = answer.headers.get("retry-after", "")
    return StudioError(told, answer.status_code, float(after) if after.isdecimal() else None)


def _read(kind: type[T], values: dict[str, Any]) -> T:
    return kind(**{field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]
