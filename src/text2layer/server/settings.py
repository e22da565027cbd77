"""Settings of the server: one dataclass, a doc line for each field. Imports no torch."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from text2layer.options import check_fields, setting

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_JSON_BYTES = 2**20  # of a request that is JSON
LEAST_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServeSettings:
    """What bounds a server: how much waits, how large, how long it is kept."""

    queue: int = setting(16, "Jobs that may wait; one more is refused (429).", at_least=1)
    keep_hours: float = setting(
        168.0, "How long jobs and pictures are kept.", above=0, at_most=100_000
    )
    max_upload: int = setting(64, "Largest file that is taken, in MiB.", at_least=1, at_most=4096)
    max_pixels: int = setting(
        24, "Largest picture that is taken, in millions of pixels.", at_least=1, at_most=100
    )
    max_disk: float = setting(
        10.0, "GiB that the folder's pictures may take; more are refused (507).", above=0
    )

    def __post_init__(self) -> None:
        check_fields(self)


def default_folder() -> Path:
    """Where jobs and pictures are kept when no folder is named: the platform's data folder."""
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "text2layer" / "studio"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "text2layer" / "studio"
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "text2layer" / "studio"
