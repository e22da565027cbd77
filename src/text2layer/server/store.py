"""What the server keeps: a folder of layered pictures and an SQLite index of them and of jobs.

    FOLDER/index.sqlite          jobs and pictures
    FOLDER/pictures/ID.psd       a picture; PSD is the fastest of the formats that keep everything
    FOLDER/tmp/                  uploads and downloads on their way; emptied at every start

A job is stored before its client hears of it, a picture before its job is done. So a server that is
killed loses nothing but the run in progress, which the next start lists as failed.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from text2layer import io
from text2layer.errors import InputError, Text2LayerError
from text2layer.files import remove_unfinished, try_lock
from text2layer.layers import LayeredImage
from text2layer.server.schema import Job, Kind, State

VERSION = 1  # of the index
KILLED = "The server stopped while the job ran; ask for it again."
LISTED = 200  # jobs that a list shows at most
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL,
    created REAL NOT NULL, started REAL, finished REAL, error TEXT, pictures TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, created REAL NOT NULL, used REAL NOT NULL, bytes INTEGER NOT NULL,
    foregrounds INTEGER NOT NULL
);
"""


class NotKept(Text2LayerError):
    """There is no job or picture of this id, or it was kept long enough and is gone."""


class StorageFull(Text2LayerError):
    """The folder holds as much as it may."""


