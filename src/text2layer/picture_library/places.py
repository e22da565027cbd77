"""Backgrounds of Debian packages that somebody has looked at and described: `tables/places.tsv`.

`tables/seen.tsv` lists what is seen in them, and in pictures that this program does not fetch.

Another version of a package may have another picture under a known name. So a row says what its
picture looks like, in 64 bits, and a picture that looks otherwise stays out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from PIL import Image

from text2layer.files import file_sha256
from text2layer.io.pictures import read_any
from text2layer.picture_library.offer import BACKGROUND, LeftOut, Offer, PictureFile
from text2layer.picture_library.packages import DebianPackage, fetch_debian
from text2layer.picture_library.tables import column, rows

GAME = DebianPackage(
    "endless-sky-data",
    {"0.9.8-1.2": "e45835e05a11e84bb1a890a0ded390246a53b8318f21a25925aa70fa54f80c13"},
)
LARGE = DebianPackage(
    "endless-sky-high-dpi",
    {"0.9.8-1": "44170b9aad0ecc8f5a39d8c6b1af233100cfc6bc0bab2352d62fb014b5099164"},
)
WALLPAPERS = DebianPackage(
    "lomiri-wallpapers-16.04",
    {"20.04.0-2": "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab"},
)


@dataclass(frozen=True)
class Folder:
    """Where a package has its pictures.

    Attributes:
        package: of Debian.
        pictures: the folder of its pictures.
        stated_by: package whose copyright file speaks of them.
        stated_as: what stands there before the file's name.
        suffix: what the file's name has behind the name of the table.
    """

    package: DebianPackage
    pictures: str
    stated_by: DebianPackage
    stated_as: str
    suffix: str = ""


MOST_UNLIKE = 10  # bits of 64; the same picture in two versions has 0 to 6, others 16 and more
PARTED = "; "  # what stands between the things of a row
LAND = "images/land/"
PLUGIN = "usr/share/games/endless-sky/plugins/endless-sky-high-dpi/"
FOLDERS = {  # by column `set`; the first folder that has a picture gives it
    "endless-sky": (
        Folder(LARGE, PLUGIN + LAND, GAME, LAND, "@2x"),
        Folder(GAME, "usr/share/games/endless-sky/" + LAND, GAME, LAND),
    ),
    "lomiri-wallpapers": (
        Folder(WALLPAPERS, "usr/share/backgrounds/", WALLPAPERS, "16.04/"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a Debian copyright file: patterns of names, who made them, the licence."""

    patterns: tuple[str, ...]
    holder: str
    license: str


@dataclass(frozen=True)
class Places:
    """The backgrounds of one set of the table.

    Attributes:
        name: of the set in FOLDERS.
    """

    name: str
    own: bool = False
    notices: dict[str, str] = field(default_factory=dict)

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """Every row of the table whose picture the system's packages have; see `Source`."""
        opened = []
        for place in FOLDERS[self.name]:
            folder, version = fetch_debian(place.package, packages)
            doc, _ = fetch_debian(place.stated_by, packages)
            text = (doc / f"usr/share/doc/{place.stated_by.name}/copyright").read_text("utf-8")
            opened.append((place, folder, version, tuple(paragraphs(text))))
        for row in rows("places"):
            if row["set"] != self.name:
                continue
            for place, folder, version, stated in opened:
                files = sorted((folder / place.pictures).glob(f"{row['file']}{place.suffix}.*"))
                if files:
                    if unlikeness(looks(files[0]), row["looks"]) > MOST_UNLIKE:
                        yield LeftOut(
                            self.name, row["file"], "another picture than the one described"
                        )
                        break
                    license_name, holder = licence_of(f"{place.stated_as}{row['file']}"
                                                      f"{files[0].suffix}", stated)  # fmt: skip
                    yield self._offer(row, place, files[0], version, license_name, holder)
                    break
            else:
                yield LeftOut(self.name, row["file"], "not in this system's version of the package")

    def _offer(
        self, row: Mapping[str, str], place: Folder, file: Path, version: str, license: str,
        holder: str,
    ) -> Offer:  # fmt: skip
        record = {
            "caption": row["caption"], "scene": row["scene"], "time": row["time"],
            "has_subject": row["subject"] == "yes", "split": row["split"],
            "source": f"{place.package.name}=={version}",
            "source_file": f"{place.pictures}{file.name}", "license": license, "author": holder,
        }  # fmt: skip
        things = seen_in(row["name"])
        record |= {"seen": things} if things else {}
        return Offer(
            BACKGROUND, self.name, row["name"], file_sha256(file), record, PictureFile(file)
        )


def place_sources() -> list[Places]:
    """Every set of the table."""
    return [Places(name) for name in FOLDERS]


def seen_in(name: str) -> list[str]:
    """What is seen in a background, the most important first; nothing where nobody has looked.

    Example:
        >>> seen_in("land-fog11")
        ['pine trees', 'thick fog', 'dark trees', 'a pale sky']
    """
    told = column("seen", "name", "seen").get(name, "")
    return told.split(PARTED) if told else []


def looks(file: Path) -> str:
    """What a picture looks like, as 16 hexadecimal digits: where brightness falls to the right.

    The difference hash of N. Krawetz (hackerfactor.com, 2013): 8 rows of 9 grey means. Scaling and
    compression change few bits, and two pictures differ in about half of them.
    """
    colour = Image.fromarray(read_any(file).colour).convert("L")
    grey = np.asarray(colour.resize((9, 8), Image.Resampling.BOX))
    return np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes().hex()


def unlikeness(one: str, other: str) -> int:
    """How many of the 64 bits of `looks` differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def paragraphs(copyright_file: str) -> Iterator[Paragraph]:
    """The paragraphs about files of a copyright file in Debian's machine-readable format 1.0."""
    for block in re.split(r"\n\s*\n", copyright_file):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if "Files" in fields:
            yield Paragraph(
                tuple(fields["Files"].split()),
                _holder(fields.get("Copyright", "")),
                fields.get("License", "").splitlines()[0] if fields.get("License") else "",
            )


def licence_of(name: str, stated: tuple[Paragraph, ...]) -> tuple[str, str]:
    """Licence and holder of a file.

    A paragraph that names the file wins over those with wildcards, whatever their order. Of
    wildcards the last one wins, as the format says; but where one that speaks of less than a whole
    folder asks for share-alike, it does: the file of a contributor also begins like others.

    Returns:
        The licence as stated, "" if nothing is; and who holds the rights, "" if nobody is named.
    """
    by_name = [one for one in stated if name in one.patterns]
    matching = [
        one for one in stated if any(fnmatchcase(name, pattern) for pattern in one.patterns)
    ]
    alike = [
        one for one in matching
        if "-SA-" in one.license
        and any(fnmatchcase(name, p) and not p.endswith("/*") and p != "*" for p in one.patterns)
    ]  # fmt: skip
    for group in (by_name, alike, matching):
        if group:
            license_name = group[-1].license
            return ("CC0-1.0" if license_name in ("CC0", "CC-0") else license_name,
                    group[-1].holder)  # fmt: skip
    return "", ""


def _holder(text: str) -> str:
    """Who holds the rights, without years, addresses and remarks; "" for nobody in particular."""
    first = " ".join(text.split())
    plain = re.sub(r"[(<][^)>]*[)>]|\b\d{4}(?:-\d{4})?\b[.,]?", "", first).strip(" ,.")
    plain = " ".join(plain.split())
    return "" if plain.lower() in ("various", "n/a") else plain
