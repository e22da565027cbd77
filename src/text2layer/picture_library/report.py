"""What is in a library and what was left out: `report.json` for programs, `report.html` for people.

The page is one file with its pictures inside, no script, no network.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from text2layer.files import writing
from text2layer.picture_library.offer import BACKGROUND, FOREGROUND, LeftOut

SHOWN = 60  # pictures of a source on its sheet
TILE, COLUMNS = 72, 15  # pixels, and pictures in a row
SAID = 20  # sentences of a reason on the page; report.json has all
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Picture library</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
h3 {{ font-size: 1rem; margin: 1.2rem 0 .3rem; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
img {{ display: block; max-width: 100%; }} .note {{ color: #8a4b08; }}
.tables {{ display: flex; flex-wrap: wrap; gap: 2rem; }}
</style></head><body><h1>Picture library</h1>
{body}
</body></html>
"""


@dataclass
class Built:
    """What a run did.

    Attributes:
        out: the library.
        records: of FOREGROUND and of BACKGROUND, as they are in the lists.
        left_out: pictures that are not in the library.
        missing: sources that could not be had, each with the sentence that says why.
        made: pictures that were made now; the others were there.
        seconds: that making them took.
        notices: what sources ask to keep in ATTRIBUTION.md.
    """

    out: Path
    records: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {FOREGROUND: [], BACKGROUND: []}
    )
    left_out: list[LeftOut] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    made: int = 0
    seconds: float = 0.0
    notices: dict[str, str] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """The content of `report.json`; it depends on the library alone, not on the run."""
        cut_outs, places = self.records[FOREGROUND], self.records[BACKGROUND]
        reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for item in self.left_out:
            reasons[item.source][item.reason] += 1
        return {
            "foregrounds": len(cut_outs),
            "backgrounds": len(places),
            "nameable": sum(bool(record.get("nameable", True)) for record in cut_outs),
            "sources": _counts([*cut_outs, *places], "source"),
            "licenses": _counts([*cut_outs, *places], "license"),
            "styles": _counts(cut_outs, "style"),
            "splits": _counts(cut_outs, "split"),
            "concepts": _counts(cut_outs, "concept"),
            "scenes": _counts(places, "scene"),
            "left_out": {source: dict(counts.most_common()) for source, counts in reasons.items()},
            "left_out_pictures": [vars(item) for item in self.left_out],
            "missing_sources": self.missing,
        }


def write_report(built: Built) -> None:
    """Write `report.json` and `report.html` into the library."""
    figures = built.figures()
    with writing(built.out / "report.json") as file:
        file.write((json.dumps(figures, indent=2, ensure_ascii=False) + "\n").encode())
    with writing(built.out / "report.html") as file:
        file.write(_page(built, figures).encode(errors="backslashreplace"))


def _counts(records: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    counted = Counter(str(record.get(name) or "not said") for record in records)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _page(built: Built, figures: Mapping[str, Any]) -> str:
    parts = [
        f"<p>{figures['foregrounds']} cut-outs of {len(figures['concepts'])} concepts, "
        f"{figures['nameable']} of them nameable; {figures['backgrounds']} backgrounds.</p>"
    ]
    for name, said in built.missing.items():
        parts.append(f'<p class="note">The source {escape(name)} is missing: {escape(said)}</p>')
    parts.append('<div class="tables">')
    for name in ("sources", "licenses", "styles", "splits", "scenes"):
        title = name.title().replace("Licenses", "Licences")
        parts.append(f"<div><h2>{title}</h2>{_table(figures[name])}</div>")
    parts.append("</div><h2>Concepts</h2><p>")
    parts.append(", ".join(f"{escape(n)} {count}" for n, count in figures["concepts"].items()))
    parts.append("</p><h2>Left out</h2>")
    for source, counts in figures["left_out"].items():
        parts.append(f"<h3>{escape(source)}</h3>{_table(counts)}")
        for reason in counts:
            of_reason = [i for i in built.left_out if (i.source, i.reason) == (source, reason)]
            lines = "".join(f"<li>{escape(i.said)}</li>" for i in of_reason[:SAID] if i.said)
            parts.append(f"<ul>{lines}</ul>" if lines else "")
    parts.append("<h2>Pictures</h2>")
    everything = [*built.records[FOREGROUND], *built.records[BACKGROUND]]
    by_source: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in everything:
        by_source[str(record["source"])].append(record)
    for source, records in by_source.items():
        address = base64.b64encode(_sheet(built.out, records)).decode()
        parts.append(
            f"<h3>{escape(source)}: {len(records)}</h3>"
            f'<img alt="some pictures of {escape(source)}" src="data:image/jpeg;base64,{address}">'
        )
    return PAGE.format(body="\n".join(parts))


def _table(counts: Mapping[str, int]) -> str:
    rows = (f"<tr><td>{escape(n)}</td><td class=n>{c}</td></tr>" for n, c in counts.items())
    return f"<table>{''.join(rows)}</table>"


def _sheet(out: Path, records: Sequence[Mapping[str, Any]]) -> bytes:
    """A JPEG with pictures of a source, evenly spread over its list."""
    count = min(SHOWN, len(records))
    chosen = [records[number * len(records) // count] for number in range(count)]
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (min(count, COLUMNS) * TILE, rows * TILE), (244, 244, 244))
    for number, record in enumerate(chosen):
        with Image.open(out / record["file"]) as picture:
            small = picture.convert("RGBA")
        small.thumbnail((TILE - 6, TILE - 6))
        left = number % COLUMNS * TILE + (TILE - small.width) // 2
        top = number // COLUMNS * TILE + (TILE - small.height) // 2
        sheet.paste(small, (left, top), small)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=80)
    return file.getvalue()
