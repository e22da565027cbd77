"""How much is worked on at once: a few, some wait, the rest is told to come back."""

from __future__ import annotations

import asyncio

from text2layer.errors import Text2LayerError


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
