"""What a source says of a photo, under the many names that sources have for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from text2layer.errors import InputError

# what fields are called by img2dataset, by data sets on hubs and by people; the first found counts
NAMES = {
    "caption": ("caption", "text", "alt", "description", "title"),
    "license": ("license", "licence", "rights"),
    "author": ("author", "creator", "artist", "photographer", "credit"),
    "source": ("source", "url", "original_url", "page"),
}
NAME_SHOWN, NAMES_SHOWN = 40, 10  # characters of a column's name, and columns, in a sentence
FILE_NAMES = ("file", "path", "filename", "file_name", "image", "image_path")
# any value but a plain no counts; the last is that of the TDM Reservation Protocol
OPT_OUT_NAMES = ("opt_out", "optout", "noai", "noimageai", "do_not_train", "tdm_reservation")
NO = ("", "0", "0.0", "false", "no", "n", "off", "none", "null", "nan")
ROBOTS_NAMES = ("x_robots_tag", "robots")  # count if they hold one of these words:
OPT_OUT_WORDS = re.compile(r"\b(noai|noimageai|noindex|noimageindex)\b", re.I)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
KNOWN = {*sum(NAMES.values(), ()), *OPT_OUT_NAMES, *ROBOTS_NAMES}


def known_fields(fields: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Caption, license, author, source and opt_out of a row or JSON object, by any known name.

    `place` stands for a source that is not named.

    Example:
        >>> known_fields({"TEXT": "a cat", "licence": "CC0-1.0", "x-robots-tag": "noai"})["opt_out"]
        True
    """
    lower = {field_name(str(name)): value for name, value in fields.items()}
    said: dict[str, Any] = {}
    for name, aliases in NAMES.items():
        found = (_first_text(lower.get(alias)) for alias in aliases)
        said[name] = next((text for text in found if text), "")
    said["source"] = said["source"] or clean_text(place)
    said["opt_out"] = any(
        str(item).strip().lower() not in NO
        for name in OPT_OUT_NAMES
        for item in _items(lower, name)
    ) or any(OPT_OUT_WORDS.search(str(i)) for name in ROBOTS_NAMES for i in _items(lower, name))
    return said


def clean_text(text: str) -> str:
    """One line; control characters become blanks, lone surrogates (half an emoji) "?"."""
    return " ".join(CONTROL.sub(" ", text).encode(errors="replace").decode().split())


def _first_text(value: Any) -> str:
    """The text of a field; of several the first that is not empty."""
    values = value if isinstance(value, list | tuple) else [value]
    return next((text for v in values if isinstance(v, str) and (text := clean_text(v))), "")


def _items(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    return list(value) if isinstance(value, list | tuple) else [value]


def field_name(name: str) -> str:
    """A column's or field's name as it is compared: "X-Robots-Tag" is x_robots_tag."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def file_column(names: Iterable[Any], table: object) -> str:
    """The column of a table that names files; InputError if there is none."""
    by_lower = {field_name(str(name)): str(name) for name in names}
    for name in FILE_NAMES:
        if name in by_lower:
            return by_lower[name]
    found = [  # a file of another kind has "columns" too, long ones and no text
        "".join(letter if letter.isprintable() else "?" for letter in str(name)[:NAME_SHOWN])
        for name in names
    ]
    more = f" and {len(found) - NAMES_SHOWN} more" if len(found) > NAMES_SHOWN else ""
    raise InputError(
        f"'{table}' has no column of files (one of {', '.join(FILE_NAMES)}); it has "
        f"{', '.join(found[:NAMES_SHOWN]) or 'none'}{more}."
    )


def windows_text(data: bytes) -> str:
    """Text in Windows-1252; "" if it is not."""
    try:
        text = data.decode("cp1252").strip()
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text


def repaired(text: Any) -> Any:
    """A field of a table that is UTF-8 but for some rows, which are read as Windows-1252."""
    if not isinstance(text, str):
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return windows_text(text.encode("utf-8", "surrogateescape"))
