"""Many at once: `decompose`, `convert` and `generate --prompts`, networks loaded once."""

from pathlib import Path

import pytest
from PIL import Image

from tests import toy_onnx
from tests.cli.outcome import assert_one_sentence
from tests.toy_photo import two_boxes
from text2layer import load, save

SIDE = 96


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    return toy_onnx.brightness_network(folder / "toy.onnx", (1, 3, SIDE, SIDE))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two photos, one in which nothing is found between them, and one that is no picture."""
    paths = [tmp_path / name for name in ("a.png", "black.png", "b.v2.jpg", "text.png")]
    Image.fromarray(two_boxes(SIDE, 72)).save(paths[0])
    Image.new("RGB", (SIDE, SIDE)).save(paths[1])
    Image.fromarray(two_boxes(SIDE, SIDE)).save(paths[2])
    paths[3].write_text("no picture")
    return paths


def test_decompose_goes_on_when_one_fails_and_loads_its_networks_once(
    run, network: Path, photos: list[Path], tmp_path: Path, monkeypatch
) -> None:
    from text2layer.pipelines import photo_layers

    loaded = []
    load_saliency = photo_layers.load_saliency
    monkeypatch.setattr(
        photo_layers, "load_saliency", lambda name: loaded.append(name) or load_saliency(name)
    )
    with_networks = ("--saliency", network, "--inpainter", "opencv")
    out = tmp_path / "new"
    result = run("decompose", *photos, "-o", f"{out}/", "--to", "ora", *with_networks)
    assert result.exit_code == 1
    made = [out / "a.ora", out / "b.v2.ora"]
    assert result.stdout.splitlines() == [str(path) for path in made]
    assert sorted(out.iterdir()) == made
    assert [len(load(path).foregrounds) for path in made] == [2, 2]
    said = result.stderr.splitlines()
    assert said[-3] == "2 of 4 done"
    assert "black.png" in said[-2]
    assert "finds no subject" in said[-2]
    assert said[-1].startswith(f"Error: {photos[3]}: ")
    assert len(loaded) == 1
    assert run("decompose", photos[0], photos[2], "-o", out, *with_networks).exit_code == 0
    assert (out / "b.v2.psd").exists()


def test_one_photo_and_a_folder_is_a_file_in_it(run, network, photos, tmp_path: Path) -> None:
    asked = ("--saliency", network, "--inpainter", "opencv")
    result = run("decompose", photos[0], "-o", f"{tmp_path / 'new'}/", *asked)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'new' / 'a.psd'}\n"


def test_convert_takes_several(run, psd: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.psd"
    broken.write_bytes(psd.read_bytes()[:200])
    out = tmp_path / "out"
    result = run("convert", broken, psd, out, "--to", ".png", "--part", "mask")
    assert result.exit_code == 1
    assert result.stdout == f"{out / 'apple.png'}\n"
    assert "1 of 2 done" in result.stderr
    assert [path.name for path in out.iterdir()] == ["apple.png"]
    assert run("convert", psd, out, "--to", "ora").exit_code == 0
    assert len(load(out / "apple.ora").foregrounds) == 2


def test_generate_draws_every_line_and_goes_on(run, model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red boat, at sea\n\n  Ein Schloß \n", encoding="utf-8")
    out = tmp_path / "out"
    drawn = ("--model", model, "--steps", 1, "--seed", 5)
    result = run("generate", "--prompts", prompts, "-o", out, "--num-images", 2, *drawn)
    assert result.exit_code == 0, result.stderr
    names = [f"{stem}-{n}.psd" for stem in ("001-a-red-boat-at-sea", "002-ein-schloß")
             for n in (1, 2)]  # fmt: skip
    beside = ["contact-sheet.png", "manifest.jsonl"]
    assert sorted(path.name for path in out.iterdir()) == [*names, *beside]
    made = load(out / names[-1]).metadata
    assert (made["prompt"], made["seed"]) == ("Ein Schloß", 6)
    (out / names[0]).unlink()
    (out / names[0]).mkdir()  # no place for a file any more
    (out / names[0] / "mine.txt").touch()
    assert "files of another kind" in run("generate", "--prompts", prompts, "-o", out,
                                          "--num-images", 2, *drawn).stderr  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["decompose", "a.png", "a.png", "-o", "out"], "Two of the results would be out/a.psd"),
        (["decompose", "a.png", "black.png", "-o", "a.png"], "no folder for several results"),
        (["decompose", "a.png", "black.png", "-o", "new.psd"], "no folder for several results"),
        (["decompose", "a.png", "black.png", "-o", "out", "--to", "bmp"], "cannot be written"),
        (["decompose", "a.png", "black.png", "-o", "out", "--preview", "p.png"], "--preview goes"),
        (["decompose", "a.png", "-o", "a.psd", "--to", "ora"], "--to goes with several"),
        (["decompose", "a.png", "black.png", "-o", "missing/out"], "does not exist"),
        (["convert", "a.png", "black.png", "out"], "Several files need --to"),
        (["generate", "-o", "a.psd"], "Give a prompt, or --prompts"),
        (["generate", "a fox", "--prompts", "a.png", "-o", "out"], "one of the two"),
        (["generate", "a fox", "--to", "ora", "-o", "a.psd"], "--to goes with --prompts"),
        (["generate", "--prompts", "a.png", "-o", "out"], "no text in UTF-8"),
        (["generate", "--prompts", "missing.txt", "-o", "out"], "missing.txt"),
    ],
)
def test_wrong_use_is_one_sentence(run, photos, tmp_path: Path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in assert_one_sentence(run(*arguments))
    assert not list(tmp_path.rglob("*.psd"))


def test_shell_completion_can_be_installed_and_knows_the_commands(run, monkeypatch) -> None:
    # the shell is named, because a test may run without one
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = run("--show-completion", "bash")
    assert "_TEXT2LAYER_COMPLETE" in shown.stdout
    assert "--install-completion" in run("--help").stdout


@pytest.mark.parametrize("name", ["lib.a", "v1.0", "new.psd/", "film.mp4/", "notes.txt/"])
@pytest.mark.parametrize("command", ["decompose", "convert", "sprites"])
def test_a_folder_may_have_the_name_of_a_file(
    run, network: Path, photos: list[Path], layered, tmp_path, monkeypatch, command: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = [photos[0], photos[2]]
    with_networks = ("--saliency", network, "--inpainter", "opencv")
    if command == "decompose":
        result = run("decompose", *whole, "-o", name, *with_networks)
    else:
        sources = [tmp_path / f"{path.stem}.psd" for path in whole]
        for path in sources:
            save(layered, path)
        to = "sprites" if command == "sprites" else ".ora"
        result = run("convert", *sources, name, "--to", to)
    assert result.exit_code == 0, result.stderr
    suffix = {"decompose": ".psd", "convert": ".ora", "sprites": ".json"}[command]
    made = sorted(path.name for path in Path(name).glob(f"*{suffix}"))
    assert made == [f"a{suffix}", f"b.v2{suffix}"]


def test_generate_takes_such_a_folder_too(run, tmp_path: Path, monkeypatch, model: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red fox in front of a wall\n")
    result = run("generate", "--prompts", "prompts.txt", "-o", "new.psd/", "--model", model,
                 "--steps", 1, "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert len(list(Path("new.psd").glob("*.psd"))) == 1
