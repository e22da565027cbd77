"""The first pass of a build: every photo once, in order, and what finds near-duplicates.

The index is one SQLite file, so memory does not grow with the number of photos, and a build that
is killed while it is being filled goes on where the last transaction ended.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from text2layer.errors import DataError, WriteError
from text2layer.photos.child import is_set_aside
from text2layer.photos.decode import (
    UnusablePicture,
    check_colour,
    check_shape,
    loaded,
    open_picture,
    read_photo,
)
from text2layer.photos.photo import WORKER, PhotoRef, Rejection
from text2layer.photos.settings import BuildSettings

Look = tuple[np.ndarray | None, Rejection | None]  # see `look_at`
Looking = Callable[[Sequence[str]], AbstractContextManager[Any]]

STAGE = "index"
BATCH = 256  # photos in a transaction
THREADS = 4  # Pillow decodes outside the interpreter's lock
HASH_SIDE = 128  # JPEGs are decoded at the smallest scale that is not below this, in pixels
# how a picture says in its XMP that no model may be trained on it: the beginning of the terms that
# prohibit in the PLUS vocabulary for data mining, which IPTC Photo Metadata 2023.1 took in
PROHIBITED = b"DMI-PROHIBITED"
SIGNED = 1 << 63  # SQLite's integers are signed
BITS = 64  # of a perceptual hash
CELLS = 12  # to each side: a photo is compared as 12 x 12 cells
FLAT = 8  # levels: photos whose cells span less in every channel would all look alike
SAME_ANGLE = 15.0  # degrees between two photos' differences, up to which they are copies

_TABLES = """
CREATE TABLE IF NOT EXISTS photos (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, ref TEXT NOT NULL,
    hash INTEGER, cells BLOB, reason TEXT NOT NULL, detail TEXT NOT NULL
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
        look: Callable[[Sequence[PhotoRef]], list[Look]] | None = None,
        progress: bool = True,
        stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Take in the photos of a source; those that are here already are passed over.

        The verdict of a photo is that of the first reason that holds: "opted out", "no licence",
        "no caption", "unreadable", "near duplicate".

        Args:
            source: photos in an order that does not change.
            settings: what decides; the same for all calls.
            look: looks at a batch of photos, in another process perhaps; None looks here.
            progress: show a bar on stderr.
            stop: asked before each batch; true ends the pass early.

        Returns:
            How many photos the source gave; more than are here if it named some twice.

        Raises:
            WriteError: the file cannot be written, for example because the disk is full.
            DataError: it is damaged.
        """
        look = look or (lambda refs: look_at_all(refs, settings))
        given = 0
        with tqdm(desc="index", unit="photo", disable=not progress, mininterval=1.0) as bar:
            for batch in _batches(source):
                if stop():
                    return given
                new = self._unknown(batch)
                looks = look(new) if new else []
                with self._transaction():
                    for ref, (cells, rejection) in zip(new, looks, strict=True):
                        self._add(ref, cells, rejection, settings.duplicate_distance)
                given += len(batch)
                bar.update(len(batch))
        return given

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
            (PhotoRef(**json.loads(ref)), _verdict(reason, detail) if reason else None)
            for ref, reason, detail in rows
        ]

    def set_aside(self) -> set[int]:
        """Numbers of the photos on which a worker died or hung."""
        rows = self._rows("SELECT number, reason FROM photos WHERE reason > ''")
        return {number for number, reason in rows if is_set_aside(reason)}

    def let_in(self, numbers: set[int]) -> None:
        """Take back why these photos are left out; they count as copies of no other."""
        with self._transaction():
            self._base.executemany(
                "UPDATE photos SET reason = '', detail = '' WHERE number = ?",
                [(number,) for number in numbers],
            )

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all photos and verdicts in order; set aside counts as let in."""
        digest = hashlib.sha256()
        for ref, value, reason in self._rows(
            "SELECT ref, hash, reason FROM photos ORDER BY number"
        ):
            row = (ref, value, "" if is_set_aside(reason) else reason)
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def _unknown(self, batch: Iterable[PhotoRef]) -> list[PhotoRef]:
        """Photos of a batch that are not in the index, each key once."""
        new: dict[str, PhotoRef] = {}
        for ref in batch:
            if not any(self._rows("SELECT 1 FROM photos WHERE key = ?", (ref.key,))):
                new.setdefault(ref.key, ref)
        return list(new.values())

    def _add(
        self, ref: PhotoRef, cells: np.ndarray | None, rejection: Rejection | None, distance: int
    ) -> None:
        """Write one photo; called in order, so that the first of near-duplicates stays."""
        number = len(self)
        value = None if cells is None else perceptual_hash(cells)
        if rejection is None and cells is not None and value is not None:
            twin = self._twin(cells, value, distance)
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
            "INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, ref.key, json.dumps(ref.to_json(), sort_keys=True),
             None if value is None else value - SIGNED,
             None if cells is None else cells.tobytes(), reason, detail),
        )  # fmt: skip

    def _twin(self, cells: np.ndarray, value: int, distance: int) -> str | None:
        """Key of the first earlier photo that looks the same.

        Its hash differs in at most `distance` bits, and its cells by at most `SAME_ANGLE`.
        """
        found: dict[int, tuple[str, bytes]] = {}
        for band, part in enumerate(bands(value, distance + 1)):
            rows = self._rows(
                "SELECT photos.number, photos.key, photos.hash, photos.cells FROM bands "
                "JOIN photos ON photos.number = bands.number "
                "WHERE bands.band = ? AND bands.value = ?",
                (band, _signed(part)),
            )
            found |= {n: (key, stored) for n, key, other, stored in rows
                      if hamming(other + SIGNED, value) <= distance}  # fmt: skip
        for _, (key, stored) in sorted(found.items()):
            other = np.frombuffer(stored, np.uint8).reshape(cells.shape)
            if angle_between(cells, other) <= SAME_ANGLE:
                return key
        return None

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; DataError if the file is damaged."""
        try:
            yield from self._base.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"'{self.path}' cannot be read ({error}); delete it, and the same command makes it "
                "again."
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
                f"'{self.path}' is not an index of photos ({error}); delete it, and the same "
                "command makes it again."
            ) from None


def look_at_all(
    refs: Sequence[PhotoRef],
    settings: BuildSettings,
    looking: Looking = lambda keys: nullcontext(),
) -> list[Look]:
    """What `look_at` finds for each photo, by a few threads.

    Args:
        refs: the photos.
        settings: of the build.
        looking: called with the keys of photos; the context that it gives holds while they are
            looked at.
    """

    def look(ref: PhotoRef) -> Look:
        with looking([ref.key]):
            return look_at(ref, settings)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(look, refs))


def look_at(ref: PhotoRef, settings: BuildSettings) -> Look:
    """Cells of a photo, or why it is left out.

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
        return photo_cells(small), None
    except UnusablePicture as problem:
        if problem.reason in ("damaged", "not a picture", "unreadable"):
            return None, Rejection(STAGE, "unreadable", f"{problem.reason}: {problem.detail}")
        return None, None  # the decode stage says why, in its own words


