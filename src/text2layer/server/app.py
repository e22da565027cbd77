"""The HTTP API: routes, errors as JSON, events; see docs/studio.md for it by example."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from text2layer import __version__
from text2layer.errors import InputError, Text2LayerError
from text2layer.server import pictures, schema
from text2layer.server.guard import Busy, Guard, Slots
from text2layer.server.schema import (
    Add,
    Arrange,
    Decompose,
    ErrorAnswer,
    FileFormat,
    Generate,
    Health,
    Job,
    ModelInfo,
    Part,
    PictureInfo,
    Replace,
    TextToImage,
)
from text2layer.server.settings import ServeSettings
from text2layer.server.store import NotKept, StorageFull, Store
from text2layer.server.worker import QueueFull, Worker

T = TypeVar("T")
PAGE = Path(__file__).parent / "page"
FINISHED = ("done", "failed", "cancelled")
LOOK_SECONDS = 0.1  # between two looks at a job, for its events
ALIVE_SECONDS = 15.0  # between two comments in a stream without events
LOADING_SECONDS = 5  # what a client is told to wait while the model loads

JobId = Annotated[str, InPath(pattern="^[0-9a-f]{16}$")]
PictureId = Annotated[str, InPath(pattern="^[0-9a-f]{16}$")]
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The body is no JSON, or no picture that can be read.",
        401: "The token is missing or wrong.",
        403: "A page of another site asks.",
        404: "There is no such job or picture, or no longer.",
        413: "The body is too large.",
        422: "A field has a value that cannot be used.",
        429: "Too much is asked for at once; Retry-After says when to come back.",
        503: "The model still loads, or could not be loaded.",
        507: "The server keeps as many pictures as it may.",
    }.items()
}


def build_app(
    worker: Worker, settings: ServeSettings, hosts: tuple[str, ...] = (), token: str | None = None
) -> FastAPI:
    """The application around a worker; it starts and stops with it.

    Args:
        worker: not started yet; its store is closed at the end.
        settings: the limits.
        hosts: names and addresses that the server answers to beside 127.0.0.1.
        token: that the API wants; None for none.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await run_in_threadpool(worker.stop)
        worker.store.close()

    app = FastAPI(
        title="text2layer", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        responses=ERRORS, description="Text in, layers out. Jobs wait in a queue; pictures are "
        "kept by id and come back as PSD, ORA, zip, PNG, WebP or JSON.",
    )  # fmt: skip
    app.add_middleware(Guard, hosts=hosts, token=token, max_upload=settings.max_upload * 2**20)
    _answer_errors(app)
    _add_general(app, worker, settings)
    _add_jobs(app, worker)
    _add_pictures(app, worker.store, settings)
    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html", media_type="text/html; charset=utf-8")

    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")


def _add_general(app: FastAPI, worker: Worker, settings: ServeSettings) -> None:
    @app.get("/api/health", tags=["server"])
    async def health() -> Health:
        """Whether the server works, and how many jobs wait."""
        ready = worker.studio.info is not None
        return Health(
            version=__version__,
            model="failed" if worker.model_error else "ready" if ready else "loading",
            error=worker.model_error,
            queued=worker.queued,
            queue=settings.queue,
        )

    @app.get("/api/model", tags=["server"])
    async def model(response: Response) -> ModelInfo:
        """The model that draws: its hash, its settings, the things that it has learnt."""
        if worker.studio.info is None:
            wait = {"Retry-After": str(LOADING_SECONDS)}
            raise HTTPException(503, worker.model_error or "The model still loads.", wait)
        return worker.studio.info


