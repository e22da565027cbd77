"""`add` and `replace` with an untrained tiny model: one layer drawn, the others bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.outcome import assert_one_sentence
from text2layer import LayeredImage, load, save


@pytest.fixture
def draw(run, model: Path):
    """Call `text2layer ARGUMENTS --model TINY`."""

    def call(*arguments: object):
        return run(*arguments, "--model", model)

    return call


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A background alone, 64 x 64."""
    random = np.random.default_rng(0)
    path = tmp_path / "scene.ora"
    save(LayeredImage(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)), path)
    return path


def test_add_puts_one_layer_on_top(draw, scene: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.ora"
    result = draw("add", scene, "a blue ball", "-o", output, "--seed", 4)
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    before, after = load(scene), load(output)
    assert np.array_equal(after.background, before.background)
    assert len(after.foregrounds) == 1
    assert after.foregrounds[0].metadata["prompt"] == "a blue ball"
    assert after.foregrounds[0].metadata["seed"] == 4


def test_add_gives_the_new_layer_a_blend_mode_and_replace_keeps_it(draw, scene: Path) -> None:
    result = draw("add", scene, "a blue ball", "-o", scene, "--seed", 4, "--blend-mode", "screen")
    assert result.exit_code == 0, result.stderr
    assert load(scene).foregrounds[0].blend_mode == "screen"
    assert draw("replace", scene, "#1", "a red ball", "-o", scene, "--seed", 4).exit_code == 0
    assert load(scene).foregrounds[0].blend_mode == "screen"
    wrong = draw("add", scene, "a ball", "-o", scene, "--blend-mode", "dissolve")
    assert "--blend-mode is one of normal, multiply" in assert_one_sentence(wrong)


def test_layers_are_added_to_the_same_file_again_and_again(draw, psd: Path) -> None:
    before = load(psd)
    places = ["left", "right", "2,3,12,10", "top-left"]
    for number, place in enumerate(places):
        result = draw("add", psd, f"a ball {number}", "-o", psd, "--at", place, "--seed", number)
        assert result.exit_code == 0, result.stderr
    after = load(psd)
    assert after.foregrounds[:2] == before.foregrounds
    assert [layer.name for layer in after.foregrounds[2:]] == [
        f"a ball {number} 1" for number in range(4)
    ]
    x, y, width, height = after.foregrounds[4].box
    assert x >= 2
    assert x + width <= 14
    assert y + height == 13


def test_replace_makes_one_layer_new(draw, psd: Path, tmp_path: Path) -> None:
    output, sheet = tmp_path / "new.psd", tmp_path / "new.png"
    result = draw(
        "replace", psd, "Apple", "a blue ball", "-o", output, "--seed", 4, "--preview", sheet
    )
    assert (result.exit_code, result.stdout) == (0, f"{output}\n{sheet}\n"), result.stderr
    before, after = load(psd), load(output)
    assert after.foregrounds[1] == before.foregrounds[1]
    assert np.array_equal(after.background, before.background)
    assert after.metadata == before.metadata
    assert after.foregrounds[0].metadata["prompt"] == "a blue ball"
    again = tmp_path / "again.psd"
    result = draw("replace", output, "a blue ball 1", "-o", again, "--seed", 5)
    assert result.exit_code == 0, result.stderr
    assert load(again).foregrounds[0].metadata["prompt"] == "a blue ball"
    assert load(again).foregrounds[0] != after.foregrounds[0]


def test_replace_draws_a_new_background(draw, psd: Path, tmp_path: Path) -> None:
    output = tmp_path / "new.ora"
    result = draw("replace", psd, "Background", "a snowy mountain", "-o", output, "--seed", 4)
    assert result.exit_code == 0, result.stderr
    assert load(output).foregrounds == load(psd).foregrounds
    assert not np.array_equal(load(output).background, load(psd).background)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "apple.psd", ""], "prompt is empty"),
        (["add", "apple.psd", "a ball", "--at", "nowhere"], "'nowhere' is no place"),
        (["add", "apple.psd", "a ball", "--at", "0,0,900,900"], "900 x 900"),
        (["add", "none.psd", "a ball"], "There is no file none.psd"),
        (["replace", "apple.psd", "Pear"], "no foreground layer 'Pear': there are 'Apple', 'Leaf'"),
        (["replace", "apple.psd", "Apple"], "does not say from which prompt"),
        (["replace", "apple.psd", "Background", "a lake", "--at", "left"], "no place can be asked"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_bad_input_gets_one_sentence(draw, tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in assert_one_sentence(draw(*arguments, "-o", "out.psd", "--seed", "1"))
