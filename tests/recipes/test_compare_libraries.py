"""Two libraries side by side: equal, different, missing and more, and how alike pictures are."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.recipe import recipe
from tests.toy_library import build_toy_library

compare = recipe("compare_libraries")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A library and a copy in which a record differs, one is gone, and one is new."""
    made = build_toy_library(tmp_path / "made", 6, 2)
    other = tmp_path / "other"
    shutil.copytree(made, other)
    list_ = made / "foregrounds.jsonl"
    records = [json.loads(line) for line in list_.read_text().splitlines()]
    records[0]["caption"] = "a disc"
    records[1]["color"] = "mauve"
    records[2]["id"] = "new"
    list_.write_text("".join(json.dumps(record) + "\n" for record in records))
    return made, other


def test_records_are_compared_by_id(pair):
    result = compare.compare(*pair)
    row = result["foregrounds"]
    assert (row["made"], row["reference"]) == (6, 6)
    assert (row["equal"], row["equal in words"], row["equal with colour"]) == (4, 4, 3)
    assert len(row["missing"]) == 1
    assert row["more"] == ["new"]
    assert row["fields"] == {"caption": 1, "color": 1}
    _, made, reference = row["differences"]["caption"][0]
    assert (made, reference) == ("a disc", "a circle")
    assert result["backgrounds"]["equal"] == 2
    assert compare.compare(*pair, limit=6)["foregrounds"]["missing"] == []


def test_likeness_sees_shape_and_colour(tmp_path):
    def save(name: str, box: tuple[int, int, int, int], colour: tuple[int, ...]) -> Path:
        picture = Image.new("RGBA", (60, 60))
        picture.paste(colour, box)
        picture.save(tmp_path / name)
        return tmp_path / name

    one = save("one.png", (0, 0, 40, 40), (200, 0, 0, 255))
    moved = save("moved.png", (10, 10, 50, 50), (200, 0, 0, 255))
    other = save("other.png", (0, 0, 40, 40), (200, 30, 0, 255))
    assert compare.likeness(one, moved) == (1.0, 0.0)  # margins do not count
    overlap, error = compare.likeness(one, other)
    assert (overlap, error) == (1.0, pytest.approx(30 / 3**0.5, abs=0.01))
    holed = Image.open(one).copy()
    holed.paste((0, 0, 0, 0), (10, 10, 30, 30))
    holed.save(tmp_path / "holed.png")
    assert compare.likeness(one, tmp_path / "holed.png")[0] == pytest.approx(0.75, abs=0.01)
