"""`decompose` with a toy network that finds what is bright, OpenCV's fill, and a tiny model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import toy_onnx
from tests.cli.outcome import assert_one_sentence
from tests.toy_photo import two_boxes
from text2layer import Layer, LayeredImage, __version__, load, save

SIDE = 96
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    return toy_onnx.brightness_network(folder / "toy.onnx", (1, 3, SIDE, SIDE))


@pytest.fixture
def apart(run, network: Path):
    """Call `text2layer decompose ARGUMENTS` with small networks."""

    def call(*arguments: object):
        return run("decompose", *arguments, "--saliency", network, "--inpainter", "opencv")

    return call


def write_photo(path: Path, **how: object) -> Path:
    """A photo of two bright boxes, 96 wide and 72 high."""
    Image.fromarray(two_boxes(SIDE, 72)).save(path, **how)
    return path


@pytest.mark.parametrize("name", ["apart.psd", "apart.ora", "apart.layers"])
def test_a_photo_becomes_a_layer_for_each_subject(apart, tmp_path: Path, name: str) -> None:
    photo, output = write_photo(tmp_path / "photo.png"), tmp_path / name
    result = apart(photo, "-o", output)
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    made, given = load(output), load(photo).background
    assert made.size == (SIDE, 72)
    assert [layer.name for layer in made.foregrounds] == ["Subject 1", "Subject 2"]
    assert made.metadata["saliency"].endswith("toy.onnx")
    assert made.metadata["inpainter"] == "opencv"
    assert made.metadata["generator"] == f"text2layer {__version__}"
    opaque = made.mask == 255
    assert opaque.any()
    assert np.array_equal(made.composite[opaque], given[opaque])
    assert np.array_equal(made.composite[:10], given[:10])


def test_options_reach_the_layers(apart, tmp_path: Path) -> None:
    photo, output = write_photo(tmp_path / "photo.webp", lossless=True), tmp_path / "apart.psd"
    assert apart(photo, "-o", output, "--max-layers", 1).exit_code == 0
    assert [layer.name for layer in load(output).foregrounds] == ["Subject 1"]


def test_a_photo_is_turned_upright(apart, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was held upright
    photo = write_photo(tmp_path / "photo.jpg", exif=exif, quality=95)
    assert apart(photo, "-o", tmp_path / "apart.psd").exit_code == 0
    assert load(tmp_path / "apart.psd").size == (72, SIDE)


def test_preview_shows_every_subject(apart, tmp_path: Path) -> None:
    photo, output, preview = (tmp_path / name for name in ("photo.png", "a.psd", "a.png"))
    result = apart(write_photo(photo), "-o", output, "--preview", preview)
    assert result.stdout.splitlines() == [str(output), str(preview)]
    with Image.open(preview) as sheet:
        assert sheet.width == 8 + 5 * (SIDE + 8)  # composite, two subjects, mask, background


def test_a_preview_of_a_large_photo_is_small(apart, tmp_path: Path) -> None:
    photo, output, preview = (tmp_path / name for name in ("photo.png", "a.psd", "a.png"))
    Image.fromarray(two_boxes(1024, 768)).save(photo)
    assert apart(photo, "-o", output, "--preview", preview).exit_code == 0
    with Image.open(preview) as sheet:
        assert sheet.width == 8 + 5 * (512 + 8)
    assert load(output).size == (1024, 768)


@pytest.mark.parametrize("prompt", [None, "a red apple"])
def test_a_model_takes_apart_with_and_without_words(
    run, toy_model_folder: Path, tmp_path: Path, prompt: str | None
) -> None:
    photo, output = write_photo(tmp_path / "photo.png"), tmp_path / "apart.psd"
    words = ["--prompt", prompt] if prompt else []
    result = run("decompose", photo, "-o", output, "--model", toy_model_folder, "--seed", 3, *words)
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    made = load(output)
    assert made.size == (SIDE, 72)
    assert [layer.name for layer in made.foregrounds] == ["Foreground"]
    assert np.array_equal(made.composite, load(photo).background)
    assert (made.metadata["prompt"], made.metadata["seed"]) == (prompt or "", 3)


def test_a_layered_pipeline_of_diffusers_takes_apart(
    run, toy_layered_pipeline: Path, tmp_path: Path
) -> None:
    photo, output = write_photo(tmp_path / "photo.png"), tmp_path / "apart.psd"
    result = run(
        "decompose", photo, "-o", output, "--model", toy_layered_pipeline, "--seed", 3,
        "--prompt", "two boxes", "--max-layers", 1, "--steps", 2,
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    made = load(output)
    assert made.size == (SIDE, 72)
    assert all(layer.name.startswith("Layer ") for layer in made.foregrounds)
    assert made.metadata["pipeline"] == "QwenImageLayeredPipeline"
    assert made.metadata["steps"] == 2
    assert (made.metadata["prompt"], made.metadata["seed"]) == ("two boxes", 3)
    assert made.metadata["digital_source_type"] != TRAINED


def test_options_of_layered_pipelines_do_not_go_with_a_model_of_ours(
    run, toy_model_folder: Path, tmp_path: Path
) -> None:
    photo = write_photo(tmp_path / "photo.png")
    for option, value in (("--max-layers", 2), ("--dtype", "float16"), ("--offload", "model")):
        result = run(
            "decompose", photo, "-o", tmp_path / "a.psd", "--model", toy_model_folder, option, value
        )
        line = assert_one_sentence(result)
        assert f"{option} goes with a layered pipeline of diffusers" in line


def test_a_drawn_picture_is_still_called_drawn(apart, tmp_path: Path) -> None:
    drawn = LayeredImage(two_boxes(), metadata={"prompt": "two boxes", "generator": "text2layer 0"})
    save(drawn, tmp_path / "drawn.png")
    write_photo(tmp_path / "photo.png")
    for name in ("drawn", "photo"):
        assert apart(tmp_path / f"{name}.png", "-o", tmp_path / f"{name}.psd").exit_code == 0
    made = load(tmp_path / "drawn.psd").metadata
    assert (made["prompt"], made["digital_source_type"]) == ("two boxes", TRAINED)
    assert load(tmp_path / "photo.psd").metadata["digital_source_type"] != TRAINED


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are no photo to take apart, and one that is."""
    folder = tmp_path_factory.mktemp("things")
    write_photo(folder / "photo.png")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "moving.gif").write_bytes(b"GIF89a")
    Image.new("RGB", (SIDE, SIDE)).save(folder / "black.png")
    Image.new("RGB", (1, 1), "white").save(folder / "dot.png")
    Image.new("1", (12_000, 9_000)).save(folder / "huge.png")
    rgba = np.dstack([two_boxes(), np.full((SIDE, SIDE), 90, np.uint8)])
    Image.fromarray(rgba).save(folder / "cutout.png")
    layer = Layer(two_boxes(), rgba[..., 3])
    save(LayeredImage(two_boxes(), (layer,)), folder / "layered.psd")
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.jpg", "-o", "a.psd"], "missing.jpg"),
        (["empty.png", "-o", "a.psd"], "empty.png is empty"),
        (["text.jpg", "-o", "a.psd"], "text.jpg"),
        (["moving.gif", "-o", "a.psd"], "damaged"),
        (["photo.xcf", "-o", "a.psd"], "unknown format"),
        (["huge.png", "-o", "a.psd"], "over the limit"),
        (["black.png", "-o", "a.psd"], "finds no subject in black.png"),
        (["dot.png", "-o", "a.psd"], "finds no subject in dot.png"),
        (["cutout.png", "-o", "a.psd"], "transparency already"),
        (["layered.psd", "-o", "a.psd"], "text2layer convert layered.psd flat.png"),
        (["photo.png", "-o", "photo.png"], "is the photo itself"),
        (["photo.png", "-o", "a.psd", "--preview", "photo.png"], "is the photo itself"),
        (["photo.png", "-o", "a.bmp"], ".psd"),
        (["photo.png", "-o", "missing/a.psd"], "does not exist"),
        (["photo.png", "-o", "a.psd", "--preview", "a.gif"], ".png"),
        (["photo.png", "-o", "a.psd", "--prompt", "boxes"], "--prompt goes with --model"),
        (["photo.png", "-o", "a.psd", "--seed", "1"], "--seed goes with --model"),
        (["photo.png", "-o", "a.psd", "--model", "base"], "--saliency goes without --model"),
    ],
)
def test_bad_input_gets_one_sentence(apart, things, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(things)
    before = {path.name: path.read_bytes() for path in things.iterdir()}
    assert says in assert_one_sentence(apart(*arguments))
    assert {path.name: path.read_bytes() for path in things.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--saliency", "u9net"], "no saliency network 'u9net'"),
        (["--saliency", "missing.onnx"], "missing.onnx is not there"),
        (["--inpainter", "paintbrush"], "no inpainter 'paintbrush'"),
        (["--model", "missing"], "no model folder 'missing'"),
        (["--model", "base", "--device", "abacus"], "abacus"),
    ],
)
def test_unknown_networks_get_one_sentence(
    run, network: Path, tmp_path, monkeypatch, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = write_photo(tmp_path / "photo.png")
    found = [] if {"--saliency", "--model"} & set(arguments) else ["--saliency", network]
    line = assert_one_sentence(run("decompose", photo, "-o", "a.psd", *arguments, *found))
    assert says in line
    assert list(tmp_path.iterdir()) == [photo]


def test_no_layers_at_all_is_wrong_usage(apart, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png")
    result = apart(photo, "-o", tmp_path / "a.psd", "--max-layers", 0)
    assert result.exit_code == 2
    assert not (tmp_path / "a.psd").exists()
