"""`generate --prompts` again: what is whole is kept, the rest is drawn; manifest and sheet."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from tests.cli.outcome import assert_one_sentence
from text2layer import load
from text2layer.cli import manifest
from text2layer.pipelines import Text2LayerPipeline

LINES = ("a red boat", "a blue ball", "a green tree")
Draw = Callable[..., Result]


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[str, int]]:
    """(prompt, seed) of every picture that the pipeline has drawn."""
    calls = []
    draw = Text2LayerPipeline.__call__

    def counted(self, prompt, **options):
        calls.extend((prompt, one.initial_seed()) for one in options["generator"])
        return draw(self, prompt, **options)

    monkeypatch.setattr(Text2LayerPipeline, "__call__", counted)
    return calls


@pytest.fixture
def draw(run, model: Path, tmp_path: Path) -> Draw:
    """Draw LINES into the folder `out`, one step each, seed 5 unless told otherwise."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(LINES))

    def call(*options: object, seed: int | None = 5) -> Result:
        given = ("--seed", seed) if seed is not None else ()
        return run("generate", "--prompts", prompts, "-o", tmp_path / "out", "--model", model,
                   "--steps", 1, *given, *options)  # fmt: skip

    return call


def entries(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_the_manifest_says_what_each_file_is(draw: Draw, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert draw("--guidance-scale", 2.5).exit_code == 0
    listed = entries(out)
    assert [entry["file"] for entry in listed] == [
        "001-a-red-boat.psd", "002-a-blue-ball.psd", "003-a-green-tree.psd"
    ]  # fmt: skip
    for entry, line in zip(listed, LINES, strict=True):
        made = load(out / entry["file"]).metadata
        assert entry["prompt"] == made["prompt"] == line
        assert entry["seed"] == made["seed"] == 5
        assert entry["model_hash"] == made["model_hash"] != ""
        assert entry["settings"]["guidance_scale"] == made["guidance_scale"] == 2.5
        assert entry["sha256"] == manifest.content_sha256(out / entry["file"])
    with Image.open(out / "contact-sheet.png") as sheet:
        side = min(load(out / listed[0]["file"]).size[0], manifest.SIDE)
        assert sheet.width > 3 * side
        assert len(sheet.getcolors(2**20) or ()) > 100


def test_what_is_whole_is_kept(draw: Draw, drawn, tmp_path: Path) -> None:
    draw()
    before = entries(tmp_path / "out")
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*.psd"))]
    result = draw()
    assert result.exit_code == 0, result.stderr
    assert len(drawn) == 3
    assert "3 were there already" in result.stderr
    assert result.stdout == ""
    assert entries(tmp_path / "out") == before
    assert times == [p.stat().st_mtime_ns for p in sorted((tmp_path / "out").glob("*.psd"))]


def test_after_a_kill_the_rest_is_drawn_with_the_same_seed(draw, drawn, tmp_path) -> None:
    """The second picture is missing, the third is damaged, the last line is cut short."""
    assert "seed" in draw(seed=None).stderr
    out, first = tmp_path / "out", drawn[0][1]
    (out / "002-a-blue-ball.psd").unlink()
    (out / "003-a-green-tree.psd").write_bytes(b"8BPS")
    lines = (out / "manifest.jsonl").read_bytes()
    (out / "manifest.jsonl").write_bytes(lines[:-40])
    before = (out / "001-a-red-boat.psd").read_bytes()
    drawn.clear()
    result = draw(seed=None)
    assert result.exit_code == 0, result.stderr
    assert drawn == [("a blue ball", first), ("a green tree", first)]
    assert (out / "001-a-red-boat.psd").read_bytes() == before
    assert [entry["seed"] for entry in entries(out)] == [first] * 3
    assert load(out / "003-a-green-tree.psd").metadata["prompt"] == "a green tree"


@pytest.mark.parametrize("change", [{"seed": 6}, ("--steps", 2), ("--at", "left")])
def test_other_settings_are_drawn_anew(draw, drawn, tmp_path: Path, change) -> None:
    draw()
    drawn.clear()
    result = draw(**change) if isinstance(change, dict) else draw(*change)
    assert result.exit_code == 0, result.stderr
    assert [prompt for prompt, _ in drawn] == list(LINES)
    assert len(entries(tmp_path / "out")) == 3


def test_another_given_picture_is_another_setting(draw, drawn, tmp_path: Path) -> None:
    given = tmp_path / "given.png"
    Image.new("RGB", (64, 64), "red").save(given)
    draw("--background", given)
    draw("--background", given)
    assert len(drawn) == 3
    Image.new("RGB", (64, 64), "blue").save(given)
    assert draw("--background", given).exit_code == 0
    assert len(drawn) == 6


def test_a_picture_changed_by_hand_is_kept_and_named(draw, drawn, tmp_path: Path) -> None:
    draw()
    path = tmp_path / "out" / "002-a-blue-ball.psd"
    mine = load(path)
    mine = mine.replace_layer(0, mine.foregrounds[0].moved(3, 0))
    mine.save(path)
    result = draw()
    assert len(drawn) == 3
    assert load(path) == mine
    assert f"{path} was changed after it was drawn: kept" in result.stderr
    assert result.stderr.count("was changed") == 1


def test_a_folder_that_lost_a_file_is_drawn_again(draw, drawn, tmp_path: Path) -> None:
    draw("--to", "layers")
    draw("--to", "layers")
    assert len(drawn) == 3
    (tmp_path / "out" / "001-a-red-boat.layers" / "background.png").unlink()
    draw("--to", "layers")
    assert len(drawn) == 4


def test_many_pictures_make_several_sheets(draw, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(manifest, "PER_SHEET", 2)
    draw()
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == ["contact-sheet-1.png", "contact-sheet-2.png"]


@pytest.mark.parametrize("content", ["my own list\nof things\n", "[1]\n[2]\n", '{"file": 1}\n{}\n'])
def test_a_manifest_of_something_else_is_left_alone(draw, tmp_path: Path, content) -> None:
    (tmp_path / "out").mkdir()
    other = tmp_path / "out" / "manifest.jsonl"
    other.write_text(content)
    assert "Line 1 of" in assert_one_sentence(draw())
    assert other.read_text() == content
    assert list((tmp_path / "out").iterdir()) == [other]
