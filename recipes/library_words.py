"""How a picture library's words differ from those of the rules: every difference, and shares.

    python recipes/library_words.py LIBRARY PACKAGES

LIBRARY has `foregrounds.jsonl`. PACKAGES has the packages as `npm pack` and `apt-get download`
write them: `iconify-json-noto-1.2.9.tgz`, ..., `emojibase-data-17.0.0.tgz`, and the `.deb` files
`sweethome3d-furniture_*` and `openclipart-svg_*`. Prints a line for each different field of a
record, then for each source the share of records whose field is equal. The exit status is 1 if a
share of caption, concept or nameable is below 98 %.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from text2layer.picture_library.emoji import EmojiNames
from text2layer.picture_library.package_facts import (
    drawing_facts,
    furniture_facts,
    furniture_models,
)
from text2layer.picture_library.words import (
    CLIP_ART,
    EMOJI_SETS,
    FURNITURE,
    MODELS,
    Words,
    describe,
)

FIELDS = ("caption", "concept", "nameable", "tags", "group", "style", "split", "held_out_drawing")
ASKED = FIELDS[:3]
LEAST = 0.98
MAKERS = ("Kenney ", "KayKit ")  # of packs of models, which need no package to be worded
SVG_FOLDER = "usr/share/openclipart/svg"
Worded = Callable[[str], Words | None]  # a record's source_file to its words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--quiet", action="store_true", help="shares alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        worded = dict(sources(arguments.packages, Path(folder)))
        worded[MODELS] = lambda source_file: describe(MODELS, source_file)
        equal, records = compare(arguments.library, worded, arguments.quiet)
    low = report(equal, records)
    sys.exit(f"Below {LEAST:.0%}: {', '.join(low)}." if low else 0)


def compare(
    library: Path, worded: Mapping[str, Worded], quiet: bool
) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Print differences; count equal fields by (source, field), and records by source."""
    equal: Counter[tuple[str, str]] = Counter()
    records: Counter[str] = Counter()
    lines = (library / "foregrounds.jsonl").read_text(encoding="utf-8").splitlines()
    for record in map(json.loads, lines):
        source = short_source(record["source"])
        if source not in worded:
            records[f"({record['source']}: no rule)"] += 1
            continue
        records[source] += 1
        words = worded[source](record["source_file"])
        if words is None or words.left_out:
            reason = words.left_out if words else "no such picture in the package"
            print(f"{record['id']}: left out by the rules: {reason}")
            continue
        for field in fields_of(source):
            rule, there = getattr(words, field), record.get(field)
            if (list(rule) if field == "tags" else rule) == there:
                equal[source, field] += 1
            elif not quiet:
                print(f"{record['id']}: {field}: rule {rule!r}, library {there!r}")
    return equal, records


def report(equal: Mapping[tuple[str, str], int], records: Mapping[str, int]) -> list[str]:
    """Print the table of shares; the sources and fields that are asked for and below LEAST."""
    print("source".ljust(24), "records", *(field.rjust(9) for field in FIELDS))
    low = []
    known = {source: count for source, count in records.items() if not source.startswith("(")}
    for source, count in known.items():
        shares = {field: equal.get((source, field), 0) / count for field in fields_of(source)}
        cells = (f"{shares[field]:9.2%}" if field in shares else " " * 9 for field in FIELDS)
        print(source.ljust(24), str(count).rjust(7), *cells)
        low += [f"{source} {field}" for field in ASKED if shares[field] < LEAST]
    sums = []
    for field in FIELDS:
        asked = sum(count for source, count in known.items() if field in fields_of(source))
        found = sum(count for (_, name), count in equal.items() if name == field)
        sums.append(f"{found / max(asked, 1):9.2%}")
    print("all".ljust(24), str(sum(known.values())).rjust(7), *sums)
    for source, count in records.items():
        if source.startswith("("):
            print(source, count)
    return low


def fields_of(source: str) -> tuple[str, ...]:
    """What is compared. The group of a model of a pack is its path, which folders change."""
    return tuple(field for field in FIELDS if source != MODELS or field != "group")


def short_source(source: str) -> str:
    """`@iconify-json/noto==1.2.9` is noto; packs of models are all one."""
    if source.startswith(MAKERS):
        return MODELS
    return source.partition("==")[0].rpartition("/")[2]


def sources(packages: Path, folder: Path) -> Iterator[tuple[str, Worded]]:
    """Every source that has a package in `packages`, unpacked below `folder`."""
    npm = {}
    for archive in sorted(packages.glob("*.tgz")):
        name = re.sub(r"^(?:iconify-json|lobehub)-|-\d[\d.]*\.tgz$", "", archive.name)
        if name in EMOJI_SETS or name == "emojibase-data":
            with tarfile.open(archive) as tar:
                tar.extractall(folder / name, filter="data")
            npm[name] = folder / name / "package"
    if "emojibase-data" in npm:
        emojibase = npm.pop("emojibase-data")
        names = EmojiNames.read(emojibase, {s: npm[s] for s in EMOJI_SETS if s in npm and icons(s)})
        for source in npm:
            yield source, of_emoji(names, source)
    for source in (FURNITURE, CLIP_ART):
        for archive in sorted(packages.glob(f"{source}_*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, folder / source], check=True)
            yield source, of_debian(source, folder / source)


def icons(source: str) -> bool:
    """Whether a set has icons.json; the files of the other are named by code point."""
    return source != "fluent-emoji-3d"


def of_emoji(names: EmojiNames, source: str) -> Worded:
    def words(source_file: str) -> Words | None:
        icon = source_file.partition("#")[2] or PurePosixPath(source_file).stem
        facts = names.facts(source, icon)
        return describe(source, icon, **facts) if facts else None

    return words


def of_debian(source: str, folder: Path) -> Worded:
    catalogue: dict[str, dict[str, Any]] = {}
    for sh3f in sorted(folder.glob("usr/share/sweethome3d/furniture/*.sh3f")):
        for model, properties in furniture_models(sh3f):
            catalogue[model] = furniture_facts(properties)

    def words(source_file: str) -> Words | None:
        if source == FURNITURE:
            facts = catalogue.get(source_file)
            return describe(source, source_file, **facts) if facts else None
        file = folder / source_file
        if not file.is_file():
            return None
        name = file.relative_to(folder / SVG_FOLDER).as_posix()
        return describe(source, name, **drawing_facts(file.read_bytes()))

    return words


if __name__ == "__main__":
    main()
