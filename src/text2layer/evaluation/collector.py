"""Collects what protocols measure: values of samples, and features of pictures in pairs of sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from text2layer.blend import composite_over
from text2layer.evaluation.coverage import coverage_scores
from text2layer.evaluation.features import FeatureStore, References
from text2layer.evaluation.fid import fid
from text2layer.evaluation.kid import kid
from text2layer.evaluation.results import ProtocolResult
from text2layer.tensors import mask_to_bytes

T = TypeVar("T")

REAL, MADE = "real", "made"
PARTS = ("composite", "foreground", "background")  # of known samples, whose features may be kept
NEUTRAL = 128  # level of the ground that foregrounds are put on


class Collector:
    """Per-sample values and, on disk, features; memory does not grow with pictures.

    Every batch is handed over once: pictures to `known` and `made`, then values and numbers to
    `add`. All is put in the order of the numbers, so that neither batches nor processes change a
    figure.

    Args:
        inception: (N, 3, H, W) uint8 -> (N, D) features; None leaves out what needs them.
        references: features of known samples from earlier protocols or runs.
        decided_by: what decides the known samples' features.

    Use it as a context manager: the features' files are removed at its end.
    """

    def __init__(
        self,
        inception: Callable[[Tensor], Tensor] | None = None,
        references: References | None = None,
        decided_by: Sequence[object] = (),
    ) -> None:
        self.inception = inception
        self._references, self._decided_by = references, decided_by
        self._kept: dict[str, np.ndarray] = {}  # of the first process
        self._known: list[str] = []  # parts that the first process has, as all processes know
        self._numbers: list[Tensor] = []
        self._rows: dict[str, list[Tensor]] = {}
        self._stores: dict[tuple[str, str], FeatureStore] = {}

    def __enter__(self) -> Collector:
        if self.inception is not None and self._references is not None:
            if is_first_process():
                found = {part: self._references.get(part, self._decided_by) for part in PARTS}
                self._kept = {part: rows for part, rows in found.items() if rows is not None}
            self._known = gathered([list(self._kept)])[0]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for store in self._stores.values():
            store.close()

    def add(self, numbers: Tensor, rows: dict[str, Tensor]) -> None:
        """Keep (B,) values by metric of the samples `numbers`; every batch has the same metrics."""
        self._numbers.append(numbers)
        for name, row in rows.items():
            self._rows.setdefault(name, []).append(row.detach().double().cpu())

    def known(self, part: str, pictures: Tensor) -> None:
        """Keep features of known samples' pictures (B, 3, H, W) uint8, unless they are there."""
        if self.inception is not None and part not in self._known:
            self._keep(part, REAL, pictures)

    def made(self, part: str, pictures: Tensor) -> Tensor | None:
        """Keep and return features of drawn pictures (B, 3, H, W) uint8."""
        return None if self.inception is None else self._keep(part, MADE, pictures)

    def _keep(self, part: str, side: str, pictures: Tensor) -> Tensor:
        assert self.inception is not None
        rows = self.inception(pictures)
        if (part, side) not in self._stores:
            self._stores[part, side] = FeatureStore(rows.shape[1])
        self._stores[part, side].append(rows)
        return rows

    def per_sample(self) -> dict[str, np.ndarray]:
        """(N,) of each metric, ordered by the samples' numbers, of all processes."""
        parts = gathered([{name: torch.cat(values) for name, values in self._rows.items()}])
        order = self._order()
        names = dict.fromkeys(name for part in parts for name in part)
        rows = {name: torch.cat([part[name] for part in parts if name in part]) for name in names}
        return {name: values[order].numpy() for name, values in rows.items()}

    def _order(self) -> Tensor:
        """Places of the samples of all processes, in the order of their numbers."""
        mine = torch.cat(self._numbers) if self._numbers else torch.empty(0, dtype=torch.long)
        return torch.cat(gathered([mine])).argsort(stable=True)

    def sets(self) -> dict[tuple[str, str], np.ndarray]:
        """Features (N, D) by (part, side), of all processes, ordered by the samples' numbers.

        Those of known samples that were kept before are there on the first process alone.
        """
        features = _gathered_features({key: s.array() for key, s in self._stores.items()})
        order = self._order().numpy()
        if not np.array_equal(order, np.arange(len(order))):
            features = {key: rows[order] for key, rows in features.items()}
        if self._references is not None and is_first_process():
            for (part, side), rows in features.items():
                if side == REAL:
                    self._references.put(part, self._decided_by, rows)
        return features | {(part, REAL): rows for part, rows in self._kept.items()}

    def measure_sets(self, result: ProtocolResult, coverage_of: str = "composite") -> None:
        """FID and KID of every part; precision, recall, density and coverage of one.

        Of several processes the first alone measures.
        """
        sets = self.sets()
        if not is_first_process():
            return
        for part in dict.fromkeys(part for part, _ in sets):
            pair = sets[part, REAL], sets[part, MADE]
            result.measure(f"fid_{part}", lambda pair=pair: fid(*pair))
            result.measure(f"kid_{part}", lambda pair=pair: kid(*pair))
        if (coverage_of, REAL) not in sets:
            return
        names = ("precision", "recall", "density", "coverage")
        pair = sets[coverage_of, REAL], sets[coverage_of, MADE]
        scores: list[Any] = []

        def score(name: str) -> Any:
            if not scores:
                scores.append(coverage_scores(*pair))
            return getattr(scores[0], name)

        for name in names:
            result.measure(name, lambda name=name: score(name))


def on_neutral(foreground: Tensor, mask: Tensor) -> Tensor:
    """Foreground (B, 3, H, W) uint8 by its mask (B, 1, H, W) in [0, 1] over mid grey, uint8."""
    grey = torch.full_like(foreground, NEUTRAL)
    return composite_over(grey, foreground, mask_to_bytes(mask))


def gathered(parts: list[T]) -> list[T]:
    """The parts of all processes."""
    from accelerate.utils import gather_object

    return gather_object(parts) if processes().num_processes > 1 else parts


def processes() -> Any:
    """Which of how many processes this is; without a GPU they talk by gloo."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def is_first_process() -> bool:
    """Whether this is the process that writes and prints."""
    return bool(processes().is_main_process)


def _gathered_features(
    mine: dict[tuple[str, str], np.ndarray],
) -> dict[tuple[str, str], np.ndarray]:
    if processes().num_processes == 1:
        return mine  # still mapped from their files
    parts = gathered([{key: np.array(rows) for key, rows in mine.items()}])
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: np.concatenate([part[key] for part in parts if key in part]) for key in keys}
