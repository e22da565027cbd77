"""Icon sets of npm: emoji that several hands drew, as SVG in one JSON file or as pictures.

`ICON_SETS` is the table: add a set by a line. Which icons enter, and with which words, is decided
by `picture_library/words.py` and its tables.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2layer.errors import DataError
from text2layer.files import file_sha256
from text2layer.picture_library.emoji import EmojiNames
from text2layer.picture_library.licences import MIT
from text2layer.picture_library.offer import (
    FOREGROUND,
    LeftOut,
    Offer,
    PictureFile,
    Taken,
)
from text2layer.picture_library.packages import NpmPackage, fetch_npm
from text2layer.picture_library.svg import Svg, check_svg
from text2layer.picture_library.words import describe

SHADOW = re.compile(r'<(?:path|ellipse|circle)[^>]*\sopacity="\.15"[^>]*/>')

EMOJIBASE = NpmPackage(
    "emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"
)


@dataclass(frozen=True)
class IconSet:
    """A set of icons.

    Attributes:
        name: of the source in the library, and folder of its pictures.
        words: of the source in `words.EMOJI_SETS`.
        package: where the icons are.
        stated: licence that the package states; another one stops the source.
        license: of the artwork, which differs where the package states that of its code.
        author: whom records name.
        copyright: line that the licence asks to keep.
        without_shadow: drop the shadows on the ground (opacity .15) that the set draws.
    """

    name: str
    words: str
    package: NpmPackage
    stated: str
    license: str
    author: str
    copyright: str = ""
    without_shadow: bool = False


def _iconify(
    name: str, version: str, sha256: str, license: str, author: str, **more: Any
) -> IconSet:
    stated = more.pop("stated", license)
    package = NpmPackage(f"@iconify-json/{name}", version, sha256)
    return IconSet(name, name, package, stated, license, author, **more)


ICON_SETS = (
    IconSet(
        "fluent3d", "fluent-emoji-3d",
        NpmPackage(
            "@lobehub/fluent-emoji-3d", "1.1.0",
            "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        ),
        "MIT", "MIT", "Microsoft (Fluent Emoji); packaged by LobeHub",
        "Copyright (c) Microsoft Corporation (Fluent Emoji); Copyright (c) 2023 LobeHub",
    ),
    _iconify("noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
             "Apache-2.0", "Google Inc. (Noto Emoji)"),
    _iconify("twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
             "CC-BY-4.0", "Twitter, Inc and other contributors"),
    _iconify("noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
             "Apache-2.0", "Google Inc"),
    _iconify("emojione", "1.2.3",
             "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
             "CC-BY-4.0", "EmojiOne / EmojiTwo"),
    # the package states the licence of the project's code; its artwork is CC-BY-4.0
    _iconify("fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
             "CC-BY-4.0", "Mozilla Foundation", stated="Apache-2.0"),
    _iconify("streamline-emojis", "1.2.4",
             "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
             "CC-BY-4.0", "Streamline", without_shadow=True),
    _iconify("fluent-emoji-flat", "1.2.6",
             "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
             "MIT", "Microsoft Corporation", copyright="Copyright (c) Microsoft Corporation"),
)  # fmt: skip


@dataclass(frozen=True)
class IconSource:
    """A set of the table as a source."""

    icons: IconSet
    own: bool = False
    notices: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.icons.name

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """Every icon that draws an emoji, in the order of the package; see `Source`."""
        check_svg()
        emojibase = fetch_npm(EMOJIBASE, packages)
        sets = {
            one.words: fetch_npm(one.package, packages)
            for one in ICON_SETS
            if one.package.name.startswith("@iconify-json/")
        }
        folder = fetch_npm(self.icons.package, packages)
        _check_licence(self.icons, folder)
        if self.icons.copyright:
            self.notices[self.icons.package.title] = f"{self.icons.copyright}\n\n{MIT}"
        names = EmojiNames.read(emojibase, sets)
        taken = Taken()
        drawings = _pictures(folder) if self.icons.words not in sets else _svgs(self.icons, folder)
        for key, file, stamp, read in drawings:
            facts = names.facts(self.icons.words, key)
            if facts is None:
                yield LeftOut(self.name, file, "no emoji of its own: a skin tone or another form")
                continue
            words = describe(self.icons.words, key, **facts)
            if words.left_out:
                yield LeftOut(self.name, file, words.left_out)
                continue
            called = str(facts["label"]) if read.__class__ is PictureFile else key
            yield Offer(
                FOREGROUND, self.name, taken(called), stamp,
                {
                    **words.record(), "source": self.icons.package.title,
                    "source_file": file, "license": self.icons.license,
                    "author": self.icons.author,
                },
                read, may_be_opaque=True,  # an envelope fills its rectangle; tables drop the tiles
            )  # fmt: skip


def icon_sources() -> list[IconSource]:
    """Every set of the table."""
    return [IconSource(icons) for icons in ICON_SETS]


def svg_of(icon: Mapping[str, Any], icons: Mapping[str, Any], *, without_shadow: bool) -> str:
    """An SVG document of an Iconify icon; sizes that it does not say are those of its set."""
    left, top, width, height = (
        icon.get(name, icons.get(name, default))
        for name, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    body = SHADOW.sub("", icon["body"]) if without_shadow else icon["body"]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def _svgs(icons: IconSet, folder: Path) -> Iterator[tuple[str, str, str, Any]]:
    content = _json(folder / "icons.json")
    for key, icon in content["icons"].items():
        text = svg_of(icon, content, without_shadow=icons.without_shadow)
        stamp = hashlib.sha256(text.encode()).hexdigest()
        yield key, f"icons.json#{key}", stamp, Svg(text)


def _pictures(folder: Path) -> Iterator[tuple[str, str, str, Any]]:
    for path in sorted((folder / "assets").iterdir()):
        if path.suffix in (".webp", ".png"):
            yield path.stem, f"assets/{path.name}", file_sha256(path), PictureFile(path)


def _check_licence(icons: IconSet, folder: Path) -> None:
    """The licence that the package's own files state must be the one that was looked at."""
    info = folder / "info.json"
    if info.is_file():
        stated = str(_json(info).get("license", {}).get("spdx") or "")
    else:
        stated = str(_json(folder / "package.json").get("license") or "")
    if stated != icons.stated:
        raise DataError(
            f"{icons.package.title} states the licence {stated or 'of nobody'}, not "
            f"{icons.stated}; look at it before its pictures are used."
        )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}' cannot be read ({error}); delete its folder.") from None
    if not isinstance(content, dict):
        raise DataError(f"'{file}' holds no JSON object; delete its folder.")
    return content
