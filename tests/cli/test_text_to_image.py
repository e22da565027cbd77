"""`generate --text-to-image` with tiny random pipelines, and what it refuses."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import toy_diffusers, toy_onnx
from tests.cli.outcome import assert_one_sentence
from text2layer import load

SMALL = ["--steps", 2, "--width", 64, "--height", 48]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_onnx.middle_network(tmp_path_factory.mktemp("network") / "middle.onnx")


@pytest.fixture
def draw(run, network: Path):
    """Call `text2layer generate ARGUMENTS` with small networks that take apart."""

    def call(*arguments: object):
        return run("generate", *arguments, "--saliency", network, "--inpainter", "opencv")

    return call


@pytest.mark.parametrize("name", toy_diffusers.PIPELINES)
def test_words_become_layers_in_a_psd(draw, toy_pipelines, tmp_path: Path, name: str) -> None:
    output, folder = tmp_path / "fox.psd", toy_pipelines[name]
    result = draw("a red fox", "--text-to-image", folder, *SMALL, "--seed", 7, "-o", output)
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    made = load(output)
    assert made.size == (64, 48)
    assert [layer.name for layer in made.foregrounds] == ["Subject 1"]
    assert made.metadata["model"] == str(folder)
    assert len(made.metadata["model_hash"]) == 16
    assert made.metadata["saliency"].endswith("middle.onnx")
    assert (made.metadata["prompt"], made.metadata["seed"]) == ("a red fox", 7)
    assert (made.metadata["steps"], made.metadata["inpainter"]) == (2, "opencv")


def test_several_pictures_have_the_seeds_that_follow(draw, toy_pipelines, tmp_path: Path) -> None:
    options = ["--text-to-image", toy_pipelines["stable-diffusion"], *SMALL]
    several = draw("a fox", *options, "--seed", 3, "--num-images", 2, "-o", tmp_path / "fox.ora")
    assert several.exit_code == 0, several.stderr
    alone = draw("a fox", *options, "--seed", 4, "-o", tmp_path / "alone.ora")
    assert alone.exit_code == 0
    first, second, again = (load(tmp_path / f"{n}.ora") for n in ("fox-1", "fox-2", "alone"))
    assert (first.metadata["seed"], second.metadata["seed"]) == (3, 4)
    assert np.array_equal(second.composite, again.composite)
    assert not np.array_equal(first.composite, second.composite)


def test_a_file_of_prompts_is_drawn_line_by_line(draw, toy_pipelines, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\na dog\n")
    result = draw(
        "--prompts", tmp_path / "prompts.txt", "--text-to-image", toy_pipelines["sdxl"], *SMALL,
        "--seed", 1, "-o", tmp_path / "out", "--negative-prompt", "blur", "--guidance-scale", 4,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    made = [load(tmp_path / "out" / name) for name in ("001-a-fox.psd", "002-a-dog.psd")]
    assert [one.metadata["prompt"] for one in made] == ["a fox", "a dog"]
    said = made[0].metadata
    assert (said["negative_prompt"], said["guidance_scale"]) == ("blur", 4.0)


def test_a_preview_shows_the_parts(draw, toy_pipelines, tmp_path: Path) -> None:
    options = ["--text-to-image", toy_pipelines["flux"], *SMALL, "--preview", tmp_path / "p.png"]
    result = draw("a fox", *options, "-o", tmp_path / "fox.psd")
    assert result.stdout.splitlines() == [str(tmp_path / "fox.psd"), str(tmp_path / "p.png")]
    assert "seed " in result.stderr
    assert (tmp_path / "p.png").is_file()


@pytest.mark.parametrize(("guidance", "noted"), [(0, True), (1, True), (4, False)])
def test_a_negative_prompt_without_guidance_is_noted(
    draw, toy_pipelines, tmp_path: Path, guidance: float, noted: bool
) -> None:
    result = draw(
        "a fox", "--text-to-image", toy_pipelines["stable-diffusion"], *SMALL, "--negative-prompt",
        "blur", "--guidance-scale", guidance, "-o", tmp_path / "fox.ora",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert ("without guidance the negative prompt has no effect" in result.stderr) == noted


def test_one_diffusers_pipeline_draws_and_another_takes_apart(
    run, toy_pipelines, toy_layered_pipeline: Path, tmp_path: Path
) -> None:
    output = tmp_path / "fox.psd"
    result = run(
        "generate", "a fox", "--text-to-image", toy_pipelines["flux"], *SMALL, "--seed", 2,
        "--model", toy_layered_pipeline, "--max-layers", 1, "--dtype", "float32", "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    made = load(output)
    assert made.size == (64, 48)
    assert made.metadata["pipeline"] == "FluxPipeline"
    assert made.metadata["taken_apart_by"]["pipeline"] == "QwenImageLayeredPipeline"
    assert made.metadata["taken_apart_by"]["seed"] == 2


def test_a_model_of_ours_takes_apart_with_the_same_words(
    run, toy_pipelines, toy_model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "apple.psd"
    result = run(
        "generate", "a red apple", "--text-to-image", toy_pipelines["sdxl"], *SMALL, "--seed", 6,
        "--model", toy_model_folder, "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    said = load(output).metadata
    assert (said["pipeline"], said["steps"]) == ("StableDiffusionXLPipeline", 2)
    assert said["taken_apart_by"]["model"] == toy_model_folder.name
    assert (said["taken_apart_by"]["prompt"], said["taken_apart_by"]["seed"]) == ("a red apple", 6)


def test_a_picture_without_subjects_is_kept_as_a_background(
    run, toy_pipelines, tmp_path: Path
) -> None:
    network = toy_onnx.brightness_network(tmp_path / "bright.onnx", (1, 3, 96, 96))
    output = tmp_path / "fox.psd"
    result = run(
        "generate", "a fox", "--text-to-image", toy_pipelines["sdxl"], *SMALL, "--seed", 1,
        "--saliency", network, "--inpainter", "opencv", "-o", output,
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, f"{output}\n")
    assert "finds no subject" in result.stderr
    made = load(output)
    assert (made.foregrounds, made.size) == ((), (64, 48))


class _Trap:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def things(toy_pipelines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are no text-to-image pipeline."""
    folder = tmp_path_factory.mktemp("things")
    (folder / "sd.safetensors").write_bytes(b"weights")
    (folder / "empty").mkdir()
    for name in ("pickled", "cut", "coded", "newer", "inpainting", "foreign"):
        shutil.copytree(toy_pipelines["stable-diffusion"], folder / name)
    trap = pickle.dumps(_Trap(folder / "sprung"))
    (folder / "pickled/unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "pickled/unet/diffusion_pytorch_model.bin").write_bytes(trap)
    weights = folder / "cut/vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for name, kind in (
        ("coded", ["pipeline", "MyPipeline"]),
        ("newer", "StableDiffusion9Pipeline"),
        ("inpainting", "StableDiffusionInpaintPipeline"),
    ):
        index = json.loads((folder / name / "model_index.json").read_text())
        index["_class_name"] = kind
        (folder / name / "model_index.json").write_text(json.dumps(index))
    index = json.loads((folder / "foreign/model_index.json").read_text())
    index["unet"] = ["subprocess", "Popen"]
    (folder / "foreign/model_index.json").write_text(json.dumps(index))
    (folder / "coded/pipeline.py").write_text(f"open({str(folder / 'sprung')!r}, 'w')")
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "There is no model folder 'missing'"),
        ("empty", "no readable model_index.json"),
        ("sd.safetensors", "is a file; give a folder in diffusers' layout"),
        ("pickled", "cannot be loaded from safetensors"),
        ("cut", "cannot be loaded from safetensors"),
        ("foreign", "cannot be loaded from safetensors"),
        ("coded", "code that comes with a model is never run"),
        ("newer", "holds a StableDiffusion9Pipeline, which diffusers"),
        ("inpainting", "StableDiffusionInpaintPipeline is for inpainting"),
        ("nobody/nothing", "no pipeline of that name could be fetched from the hub"),
    ],
)
def test_what_is_no_such_model_gets_one_sentence(draw, things, monkeypatch, name, says) -> None:
    monkeypatch.chdir(things)
    line = assert_one_sentence(draw("a fox", "--text-to-image", name, "-o", "a.psd"))
    assert says in line
    assert not (things / "a.psd").exists()
    assert not (things / "sprung").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--width", "65"], "width of StableDiffusionPipeline must be a multiple of 2"),
        (["--height", "1000000"], "4096"),
        (["--steps", "5000"], "1..1000"),
        (["--guidance-scale", "nan"], "guidance scale"),
        (["--offload", "model"], "this runs on the CPU"),
        (["--offload", "disk"], "none, model, sequential"),
        (["--dtype", "int4"], "float16"),
        (["--device", "abacus"], "abacus"),
        (["--fast"], "--fast goes without --text-to-image"),
        (["--at", "left"], "--at goes without --text-to-image"),
        (["--background", "b.png"], "--background goes without --text-to-image"),
        (["--model", "base"], "--saliency goes without --model"),
    ],
)
def test_options_that_do_not_go_get_one_sentence(
    draw, toy_pipelines, tmp_path: Path, options, says
) -> None:
    options = ["--text-to-image", toy_pipelines["stable-diffusion"], *options]
    line = assert_one_sentence(draw("a fox", *options, "-o", tmp_path / "a.psd"))
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_a_negative_prompt_that_flux_ignores_is_refused(draw, toy_pipelines, tmp_path) -> None:
    options = ["--text-to-image", toy_pipelines["flux"], "--negative-prompt", "blur"]
    line = assert_one_sentence(draw("a fox", *options, "-o", tmp_path / "a.psd"))
    assert "true_cfg_scale" in line


@pytest.mark.parametrize("option", ["saliency", "inpainter", "max-layers", "dtype", "offload"])
def test_options_of_text_to_image_need_it(run, tmp_path: Path, option: str) -> None:
    line = assert_one_sentence(run("generate", "a fox", f"--{option}", 1, "-o", tmp_path / "a.psd"))
    assert f"--{option} goes with --text-to-image" in line
