"""A local page on which a person marks masks and fills as good or bad, one key a verdict.

The page talks to this machine alone: requests that name another host, or come from another site's
page, are refused, and no request names a file.
"""

import io
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from PIL import Image

from text2layer.blend import composite_over
from text2layer.errors import DataError, InputError
from text2layer.judges.labels import KINDS, REASONS, LabelQueue
from text2layer.options import require

if TYPE_CHECKING:
    from fastapi import FastAPI

    from text2layer.data.schema import Sample

HOSTS = ("127.0.0.1", "localhost", "[::1]")
PARTS = ("photo", "mask", "cutout", "fill")
LONGEST_SIDE = 1024  # pixels of the pictures shown
JPEG_QUALITY = 92
CHECKERS = (12, 204, 102)  # side of a square in pixels, its two greys


def build_label_app(queue: LabelQueue) -> "FastAPI":
    """The page and its four requests.

    Raises:
        InputError: FastAPI is not installed.
    """
    require("fastapi", "FastAPI", "The label page")
    from fastapi import Body, FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(title="text2layer label", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    page = files("text2layer.judges").joinpath("label_page.html").read_text(encoding="utf-8")

    async def refuse(request: Request, error: Exception) -> Response:
        status = 400 if isinstance(error, InputError) else 500
        return JSONResponse({"error": str(error)}, status_code=status)

    async def refuse_body(request: Request, error: Exception) -> Response:
        # FastAPI's own answer repeats the body, which JSON cannot where it holds NaN
        said = "The body must be JSON with key, kind, good (true, false or null) and reason."
        return JSONResponse({"error": said}, status_code=422)

    app.add_exception_handler(RequestValidationError, refuse_body)
    app.add_exception_handler(InputError, refuse)
    app.add_exception_handler(DataError, refuse)

    async def show() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    async def state() -> dict[str, Any]:
        return {
            "folder": queue.folder.name,
            "reasons": REASONS,
            "samples": [{"key": key} | _verdicts(queue, key) for key in queue.keys],
        }

    def picture(key: str, part: Literal["photo", "mask", "cutout", "fill"]) -> Response:
        data = _jpeg(part_of(queue.sample(key), part))
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    def judge(
        request: Request,
        key: Annotated[str, Body()],
        kind: Annotated[Literal["mask", "fill"], Body()],
        good: Annotated[bool | None, Body()],
        reason: Annotated[str, Body()] = "",
    ) -> Response:
        origin = request.headers.get("origin", "")
        if origin and origin.partition("://")[2] != request.headers.get("host"):
            return JSONResponse({"error": "Another page may not label."}, status_code=403)
        queue.put(key, kind, good, reason)
        return JSONResponse(_verdicts(queue, key))

    app.get("/", include_in_schema=False)(show)
    app.get("/state")(state)
    app.get("/picture/{key}/{part}")(picture)
    app.post("/labels")(judge)
    return app


def part_of(sample: "Sample", part: str) -> np.ndarray:
    """One of `PARTS` as (H, W, 3) uint8: photo, mask in grey, cut-out over checkers, or fill."""
    if part == "photo":
        return sample.image
    if part == "mask":
        return np.repeat(sample.mask[..., None], 3, axis=2)
    if part == "fill":
        return sample.background
    side, light, dark = CHECKERS
    rows, columns = np.indices(sample.mask.shape) // side
    grey = np.where((rows + columns) % 2, dark, light).astype(np.uint8)
    result: np.ndarray = composite_over(
        np.repeat(grey[..., None], 3, axis=2), sample.foreground, sample.mask
    )
    return result


# nothing from elsewhere: the page is one file, its pictures come from here
_POLICY = (
    "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
)


def _verdicts(queue: LabelQueue, key: str) -> dict[str, Any]:
    """{"mask": {"good": ..., "reason": ...} or None, "fill": ...} of a sample."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        verdict = queue.verdict(key, kind)
        found[kind] = verdict and {"good": verdict.good, "reason": verdict.reason}
    return found


def _jpeg(pixels: np.ndarray) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
