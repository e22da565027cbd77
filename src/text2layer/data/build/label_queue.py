"""The samples of a build that wait for a verdict, and the verdicts given: no pixel read ahead."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from text2layer.data.build.labels import Kind, Label, append_label, read_labels
from text2layer.data.schema import KEY, Sample, decode_sample
from text2layer.data.shard_index import Places, index_shard, read_members, shard_paths
from text2layer.errors import DataError, InputError


@dataclass(frozen=True)
class Verdict:
    """What stands for one sample and kind: `good` and why not."""

    good: bool
    reason: str


class LabelQueue:
    """Samples of a folder of shards in the order they are asked for, with their labels.

    Args:
        folder: of a build; its shards are only read.
        labels: the file that verdicts are appended to; those in it stand.
        by: who judges.
        count: ask for a random sample of this many; None asks for all, in the order on disk.
        seed: of the random sample.

    Attributes:
        keys: of the samples asked for.
        skipped: what could not be read, by reason.

    Raises:
        DataError: no shard or no sample in the folder, or labels that cannot be read.
        InputError: the count is below 1.
    """

    def __init__(
        self, folder: Path, labels: Path, by: str = "", count: int | None = None, seed: int = 0
    ) -> None:
        if count is not None and count < 1:
            raise InputError(f"A random sample needs a count of 1 or more, got {count}.")
        self.folder, self.labels_file, self.by = folder, labels, by
        self.skipped: Counter[str] = Counter()
        self._places: dict[str, tuple[Path, Places]] = {}
        for path in shard_paths(folder):
            for key, places in index_shard(path, lambda reason, _: self.skipped.update([reason])):
                if KEY.fullmatch(key):
                    self._places[key] = (path, places)
        if not self._places:
            raise DataError(f"The shards in '{folder}' hold no sample to label.")
        self.keys = sorted(self._places)
        if count is not None and count < len(self.keys):
            self.keys = random.Random(seed).sample(self.keys, count)
        self._labels = read_labels(labels)

    def sample(self, key: str) -> Sample:
        """Read one sample; InputError if it is not asked for, DataError if it is damaged."""
        if key not in self._places:
            raise InputError(f"There is no sample '{key[:80]}' here.")
        path, places = self._places[key]
        try:
            return decode_sample(key, read_members(path, places))
        except OSError as error:
            raise DataError(f"'{path.name}' cannot be read: {error.strerror}.") from None

    def verdict(self, key: str, kind: Kind) -> Verdict | None:
        """What stands for a sample, if anything."""
        label = self._labels.get((key, kind))
        return Verdict(label.good, label.reason) if label and label.good is not None else None

    def put(self, key: str, kind: Kind, good: bool | None, reason: str = "") -> None:
        """Give a verdict, or with None take it back; it is on the disk when this returns.

        Raises:
            InputError: the sample is not asked for, or the verdict is none.
            DataError: the labels cannot be written.
        """
        if key not in self._places:
            raise InputError(f"There is no sample '{key[:80]}' here.")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            label = Label(key, kind, good, reason, "photo", self.by, now)
        except DataError as error:
            raise InputError(f"This is no verdict: {error}.") from None
        append_label(self.labels_file, label)
        if good is None:
            self._labels.pop((key, kind), None)
        else:
            self._labels[key, kind] = label
