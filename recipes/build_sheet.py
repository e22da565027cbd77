"""Draw what a build kept and what it rejected, one row for each reason.

    python recipes/build_sheet.py BUILD OUT.png [--silhouettes]

The pictures are the build's own examples (the first that its workers met, uncurated): photo, mask,
cut-out and fill, as far as the photo came. `--silhouettes` shows the masks alone: no photo is
passed on with such a sheet, which is why the one in docs/ is made that way.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from text2layer.data.contact_sheet import grid
from text2layer.photos.examples import GAP, KEPT

PER_ROW = 6
# pictures in a strip, by the stage that rejected the photo; after the mask's stages it is 2
PICTURES = {KEPT: 4, "fill quality": 4, "index": 1, "decode": 1}


def mask_of(example: dict[str, Any], folder: Path) -> np.ndarray | None:
    """The second picture of a strip, or None if the photo came to no mask."""
    count = PICTURES.get(example.get("stage", KEPT), 2)
    if count < 2:
        return None
    strip = np.asarray(Image.open(folder / example["file"]).convert("L"))
    width = (strip.shape[1] - (count - 1) * GAP) // count  # all pictures of a strip are as wide
    return strip[:, width + GAP : 2 * width + GAP]


def main() -> None:
    """Read the report, draw the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--silhouettes", action="store_true")
    options = parser.parse_args()
    report = json.loads((options.build / "report.json").read_text(encoding="utf-8"))
    counts = {"kept": report["kept"]}
    for stage, reasons in report["rejected"].items():
        counts |= {f"{stage}: {reason}": count for reason, count in reasons.items()}
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    for example in report["examples"]:
        kind = "kept" if "reason" not in example else f"{example['stage']}: {example['reason']}"
        path = options.build / "examples" / example["file"]
        picture: np.ndarray | None = np.asarray(Image.open(path).convert("RGB"))
        if options.silhouettes:
            picture = mask_of(example, path.parent)
        if picture is not None and len(rows[kind]) < (PER_ROW if options.silhouettes else 3):
            rows[kind].append(picture)
    kinds = [kind for kind in counts if rows[kind]]
    captions = [f"{kind} ({counts[kind]})" for kind in kinds]
    sheet = grid([rows[kind] for kind in kinds], captions)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