def _verdict(reason: str, detail: str) -> Rejection:
    return Rejection(WORKER if is_set_aside(reason) else STAGE, reason, detail)


def _batches(source: Iterable[PhotoRef]) -> Iterator[list[PhotoRef]]:
    iterator = iter(source)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _signed(part: int) -> int:
    """A run of bits as SQLite can hold it; two that fall together are told apart by their hash."""
    return part - SIGNED if part >= SIGNED else part


def photo_cells(picture: Image.Image) -> np.ndarray | None:
    """What a photo is compared by: its mean luminance and chroma in 12 x 12 cells.

    Args:
        picture: RGB, of any size.

    Returns:
        (12, 12, 3) uint8, YCbCr. None for a picture that is all but uniform: nothing can be said
        of it.
    """
    small = picture.convert("YCbCr").resize((CELLS, CELLS), Image.Resampling.BOX)
    cells = np.asarray(small)
    return None if np.ptp(cells, axis=(0, 1)).max() < FLAT else cells


def _differences(cells: np.ndarray) -> np.ndarray:
    """Right minus left and lower minus upper neighbour of all cells: (792,) int64.

    An equal ground gives zeros, which weigh nothing; brightness adds nothing, contrast is a factor.
    """
    wide = cells.astype(np.int64)
    return np.concatenate([np.diff(wide, axis=1).ravel(), np.diff(wide, axis=0).ravel()])


@cache
def _planes() -> np.ndarray:
    """(64, 792) of 1 and -1, drawn once for all machines and versions."""
    length = BITS * _differences(np.zeros((CELLS, CELLS, 3), np.uint8)).size
    drawn = hashlib.shake_256(b"text2layer near duplicates").digest(-(-length // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[:length]
    return (2 * bits.astype(np.int64) - 1).reshape(BITS, -1)


def perceptual_hash(cells: np.ndarray) -> int:
    """On which side of 64 random planes do the differences of neighbouring cells lie?

    Random hyperplanes as in Charikar, "Similarity Estimation Techniques from Rounding Algorithms"
    (STOC 2002): of 64 bits two photos differ in about 64 x angle / 180. Every bit hears every cell,
    where the usual difference hash says nothing about a plain ground, and so takes different
    subjects on white for copies. Whole numbers only: the same on every machine.

    Args:
        cells: of `photo_cells`.

    Returns:
        0 .. 2^64 - 1.
    """
    bits = _planes() @ _differences(cells) > 0
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def angle_between(first: np.ndarray, second: np.ndarray) -> float:
    """Angle in degrees, 0 .. 180, of the differences of two photos' cells; 0 is the same."""
    one, other = _differences(first), _differences(second)
    cosine = one @ other / max(float(np.sqrt(float(one @ one) * float(other @ other))), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


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
