"""Features of many pictures, kept on disk: 50,000 samples need no more memory than 500."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from torch import Tensor

from text2layer.errors import InputError
from text2layer.files import writing

DIGITS = 24  # of the hash that names a file
CHUNK_ROWS = 1024  # rows turned to float64 at a time: 16 MiB for 2048 features


class FeatureStore:
    """Rows of features in a temporary file of raw float32, removed when the store is closed.

    Args:
        dimension: Features per row.
        folder: Where the temporary folder goes; default the system's. Choose a disk where that
            is kept in memory (tmpfs): a row of 2048 takes 8 KiB, 50,000 rows 391 MiB.

    Example:
        >>> with FeatureStore(3) as store:
        ...     store.append(np.ones((2, 3)))
        ...     store.array().shape
        (2, 3)
    """

    def __init__(self, dimension: int, folder: str | Path | None = None) -> None:
        if dimension < 1:
            raise InputError(f"A feature store needs at least one feature, not {dimension}.")
        self.dimension = dimension
        # a mapped file cannot be removed on Windows before the last array of it is gone
        self._folder = tempfile.TemporaryDirectory(
            prefix="text2layer-features-", dir=folder, ignore_cleanup_errors=True
        )
        self._path = Path(self._folder.name) / "features.f32"
        self._file = self._path.open("wb")
        self._rows = 0

    def append(self, features: np.ndarray | Tensor) -> None:
        """Add rows at the end; a batch is written as a whole or refused as a whole.

        Args:
            features: (N, dimension), any kind of float; kept as float32.

        Raises:
            InputError: another shape, or a value that is not a finite float32 (one broken row
                would turn the score of all of them into NaN); or the store is closed.
        """
        if self._file.closed:
            raise InputError("The feature store is closed; no features can be added.")
        rows = features.detach().cpu().float().numpy() if isinstance(features, Tensor) else features
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise InputError(
                f"The feature store takes rows (N, {self.dimension}), got {tuple(rows.shape)}."
            )
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, np.float32)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row = self._rows + int(np.argmin(finite))
            raise InputError(f"The features of sample {row} are not finite; leave that sample out.")
        self._file.write(rows.data)
        self._rows += len(rows)

    def array(self) -> np.ndarray:
        """All rows so far, (N, dimension) float32, read-only, mapped from the file.

        Rows appended later are not in it. Let go of it before the store is closed.
        """
        if self._file.closed:
            raise InputError("The feature store is closed; its features are gone.")
        self._file.flush()
        shape = (self._rows, self.dimension)
        if not self._rows:
            return np.empty(shape, np.float32)  # an empty file cannot be mapped
        return np.memmap(self._path, np.float32, mode="r", shape=shape)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._folder.cleanup()

    def __len__(self) -> int:
        return self._rows

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def chunks(features: np.ndarray, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield (at most 1024, D) float64 copies, in order.

    Args:
        features: (N, D), perhaps mapped from a file.
        rows: (M,) numbers of the rows to take; all when None.
    """
    count = len(features) if rows is None else len(rows)
    for start in range(0, count, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        yield np.array(features[part if rows is None else rows[part]], np.float64)


def mean_of(features: np.ndarray) -> np.ndarray:
    """Mean row, (D,) float64, of at least one."""
    total = np.zeros(features.shape[1])
    for chunk in chunks(features):
        total += chunk.sum(axis=0)
    return total / len(features)


def check_pair(real: np.ndarray, generated: np.ndarray, least: int = 2) -> None:
    """Refuse two sets of features that cannot be compared.

    Args:
        real: (N, D).
        generated: (M, D).
        least: N and M that the metric needs.

    Raises:
        InputError: other shapes, fewer rows, or values that are not finite.
    """
    fits = real.ndim == generated.ndim == 2 and real.shape[1] == generated.shape[1] > 0
    if not fits:
        raise InputError(
            "Two sets of features need the same dimension, (N, D) and (M, D); "
            f"got {tuple(real.shape)} and {tuple(generated.shape)}."
        )
    for name, features in (("real", real), ("generated", generated)):
        if len(features) < least:
            raise InputError(
                f"The {name} set needs at least {least} samples for this measure, "
                f"got {len(features)}."
            )
        start = 0
        for chunk in chunks(features):
            finite = np.isfinite(chunk).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise InputError(f"The features of {name} sample {row} are not finite.")
            start += len(chunk)


class References:
    """Arrays on disk by part and by everything that decides them.

    Args:
        folder: keeps them for later runs; None keeps them for this one, in a temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(
                prefix="text2layer-references-", ignore_cleanup_errors=True
            )
            folder = Path(self._temporary.name)
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, part: str, decided_by: Sequence[object]) -> Path:
        """Where the features of a part lie."""
        digest = hashlib.sha256("\n".join(str(item) for item in decided_by).encode())
        return self.folder / f"{digest.hexdigest()[:DIGITS]}-{part}.npy"

    def get(self, part: str, decided_by: Sequence[object]) -> np.ndarray | None:
        """(N, D) float32, mapped from its file, or None."""
        path = self.path(part, decided_by)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):  # absent, or not whole
            return None

    def put(self, part: str, decided_by: Sequence[object], features: np.ndarray) -> None:
        """Keep features (N, D)."""
        with writing(self.path(part, decided_by)) as file:
            np.save(file, features, allow_pickle=False)
