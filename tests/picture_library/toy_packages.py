"""Packages as they lie unpacked in a library's folder `packages`: real formats, a few drawings."""

import json
from pathlib import Path

from text2layer.picture_library.icons import EMOJIBASE, ICON_SETS
from text2layer.picture_library.offer import slug

EMOJI = {  # code -> label, subgroup's number
    "1F34E": ("red apple", 0),
    "1F98A": ("fox", 1),
    "1F600": ("grinning face", 2),
    "1F1EB-1F1F7": ("flag: France", 3),
}
SUBGROUPS = ("food-fruit", "animal-mammal", "face-smiling", "country-flag")
BODIES = {
    "red-apple": '<circle cx="16" cy="18" r="11" fill="#d62828"/>',
    "red-apple-dark": '<circle cx="16" cy="18" r="11" fill="#222"/>',
    "fox": '<path fill="#f08214" d="M4 4l12 8l12-8v24H4z"/>'
    '<path fill="#45413c" d="M2 30h28v2H2z" opacity=".15"/>',
    "grinning-face": '<circle cx="16" cy="16" r="14" fill="#fc3"/>',
    "flag-france": '<path fill="#00f" d="M0 0h32v32H0z"/>',
}


def write_packages(folder: Path, *, licence: dict[str, str] | None = None) -> Path:
    """emojibase-data and every set of the table, below `folder`."""
    english = folder / slug(EMOJIBASE.title) / "en"
    english.mkdir(parents=True)
    data = [
        {"hexcode": code, "label": label, "tags": [label.split()[-1]], "subgroup": number}
        for code, (label, number) in EMOJI.items()
    ]
    (english / "data.json").write_text(json.dumps(data))
    groups = [{"key": key, "order": number} for number, key in enumerate(SUBGROUPS)]
    (english / "messages.json").write_text(json.dumps({"subgroups": groups}))
    for icons in ICON_SETS:
        package = folder / slug(icons.package.title)
        package.mkdir()
        stated = (licence or {}).get(icons.name, icons.stated)
        if icons.words == "fluent-emoji-3d":
            (package / "package.json").write_text(json.dumps({"license": stated}))
            (package / "assets").mkdir()
            _icon().save(package / "assets" / "1f34e.webp")
            continue
        content = {"width": 32, "height": 32, "icons": {k: {"body": b} for k, b in BODIES.items()}}
        (package / "icons.json").write_text(json.dumps(content))
        (package / "chars.json").write_text(json.dumps({"1f34e": "red-apple", "1f98a": "fox"}))
        (package / "info.json").write_text(json.dumps({"license": {"spdx": stated}}))
    return folder


def _icon():
    from tests.picture_library.own_pictures import cut_out

    return cut_out((214, 40, 40), "ellipse", (256, 256))
