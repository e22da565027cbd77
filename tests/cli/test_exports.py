"""`convert --to sprites` and `--to parallax`: where files go, and wrong use."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.outcome import assert_one_sentence
from text2layer import save


def test_sprites_go_to_a_folder_or_a_file(run, psd: Path, tmp_path: Path) -> None:
    out = tmp_path / "assets"
    result = run("convert", psd, out, "--to", "sprites", "--pivot", "0.5,1", "--hidden")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(out / "apple.json"), str(out / "apple.png")]
    sheet = json.loads((out / "apple.json").read_text())
    assert list(sheet["frames"]) == ["Background", "Apple", "Leaf"]
    assert sheet["frames"]["Background"]["pivot"] == {"x": 0.5, "y": 1}
    (out / "notes.txt").write_text("mine")  # assets of others stay, ours are replaced
    assert run("convert", psd, out, "--to", "sprites").exit_code == 0
    assert list(json.loads((out / "apple.json").read_text())["frames"]) == ["Background", "Apple"]
    assert (out / "notes.txt").read_text() == "mine"
    file = tmp_path / "hero.json"
    assert run("convert", psd, file, "--to", "sprites").stdout.splitlines() == [
        str(file), str(tmp_path / "hero.png")
    ]  # fmt: skip


def test_several_become_sprites_and_the_broken_one_is_named(run, psd, layered, tmp_path) -> None:
    save(layered, tmp_path / "pear.ora")
    broken = tmp_path / "broken.psd"
    broken.write_bytes(psd.read_bytes()[:99])
    out = tmp_path / "out"
    result = run("convert", psd, broken, tmp_path / "pear.ora", out, "--to", "sprites")
    assert result.exit_code == 1
    assert "2 of 3 done" in result.stderr
    assert "broken.psd" in result.stderr
    names = sorted(path.name for path in out.iterdir())
    assert names == ["apple.json", "apple.png", "pear.json", "pear.png"]


def test_parallax_goes_to_a_folder_or_a_file(run, psd: Path, tmp_path: Path) -> None:
    options = ("--seconds", 1, "--fps", 5, "--size", "40x20", "--depths=-0.1,1")
    result = run("convert", psd, tmp_path / "films", "--to", "parallax", *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'films' / 'apple.webp'}\n"
    gif = tmp_path / "a.gif"
    path = ("--move", "0,0 4,0 4,2")
    assert run("convert", psd, gif, "--to", "parallax", *options, *path).stdout == f"{gif}\n"
    for file in (tmp_path / "films" / "apple.webp", gif):
        with Image.open(file) as image:
            assert image.size == (40, 20)
            assert image.n_frames == 5


def test_a_webp_without_to_is_still_one_picture(run, psd: Path, layered, tmp_path: Path) -> None:
    assert run("convert", psd, tmp_path / "a.webp").exit_code == 0
    with Image.open(tmp_path / "a.webp") as image:
        assert getattr(image, "n_frames", 1) == 1
        assert np.array_equal(np.asarray(image), layered.composite)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.json", "--to", "sprites", "--depths", "0,1"], "--depths goes with --to parallax"),
        (["a.psd", "--pivot", "0,0"], "--pivot goes with --to sprites"),
        (["a.psd", "--max-atlas", 5], "--max-atlas goes with --to sprites"),
        (["a.json", "--to", "sprites", "--pivot", "middle"], "--pivot is X,Y in numbers"),
        (["a.json", "--to", "sprites", "--pivot", "1,2,3"], "--pivot is X,Y in numbers"),
        (["a.json", "--to", "sprites", "--max-atlas", 20], "'Background' has 30 x 20 pixels"),
        (["a.json", "--to", "sprites", "--max-atlas", 0], "1 to 16384"),
        (["a.json", "--to", "sprites", "--part", "mask"], "--part and --alpha do not go"),
        (["no/a.json", "--to", "sprites"], "does not exist"),
        (["-", "--to", "sprites"], "writes files"),
        (["apple.psd", "--to", "sprites"], "a folder, or a name in .json"),
        (["a.png", "--to", "sprites"], "a folder, or a name in .json"),
        (["a.avi", "--to", "parallax"], "a folder, or a name in .webp or .gif or .mp4"),
        (["apple.psd", "a.csv", "--to", ".ora"], "no folder for several results"),
        (["a.webp", "--to", "parallax", "--depths", "1"], "give 2, bottom first, for Background"),
        (["a.webp", "--to", "parallax", "--depths", "far,near"], "--depths is D,D,... in numbers"),
        (["a.webp", "--to", "parallax", "--size", "big"], "--size is WIDTHxHEIGHT"),
        (["a.webp", "--to", "parallax", "--move", "5"], "--move is X,Y in numbers"),
        (["a.webp", "--to", "parallax", "--move", ""], "1 to 100 points"),
        (["a.webp", "--to", "parallax", "--seconds", "nan"], "more than 0 seconds"),
        (["a.mp4"], "end the name in one of"),
    ],
)
def test_wrong_use_is_one_sentence(run, psd, tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in assert_one_sentence(run("convert", "apple.psd", *arguments))


def test_one_file_for_two_sources_is_refused(run, psd: Path, layered, tmp_path: Path) -> None:
    save(layered, tmp_path / "pear.ora")
    target = tmp_path / "a.json"
    result = run("convert", psd, tmp_path / "pear.ora", target, "--to", "sprites")
    assert "give a folder for 2 sources" in assert_one_sentence(result)
    assert not target.exists()
