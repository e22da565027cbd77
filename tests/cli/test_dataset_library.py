"""`dataset library` of own pictures, and the worked example of docs/own-pictures.md."""

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.outcome import assert_one_sentence
from tests.picture_library.own_pictures import write_own_pictures
from tests.picture_library.toy_packages import write_packages
from text2layer import load

PAGE = Path(__file__).parents[2] / "docs" / "own-pictures.md"
SHORT = [
    "--steps", "1", "--batch-size", "2", "--device", "cpu", "--mixed-precision", "no",
    "--preview-every", "0", "--validate-every", "1",
]  # fmt: skip


def test_the_worked_example_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_pictures(tmp_path)
    commands = re.findall(r"^\$ text2layer (.+)$", PAGE.read_text(), re.MULTILINE)
    words = [shlex.split(line) for line in commands]
    assert [line[0] for line in words] == ["dataset", "train", "generate"]
    words[1] += SHORT
    words[2] += [
        "--steps",
        "2",
        "--device",
        "cpu",
        "--seed",
        "1",
        "--width",
        "64",
        "--height",
        "64",
    ]
    results = [run(*line) for line in words]
    for result in results:
        assert result.exit_code == 0, result.stderr
    assert results[0].stdout == "my-library\n"
    assert "nothing of split val" in results[1].stderr
    assert len(load("apple.psd").foregrounds) == 1


def test_counts_as_json(run, tmp_path):
    objects, places = write_own_pictures(tmp_path)
    (objects / "note.png").write_bytes(b"no picture")
    result = run(
        "dataset", "library", tmp_path / "library", "--cutouts", objects, "--backgrounds", places,
        "--license", "CC0-1.0", "--json", "--workers", 1,
    )  # fmt: skip
    figures = json.loads(result.stdout)
    assert (figures["foregrounds"], figures["backgrounds"]) == (3, 2)
    assert figures["concepts"] == {"apple": 2, "keys": 1}
    assert figures["left_out"] == {"own": {"unreadable": 1}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--cutouts", "objects"], "No background can be used"),
        (["--cutouts", "objects", "--backgrounds", "places"], "--license"),
        (["--cutouts", "nowhere", "--backgrounds", "places"], "There is no folder 'nowhere'"),
    ],
)
def test_what_is_missing_is_said(run, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    write_own_pictures(tmp_path)
    licence = ["--license", "mine"] if said != "--license" else []
    result = run("dataset", "library", "out", *given, *licence, "--workers", 1)
    assert said in assert_one_sentence(result)


def test_public_sources_and_own_backgrounds(run, tmp_path):
    pytest.importorskip("resvg_py", reason="needs the library extra")
    _, places = write_own_pictures(tmp_path)
    out = tmp_path / "library"
    (out / "journal").mkdir(parents=True)
    write_packages(out / "packages")
    result = run(
        "dataset", "library", out, "--source", "noto", "--source", "twemoji", "--backgrounds",
        places, "--license", "mine", "--workers", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "5 foregrounds" in result.stderr
    assert "a sign, or a scene without one thing in it" in result.stderr
    sheet = tmp_path / "sheet.png"
    result = run("dataset", "view", out, "-o", sheet, "--count", 2, "--size", 32)
    assert result.exit_code == 0, result.stderr


def test_a_source_that_cannot_be_had(run, tmp_path, monkeypatch):
    """Asked for by name it is an error; of all sources it is named, and the rest is made."""
    monkeypatch.setenv("PATH", str(tmp_path))  # neither npm nor apt-get
    objects, places = write_own_pictures(tmp_path)
    own = ["--cutouts", objects, "--backgrounds", places, "--license", "mine", "--workers", 1]
    result = run("dataset", "library", tmp_path / "a", *own, "--source", "openclipart")
    assert "needs apt-get, which this system has not" in assert_one_sentence(result)
    result = run("dataset", "library", tmp_path / "b", *own, "--source", "all")
    assert result.exit_code == 0, result.stderr
    assert "the source noto is missing: npm did not give" in result.stderr
    assert "the source endless-sky is missing" in result.stderr
    result = run("dataset", "library", tmp_path / "c", *own, "--source", "nonesuch")
    assert "There is no source 'nonesuch'; there are all, fluent3d, noto" in assert_one_sentence(
        result
    )


@pytest.mark.parametrize(("split", "advice"), [("val", "--hold-out 0.1"), ("test", "split 'test'")])
def test_a_split_that_a_library_lacks_is_named_before_a_shard_is_written(
    run, tmp_path, split: str, advice: str
) -> None:
    objects, places = write_own_pictures(tmp_path)
    made, shards = tmp_path / "library", tmp_path / "shards"
    result = run("dataset", "library", made, "--cutouts", objects, "--backgrounds", places,
                 "--license", "mine", "--workers", 1)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    asked = ("dataset", "compose", made, shards, "--count", 2, "--size", 32)
    assert advice in assert_one_sentence(run(*asked, f"--{split}-count", 2))
    assert not shards.exists()
    assert run(*asked).exit_code == 0
    sheet = ("dataset", "view", made, "-o", tmp_path / "sheet.png", "--size", 32)
    assert advice in assert_one_sentence(run(*sheet, "--split", split))


def test_pictures_that_a_source_leaves_out_are_counted_in_one_line(run, tmp_path):
    pytest.importorskip("resvg_py", reason="needs the library extra")
    objects, places = write_own_pictures(tmp_path)
    Image.new("RGB", (40, 40)).save(objects / "red square.png")
    out = tmp_path / "library"
    (out / "journal").mkdir(parents=True)
    write_packages(out / "packages")
    result = run(
        "dataset", "library", out, "--source", "noto", "--cutouts", objects, "--backgrounds",
        places, "--license", "mine", "--workers", 1, "--limit", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    listed = json.loads((out / "report.json").read_text())["left_out_pictures"]
    assert len(listed) > 2
    said = [line for line in result.stderr.splitlines() if line.startswith("  ")]
    assert len(said) == 2  # one's own picture, which can be mended, and where all are named
    assert "red square.png" in said[0]
    assert said[1] == f"  each is named in {out / 'report.json'}"
