"""The tables of words beside this file: `tables/*.tsv`, one row a line, columns parted by tabs.

A table is sorted by its first column and has a header line, which names the columns. People edit
them; docs/picture-library-words.md says which table decides what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from text2layer.errors import DataError

FOLDER = Path(__file__).with_name("tables")


@cache
def rows(name: str) -> tuple[Mapping[str, str], ...]:
    """All rows of `tables/NAME.tsv`, by column.

    Raises:
        DataError: a line has not the columns of the header.
    """
    file = FOLDER / f"{name}.tsv"
    return tuple(parse(file.read_text(encoding="utf-8"), file.name))


def parse(text: str, file: str) -> Iterable[Mapping[str, str]]:
    """Rows of the text of a table.

    Args:
        text: header and rows.
        file: name for the sentence of an error.

    Example:
        >>> list(parse("word\\tconcept\\nmug\\tcup\\n", "nouns.tsv"))
        [{'word': 'mug', 'concept': 'cup'}]
    """
    header, *lines = text.splitlines()
    columns = header.split("\t")
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise DataError(
                f"'{file}' line {number} has {len(cells)} columns, the header {len(columns)}; "
                "part them by one tab each."
            )
        yield dict(zip(columns, cells, strict=True))


@cache
def column(name: str, key: str, value: str) -> Mapping[str, str]:
    """The cells of column `value` that are not empty, by column `key`."""
    return {row[key]: row[value] for row in rows(name) if row[value]}
