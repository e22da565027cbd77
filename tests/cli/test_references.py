"""`generate --reference`, `--library`, `--at` and `--scale` with an untrained tiny model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.outcome import assert_one_sentence
from tests.toy_library import build_toy_library
from tests.toy_photo import cutout_file
from text2layer import load
from text2layer.pipelines.placement import place

PROMPT = "a red apple in front of a snowy mountain"


@pytest.fixture
def draw(run, model: Path, tmp_path: Path):
    """Call `text2layer generate PROMPT -o a.psd --seed 1 --model TINY ARGUMENTS`."""

    def call(*arguments: object, prompt: str = PROMPT, output: str = "a.psd"):
        return run(
            "generate", prompt, "-o", tmp_path / output, "--seed", 1, "--model", model, *arguments
        )

    return call


@pytest.fixture(scope="module")
def toy_library(tmp_path_factory) -> Path:
    """A library of its own: tests leave files beside nothing else."""
    return build_toy_library(tmp_path_factory.mktemp("library") / "toy")


def photo_file(folder: Path) -> Path:
    Image.fromarray(np.full((50, 80, 3), 90, np.uint8)).save(folder / "photo.png")
    return folder / "photo.png"


def test_a_reference_is_named_in_the_file_and_counts(draw, tmp_path: Path) -> None:
    assert draw(output="plain.psd").exit_code == 0
    result = draw("--reference", cutout_file(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    made = load(tmp_path / "a.psd")
    assert made.metadata["given"] == "reference"
    assert made.metadata["reference"]["name"] == "disc.png"
    assert len(made.metadata["reference"]["sha256"]) == 64
    assert made.size == (64, 64)
    assert not np.array_equal(made.background, load(tmp_path / "plain.psd").background)


def test_a_layered_file_is_a_reference_too(draw, tmp_path: Path, psd: Path) -> None:
    assert draw("--reference", psd).exit_code == 0
    assert load(tmp_path / "a.psd").metadata["reference"]["name"] == "Apple, Leaf"


@pytest.mark.parametrize("suffix", [".psd", ".ora", ".layers"])
def test_the_nearest_cutout_of_a_library_is_said_and_credited(
    draw, tmp_path: Path, toy_library: Path, suffix: str
) -> None:
    result = draw("--library", toy_library, prompt="a blue ring on a meadow", output=f"a{suffix}")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / f'a{suffix}'}\n"
    name = "ring-012"  # the blue one
    assert result.stderr == (
        f"reference {name}: a ring (flat icon), from toy==1.0, by Toy Maker, CC0-1.0\n"
    )
    said = load(tmp_path / f"a{suffix}").metadata["reference"]
    assert said.pop("sha256")
    assert said == {
        "name": name, "caption": "a ring", "source": "toy==1.0", "author": "Toy Maker",
        "license": "CC0-1.0",
    }  # fmt: skip


def test_the_cutout_of_a_library_is_what_its_file_is_as_reference(
    draw, tmp_path: Path, toy_library: Path
) -> None:
    prompt = "a blue ring on a meadow"
    draw("--library", toy_library, prompt=prompt, output="one.psd")
    file = toy_library / "foregrounds" / "ring-012.webp"
    draw("--reference", file, prompt=prompt, output="other.psd")
    one, other = load(tmp_path / "one.psd"), load(tmp_path / "other.psd")
    assert one.foregrounds == other.foregrounds
    assert one.metadata["reference"]["sha256"] == other.metadata["reference"]["sha256"]


@pytest.mark.parametrize(
    ("options", "at", "scale"),
    [
        (["--at", "left"], "left", None),
        (["--at", "-8,10,40,30"], "-8,10,40,30", None),
        (["--scale", "0.5"], None, 0.5),
        (["--at", "top-right", "--scale", "0.5"], "top-right", 0.5),
    ],
)
def test_the_object_is_moved_as_a_layer(draw, tmp_path: Path, options, at, scale) -> None:
    draw(output="plain.psd")
    result = draw(*options)
    assert result.exit_code == 0, result.stderr
    plain, made = load(tmp_path / "plain.psd"), load(tmp_path / "a.psd")
    assert made.foregrounds == (place(plain.foregrounds[0], at, scale, (64, 64)),)
    assert np.array_equal(made.background, plain.background)
    assert (made.metadata.get("at"), made.metadata.get("scale")) == (at, scale)


def test_over_a_photo_it_is_moved_in_the_photos_pixels(draw, tmp_path: Path) -> None:
    result = draw("--background", photo_file(tmp_path), "--at", "40,5,30,40")
    assert result.exit_code == 0, result.stderr
    made = load(tmp_path / "a.psd")
    assert made.size == (80, 50)
    assert (made.background == 90).all()
    x, y, width, height = made.foregrounds[0].box
    assert x >= 40
    assert x + width <= 70
    assert y + height == 45


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--reference", "none.png"], "none.png"),
        (["--reference", "photo.png"], "no transparency"),
        (["--reference", "clear.png"], "is empty"),
        (["--reference", "disc.png", "--background", "photo.png"], "only one"),
        (["--reference", "disc.png", "--library", "LIBRARY"], "--reference and --library"),
        (["--library", "none"], "no library folder"),
        (["--library", "LIBRARY", "--image", "photo.png"], "only one"),
        (["--at", "nowhere"], "is no place"),
        (["--at", "70,0,20,20"], "lies outside"),
        (["--scale", "0"], "The scale must lie"),
        (["--scale", "nan"], "The scale must lie"),
        (["--at", "0,0,20,20", "--scale", "2"], "A box says how large"),
        (["--at", "left", "--image", "photo.png"], "taken apart"),
        (["--scale", "2", "--foreground", "disc.png"], "comes back unchanged"),
    ],
)
def test_bad_input_gets_one_sentence(
    draw, tmp_path, monkeypatch, toy_library, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {cutout_file(tmp_path), photo_file(tmp_path), tmp_path / "clear.png"}
    Image.new("RGBA", (64, 64)).save(tmp_path / "clear.png")
    named = [toy_library if word == "LIBRARY" else word for word in arguments]
    assert says in assert_one_sentence(draw(*named))
    assert set(tmp_path.iterdir()) == kept


def test_a_library_without_anything_like_it_is_one_sentence(
    draw, tmp_path, toy_library, monkeypatch
) -> None:
    from text2layer.data import cutout_search

    monkeypatch.setattr(cutout_search, "LEAST_COSINE", 1.1)
    result = draw("--library", toy_library, prompt="a dog by a lake")
    line = assert_one_sentence(result)
    assert "The library has nothing like 'a dog' (the nearest is" in line
    assert not (tmp_path / "a.psd").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--at", "nowhere"], "is no place"),
        (["--scale", "0"], "The scale must lie"),
        (["--scale", "0.5", "--at", "10,10,50,50"], "A box says how large"),
    ],
)
def test_what_needs_no_model_is_refused_before_one_is_loaded(run, tmp_path, options, says) -> None:
    asked = run(
        "generate", "a ball", "-o", tmp_path / "a.psd", *options, "--model", "no-such-model"
    )
    assert says in assert_one_sentence(asked)
