"""A library of cut-outs and backgrounds on disk, read into records (docs/data-format.md)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from text2layer.errors import DataError, Skipped

SPLITS = ("train", "val", "test")
# two more that a composer knows: drawings of known concepts that training leaves out (before
# backgrounds of "test"), and known drawings before backgrounds that they are never trained with
DRAWINGS, PAIRINGS = "drawings", "pairings"


@dataclass(frozen=True)
class ForegroundRecord:
    """One RGBA cut-out. The fields are those of `foregrounds.jsonl`."""

    id: str
    file: str
    caption: str
    style: str
    concept: str
    license: str
    source: str
    split: str
    author: str = ""
    source_file: str = ""
    color: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""
    view: Mapping[str, float] | None = None
    nameable: bool = True
    held_out_drawing: bool = False


@dataclass(frozen=True)
class BackgroundRecord:
    """One opaque picture of a place. The fields are those of `backgrounds.jsonl`."""

    id: str
    file: str
    caption: str
    license: str
    source: str
    split: str
    author: str = ""
    source_file: str = ""
    scene: str = ""
    time: str = ""
    seen: tuple[str, ...] = ()
    group: str = ""
    has_subject: bool = False
    note: str = ""


Record = TypeVar("Record", ForegroundRecord, BackgroundRecord)

_TEXT = ("id", "file", "caption", "license", "source", "split")
_REQUIRED: dict[type, tuple[str, ...]] = {
    ForegroundRecord: (*_TEXT, "style", "concept"),
    BackgroundRecord: _TEXT,
}
_OPTIONAL: dict[type, tuple[str, ...]] = {
    ForegroundRecord: ("author", "source_file", "color", "group"),
    BackgroundRecord: ("author", "source_file", "scene", "time", "group", "note"),
}


class Library:
    """Foreground and background records of a folder, with every bad record counted.

    Args:
        root: folder with `foregrounds.jsonl`, `backgrounds.jsonl` and the files they name.
        split: keep one of "train", "val", "test"; None keeps all.

    Attributes:
        foregrounds: usable foreground records, in file order.
        backgrounds: usable background records; those that show a subject are left out.
        skip: counts an unusable record; call it with a reason and a sentence.
        skipped: how many records were left out, by reason.
        messages: one sentence for each of the first few that were left out.

    Raises:
        DataError: no such folder, a list is missing, or no usable record remains.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root = Path(root)
        self.split = split
        self.skip = Skipped()
        self.skipped, self.messages = self.skip.counts, self.skip.messages
        if split is not None and split not in SPLITS:
            raise DataError(f"The split '{split}' is unknown; use one of {', '.join(SPLITS)}.")
        if not self.root.is_dir():
            raise DataError(f"There is no library folder at '{self.root}'; give one that exists.")
        self.foregrounds = self._read("foregrounds.jsonl", ForegroundRecord)
        backgrounds = self._read("backgrounds.jsonl", BackgroundRecord)
        self.backgrounds = [record for record in backgrounds if not record.has_subject]
        with_subject = len(backgrounds) - len(self.backgrounds)
        if with_subject:
            self.skipped["background shows a subject"] += with_subject
        for kind, records in (("foreground", self.foregrounds), ("background", self.backgrounds)):
            if not records:
                raise DataError(
                    f"The library '{self.root}' has no usable {kind}"
                    + (f" in split '{split}'" if split else "")
                    + f" ({self.summary()}); add some or check the paths in its .jsonl files."
                )

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over both record lists: names the data a model was trained on."""
        digest = hashlib.sha256()
        for name in ("foregrounds.jsonl", "backgrounds.jsonl"):
            digest.update((self.root / name).read_bytes())
        return digest.hexdigest()

    def path(self, record: ForegroundRecord | BackgroundRecord) -> Path:
        """Where the picture of a record lies."""
        return self.root / record.file

    def foregrounds_of(self, split: str | None) -> list[ForegroundRecord]:
        """Foregrounds of one split (None: all); see SPLITS.

        Drawings that are held out are in no split but "drawings".
        """
        if split == DRAWINGS:
            return [r for r in self.foregrounds if r.held_out_drawing and r.split == "train"]
        wanted = "train" if split == PAIRINGS else split
        return [
            r
            for r in self.foregrounds
            if wanted is None or (r.split == wanted and not r.held_out_drawing)
        ]

    def backgrounds_of(self, split: str | None) -> list[BackgroundRecord]:
        """Backgrounds of one split (None: all); see SPLITS."""
        wanted = {PAIRINGS: "train", DRAWINGS: "test"}.get(split or "", split)
        return [r for r in self.backgrounds if wanted is None or r.split == wanted]

    def summary(self) -> str:
        """What was left out, in words: "2 missing file, 1 bad JSON"."""
        return str(self.skip)

    def _read(self, name: str, kind: type[Record]) -> list[Record]:
        records: list[Record] = []
        seen: set[str] = set()
        for where, fields in self._lines(name):
            try:
                record = _record(kind, fields)
            except (KeyError, TypeError, ValueError) as error:
                self.skip("bad field", f"{where}: {_first(error)}.")
                continue
            if self.split is not None and record.split != self.split:
                continue
            if record.id in seen:
                self.skip("double id", f"{where}: the id '{record.id}' was used before.")
            elif not self.path(record).is_file():
                self.skip("missing file", f"{where}: there is no file '{record.file}'.")
            else:
                seen.add(record.id)
                records.append(record)
        return records

    def _lines(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        path = self.root / name
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise DataError(
                f"Cannot read '{path}' ({error.strerror}); a library needs it."
            ) from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{name} line {number}"
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):  # the latter where it is nested too deep
                self.skip("bad JSON", f"{where}: not valid JSON.")
                continue
            if isinstance(fields, dict):
                yield where, fields
            else:
                self.skip("bad JSON", f"{where}: not a JSON object.")


def _record(kind: type[Record], fields: dict[str, Any]) -> Record:
    """Build one record; KeyError, TypeError or ValueError says which field is wrong."""
    values: dict[str, Any] = {}
    for name in _REQUIRED[kind]:
        if name not in fields:
            raise KeyError(f"the field '{name}' is missing")
        if not isinstance(fields[name], str) or not fields[name].strip():
            raise TypeError(f"the field '{name}' must be text that is not empty")
        values[name] = fields[name].strip()
    for name in _OPTIONAL[kind]:
        value = fields.get(name) or ""
        if not isinstance(value, str):
            raise TypeError(f"the field '{name}' must be text")
        values[name] = value
    values["group"] = values["group"] or values["id"]
    if values["split"] not in SPLITS:
        raise ValueError(f"the split '{values['split']}' is none of {', '.join(SPLITS)}")
    file = PurePosixPath(values["file"])
    if file.is_absolute() or ".." in file.parts:
        raise ValueError(f"the file '{file}' lies outside the library")
    if kind is ForegroundRecord:
        values |= {"tags": _texts(fields, "tags"), "view": _view(fields.get("view"))}
        values["nameable"] = bool(fields.get("nameable", True))
        values["held_out_drawing"] = bool(fields.get("held_out_drawing", False))
    else:
        values["seen"] = _texts(fields, "seen")
        values["has_subject"] = bool(fields.get("has_subject", False))
    return kind(**values)


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"the field '{name}' must be a list of texts")
    return tuple(text.strip() for text in value if text.strip())


def _view(value: Any) -> dict[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError("the field 'view' must be an object such as {\"azimuth\": 30}")
    return {name: float(angle) for name, angle in value.items()}


def _first(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
