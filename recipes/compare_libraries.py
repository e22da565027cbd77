"""How two picture libraries differ, source by source: records and pictures.

    python recipes/compare_libraries.py MADE REFERENCE [--limit 300] [--json OUT.json]

A record of MADE is compared with the one of REFERENCE that has the same id. *Equal* says the same
in every field of WORDS and FACTS; the version of a package aside. *Different* lists the fields.
*Missing* is in REFERENCE alone, *more* in MADE alone. With --limit only the sources' first records
of MADE count, and missing ones cannot be told. Of pictures it says the median overlap of the masks
(soft IoU) and the median colour error inside (RMS of 8-bit values), empty margins cut off, at the
smaller one's size.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

WORDS = ("caption", "concept", "tags", "nameable", "scene", "time", "seen", "has_subject")
FACTS = ("style", "license", "author", "source_file", "group", "split", "held_out_drawing", "view")
MEASURED = ("color",)  # from pixels, by another rule
SHOWN = 12  # differences of a field that are printed
LISTS = ("foregrounds.jsonl", "backgrounds.jsonl")


def read(library: Path) -> dict[str, dict]:
    """Records by id."""
    lines = [line for name in LISTS for line in (library / name).read_text().splitlines()]
    return {record["id"]: record for record in map(json.loads, lines)}


def source_of(record: dict) -> str:
    """The folder of a record's picture: the source, whatever its version."""
    return str(Path(record["file"]).parent)


def differences(made: dict, reference: dict) -> dict[str, tuple]:
    """Fields that differ, as (made, reference)."""

    def value(record: dict, name: str) -> object:
        given = record.get(name)
        return sorted(given) if isinstance(given, list) else given or None

    pairs = {n: (value(made, n), value(reference, n)) for n in (*WORDS, *FACTS, *MEASURED)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def likeness(made: Path, reference: Path) -> tuple[float, float]:
    """Soft IoU of the masks, and RMS of the colours where both are opaque, 0 to 255."""
    with Image.open(made) as one, Image.open(reference) as other:
        whole = [picture.convert("RGBA") for picture in (one, other)]
    cropped = [picture.crop(picture.getchannel("A").getbbox()) for picture in whole]
    size = tuple(map(min, *(picture.size for picture in cropped)))
    pixels = [
        np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32) for picture in cropped
    ]
    alphas = [part[..., 3] / 255 for part in pixels]
    union = np.maximum(*alphas).sum()
    inside = np.minimum(*alphas) > 0.9
    squares = (pixels[0][..., :3] - pixels[1][..., :3])[inside] ** 2
    error = float(np.sqrt(squares.mean())) if inside.any() else 0.0
    return float(np.minimum(*alphas).sum() / union) if union else 1.0, error


def compare(made: Path, reference: Path, limit: int = 0) -> dict[str, dict]:
    """Counts, differences and likeness by source."""
    ours, theirs = read(made), read(reference)
    sources: dict[str, dict] = {}
    by_source: defaultdict[str, list[str]] = defaultdict(list)
    for name, record in {**theirs, **ours}.items():
        by_source[source_of(record)].append(name)
    for source, names in sorted(by_source.items()):
        present = [name for name in names if name in ours]
        if not present:
            continue
        common = [name for name in present if name in theirs]
        found = {name: differences(ours[name], theirs[name]) for name in common}
        fields = Counter(field for pairs in found.values() for field in pairs)
        sample = common[:: max(len(common) // 100, 1)]
        alike = [likeness(made / ours[n]["file"], reference / theirs[n]["file"]) for n in sample]
        examples: defaultdict[str, list] = defaultdict(list)
        for name, pairs in found.items():
            for field, pair in pairs.items():
                examples[field].append([name, *pair])
        sources[source] = {
            "made": len(present),
            "reference": sum(name in theirs for name in names),
            "equal": sum(not set(pairs) - set(MEASURED) for pairs in found.values()),
            "equal in words": sum(not set(pairs) & set(WORDS) for pairs in found.values()),
            "equal with colour": sum(not pairs for pairs in found.values()),
            "missing": [] if limit else [n for n in names if n in theirs and n not in ours],
            "more": [name for name in present if name not in theirs],
            "fields": dict(fields.most_common()),
            "differences": dict(examples),
            "mask overlap": round(median(a for a, _ in alike), 4) if alike else None,
            "colour error": round(median(b for _, b in alike), 2) if alike else None,
        }
    return sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("made", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--limit", type=int, default=0, help="MADE was made with this --limit")
    parser.add_argument("--json", type=Path, help="all differences, to this file")
    given = parser.parse_args()
    result = compare(given.made, given.reference, given.limit)
    print("| source | made | reference | equal | in words | missing | more | overlap | colour |")
    print("|---|---|---|---|---|---|---|---|---|")
    for source, row in result.items():
        print(
            f"| {source} | {row['made']} | {row['reference']} | {row['equal']} "
            f"| {row['equal in words']} | {len(row['missing']) if not given.limit else '-'} "
            f"| {len(row['more'])} | {row['mask overlap']} | {row['colour error']} |"
        )
    for source, row in result.items():
        for field, pairs in row["differences"].items():
            print(f"\n{source}: {field} differs {len(pairs)} times")
            for name, one, other in pairs[:SHOWN]:
                print(f"  {name}: {one!r} / {other!r}")
        for kind in ("missing", "more"):
            if row[kind]:
                print(f"\n{source}: {kind}: {', '.join(row[kind][: 4 * SHOWN])}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
