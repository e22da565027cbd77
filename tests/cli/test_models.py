"""`text2layer info MODEL`: what a model is and what it has learnt to draw."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.outcome import assert_one_sentence
from text2layer.pipelines import loading, released_model
from text2layer.pipelines.loading import CONCEPTS, LearntThing, read_learnt, write_learnt

THINGS = [
    LearntThing("a fox", "3d icon", "fox", 3, 3),
    LearntThing("an owl", "3d icon", "owl", 2, 3),
    LearntThing("a low-poly 3d render of a house", "low-poly 3d render", "house", 3, 3),
    LearntThing("a low-poly 3d render of a rock", "low-poly 3d render", "rock", 1, 3),
]


@pytest.fixture
def learnt(model: Path, tmp_path: Path) -> Path:
    """A copy of the toy model that says what it has learnt."""
    folder = tmp_path / "learnt"
    shutil.copytree(model, folder)
    write_learnt(folder, THINGS)
    return folder


def test_a_model_says_what_it_can_draw(run, learnt: Path) -> None:
    result = run("info", learnt)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "learnt: a text2layer model, 64 x 64 pixels"
    assert f"model hash: {loading.model_hash(learnt)}" in lines
    start = lines.index("objects that it has learnt: 3")
    assert lines[start + 1 :] == [
        "  3d icon (2):", "    a fox, an owl",
        "  low-poly 3d render (1):", "    a low-poly 3d render of a house",
        "trained objects below the threshold: 1",
        "  low-poly 3d render (1):", "    a low-poly 3d render of a rock",
    ]  # fmt: skip


def test_json_is_for_programs(run, learnt: Path) -> None:
    report = json.loads(run("info", learnt, "--json").stdout)
    assert report["size"] == 64
    assert report["fast"] is False
    assert [thing["name"] for thing in report["things"]] == [thing.name for thing in THINGS]


def test_a_model_without_a_list_prints_nothing_of_it(run, model: Path) -> None:
    result = run("info", model)
    assert result.exit_code == 0
    assert "things" not in result.stdout
    assert "things" not in json.loads(run("info", model, "--json").stdout)


def test_the_released_model_is_known_by_its_name(run, tmp_path: Path, monkeypatch, psd) -> None:
    monkeypatch.chdir(tmp_path)
    report = json.loads(run("info", "base", "--json").stdout)
    assert report["model"] == "base"
    assert report["fast"] is True
    assert report["matting"] is True
    assert report.get("things") == (
        None if read_learnt(released_model()) is None
        else json.loads((released_model() / CONCEPTS).read_text())["things"]
    )  # fmt: skip
    (tmp_path / "base").write_bytes(b"a file of that name")
    assert "base" in assert_one_sentence(run("info", "base"))  # it is looked into, not the model


def test_damaged_models_are_one_sentence(run, learnt: Path) -> None:
    (learnt / CONCEPTS).write_text("{")
    assert CONCEPTS in assert_one_sentence(run("info", learnt))
    write_learnt(learnt, [])
    index = json.loads((learnt / "model_index.json").read_text())
    del index["default_steps"]
    (learnt / "model_index.json").write_text(json.dumps(index))
    assert "default_steps" in assert_one_sentence(run("info", learnt))
    (learnt / "model_index.json").write_text("{}")
    assert "unknown kind" in assert_one_sentence(run("info", learnt))