def _add_jobs(app: FastAPI, worker: Worker) -> None:
    def submitted(request: schema.Request) -> Job:
        """Check what can be checked at once, then queue."""
        worker.studio.check(request)
        if isinstance(request, TextToImage):
            return worker.submit(request)
        named = request.given if isinstance(request, Generate) else {"picture": request.picture}
        for kind, picture in named.items():
            row = worker.store.picture_row(picture)
            if kind in ("foreground", "reference") and not row["foregrounds"]:
                raise InputError(
                    f"The picture given as {kind} has no transparency; give a cut-out."
                )
            worker.store.use_picture(picture)
        return worker.submit(request)

    async def generate(request: Annotated[Generate, Body()]) -> Job:
        """Draw candidates from text, and at most one given layer, as one batch."""
        return submitted(request)

    async def add(request: Annotated[Add, Body()]) -> Job:
        """Draw one more layer on top of a picture."""
        return submitted(request)

    async def replace(request: Annotated[Replace, Body()]) -> Job:
        """Draw one layer of a picture anew."""
        return submitted(request)

    async def decompose(request: Annotated[Decompose, Body()]) -> Job:
        """Take a photograph apart into subjects and background."""
        return submitted(request)

    async def text_to_image(request: Annotated[TextToImage, Body()]) -> Job:
        """Draw flat pictures by the text-to-image pipeline, and take each apart."""
        return submitted(request)

    for route in (generate, add, replace, decompose, text_to_image):
        path = f"/api/jobs/{route.__name__.replace('_', '-')}"
        app.post(path, status_code=202, tags=["jobs"])(route)

    @app.get("/api/jobs", tags=["jobs"])
    async def jobs(limit: Annotated[int, Query(ge=1, le=200)] = 50) -> list[Job]:
        """The jobs that are kept, newest first."""
        return [worker.seen(job) for job in worker.store.jobs(limit)]

    @app.get("/api/jobs/{job_id}", tags=["jobs"])
    async def job(job_id: JobId) -> Job:
        """A job: its state, its progress, the ids of its pictures."""
        return worker.job(job_id)

    @app.post("/api/jobs/{job_id}/cancel", tags=["jobs"])
    async def cancel(job_id: JobId) -> Job:
        """Take a job out of the queue, or stop it after the step that is drawn now."""
        return worker.cancel(job_id)

    @app.get(
        "/api/jobs/{job_id}/preview/{number}", tags=["jobs"], response_class=Response,
        responses={200: {"content": {"image/webp": {}}}},
    )  # fmt: skip
    async def preview(job_id: JobId, number: Annotated[int, InPath(ge=0, le=63)]) -> Response:
        """The composite of a candidate, from 0, as a running job expects it to become."""
        found = worker.preview(job_id, number)
        if found is None:
            raise NotKept(f"The job {job_id} has no preview {number} now.")
        return Response(found, media_type="image/webp")

    @app.get(
        "/api/jobs/{job_id}/events", tags=["jobs"], response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )  # fmt: skip
    async def events(job_id: JobId, previews: bool = False) -> StreamingResponse:
        """Server-sent events "job", one at each change to the end; `previews` has some drawn."""
        worker.job(job_id)  # 404 now, not in the stream
        return StreamingResponse(_events(worker, job_id, previews), media_type="text/event-stream")


async def _events(worker: Worker, job_id: str, previews: bool) -> AsyncIterator[str]:
    sent, quiet = "", 0.0
    while True:
        try:
            job = worker.job(job_id)
        except NotKept:
            return
        if previews:
            worker.watch(job_id)
        text = job.model_dump_json()
        if text != sent:
            yield f"event: job\ndata: {text}\n\n"
            sent, quiet = text, 0.0
        elif quiet > ALIVE_SECONDS:
            yield ": still here\n\n"
            quiet = 0.0
        if job.state in FINISHED:
            return
        await asyncio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS


