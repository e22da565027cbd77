"""Labels of masks and fills, good or bad, and the samples of a build that wait for one.

A file of labels is JSON lines that a person or a rule writes. One line is one verdict: `{"key":
..., "kind": "mask", "good": false, "reason": "incomplete", "source": "photo", "by": ..., "at":
...}`. A later line for the same key and kind replaces an earlier one, and a line with `"good":
null` takes it back, so that a file only ever grows.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from text2layer.data.schema import KEY, Sample, decode_sample
from text2layer.data.shard_index import Places, index_shard, read_members, shard_paths
from text2layer.errors import DataError, InputError, Skipped
from text2layer.files import writing

Kind = Literal["mask", "fill"]
KINDS: tuple[Kind, ...] = ("mask", "fill")
SOURCES = ("composed", "photo")

# what makes a mask or a fill bad (Text2Layer, arXiv 2307.09781, section 5.4); the label page
# counts them from 1
REASONS: dict[Kind, tuple[str, ...]] = {
    "mask": ("incomplete", "background included", "too small", "no object", "other"),
    "fill": ("object left", "artefact", "not cohesive", "blurred", "other"),
}


@dataclass(frozen=True)
class Label:
    """A verdict on the mask or the fill of one sample.

    Attributes:
        key: of the sample.
        kind: "mask" or "fill".
        good: the verdict; None takes an earlier one back.
        reason: why it is bad, one of `REASONS[kind]`; "" for good ones and where none was given.
        source: "composed" (the truth is known) or "photo" (someone looked at it).
        by: who judged.
        at: when, ISO 8601; "" where it does not matter.
    """

    key: str
    kind: Kind
    good: bool | None
    reason: str = ""
    source: str = "photo"
    by: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not KEY.fullmatch(self.key):
            raise DataError(f"the key {self.key!r} is not that of a sample")
        if self.kind not in KINDS:
            raise DataError(f"the kind {self.kind!r} is neither mask nor fill")
        if self.good not in (True, False, None):
            raise DataError(f"the verdict {self.good!r} is not true, false or null")
        if self.reason and (self.good is not False or self.reason not in REASONS[self.kind]):
            known = ", ".join(REASONS[self.kind])
            raise DataError(
                f"the reason {self.reason!r} is not one for a bad {self.kind} ({known})"
            )
        if self.source not in SOURCES:
            raise DataError(f"the source {self.source!r} is neither composed nor photo")

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Label:
        """Read and check a JSON object; DataError, as a clause, says what is wrong."""
        try:
            return cls(**fields)
        except TypeError:
            known = ", ".join(cls.__dataclass_fields__)
            raise DataError(f"its fields must be among {known}, with key, kind and good") from None


def read_labels(path: str | Path) -> dict[tuple[str, Kind], Label]:
    """The verdicts in force by (key, kind), in the order they were first given.

    A last line without its line break is what a killed writer leaves, and is passed over.

    Raises:
        DataError: a line is not a label; says which. A missing file is an empty one.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The labels {path} cannot be read: {error}.") from None
    found: dict[tuple[str, Kind], Label] = {}
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise DataError("it is not a JSON object")
            label = Label.from_json(fields)
        except (ValueError, RecursionError):
            raise DataError(f"Line {number} of {path} is not JSON; mend or remove it.") from None
        except DataError as error:
            raise DataError(f"Line {number} of {path} is no label: {error}.") from None
        if label.good is None:
            found.pop((label.key, label.kind), None)
        else:
            found[label.key, label.kind] = label
    return found


def append_label(path: str | Path, label: Label) -> None:
    """Add one line and bring it to the disk; a line cut off by a kill before it is dropped.

    Raises:
        DataError: the file cannot be written.
    """
    data = _line(label).encode()
    try:
        with Path(path).open("a+b") as file:
            _drop_partial_line(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"The label could not be written to {path}: {error.strerror}.") from None


def write_labels(path: str | Path, labels: Iterable[Label]) -> None:
    """Write a whole file of labels in one step."""
    with writing(path) as file:
        file.write("".join(map(_line, labels)).encode())


def count_labels(labels: Iterable[Label]) -> dict[str, int]:
    """How many there are by source, kind and verdict: {"photo mask good": 12, ...}, sorted."""
    counts = Counter(
        f"{label.source} {label.kind} {'good' if label.good else 'bad'}" for label in labels
    )
    return dict(sorted(counts.items()))


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
        skip = Skipped()
        self.skipped = skip.counts
        self._places: dict[str, tuple[Path, Places]] = {}
        for path in shard_paths(folder):
            for key, places in index_shard(path, skip):
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

    def verdict(self, key: str, kind: Kind) -> Label | None:
        """The label in force of a sample, if there is one."""
        return self._labels.get((key, kind))

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


def _line(label: Label) -> str:
    fields = {
        name: value
        for name, value in asdict(label).items()
        if value != "" or name in ("key", "kind", "source")
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _drop_partial_line(handle: int) -> None:
    size = os.lseek(handle, 0, os.SEEK_END)
    kept = size
    while kept:
        start = max(0, kept - 4096)
        os.lseek(handle, start, os.SEEK_SET)
        block = os.read(handle, kept - start)
        if (place := block.rfind(b"\n")) >= 0:
            kept = start + place + 1
            break
        kept = start
    if kept < size:
        os.ftruncate(handle, kept)
