"""`remove`, `move`, `scale`, `reorder`, `blend`: one layer changed, the rest bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.outcome import assert_one_sentence
from text2layer import LayeredImage, load
from text2layer.blend_modes import BLEND_MODES


@pytest.fixture
def change(run, psd: Path, tmp_path: Path):
    """Call a command on the file of two layers, Apple and Leaf; returns it as it was and is."""

    def call(command: str, *arguments: object) -> tuple[LayeredImage, LayeredImage]:
        output = tmp_path / "changed.ora"
        result = run(command, psd, *arguments, "-o", output)
        assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
        return load(psd), load(output)

    return call


def test_remove(change) -> None:
    before, after = change("remove", "Apple")
    assert after == before.replace(foregrounds=before.foregrounds[1:])


def test_move_by_and_to(change) -> None:
    before, after = change("move", "Apple", "--by", "-7,5")
    assert after == before.replace_layer(0, before.foregrounds[0].moved(-7, 5))
    before, after = change("move", "#1", "--to", "3,4")
    assert after.foregrounds[0].box[:2] == (3, 4)
    assert np.array_equal(after.foregrounds[0].colour, before.foregrounds[0].colour)
    assert after.foregrounds[1] == before.foregrounds[1]


def test_scale(change) -> None:
    before, after = change("scale", "Leaf", "2.5")
    assert after == before.replace_layer(1, before.foregrounds[1].scaled(2.5))
    assert after.foregrounds[1].size == (20, 15)
    assert after.foregrounds[1].opacity == before.foregrounds[1].opacity


@pytest.mark.parametrize(
    ("layer", "place", "order"),
    [
        ("Apple", "up", ["Leaf", "Apple"]),
        ("Apple", "top", ["Leaf", "Apple"]),
        ("Apple", "2", ["Leaf", "Apple"]),
        ("Leaf", "down", ["Leaf", "Apple"]),
        ("Leaf", "bottom", ["Leaf", "Apple"]),
        ("Leaf", "1", ["Leaf", "Apple"]),
        ("Leaf", "up", ["Apple", "Leaf"]),
        ("Apple", "down", ["Apple", "Leaf"]),
    ],
)
def test_reorder(change, layer: str, place: str, order: list[str]) -> None:
    before, after = change("reorder", layer, place)
    assert [one.name for one in after.foregrounds] == order
    assert set(map(repr, after.foregrounds)) == set(map(repr, before.foregrounds))


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_blend_is_kept_shown_and_changes_the_composite(change, run, tmp_path, mode: str) -> None:
    before, after = change("blend", "Apple", mode)
    assert after == before.replace_layer(0, before.foregrounds[0].replace(blend_mode=mode))
    assert np.array_equal(after.composite, before.composite) == (mode == "normal")
    told = run("info", tmp_path / "changed.ora").stdout
    assert ("Apple  10 x 12 at (4, -3)" + (f", {mode}" if mode != "normal" else "")) in (
        told.splitlines()[3]
    )
    assert run("convert", tmp_path / "changed.ora", tmp_path / "back.psd").exit_code == 0
    assert load(tmp_path / "back.psd") == after


def test_a_file_can_be_changed_in_place(run, psd: Path) -> None:
    before = load(psd)
    assert run("remove", psd, "Leaf", "-o", psd).exit_code == 0
    assert load(psd).foregrounds == before.foregrounds[:1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["remove", "apple.psd", "Pear"], "no foreground layer 'Pear': there are 'Apple', 'Leaf'"),
        (["remove", "apple.psd", "Background"], "no foreground layer 'Background'"),
        (["remove", "none.psd", "Apple"], "There is no file none.psd"),
        (["blend", "apple.psd", "Apple", "dissolve"], "one of normal, multiply, screen"),
        (["move", "apple.psd", "Apple"], "one of --by DX,DY and --to X,Y"),
        (["move", "apple.psd", "Apple", "--by", "1,2", "--to", "3,4"], "one of --by"),
        (["move", "apple.psd", "Apple", "--by", "1"], "'1' is no pair of whole numbers"),
        (["move", "apple.psd", "Apple", "--to", "1.5,2"], "no pair of whole numbers"),
        (["move", "apple.psd", "Apple", "--by", "99999999,0"], "within 1000000 pixels"),
        (["scale", "apple.psd", "Apple", "0"], "scaled by a number above 0"),
        (["scale", "apple.psd", "Apple", "nan"], "scaled by a number above 0"),
        (["scale", "apple.psd", "Apple", "1e6"], "at most 30000 a side"),
        (["reorder", "apple.psd", "Apple", "3"], "say up, down, top, bottom, or 1 to 2"),
        (["reorder", "apple.psd", "Apple", "0"], "no place among layers"),
        (["reorder", "apple.psd", "Apple", "above"], "no place among layers"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_bad_input_gets_one_sentence(run, tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in assert_one_sentence(run(*arguments, "-o", "out.psd"))
