"""Features of the known samples, computed once for all protocols and models that need them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from text2layer.io.atomic import writing

DIGITS = 24  # of the hash that names a file


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
