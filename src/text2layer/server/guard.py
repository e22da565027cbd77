"""What stands before every request: who may ask, how much may come, how many at once, and what
browsers may do with it.

Plain ASGI, so that a body is counted while it arrives and an event stream is not held back.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from text2layer.errors import Text2LayerError
from text2layer.server.settings import LOOPBACK, MAX_JSON_BYTES

OPEN = ("/api/health",)  # what needs no token; all that is not below /api is the page itself
UPLOADS = ("/api/pictures", "/api/convert")  # whose bodies are files
SECURITY = {
    # nothing from elsewhere: the page's modules, styles and pictures come from here
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        hosts: names that the Host header may have, beside those of this machine's loopback.
        token: that requests below /api must carry as "Authorization: Bearer TOKEN"; None for none.
        max_upload: bytes of a body that is a file.
    """

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str] = (), token: str | None = None,
        max_upload: int = 2**26,
    ) -> None:  # fmt: skip
        self.app = app
        self.hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self.token, self.max_upload = token, max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websockets here
        headers, path = Headers(scope=scope), scope["path"]
        below_api = path.startswith("/api/")

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(SECURITY)
                if below_api:
                    extra["cache-control"] = "no-store"
                pairs = [(name.encode(), value.encode()) for name, value in extra.items()]
                message["headers"] = [*message.get("headers", []), *pairs]
            await send(message)

        refused = self._refusal(headers, path, below_api)
        if refused is not None:
            await _answer(secured, *refused)
            return
        limit = self.max_upload if path in UPLOADS else MAX_JSON_BYTES
        too_large = 413, f"The body is larger than {limit} bytes; send less."
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 18 or int(declared) > limit:
            await _answer(secured, *too_large)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > limit:
                raise HTTPException(*too_large)
            return message

        await self.app(scope, counted, secured)

    def _refusal(self, headers: Headers, path: str, below_api: bool) -> tuple[int, str] | None:
        """Status and sentence for a request that may not be made, or None."""
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or _host_name(host) not in self.hosts:
            return 421, "This server does not answer to that name; call it by its own address."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "Pages of other sites may not ask this server."
        fetched_by = headers.get("sec-fetch-site", "none")
        if below_api and fetched_by not in ("none", "same-origin"):
            return 403, "Pages of other sites may not ask this server."
        if self.token is not None and below_api and path not in OPEN:
            sent = headers.get("authorization", "")
            if not hmac.compare_digest(sent.encode(), f"Bearer {self.token}".encode()):
                return 401, "This server wants its token, as Authorization: Bearer TOKEN."
        return None


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; "" if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _answer(send: Send, status: int, error: str) -> None:
    body = json.dumps({"error": error, "fields": []}).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what was not read of the body is not waited for
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Busy(Text2LayerError):
    """Too much is worked on; `retry_after` says in how many seconds to ask again."""

    retry_after = 2


class Slots:
    """An asynchronous context manager that lets `at_once` in, and `waiting` more wait.

    Raises:
        Busy: on entering, when as many wait as may.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._places = at_once + waiting
        self._inside = 0

    async def __aenter__(self) -> None:
        if self._inside >= self._places:
            raise Busy("The server is busy with other requests; try again in a moment.")
        self._inside += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._inside -= 1
            raise

    async def __aexit__(self, *error: object) -> None:
        self._free.release()
        self._inside -= 1
