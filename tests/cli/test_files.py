"""`convert` and `info` on real files, good and bad."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import BlendMode
from typer.testing import CliRunner, Result

from tests.cli.outcome import assert_one_sentence
from text2layer import LayeredImage, __version__, load, save
from text2layer.cli import app
from text2layer.cli.outputs import echo_name, numbered
from text2layer.errors import InputError


def test_version(run) -> None:
    assert run("--version").stdout == f"text2layer {__version__}\n"


def test_no_arguments_show_the_help(run) -> None:
    result = run()
    assert "generate" in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize("suffix", [".ora", ".layers"])
def test_convert_and_back_keeps_every_pixel(run, psd: Path, layered, tmp_path, suffix) -> None:
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.psd"
    first, second = run("convert", psd, there), run("convert", there, back)
    assert (first.exit_code, first.stdout) == (0, f"{there}\n")
    assert (second.exit_code, second.stdout) == (0, f"{back}\n")
    assert load(there) == layered
    assert load(back) == layered


@pytest.mark.parametrize("part", ["composite", "background", "mask"])
def test_convert_to_a_picture_writes_the_part(run, psd: Path, layered, tmp_path, part) -> None:
    assert run("convert", psd, tmp_path / "part.png", "--part", part).exit_code == 0
    with Image.open(tmp_path / "part.png") as picture:
        assert np.array_equal(np.asarray(picture), getattr(layered, part))


@pytest.mark.parametrize(
    ("options", "masks"),
    [([], False), (["--alpha", "transparency"], False), (["--alpha", "mask"], True)],
)
def test_convert_chooses_where_a_psd_holds_alpha(
    run, psd: Path, layered, tmp_path, options, masks
) -> None:
    result = run("convert", psd, tmp_path / "out.psd", *options)
    assert result.exit_code == 0, result.stderr
    assert load(tmp_path / "out.psd") == layered
    found = PSDImage.open(tmp_path / "out.psd")
    assert [layer.has_mask() for layer in found] == [False, masks, masks]
    if not masks:
        apple = np.array(found[1].topil())
        assert np.array_equal(apple[..., 3], layered.foregrounds[0].alpha)
    line = assert_one_sentence(run("convert", psd, tmp_path / "b.psd", "--alpha", "both"))
    assert "transparency, mask" in line
    assert not (tmp_path / "b.psd").exists()


def test_convert_replaces_its_own_input(run, psd: Path, layered) -> None:
    assert run("convert", psd, psd).exit_code == 0
    assert load(psd) == layered


def test_info_lists_layers_and_provenance(run, psd: Path) -> None:
    lines = run("info", psd).stdout.splitlines()
    assert lines[0] == f"{psd}: PSD, 30 x 20 pixels"
    assert lines[2] == "  Leaf  8 x 6 at (0, 0), opacity 60%, hidden"
    assert lines[3] == "  Apple  10 x 12 at (4, -3)"
    assert lines[4] == "  Background"
    assert "prompt: a red apple" in lines
    assert "seed: 11" in lines
    assert "model hash: 0123456789abcdef" in lines


def test_info_json_is_for_programs(run, psd: Path) -> None:
    report = json.loads(run("info", psd, "--json").stdout)
    assert report["size"] == [30, 20]
    assert [layer["name"] for layer in report["layers"]] == ["Apple", "Leaf"]
    assert report["metadata"]["seed"] == 11
    assert report["preview_equals_composite"] is True


def test_info_shows_no_control_characters_of_a_file(run, layered: LayeredImage, tmp_path) -> None:
    save(layered.replace(metadata={"prompt": "a\x1b[31mred\napple"}), tmp_path / "odd.ora")
    result = run("info", tmp_path / "odd.ora")
    assert "\x1b" not in result.stdout
    assert r'prompt: "a\u001b[31mred\napple"' in result.stdout


@pytest.mark.parametrize("command", ["info", "convert"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "noise"])
@pytest.mark.parametrize("suffix", [".psd", ".ora", ".png", ".webp", ".layers"])
def test_bad_input_gets_one_sentence(run, layered, tmp_path, command, damage, suffix) -> None:
    path = tmp_path / f"bad{suffix}"
    save(layered, path)
    file = path / "manifest.json" if suffix == ".layers" else path
    whole = file.read_bytes()
    if damage == "missing":
        path = tmp_path / f"none{suffix}"
    else:
        noise = np.random.default_rng(3).bytes(len(whole))
        broken = {"empty": b"", "cut short": whole[: len(whole) * 2 // 3], "noise": noise}
        file.write_bytes(broken[damage])
    target = tmp_path / "new.psd"
    line = assert_one_sentence(run(command, path, *([target] if command == "convert" else [])))
    assert path.name in line or file.name in line
    assert not target.exists()


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("apple.gif", "end the name in one of .psd"),
        ("apple.heic", "end the name in one of .psd"),
        ("nowhere/apple.ora", "does not exist"),
    ],
)
def test_bad_output_gets_one_sentence(run, psd: Path, target: str, says: str) -> None:
    assert says in assert_one_sentence(run("convert", psd, psd.parent / target))


@pytest.mark.usefixtures("unchanged")
def test_unknown_part_gets_one_sentence(run, psd: Path) -> None:
    assert "halo" in assert_one_sentence(
        run("convert", psd, psd.with_suffix(".png"), "--part", "halo")
    )


def test_a_folder_of_other_files_is_not_replaced(run, psd: Path, tmp_path: Path) -> None:
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "beach.txt").write_text("keep me")
    assert "holiday" in assert_one_sentence(run("convert", psd, other))
    assert (other / "beach.txt").read_text() == "keep me"


def test_wrong_usage_exits_with_2(run, psd: Path) -> None:
    result = run("convert", psd)
    assert result.exit_code == 2
    assert "OUT" in result.stderr


def test_a_dash_is_standard_input_and_output(psd: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())

    def call(*arguments: str, given: bytes = b"") -> Result:
        return CliRunner().invoke(app, [*map(str, arguments)], input=given)

    png = call("convert", psd, "-")
    assert (png.exit_code, png.stderr) == (0, "")
    np.testing.assert_array_equal(load(BytesIO(png.stdout_bytes)).background, load(psd).composite)
    ora = call("convert", "-", "ora:-", given=psd.read_bytes())
    assert load(BytesIO(ora.stdout_bytes)) == load(psd)
    assert "Apple" in call("info", "-", given=ora.stdout_bytes).stdout
    edited = call("remove", "-", "Leaf", "-o", "psd:-", given=psd.read_bytes())
    assert [one.name for one in load(BytesIO(edited.stdout_bytes)).foregrounds] == ["Apple"]
    assert "gif:-: GIF is only read" in assert_one_sentence(call("convert", psd, "gif:-"))
    assert "Standard input is empty" in assert_one_sentence(call("convert", "-", "-"))
    assert sorted(tmp_path.iterdir()) == before


def test_standard_output_takes_one_picture(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="takes one picture, not 2"):
        numbered(Path("psd:-"), 2)
    assert numbered(Path("-"), 1) == [Path("-")]
    assert list(tmp_path.iterdir()) == []


def test_names_go_to_stderr_where_stdout_has_the_picture(capsys) -> None:
    echo_name(Path("preview.png"), Path("-"))
    echo_name(Path("-"), Path("-"))
    assert capsys.readouterr() == ("", "preview.png\n")
    echo_name(Path("a.psd"), Path("a.psd"))
    assert capsys.readouterr() == ("a.psd\n", "")


@pytest.fixture
def blended(tmp_path: Path) -> Path:
    """A PSD of another program with a layer in a blend mode that cannot be kept."""
    document = PSDImage.new("RGB", (20, 15), color=(1.0, 1.0, 1.0))
    document.create_pixel_layer(Image.new("RGB", (20, 15), (10, 90, 200)), name="Sky")
    glow = document.create_pixel_layer(Image.new("RGB", (8, 6), (90, 200, 10)), name="Glow")
    glow.blend_mode = BlendMode.DIFFERENCE
    document.save(tmp_path / "blended.psd")
    return tmp_path / "blended.psd"


def test_what_cannot_be_kept_is_refused_or_merged_and_named(run, blended: Path, tmp_path) -> None:
    target = tmp_path / "out.ora"
    assert "--merge" in assert_one_sentence(run("convert", blended, target))
    assert not target.exists()
    result = run("convert", blended, target, "--merge")
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    assert "note: " in result.stderr
    assert '"Glow" is blended with difference: merged into' in result.stderr
    again = run("convert", target, tmp_path / "again.psd")
    assert (again.exit_code, again.stderr) == (0, "")
    assert '"Glow" is blended with difference' in run("info", blended).stdout


@pytest.mark.parametrize("command", ["convert", "move", "add"])
def test_a_preview_that_shows_something_else_is_told(run, psd: Path, tmp_path, command) -> None:
    document = PSDImage.open(psd)
    plain = Image.new("RGB", document.size, "red")
    header = document._record.header
    document._record.image_data.set_data([band.tobytes() for band in plain.split()], header)
    with psd.open("wb") as file:
        document._record.write(file)
    output = tmp_path / "out.psd"
    further = {
        "convert": [output],
        "move": ["Apple", "--by", "1,1", "-o", output],
        "add": ["a leaf", "-o", output, "--model", tmp_path / "none"],
    }[command]
    assert "differs visibly" in run(command, psd, *further).stderr


@pytest.mark.parametrize("command", ["convert", "info"])
def test_the_pixel_limit_is_an_option(run, psd: Path, tmp_path, command) -> None:
    target = [tmp_path / "out.psd"] if command == "convert" else []
    assert run(command, psd, *target, "--max-pixels", 600).exit_code == 0
    line = assert_one_sentence(run(command, psd, *target, "--max-pixels", 599))
    assert "limit of 599" in line
