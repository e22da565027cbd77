"""The first pass of a build: every photo once, in order, with a hash that finds near-duplicates.

The index is one SQLite file, so memory does not grow with the number of photos, and a build that
is killed while it is being filled goes on where the last transaction ended.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from text2layer.errors import DataError, WriteError
from text2layer.photos.decode import (
    UnusablePicture,
    check_colour,
    check_shape,
    loaded,
    open_picture,
    read_photo,
)
from text2layer.photos.photo import PhotoRef, Rejection
from text2layer.photos.settings import BuildSettings

STAGE = "index"
BATCH = 256  # photos in a transaction
THREADS = 4  # Pillow decodes outside the interpreter's lock
HASH_SIDE = 128  # JPEGs are decoded at the smallest scale that is not below this, in pixels
# how a picture says in its XMP that no model may be trained on it: the beginning of the terms that
# prohibit in the PLUS vocabulary for data mining, which IPTC Photo Metadata 2023.1 took in
PROHIBITED = b"DMI-PROHIBITED"
SIGNED = 1 << 63  # SQLite's integers are signed
BITS = 64  # of a perceptual hash
FLAT = 8  # grey levels: pictures whose 72 cells span less would all look alike

_TABLES = """
CREATE TABLE IF NOT EXISTS photos (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, ref TEXT NOT NULL,
    hash INTEGER, reason TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS bands (band INTEGER, value INTEGER, number INTEGER);
CREATE INDEX IF NOT EXISTS bands_by_value ON bands (band, value);
"""


class PhotoIndex:
    """All photos of a build by number, those that are left out at once included.

    Args:
        path: the SQLite file; made when it is missing.

    Raises:
        DataError: the file is not such an index.
        WriteError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._size = 1
        with self._writing():
            self._base = sqlite3.connect(self.path, isolation_level=None)
            self._base.executescript(_TABLES)

    def __len__(self) -> int:
        """Number of photos."""
        ((count,),) = self._rows("SELECT coalesce(max(number) + 1, 0) FROM photos")
        return int(count)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def fill(
        self,
        source: Iterable[PhotoRef],
        settings: BuildSettings,
        *,
        progress: bool = True,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take in the photos of a source; those that are here already are passed over.

        The verdict of a photo is that of the first reason that holds: "opted out", "no licence",
        "no caption", "unreadable", "near duplicate".

        Args:
            source: photos in an order that does not change.
            settings: what decides; the same for all calls.
            progress: show a bar on stderr.
            stop: asked before each batch; true ends the pass early.

        Raises:
            WriteError: the file cannot be written, for example because the disk is full.
            DataError: it is damaged.
        """
        bar = tqdm(desc="index", unit="photo", disable=not progress, mininterval=1.0)
        with bar, ThreadPoolExecutor(THREADS) as pool:
            for batch in _batches(source):
                if stop():
                    return
                new = self._unknown(batch)
                verdicts = list(pool.map(lambda ref: self._look(ref, settings), new))
                with self._transaction():
                    for ref, (value, rejection) in zip(new, verdicts, strict=True):
                        self._add(ref, value, rejection, settings.duplicate_distance)
                bar.update(len(batch))

    def chunks(self, size: int) -> int:
        """Number of chunks of `size` consecutive photos; `chunk` then gives those."""
        self._size = size
        return -(-len(self) // size)

    def chunk(self, number: int) -> list[tuple[PhotoRef, Rejection | None]]:
        """Photos of one chunk in order, each with the reason why it is left out, or None."""
        first = number * self._size
        rows = self._rows(
            "SELECT ref, reason, detail FROM photos WHERE number >= ? AND number < ? "
            "ORDER BY number",
            (first, first + self._size),
        )
        return [
            (PhotoRef(**json.loads(ref)), Rejection(STAGE, reason, detail) if reason else None)
            for ref, reason, detail in rows
        ]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all photos and verdicts, in order."""
        digest = hashlib.sha256()
        for row in self._rows("SELECT ref, hash, reason FROM photos ORDER BY number"):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def _unknown(self, batch: Iterable[PhotoRef]) -> list[PhotoRef]:
        """Photos of a batch that are not in the index, each key once."""
        new: dict[str, PhotoRef] = {}
        for ref in batch:
            if not any(self._rows("SELECT 1 FROM photos WHERE key = ?", (ref.key,))):
                new.setdefault(ref.key, ref)
        return list(new.values())

    def _look(self, ref: PhotoRef, settings: BuildSettings) -> tuple[int | None, Rejection | None]:
        """Hash of a photo, or why it is left out.

        What decode will reject has neither: it must not stand in for a better copy of itself.
        """
        if ref.opt_out:
            return None, Rejection(STAGE, "opted out", "its owner asks not to train on it")
        if settings.require_license and not ref.license.strip():
            return None, Rejection(STAGE, "no licence")
        if settings.require_caption and not ref.caption.strip():
            return None, Rejection(STAGE, "no caption")
        try:
            data = read_photo(ref)
            if PROHIBITED in data:
                return None, Rejection(STAGE, "opted out", "its XMP prohibits data mining")
            with open_picture(data) as picture:
                check_shape(picture, settings)
                picture.draft(None, (HASH_SIDE, HASH_SIDE))
                small = loaded(picture)
            small.thumbnail((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
            check_colour(np.asarray(small), settings)
            return perceptual_hash(small), None
        except UnusablePicture as problem:
            if problem.reason in ("damaged", "not a picture", "unreadable"):
                return None, Rejection(STAGE, "unreadable", f"{problem.reason}: {problem.detail}")
            return None, None  # the decode stage says why, in its own words

    def _add(
        self, ref: PhotoRef, value: int | None, rejection: Rejection | None, distance: int
    ) -> None:
        """Write one photo; called in order, so that the first of near-duplicates stays."""
        number = len(self)
        if rejection is None and value is not None:
            twin = self._twin(value, distance)
            if twin is not None:
                rejection = Rejection(STAGE, "near duplicate", f"of {twin}")
            else:
                self._base.executemany(
                    "INSERT INTO bands VALUES (?, ?, ?)",
                    [(band, _signed(part), number)
                     for band, part in enumerate(bands(value, distance + 1))],
                )  # fmt: skip
        reason, detail = (rejection.reason, rejection.detail) if rejection else ("", "")
        self._base.execute(
            "INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?)",
            (number, ref.key, json.dumps(ref.to_json(), sort_keys=True),
             None if value is None else value - SIGNED, reason, detail),
        )  # fmt: skip

    def _twin(self, value: int, distance: int) -> str | None:
        """Key of the first earlier photo whose hash differs in at most `distance` bits."""
        found: list[tuple[int, str]] = []
        for band, part in enumerate(bands(value, distance + 1)):
            rows = self._rows(
                "SELECT photos.number, photos.key, photos.hash FROM bands JOIN photos "
                "ON photos.number = bands.number WHERE bands.band = ? AND bands.value = ?",
                (band, _signed(part)),
            )
            found += [(n, key) for n, key, other in rows
                      if hamming(other + SIGNED, value) <= distance]  # fmt: skip
        return min(found)[1] if found else None

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; DataError if the file is damaged."""
        try:
            yield from self._base.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"'{self.path}' cannot be read ({error}); build into another folder."
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Everything that the block writes, or nothing."""
        with self._writing():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what happened when SQLite cannot write."""
        try:
            yield
        except sqlite3.OperationalError as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            said = "the disk is full" if full else str(error)
            advice = "free some space" if full else "check the disk and your permissions"
            raise WriteError(
                f"'{self.path}' could not be written ({said}); {advice}, then the same command "
                "goes on."
            ) from None
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"'{self.path}' is not an index of photos ({error}); delete it."
            ) from None


def _batches(source: Iterable[PhotoRef]) -> Iterator[list[PhotoRef]]:
    iterator = iter(source)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _signed(part: int) -> int:
    """A run of bits as SQLite can hold it; two that fall together are told apart by their hash."""
    return part - SIGNED if part >= SIGNED else part


def perceptual_hash(picture: Image.Image) -> int | None:
    """Difference hash: is each of 8 x 8 grey cells darker than its right neighbour?

    The dHash of Neal Krawetz, "Kind of Like That" (The Hacker Factor Blog, 2013): unchanged by
    scale, brightness and contrast, and nearly so by compression. ImageHash's is another one: it
    shrinks with a Lanczos filter, and it would bring PyWavelets.

    Args:
        picture: of any size and mode that Pillow turns into grey.

    Returns:
        0 .. 2^64 - 1; the first row's first cell is the highest bit. None for a picture that is
        all but uniform: nothing can be said of it.
    """
    grey = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    if np.ptp(cells) < FLAT:
        return None
    bits = (cells[:, 1:] > cells[:, :-1]).flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(a: int, b: int) -> int:
    """Number of bits in which two hashes differ, 0 .. 64."""
    return (a ^ b).bit_count()


def bands(value: int, count: int) -> list[int]:
    """Cut a hash into `count` runs of bits, as even as they can be.

    Two hashes that differ in fewer than `count` bits agree in at least one whole run (pigeonhole),
    so near ones can be looked up by equality.
    """
    edges = [BITS * place // count for place in range(count + 1)]
    return [(value >> low) & ((1 << (high - low)) - 1) for low, high in pairwise(edges)]