def _add_pictures(app: FastAPI, store: Store, settings: ServeSettings) -> None:
    uploads, heavy = Slots(8, 0), Slots(2, 64)  # few whole pictures are in memory at once
    max_pixels = settings.max_pixels * 10**6
    file_body = {
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
        }
    }

    async def heavily(work: Callable[..., T], *arguments: Any) -> T:
        async with heavy:
            return await run_in_threadpool(work, *arguments)

    async def received(request: Request) -> Any:
        async with uploads:
            return await pictures.receive_file(request.stream(), store.temporary)

    def described(picture_id: str) -> PictureInfo:
        return pictures.describe(store, picture_id, False)

    @app.post("/api/pictures", status_code=201, tags=["pictures"], openapi_extra=file_body)
    async def upload(request: Request) -> PictureInfo:
        """Keep a picture: the body is a PSD, ORA, PNG, JPEG or WebP file, known by its bytes."""
        path = await received(request)

        def keep() -> PictureInfo:
            return described(store.add_picture(pictures.open_file(path, max_pixels)))

        return await heavily(keep)

    @app.post("/api/pictures/arrange", status_code=201, tags=["pictures"])
    async def arrange(wanted: Annotated[Arrange, Body()]) -> PictureInfo:
        """Keep a new picture: the background of one, and layers of any, moved and scaled."""

        def keep() -> PictureInfo:
            return described(store.add_picture(pictures.arrange(store, wanted)))

        return await heavily(keep)

    @app.get("/api/pictures/{picture_id}", tags=["pictures"])
    async def picture(picture_id: PictureId, pngs: bool = False) -> PictureInfo:
        """Describe a picture; `pngs` puts its layers into the answer, in base64."""
        return await heavily(pictures.describe, store, picture_id, pngs)

    @app.delete("/api/pictures/{picture_id}", status_code=204, tags=["pictures"])
    async def delete(picture_id: PictureId) -> Response:
        """Remove a picture before its time."""
        store.delete_picture(picture_id)
        return Response(status_code=204)

    @app.get(
        "/api/pictures/{picture_id}/layers/{part}", tags=["pictures"], response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )  # fmt: skip
    async def layer(
        picture_id: PictureId,
        part: Annotated[str, InPath(pattern="^(composite|background|[0-9]{1,3})$")],
    ) -> Response:
        """The PNG of a layer by its number from 0, of the background or of the composite."""

        def png() -> bytes:
            layered = store.load_picture(picture_id)
            if part.isdecimal() and int(part) >= len(layered.foregrounds):
                raise NotKept(f"The picture {picture_id} has no layer {part}, counted from 0.")
            return pictures.one_png(layered, part)

        return Response(await heavily(png), media_type="image/png")

    def download(path: Any, kind: str, name: str) -> FileResponse:
        return FileResponse(
            path, media_type=pictures.MEDIA_TYPES[kind], filename=f"{name}{path.suffix}",
            background=BackgroundTask(path.unlink, missing_ok=True),
        )  # fmt: skip

    files: dict[int | str, Any] = {
        200: {"content": {kind: {} for kind in pictures.MEDIA_TYPES.values()}}
    }

    @app.get(
        "/api/pictures/{picture_id}/file", tags=["pictures"], response_class=FileResponse,
        responses=files,
    )  # fmt: skip
    async def file(
        picture_id: PictureId, format: FileFormat = "psd", part: Part = "composite"
    ) -> FileResponse:
        """Download a picture as PSD, ORA, zip of PNGs, PNG, WebP, sprites or parallax.

        `part` is of PNG and WebP alone. Sprites are a zip of an atlas and its JSON for Phaser and
        PixiJS; parallax is a looping WebP of a camera move.
        """

        def write() -> Any:
            return pictures.write_file(
                store.load_picture(picture_id), format, part, store.temporary
            )

        return download(await heavily(write), format, picture_id)

    @app.post(
        "/api/convert", tags=["pictures"], response_class=FileResponse, openapi_extra=file_body,
        responses=files,
    )  # fmt: skip
    async def convert(request: Request, to: FileFormat, part: Part = "composite") -> FileResponse:
        """Rewrite the file that is the body in another format; nothing is kept."""
        path = await received(request)

        def write() -> Any:
            layered = pictures.open_file(path, max_pixels)
            return pictures.write_file(layered, to, part, store.temporary)

        return download(await heavily(write), to, "converted")


def _answer_errors(app: FastAPI) -> None:
    """Every error is {"error": one sentence, "fields": [...]} with its status."""

    def answer(
        status: int, error: str, fields: list[str] | None = None, headers: Any = None
    ) -> JSONResponse:
        text = error.encode("utf-8", "replace").decode()  # halves of characters are not sent
        named = [field.encode("utf-8", "replace").decode()[:100] for field in fields or []]
        return JSONResponse({"error": text, "fields": named}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()[:8]
        if any(one["type"] == "json_invalid" for one in found):
            return answer(400, "The body is no JSON; see /openapi.json for what is asked for.")
        fields = [".".join(str(part) for part in one["loc"][1:]) or "body" for one in found]
        told = "; ".join(
            f"{field[:100]}: {str(one['msg'])[:300]}"
            for field, one in zip(fields, found, strict=True)
        )
        return answer(422, told, fields)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(QueueFull)
    @app.exception_handler(Busy)
    async def later(request: Request, error: QueueFull | Busy) -> JSONResponse:
        return answer(429, str(error), headers={"Retry-After": str(error.retry_after)})

    @app.exception_handler(Text2LayerError)
    async def known(request: Request, error: Text2LayerError) -> JSONResponse:
        statuses = {NotKept: 404, StorageFull: 507, InputError: 422}
        return answer(statuses.get(type(error), 400), str(error))
