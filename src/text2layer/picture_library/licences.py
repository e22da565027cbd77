"""Licences: which may enter a library, and the file that names everybody whose pictures are in it.

A picture enters with a licence that its package or its maker states, or not at all. Share-alike
asks that what is made from a picture has the same licence; whether a trained model is made from its
pictures is disputed, so such pictures stay out unless somebody decides otherwise.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

# licences that allow changed copies, also paid ones, by SPDX name; "*" is any version
FREE = re.compile(
    r"CC0(-1\.0)?|PDDL-1\.0|public[- ]domain|Unlicense|MIT|Apache-2\.0|BSD-[23]-Clause|ISC"
    r"|CC-BY-[1-4]\.\d(-[A-Z]{2})?|Zlib|0BSD",
    re.IGNORECASE,
)
SHARE_ALIKE = re.compile(r"CC-BY-SA|-SA-|\bA?L?GPL|ODbL|copyleft|share[- ]?alike|FAL\b", re.I)
FORBIDDING = re.compile(r"(?:^|-)(?:NC|ND)(?:-|$)|non-?commercial|no-?deriv", re.I)
MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
REFERENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-3.0-US": "https://creativecommons.org/licenses/by/3.0/us/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
    "public-domain": "dedicated to the public domain, or certified as such, by the named source",
}


def refusal(license_name: str, *, allow_share_alike: bool, own: bool) -> str | None:
    """Why a picture with this licence stays out, in a few words; None if it may enter.

    Args:
        license_name: SPDX name or words; "" is none.
        allow_share_alike: let share-alike licences in.
        own: the pictures are the user's, who says with which words; only an empty one is refused,
            and share-alike.

    Example:
        >>> refusal("CC-BY-SA-4.0", allow_share_alike=False, own=False)
        'share-alike licence'
    """
    name = license_name.strip()
    if not name:
        return "no licence"
    if FORBIDDING.search(name) and not own:
        return "licence forbids changes or paid use"
    if SHARE_ALIKE.search(name):
        return None if allow_share_alike else "share-alike licence"
    if own:
        return None
    return None if FREE.fullmatch(name) else "unknown licence"


def attribution(records: Iterable[Mapping[str, Any]], notices: Mapping[str, str]) -> str:
    """ATTRIBUTION.md: every maker by source and licence, with the files, and the licences' notices.

    Args:
        records: of cut-outs and backgrounds alike.
        notices: text that a source asks to keep, by the record's `source`.
    """
    rows: Counter[tuple[str, str]] = Counter()
    makers: defaultdict[tuple[str, str], defaultdict[str, list[str]]]
    makers = defaultdict(lambda: defaultdict(list))
    for record in records:
        key = (str(record["source"]), str(record["license"]))
        rows[key] += 1
        makers[key][str(record.get("author") or "")].append(str(record["source_file"]))
    lines = [
        "# Attribution and licences",
        "",
        "Each picture's source, file, licence and author are in `foregrounds.jsonl` and",
        "`backgrounds.jsonl`. All pictures were changed: rendered or rasterised, cropped, scaled",
        "down, encoded again; colours under transparent pixels were filled in.",
        "",
        "| source | licence | pictures |",
        "|---|---|---|",
        *(f"| {source} | {name} | {count} |" for (source, name), count in sorted(rows.items())),
        "",
        "## Licences",
        "",
    ]
    for name in sorted({name for _, name in rows}):
        lines.append(f"- {name}" + (f": {REFERENCES[name]}" if name in REFERENCES else ""))
    for (source, name), by_author in sorted(makers.items()):
        lines += ["", f"## {source} ({name})", ""]
        for author, files in sorted(by_author.items()):
            lines.append(f"- {author or 'author not named'}: {_files(files)}")
        if notice := notices.get(source, "").strip():
            lines += ["", "```", notice, "```"]
    return "\n".join(lines) + "\n"


def _files(files: list[str]) -> str:
    """Each file of an author once; of one file with many pictures, how many."""
    counted = Counter(name.partition("#")[0] for name in files)
    said = [f"{name} ({n} pictures)" if n > 1 else name for name, n in sorted(counted.items())]
    return ", ".join(said)
