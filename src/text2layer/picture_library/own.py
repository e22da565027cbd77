"""A person's own pictures: folders of cut-outs and backgrounds, with words beside them.

The words of a picture come from, in this order: a line of a JSONL file in the folder (its field
`file` names the picture), a text file beside it (`apple.txt` for `apple.png`), its file name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from text2layer.data.captions import JOINING, with_article
from text2layer.data.grounds import SCENES
from text2layer.data.library import SPLITS
from text2layer.errors import DataError, InputError
from text2layer.files import file_sha256
from text2layer.picture_library.offer import (
    BACKGROUND,
    FOREGROUND,
    LeftOut,
    Offer,
    PictureFile,
    Taken,
)
from text2layer.picture_library.words import share_of

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic")
TEXT, FLAG, LIST, OBJECT = "text", "true or false", "a list of texts", "an object"
FIELDS = {  # of a JSONL line; what is not said comes from the options or the file name
    "file": TEXT, "caption": TEXT, "license": TEXT, "author": TEXT, "source": TEXT,
    "source_file": TEXT, "split": TEXT, "group": TEXT, "concept": TEXT, "style": TEXT,
    "color": TEXT, "scene": TEXT, "time": TEXT, "note": TEXT, "nameable": FLAG,
    "held_out_drawing": FLAG, "has_subject": FLAG, "tags": LIST, "view": OBJECT, "seen": LIST,
}  # fmt: skip
OF_CUT_OUTS = ("concept", "style", "color", "nameable", "held_out_drawing", "tags", "view")
OF_PLACES = ("scene", "time", "seen", "note", "has_subject")
NAMED = 3  # wrong lines that an error names; of more it says how many
PARTED = re.compile(r"(?<=[a-z])(?=[A-Z])|[\s_\-.,]+")
COUNTER = re.compile(r"\(?\d+\)?|copy|final|v\d+|img|dsc\w*", re.IGNORECASE)  # of file names
SEVERAL = re.compile(r"\b(?:pair|set|bunch|piece|slice|pile|stack|group) of\s+")
PLURAL = re.compile(r"(?:[^sui]s|ies)$")


@dataclass(frozen=True)
class OwnFolder:
    """A folder of pictures as a source.

    Attributes:
        kind: FOREGROUND or BACKGROUND.
        folder: pictures lie in it or in folders below.
        name: short name of the source; the folder of the library's files.
        license: of pictures whose JSONL line has none; "" is none.
        author: the same.
        style: of cut-outs, the same.
        hold_out: share of the concepts (of the backgrounds) that go into split val.
    """

    kind: str
    folder: Path
    name: str
    license: str = ""
    author: str = ""
    style: str = "photo cut-out"
    hold_out: float = 0.0
    own: bool = True
    notices: Mapping[str, str] = field(default_factory=dict)

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """Every picture of the folder, in the order of the names; see `Source`."""
        if not self.folder.is_dir():
            raise InputError(f"There is no folder '{self.folder}'; give one with pictures.")
        told = _told(self.folder)
        files = [
            path
            for path in sorted(self.folder.rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        if not files:
            raise InputError(
                f"There is no picture in '{self.folder}'; give a folder with {', '.join(SUFFIXES)}."
            )
        there = {path.relative_to(self.folder).as_posix() for path in files}
        for name in told.keys() - there:
            yield LeftOut(
                self.name, name, "no file", f"The JSONL names '{name}', which is missing."
            )
        taken = Taken()
        for path in files:
            inner = path.relative_to(self.folder).as_posix()
            fields = {"caption": _beside(path)} | dict(told.get(inner, {}))
            unique = taken(str(PurePosixPath(inner).with_suffix("")))
            if self.kind == BACKGROUND:
                unique = f"{self.name}-{unique}"
            record = self._record(path, inner, fields)
            if record is None:
                yield LeftOut(
                    self.name, inner, "no caption",
                    f"'{inner}' has no name to make a caption of; write one into "
                    f"'{path.with_suffix('.txt').name}' beside it.",
                )  # fmt: skip
                continue
            yield Offer(self.kind, self.name, unique, file_sha256(path), record, PictureFile(path))

    def _record(self, path: Path, inner: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        caption = str(fields.get("caption") or "").strip() or caption_of(path.stem)
        if not caption:
            return None
        record: dict[str, Any] = {
            "caption": caption,
            "license": self.license,
            "author": self.author,
            "source": "own pictures",
            "source_file": inner,
        }
        if self.kind == FOREGROUND:
            record |= {"concept": noun_of(caption), "style": self.style, "tags": []}
            record |= {"nameable": True}
        else:
            record |= {"scene": scene_of(caption), "time": time_of(caption), "has_subject": False}
        foreign = {"file", *(OF_PLACES if self.kind == FOREGROUND else OF_CUT_OUTS)}
        record |= {n: value for n, value in fields.items() if n not in foreign and value != ""}
        record["caption"] = caption
        held = str(record.get("concept") or inner)
        record.setdefault("split", "val" if share_of(held) < self.hold_out else "train")
        return record


def own_folders(
    cutouts: Sequence[Path],
    backgrounds: Sequence[Path],
    *,
    license: str,
    author: str,
    style: str,
    hold_out: float,
) -> list[OwnFolder]:
    """The folders that a person names as sources; `OwnFolder` describes the rest.

    Names of sources are "own", "own-2" for cut-outs, "place", "place-2" for backgrounds.
    """
    sources = []
    for kind, name, folders in (
        (FOREGROUND, "own", cutouts), (BACKGROUND, "place", backgrounds)
    ):  # fmt: skip
        for number, folder in enumerate(folders, start=1):
            unique = name if number == 1 else f"{name}-{number}"
            sources.append(OwnFolder(kind, folder, unique, license, author, style, hold_out))
    return sources


def caption_of(stem: str) -> str:
    """A caption from a file name without its suffix; "" if it has no word.

    Example:
        >>> caption_of("red-apple_2"), caption_of("OldKeys"), caption_of("IMG_0123")
        ('a red apple', 'some old keys', '')
    """
    words = [word for word in PARTED.split(stem) if word and not COUNTER.fullmatch(word)]
    said = " ".join(words).lower()
    if not said or words[0].lower() in ("a", "an", "some", "two", "three", "four"):
        return said
    joined = JOINING.search(said)
    head = said[: joined.start()].strip() if joined else said
    return f"some {said}" if PLURAL.search(head) else with_article(said)


def noun_of(caption: str) -> str:
    """The noun that a caption is about, as it stands: the last word before one that joins.

    A picture of one's own gets it for its concept. `phrases.concept_of` maps the nouns of public
    sources further, to the name that drawings of one thing share ("keys" to "key").


    Example:
        >>> noun_of("a red apple"), noun_of("a cup of tea"), noun_of("a pair of scissors")
        ('apple', 'cup', 'scissors')
    """
    caption = SEVERAL.sub("", caption)
    joined = JOINING.search(caption)
    head = caption[: joined.start()] if joined else caption
    return (head.split() or caption.split())[-1].strip(".,!").lower()


def scene_of(caption: str) -> str:
    """The longest scene known to captions (`data.grounds.SCENES`) that a caption names, or "".

    Example:
        >>> scene_of("snowy mountains at dusk"), scene_of("my garden")
        ('snowy mountains', 'garden')
    """
    words = f" {caption.lower()} "
    named = [scene for scene in SCENES if f" {scene} " in words]
    return max(named, key=len, default="")


def time_of(caption: str) -> str:
    """ "sunset" or "night" where a caption says so, or ""."""
    words = caption.lower().split()
    return next((time for time in ("sunset", "night") if time in words), "")


def _beside(picture: Path) -> str:
    """The first line of the text file beside a picture, or ""."""
    file = picture.with_suffix(".txt")
    try:
        text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{file}' cannot be read ({error}); save it as UTF-8 text.") from None
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _told(folder: Path) -> dict[str, dict[str, Any]]:
    """What the JSONL files of a folder say, by picture; DataError names the first wrong lines."""
    told: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    for file in sorted(folder.glob("*.jsonl")):
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"'{file}' cannot be read ({error}); save it as UTF-8 text.") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    fields = _checked(line, f"'{file}' line {number}")
                except DataError as error:
                    wrong.append(str(error))
                    continue
                told[PurePosixPath(fields["file"]).as_posix()] = fields
    if wrong:
        more = f" {len(wrong) - NAMED} more lines are wrong." if len(wrong) > NAMED else ""
        raise DataError(" ".join(wrong[:NAMED]) + more)
    return told


def _checked(line: str, where: str) -> dict[str, Any]:
    """One JSON object with fields of the right kind; those that a library has not are dropped."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where} is not JSON; write one object a line.") from None
    if not isinstance(given, dict) or not isinstance(given.get("file"), str):
        raise DataError(f'{where} has no field "file" that names a picture; add it.')
    fields = {name: value for name, value in given.items() if name in FIELDS and value is not None}
    kinds = {TEXT: str, FLAG: bool, LIST: list, OBJECT: dict}
    for name, value in fields.items():
        right = isinstance(value, kinds[FIELDS[name]])
        if right and name in ("tags", "seen"):
            right = all(isinstance(text, str) for text in value)
        if right and name == "view":
            right = all(isinstance(angle, int | float) for angle in value.values())
        if not right:
            raise DataError(f"{where}: the field '{name}' must be {FIELDS[name]}.")
    if fields.get("split", "train") not in SPLITS:
        raise DataError(f"{where}: the split '{fields['split']}' is none of {', '.join(SPLITS)}.")
    return fields
