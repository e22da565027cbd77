"""recipes/library_words.py: what differs between a library and the rules of its words."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.recipe import recipe
from text2layer.picture_library.words import Words, describe, split_of


def test_the_comparison_lists_every_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = recipe("library_words")

    def record(name: str, source: str = "@iconify-json/noto==1.2.9", **fields: Any) -> str:
        said = {"caption": "a pear", "concept": "pear", "nameable": True, "tags": []}
        said |= {"group": "emoji:1f350", "style": "flat icon", "split": split_of("pear")}
        said |= {"held_out_drawing": False, "id": name, "source": source, "source_file": name}
        return json.dumps(said | fields)

    lines = [record("same"), record("other", caption="a green pear"), record("gone"),
             record("kit", source="Some Kit 1.0")]  # fmt: skip
    (tmp_path / "foregrounds.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def words(name: str) -> Words | None:
        facts = {"code": "1f350", "label": "pear", "subgroup": "food-fruit"}
        return None if name == "gone" else describe("noto", name, **facts)

    equal, records = script.compare(tmp_path, {"noto": words}, False)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "other: caption: rule 'a pear', library 'a green pear'",
        "gone: left out by the rules: no such picture in the package",
    ]
    assert (records["noto"], equal["noto", "caption"], equal["noto", "concept"]) == (3, 1, 2)
    assert script.report(equal, records) == ["noto caption", "noto concept", "noto nameable"]
    assert "33.33%" in capsys.readouterr().out
