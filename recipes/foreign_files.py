"""How many PSD and PSB files of other programs open, and do they look as they should?

    python recipes/foreign_files.py FOLDER [--each]

Loads every .psd and .psb below a folder as it is and with merge=True, and compares the composite
with psd-tools' compositor and with the preview in the file, both over white. A composite is alike
if no pixel is more than 2 levels away, nearly alike if 0.1 % of the pixels are. --each prints a
line for every file.
"""

import re
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from psd_tools import PSDImage

from text2layer import io
from text2layer.errors import FormatError
from text2layer.io.psd_merging import over_white

SUFFIXES = (".psd", ".psb")
CLOSE = 2  # levels
NEARLY = 0.001  # share of the pixels


def opened(path: Path, merge: bool) -> tuple[np.ndarray | None, str]:
    """The composite, or None; and the reason why not, without names."""
    try:
        return io.load(path, merge=merge).composite, "opens"
    except FormatError as error:
        reason = str(error).replace(str(path), "FILE")
        return None, re.sub(r'"[^"]*"', '"..."', reason).split(", which")[0]


def far(composite: np.ndarray, other: np.ndarray | None) -> float | None:
    """Share of the pixels that are more than `CLOSE` levels apart; None if they do not compare."""
    if other is None or other.shape != composite.shape:
        return None
    return float((np.abs(composite.astype(np.int16) - other) > CLOSE).any(-1).mean())


def references(path: Path) -> dict[str, np.ndarray | None]:
    """What psd-tools draws and what the file shows, (H, W, 3) uint8; None where there is none."""
    found: dict[str, np.ndarray | None] = {"psd-tools": None, "preview": None}
    try:
        document = PSDImage.open(path)
        found["preview"] = over_white(document.topil()) if document.has_preview() else None
        found["psd-tools"] = over_white(document.composite(ignore_preview=True))
    except Exception as error:  # whatever a stranger's file leads psd-tools to
        print(f"{path.name}: psd-tools: {type(error).__name__}: {error}", file=sys.stderr)
    return found


def judged(composite: np.ndarray, path: Path) -> str:
    """`alike`, `nearly alike`, or how far the nearer of both references is away."""
    shares = {name: far(composite, other) for name, other in references(path).items()}
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return "nothing to compare with"
    name = min(known, key=lambda one: known[one])
    if known[name] <= NEARLY:
        return "alike" if known[name] == 0 else "nearly alike"
    return f"differs ({known[name]:.1%} of the pixels from {name})"


def main(folder: str, *options: str) -> None:
    """Print the counts, by reason."""
    warnings.simplefilter("ignore")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    plain, merged, looks = Counter[str](), Counter[str](), Counter[str]()
    for path in paths:
        _, why = opened(path, merge=False)
        composite, why_merged = opened(path, merge=True)
        plain[why] += 1
        merged[why_merged] += 1
        look = "not opened" if composite is None else judged(composite, path)
        looks[look.split(" (")[0]] += 1
        if "--each" in options:
            print(f"{path.name}: {why}; merged: {why_merged}; {look}")
    print(f"{len(paths)} files")
    for title, counts in (("as it is", plain), ("with --merge", merged), ("composite", looks)):
        print(f"\n{title}")
        for what, count in counts.most_common():
            print(f"{count:5d}  {what}")


if __name__ == "__main__":
    main(*sys.argv[1:])
