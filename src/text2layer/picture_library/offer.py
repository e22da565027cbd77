"""What a source of pictures gives: offers, and pictures that it leaves out, each with its reason.

A source knows its pictures, their licences and their words. It reads no pixel until an offer is
asked for one, which happens in a worker process.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from text2layer.io.pictures import read_any

FOREGROUND, BACKGROUND = "foreground", "background"
LISTS = {FOREGROUND: "foregrounds", BACKGROUND: "backgrounds"}  # folders; lists with .jsonl

# colour (H, W, 3) uint8 and alpha (H, W) uint8, or None where the picture is opaque
Pixels = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Offer:
    """A picture that may enter the library.

    Attributes:
        kind: FOREGROUND or BACKGROUND.
        source: short name of the source; the folder of its cut-outs.
        name: unique in its source; letters, digits and "-".
        stamp: SHA-256 (hex) of all that `read` gives pixels from; the same stamp, the same pixels.
        record: fields of the library's record; `id`, `file` and measured ones are added later.
        read: gives the pixels; it goes to another process.
        may_be_opaque: a book or a door fills its rectangle; other cut-outs that do are no cut-outs.
    """

    kind: str
    source: str
    name: str
    stamp: str
    record: Mapping[str, Any]
    read: Callable[[], Pixels]
    may_be_opaque: bool = False

    @property
    def id(self) -> str:
        """The identifier of the record: a background's name alone, it has no folder of a source."""
        return self.name if self.kind == BACKGROUND else f"{self.source}-{self.name}"

    def key(self, made_by: int) -> str:
        """Names everything that the finished picture and record depend on."""
        fields = json.dumps(dict(self.record), sort_keys=True, ensure_ascii=True)
        told = f"{made_by}|{self.kind}|{self.id}|{self.stamp}|{self.may_be_opaque}|{fields}"
        return hashlib.sha256(told.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class LeftOut:
    """A picture that does not enter the library.

    Attributes:
        source: short name of the source.
        file: which picture.
        reason: a few words, the same for all pictures of that kind.
        said: a sentence for a person who wants to mend it; "" where the reason says it all.
    """

    source: str
    file: str
    reason: str
    said: str = ""


class Source(Protocol):
    """Where pictures come from.

    Attributes:
        name: short, unique in a library; letters, digits and "-".
        own: the pictures are the user's own, who says under which words they may be used.
        notices: texts that must be kept in ATTRIBUTION.md, by the `source` of records; complete
            when all offers were given.
    """

    @property
    def name(self) -> str: ...
    @property
    def own(self) -> bool: ...
    @property
    def notices(self) -> Mapping[str, str]: ...

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """Everything that the source has, in an order that stays the same.

        Args:
            packages: folder for what is downloaded; a source that has it there does not fetch.

        Raises:
            DataError, InputError: the source cannot be had or read; the sentence says why.
        """
        ...


@dataclass(frozen=True)
class PictureFile:
    """Reads a picture file of any format that the program reads."""

    path: Path

    def __call__(self) -> Pixels:
        """Decode it, upright and in sRGB."""
        picture = read_any(self.path)
        return picture.colour, picture.alpha


@dataclass
class Taken:
    """Gives each picture of a source a name that no other one has.

    Example:
        >>> names = Taken()
        >>> names("Red Apple.png"), names("red-apple.png")
        ('red-apple-png', 'red-apple-png-2')
    """

    seen: set[str] = field(default_factory=set)

    def __call__(self, text: str) -> str:
        name = wanted = slug(text)
        number = 1
        while name in self.seen:
            number += 1
            name = f"{wanted}-{number}"
        self.seen.add(name)
        return name


def slug(text: str) -> str:
    """Letters, digits and "-" alone: a name that every system takes for a file."""
    letters = "".join(
        c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
    )
    short = re.sub(r"[^a-z0-9]+", "-", letters.lower()).strip("-")[:100].strip("-")
    return short or hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]
