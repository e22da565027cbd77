"""metrics.jsonl of a training run: means of every term, one JSON line per ten updates."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from text2layer.files import writing
from text2layer.training.settings import TrainingSettings

EVERY = 10  # updates per line


class MetricsLog:
    """Progress bar on stderr and one line per EVERY updates.

    Args:
        path: metrics.jsonl of the run; lines of updates after `start` are dropped, because the
            resumed run takes those updates again.
        start: updates done so far.
        settings: of the run.
        main: whether this process writes; the others only count.
        pending: what `pending()` gave at `start`, so that the next line's means are those of an
            uninterrupted run.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        settings: TrainingSettings,
        main: bool,
        pending: dict[str, list[float]] | None = None,
    ) -> None:
        self.settings = settings
        self.sums = {key: list(value) for key, value in (pending or {}).items()}
        self.values: dict[str, list[Tensor | float]] = {}
        self.updates = 0
        self.clock = time.monotonic()
        if main and path.is_file():
            _drop_after(path, start)
        self.file = path.open("a", encoding="utf-8") if main else None
        self.bar = tqdm(
            total=settings.steps, initial=start, disable=not main, file=sys.stderr,
            mininterval=2.0, desc=path.parent.name,
        )  # fmt: skip

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.file:
            self.file.close()

    def add(
        self,
        step: int,
        values: dict[str, Tensor | float],
        rate: float,
        moment: float | None = None,
    ) -> None:
        """Take the values of update number `step`; write the means of every EVERY updates.

        The update ended at this `moment` of the monotonic clock, or now.
        """
        moment = time.monotonic() if moment is None else moment
        for key, value in values.items():
            kept = value.detach() if isinstance(value, Tensor) else value
            self.values.setdefault(key, []).append(kept)
        self.updates += 1
        self.bar.update(1)
        if step % EVERY and step != self.settings.steps:
            return
        self._settle()
        means = {key: total / count for key, (total, count) in self.sums.items()}
        seconds = moment - self.clock
        speed = self.updates * self.settings.batch_size / max(seconds, 1e-9)
        self.bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
        self.write({"step": step, **means, "learning_rate": rate, "samples_per_second": speed})
        self.sums, self.updates, self.clock = {}, 0, moment

    def _settle(self) -> None:
        """Add up the values taken so far; only here is a GPU waited for."""
        for key, values in self.values.items():
            total, count = self.sums.get(key, (0.0, 0))
            self.sums[key] = [total + sum(map(float, values)), count + len(values)]
        self.values = {}

    def pending(self) -> dict[str, list[float]]:
        """Sums and counts that no line holds yet, for a checkpoint."""
        self._settle()
        return {key: list(value) for key, value in self.sums.items()}

    def write(self, values: dict[str, float | int]) -> None:
        """Append one JSON line at once, so that a kill loses nothing."""
        if self.file is None:
            return
        rounded = {
            key: value if isinstance(value, int) or not math.isfinite(value) else round(value, 6)
            for key, value in values.items()
        }
        self.file.write(json.dumps(rounded) + "\n")
        self.file.flush()


def _drop_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`; a line that a kill cut short goes too."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if record.get("step", 0) <= step:
            kept.append(line + "\n")
    with writing(path) as file:
        file.write("".join(kept).encode())