class Store:
    """Jobs and pictures of one server; safe to use from several threads.

    Args:
        folder: made if it is missing.
        keep_seconds: how long finished jobs and pictures are kept after their last use.
        max_bytes: that pictures may take on the disk together.

    Raises:
        InputError: another server uses the folder, or it is no folder of a server.
    """

    def __init__(self, folder: Path, keep_seconds: float, max_bytes: float = 10 * 2**30) -> None:
        self.folder, self.keep_seconds, self.max_bytes = folder, keep_seconds, max_bytes
        self.temporary = folder / "tmp"
        self._pictures = folder / "pictures"
        self._lock = threading.RLock()
        try:
            self._pictures.mkdir(parents=True, exist_ok=True)
            lock = try_lock(folder / "lock")
        except OSError as error:
            raise InputError(f"{folder} cannot be used ({error.strerror}).") from None
        if lock is None:
            raise InputError(f"Another server uses {folder}; stop it, or give another --folder.")
        self._file_lock = lock
        try:
            self._open_index()
        except sqlite3.DatabaseError as error:
            self._file_lock.release()
            raise InputError(
                f"{folder / 'index.sqlite'} cannot be used ({error}); move it away, or give "
                "another --folder."
            ) from None
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        self._sweep_orphans()
        self.expire()

    def close(self) -> None:
        """Let another server use the folder."""
        with self._lock:
            self._index.close()
            self._file_lock.release()

    # jobs

    def add_job(self, kind: Kind, request: str) -> Job:
        """Store a queued job; `request` is JSON."""
        job_id = secrets.token_hex(8)
        self._write(
            "INSERT INTO jobs VALUES (?, ?, ?, 'queued', ?, NULL, NULL, NULL, '[]')",
            job_id, kind, request, time.time(),
        )  # fmt: skip
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        """The job of an id, or NotKept."""
        rows = self._read("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows:
            raise NotKept(f"There is no job {job_id}; finished jobs are kept for a limited time.")
        return _job(rows[0])

    def request(self, job_id: str) -> str:
        """The request of a job, JSON, or NotKept."""
        return json.dumps(self.job(job_id).request)

    def jobs(self, limit: int = LISTED) -> list[Job]:
        """Jobs, newest first."""
        rows = self._read("SELECT * FROM jobs ORDER BY created DESC, rowid DESC LIMIT ?", limit)
        return [_job(row) for row in rows]

    def queued(self) -> list[str]:
        """Ids of jobs that wait, oldest first."""
        rows = self._read("SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, rowid")
        return [row["id"] for row in rows]

    def start_job(self, job_id: str) -> None:
        """Note that a job runs."""
        self._write(
            "UPDATE jobs SET state = 'running', started = ? WHERE id = ?", time.time(), job_id
        )

    def finish_job(
        self, job_id: str, state: State, error: str | None = None, pictures: Iterable[str] = ()
    ) -> None:
        """Note how a job ended."""
        self._write(
            "UPDATE jobs SET state = ?, finished = ?, error = ?, pictures = ? WHERE id = ?",
            state, time.time(), error, json.dumps(list(pictures)), job_id,
        )  # fmt: skip

    # pictures

    def add_picture(self, layered: LayeredImage) -> str:
        """Keep a picture; return its id.

        Raises:
            StorageFull: there is no room.
        """
        used = self._read("SELECT COALESCE(SUM(bytes), 0) AS used FROM pictures")[0]["used"]
        if used >= self.max_bytes:
            raise StorageFull(
                f"The server keeps {used / 2**30:.1f} GiB of pictures, as many as it may; delete "
                "some, or raise --max-disk."
            )
        picture_id = secrets.token_hex(8)
        file = self._file_of(picture_id)
        io.save(layered, file)
        now = time.time()
        self._write(
            "INSERT INTO pictures VALUES (?, ?, ?, ?, ?)",
            picture_id, now, now, file.stat().st_size, len(layered.foregrounds),
        )  # fmt: skip
        return picture_id

    def picture_row(self, picture_id: str) -> dict[str, Any]:
        """id, created, used, bytes and foregrounds (their number) of a picture, or NotKept."""
        rows = self._read("SELECT * FROM pictures WHERE id = ?", picture_id)
        if not rows:
            raise NotKept(
                f"There is no picture {picture_id}; pictures are kept for a limited time."
            )
        return dict(rows[0])

    def use_picture(self, picture_id: str) -> Path:
        """The file of a picture, which is kept for the whole time again."""
        self.picture_row(picture_id)
        self._write("UPDATE pictures SET used = ? WHERE id = ?", time.time(), picture_id)
        return self._file_of(picture_id)

    def load_picture(self, picture_id: str) -> LayeredImage:
        """The picture of an id, or NotKept."""
        return io.load(self.use_picture(picture_id))

    def delete_picture(self, picture_id: str) -> None:
        """Remove a picture that no waiting job needs.

        Raises:
            InputError: one needs it.
        """
        self.picture_row(picture_id)
        if picture_id in self._needed():
            raise InputError(f"The picture {picture_id} waits for a job; cancel that first.")
        self._remove(picture_id)

    def expire(self) -> None:
        """Remove what was kept long enough."""
        before, needed = time.time() - self.keep_seconds, self._needed()
        for row in self._read("SELECT id FROM pictures WHERE used < ?", before):
            if row["id"] not in needed:
                self._remove(row["id"])
        self._write("DELETE FROM jobs WHERE finished < ?", before)

    # the folder

    def _open_index(self) -> None:
        self._index = sqlite3.connect(
            self.folder / "index.sqlite", check_same_thread=False, isolation_level=None
        )
        self._index.row_factory = sqlite3.Row
        self._index.execute("PRAGMA journal_mode = WAL")
        found = self._index.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            raise sqlite3.DatabaseError(f"its version is {found}, not {VERSION}")
        self._index.executescript(f"{_TABLES} PRAGMA user_version = {VERSION};")
        self._write(
            "UPDATE jobs SET state = 'failed', finished = ?, error = ? WHERE state = 'running'",
            time.time(), KILLED,
        )  # fmt: skip

    def _sweep_orphans(self) -> None:
        """Remove pictures that the index does not know: a killed server was not done."""
        remove_unfinished(self._pictures)
        known = {row["id"] for row in self._read("SELECT id FROM pictures")}
        for file in self._pictures.glob("*.psd"):
            if file.stem not in known:
                file.unlink()

    def _needed(self) -> set[str]:
        """Ids of pictures that jobs need which are not finished."""
        rows = self._read("SELECT request FROM jobs WHERE state IN ('queued', 'running')")
        return {
            value
            for row in rows
            for value in json.loads(row["request"]).values()
            if isinstance(value, str)
        }

    def _remove(self, picture_id: str) -> None:
        self._write("DELETE FROM pictures WHERE id = ?", picture_id)
        self._file_of(picture_id).unlink(missing_ok=True)

    def _file_of(self, picture_id: str) -> Path:
        return self._pictures / f"{picture_id}.psd"

    def _read(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._index.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: Any) -> None:
        with self._lock:
            self._index.execute(statement, values)


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    return Job(
        **{**values, "request": json.loads(row["request"]), "pictures": json.loads(row["pictures"])}
    )
