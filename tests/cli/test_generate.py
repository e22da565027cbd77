"""`generate` and `add` with an untrained tiny model: the whole way from prompt to file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.outcome import assert_one_sentence
from tests.toy_photo import cutout_file
from text2layer import __version__, load
from text2layer.pipelines.loading import LearntThing, write_learnt

PROMPT = "a red apple in front of a snowy mountain"


@pytest.fixture
def draw(run, model: Path):
    """Call `text2layer generate --model TINY ARGUMENTS`."""

    def call(*arguments: object):
        return run("generate", *arguments, "--model", model)

    return call


def test_same_seed_gives_the_same_layers_and_says_how(draw, tmp_path: Path) -> None:
    first, second = tmp_path / "1.psd", tmp_path / "2.ora"
    result = draw(PROMPT, "-o", first, "--seed", 1)
    assert (result.exit_code, result.stdout) == (0, f"{first}\n"), result.stderr
    assert draw(PROMPT, "-o", second, "--seed", 1).exit_code == 0
    assert load(first) == load(second)
    made = load(first)
    assert made.size == (64, 64)
    assert len(made.foregrounds) == 1
    expected = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "seed": 1,
        "steps": 3,
        "guidance_scale": 2.0,
        "model": "tiny",
        "generator": f"text2layer {__version__}",
    }
    assert {name: made.metadata[name] for name in expected} == expected
    assert len(made.metadata["model_hash"]) == 16


def test_options_reach_the_picture(draw, tmp_path: Path) -> None:
    path = tmp_path / "wide.ora"
    result = draw(
        PROMPT, "-o", path, "--seed", 5, "--width", 128, "--height", 64, "--steps", 4,
        "--guidance-scale", 1.5, "--negative-prompt", "a blurred picture",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    made = load(path)
    assert made.size == (128, 64)
    assert made.metadata["steps"] == 4
    assert made.metadata["guidance_scale"] == 1.5
    assert made.metadata["negative_prompt"] == "a blurred picture"


def test_a_drawn_seed_is_printed_and_makes_the_picture_again(draw, tmp_path: Path) -> None:
    result = draw(PROMPT, "-o", tmp_path / "1.ora")
    word, seed = result.stderr.split()[:2]
    assert word == "seed"
    assert load(tmp_path / "1.ora").metadata["seed"] == int(seed)
    assert draw(PROMPT, "-o", tmp_path / "2.ora", "--seed", seed).exit_code == 0
    assert load(tmp_path / "1.ora") == load(tmp_path / "2.ora")


def test_each_of_several_pictures_can_be_made_alone(draw, tmp_path: Path) -> None:
    result = draw(PROMPT, "-o", tmp_path / "a.ora", "--seed", 7, "--num-images", 2)
    assert result.stdout.splitlines() == [str(tmp_path / "a-1.ora"), str(tmp_path / "a-2.ora")]
    draw(PROMPT, "-o", tmp_path / "alone.ora", "--seed", 8)
    first, second, alone = (load(tmp_path / f"{name}.ora") for name in ("a-1", "a-2", "alone"))
    assert second.metadata == alone.metadata
    for part in ("foreground", "background", "mask", "composite"):  # a batch rounds otherwise
        of_batch, by_itself = (getattr(one, part).astype(int) for one in (second, alone))
        assert np.abs(of_batch - by_itself).max() <= 2
    assert np.abs(first.composite.astype(int) - second.composite).max() > 20


def test_preview_shows_the_parts_side_by_side(draw, tmp_path: Path) -> None:
    paths = tmp_path / "a.psd", tmp_path / "a.png"
    result = draw(PROMPT, "-o", paths[0], "--preview", paths[1], "--seed", 1)
    assert result.stdout.splitlines() == [str(path) for path in paths]
    made = load(paths[0])
    with Image.open(paths[1]) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape[1] == 8 + 4 * (64 + 8)  # four parts, 8 pixels between them
    composite, _, mask, background = (sheet[8:72, 8 + i * 72 : 72 + i * 72] for i in range(4))
    assert np.array_equal(composite, made.composite)
    assert np.array_equal(mask[..., 0], made.mask)
    assert np.array_equal(background, made.background)


def photo_file(folder: Path) -> Path:
    """A grey ramp, 64 x 64."""
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (64, 64, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(folder / "ramp.png")
    return folder / "ramp.png"


def test_a_given_background_is_kept(draw, tmp_path: Path) -> None:
    path = photo_file(tmp_path)
    result = draw(PROMPT, "-o", tmp_path / "a.ora", "--background", path, "--seed", 1)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(load(tmp_path / "a.ora").background, load(path).background)


def test_a_given_foreground_is_kept(draw, tmp_path: Path) -> None:
    path = cutout_file(tmp_path)
    result = draw(PROMPT, "-o", tmp_path / "a.ora", "--foreground", path, "--seed", 1)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(load(tmp_path / "a.ora").mask, load(path).mask)


def test_a_picture_is_taken_apart(draw, tmp_path: Path) -> None:
    path = photo_file(tmp_path)
    result = draw(PROMPT, "-o", tmp_path / "a.ora", "--image", path, "--seed", 1)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(load(tmp_path / "a.ora").composite, load(path).background)


@pytest.mark.parametrize("suffix", [".psd", ".ora", ".layers"])
@pytest.mark.parametrize("part", ["foreground", "background", "image"])
def test_what_is_given_is_in_the_file_bit_for_bit_at_its_size(draw, tmp_path, part, suffix):
    rgba = np.random.default_rng(0).integers(0, 256, (57, 131, 4), dtype=np.uint8)
    rgba[:, :20, 3] = 0
    path, output = tmp_path / "given.png", tmp_path / f"made{suffix}"
    Image.fromarray(rgba if part == "foreground" else rgba[..., :3]).save(path)
    result = draw("a quiet forest", "-o", output, f"--{part}", path, "--seed", 1)
    assert result.exit_code == 0, result.stderr
    made = load(output)
    assert made.size == made.foregrounds[0].size == (131, 57)
    if part == "foreground":
        seen = rgba[..., 3] > 0
        assert np.array_equal(made.foregrounds[0].alpha, rgba[..., 3])
        assert np.array_equal(made.foregrounds[0].colour[seen], rgba[seen][:, :3])
    else:
        whole = made.background if part == "background" else made.composite
        assert np.array_equal(whole, rgba[..., :3])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["", "-o", "a.psd"], "prompt is empty"),
        (["  ", "-o", "a.psd"], "prompt is empty"),
        (["apple " * 500, "-o", "a.psd"], "token"),
        (["apple", "-o", "a.psd", "--width", "65"], "multiple of"),
        (["apple", "-o", "a.psd", "--height", "4096"], "4096"),
        (["apple", "-o", "a.psd", "--steps", "100000"], "100000"),
        (["apple", "-o", "a.psd", "--guidance-scale", "-1"], "-1"),
        (["apple", "-o", "a.psd", "--guidance-scale", "nan"], "nan"),
        (["apple", "-o", "a.psd", "--device", "abacus"], "abacus"),
        (["apple", "-o", "a.bmp"], ".psd"),
        (["apple", "-o", "missing/a.psd"], "does not exist"),
        (["apple", "-o", "a.psd", "--preview", "a.gif"], ".png"),
        (["apple", "-o", "a.psd", "--background", "none.png"], "none.png"),
        (["apple", "-o", "a.psd", "--foreground", "ramp.png"], "no transparency"),
        (["apple", "-o", "a.psd", "--foreground", "disc.png", "--image", "ramp.png"], "only one"),
        (["apple", "-o", "a.psd", "--foreground", "clear.png"], "is empty"),
    ],
)
def test_bad_input_gets_one_sentence(draw, tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {cutout_file(tmp_path), photo_file(tmp_path), tmp_path / "clear.png"}
    Image.new("RGBA", (64, 64)).save(tmp_path / "clear.png")
    assert says in assert_one_sentence(draw(*arguments, "--seed", "1"))
    assert set(tmp_path.iterdir()) == kept


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "0"], ["--num-images", "0"], ["--num-images", "1000000000"], ["--seed", "-1"]],
)
def test_numbers_that_never_make_sense_are_wrong_usage(draw, tmp_path, arguments) -> None:
    result = draw(PROMPT, "-o", tmp_path / "a.psd", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


@pytest.mark.parametrize("damage", ["missing", "empty folder", "foreign", "cut short", "no part"])
def test_bad_model_gets_one_sentence(run, model: Path, tmp_path: Path, damage: str) -> None:
    import shutil

    broken = tmp_path / "broken"
    if damage == "empty folder":
        broken.mkdir()
    elif damage != "missing":
        shutil.copytree(model, broken)
    if damage == "foreign":
        (broken / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    elif damage == "cut short":
        file = next((broken / "denoiser").glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "no part":
        shutil.rmtree(broken / "autoencoder")
    output = tmp_path / "a.psd"
    result = run("generate", PROMPT, "-o", output, "--model", broken, "--seed", 1)
    assert "broken" in assert_one_sentence(result)
    assert not output.exists()


def test_fast_needs_an_adapter(draw, tmp_path: Path) -> None:
    result = draw(PROMPT, "-o", tmp_path / "a.psd", "--fast")
    assert "no adapter for few steps" in assert_one_sentence(result)
    assert not (tmp_path / "a.psd").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--width", 60], "The width must be a multiple of 8"),
        (["--steps", 2000], "must lie in 1..1000"),
        (["--guidance-scale", -1], "guidance scale must lie in 0..100"),
    ],
)
def test_numbers_are_checked_before_a_model_is_loaded(run, model, tmp_path, options, words):
    empty = shutil.copytree(model, tmp_path / "empty")
    for file in empty.rglob("*.safetensors"):
        file.unlink()  # would be missed at loading
    result = run("generate", PROMPT, "-o", tmp_path / "x.psd", "--model", empty, *options)
    assert words in assert_one_sentence(result)


def test_words_that_a_model_was_never_trained_on_are_noted(run, model, tmp_path):
    taught = shutil.copytree(model, tmp_path / "taught")
    things = [LearntThing("a red apple", "3d icon", "apple", 3, 3)]
    for prompt, noted, grounds in (
        ("a red apple in a forest", False, []),
        ("dog cat and bicycle", True, []),
        ("dog cat and bicycle", False, ["a dog", "a bicycle"]),
    ):
        write_learnt(taught, things, grounds)
        result = run("generate", prompt, "-o", tmp_path / "x.psd", "--model", taught)
        assert result.exit_code == 0, result.stderr
        assert ("is in no caption that the model was trained on" in result.stderr) == noted


def test_options_without_effect_are_noted(run, model, tmp_path):
    options = ["-o", tmp_path / "x.psd", "--model", model, "--guidance-scale", 1]
    result = run("generate", PROMPT, *options, "--negative-prompt", "a dog")
    assert "without guidance the negative prompt has no effect" in result.stderr
    assert "negative prompt" not in run("generate", PROMPT, *options).stderr


def test_a_photograph_given_as_image_gets_a_hint(run, model, tmp_path):
    for suffix, hinted in ((".jpg", True), (".png", False)):
        picture = tmp_path / f"picture{suffix}"
        Image.new("RGB", (64, 64), "red").save(picture)
        result = run("generate", "", "--image", picture, "-o", tmp_path / "x.psd", "--model", model)
        assert result.exit_code == 0, result.stderr
        assert ("for a photograph use text2layer decompose" in result.stderr) == hinted
