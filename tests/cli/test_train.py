"""The whole way on a tiny library: train both networks, measure, draw from what was trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.outcome import assert_one_sentence
from text2layer import load


def test_from_a_library_to_a_picture(run, library: Path, tmp_path: Path) -> None:
    few = [
        "--preset", "tiny", "--steps", 2, "--batch-size", 2, "--data", library, "--device", "cpu",
        "--mixed-precision", "no", "--preview-every", 0, "--validate-every", 0,
    ]  # fmt: skip
    autoencoder, denoiser = tmp_path / "autoencoder", tmp_path / "denoiser"

    result = run("train", "autoencoder", *few, "--out", autoencoder)
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.strip()).is_dir()
    lines = (autoencoder / "metrics.jsonl").read_text().splitlines()
    assert all(np.isfinite(json.loads(line).get("loss", 0)) for line in lines)

    result = run(
        "evaluate", autoencoder / "model", "--data", library, "--samples", 3, "--size", 32,
        "--batch-size", 2, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (scores,) = json.loads(result.stdout)["results"]
    assert (scores["protocol"], scores["samples"]) == ("reconstruct", 3)
    assert 0 < scores["metrics"]["psnr_composite"]["value"] < 60
    assert 0 <= scores["metrics"]["soft_iou"]["value"] <= 1

    result = run(
        "train", "denoiser", *few, "--out", denoiser, "--autoencoder", autoencoder / "model",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr

    out = tmp_path / "scores"
    result = run(
        "evaluate", denoiser / "pipeline", "--data", library, "--samples", 9, "--size", 64,
        "--protocols", "prompt, reconstruct", "--batch-size", 9, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "## prompt (version 2)" in result.stdout
    written = {"results.json", "scores.safetensors", "table.md", "plots.png"}
    assert {path.name for path in out.iterdir()} == {*written, "sheet-reconstruct.png"}

    result = run("compare", out, out, "--json")
    assert result.exit_code == 0, result.stderr
    same = json.loads(result.stdout)
    assert same["prompt"]["chosen_own"]["difference"]["value"] == 0

    picture = tmp_path / "apple.psd"
    result = run(
        "generate", "a red apple in front of a blue sky", "-o", picture, "--seed", 1,
        "--model", denoiser / "pipeline", "--width", 64, "--height", 64, "--steps", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert load(picture).size == (64, 64)

    result = run("train", "matting", *few, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    shutil.copytree(tmp_path / "run" / "matting", denoiser / "pipeline-matting")
    flat, apart = tmp_path / "flat.png", tmp_path / "apart.psd"
    assert run("convert", picture, flat).exit_code == 0
    result = run("decompose", flat, "-o", apart, "--model", denoiser / "pipeline", "--seed", 1)
    assert result.exit_code == 0, result.stderr
    assert len(load(apart).metadata["taken_apart_by"]["matting_hash"]) == 16


def test_a_model_of_three_layers_from_a_library_to_a_picture(
    run, library: Path, tmp_path: Path
) -> None:
    few = [
        "--preset", "tiny", "--steps", 2, "--batch-size", 2, "--size", 64, "--device", "cpu",
        "--mixed-precision", "no", "--preview-every", 2, "--validate-every", 0,
    ]  # fmt: skip
    autoencoder, denoiser = tmp_path / "autoencoder", tmp_path / "denoiser"
    result = run(
        "train", "autoencoder", *few, "--num-foregrounds", 2, "--data", library,
        "--out", autoencoder,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    result = run(
        "train", "denoiser", *few, "--autoencoder", autoencoder / "model", "--data", library,
        "--out", denoiser,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr

    picture = tmp_path / "two.psd"
    result = run(
        "generate", "a red apple and a blue cup in front of a beach", "-o", picture, "--seed", 1,
        "--model", denoiser / "pipeline", "--steps", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    names = [layer.name for layer in load(picture).foregrounds]
    assert names == ["Foreground 1", "Foreground 2"]

    model, data = denoiser / "pipeline", ("--data", library, "--samples", 2)
    assert "one foreground" in assert_one_sentence(run("evaluate", model, *data))
    coded = autoencoder / "model"
    assert "one foreground" in assert_one_sentence(run("evaluate", coded, *data))
    assert "foregrounds at once" in assert_one_sentence(
        run("add", picture, "a fox", "-o", tmp_path / "more.psd", "--model", model, "--seed", 1)
    )

    shards = tmp_path / "shards"
    assert run("dataset", "compose", library, shards, "--count", 2, "--size", 32).exit_code == 0
    trained = run("train", "autoencoder", *few, "--num-foregrounds", 2, "--data", shards)
    assert "shards hold one foreground" in assert_one_sentence(trained)
    trained = run("train", "denoiser", *few, "--autoencoder", coded, "--data", shards)
    assert "shards hold one foreground" in assert_one_sentence(trained)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "huge"], "huge"),
        (["--preset", "tiny"], "--data"),
        (["--preset", "tiny", "--data", "nowhere"], "nowhere"),
        (["--steps", "0"], "steps"),
        (["--mixed-precision", "fp8"], "fp8"),
    ],
)
@pytest.mark.parametrize("trainer", ["autoencoder", "denoiser"])
def test_bad_settings_get_one_sentence(
    run, tmp_path, monkeypatch, trainer, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in assert_one_sentence(run("train", trainer, *arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--gradient-checkpointing", "--warm-start"])
def test_matting_offers_only_what_it_can_use(run, option) -> None:
    result = run("train", "matting", option)
    assert result.exit_code == 2
    assert f"No such option: {option}" in result.stderr
    assert option not in run("train", "matting", "--help").stdout
    assert option in run("train", "autoencoder", "--help").stdout


@pytest.mark.parametrize(
    "options",
    [("--adversarial-weight", ".5", "--adversarial-start", "0"), ("--mask-block",)],
)
def test_a_baseline_refuses_what_it_has_no_place_for(run, library: Path, options) -> None:
    asked = run("train", "autoencoder", "--preset", "bench-plain", "--data", library, *options)
    assert "cannot be used with preset bench-plain" in assert_one_sentence(asked)


def test_a_bad_evaluation_gets_one_sentence(run, library: Path, tmp_path: Path) -> None:
    data = ("--data", library)
    assert str(tmp_path) in assert_one_sentence(run("evaluate", tmp_path, *data))
    assert "drawing" in assert_one_sentence(
        run("evaluate", "base", *data, "--protocols", "drawing")
    )
    assert "not possible" in assert_one_sentence(
        run("evaluate", "networks", *data, "--protocols", "generate")
    )
    assert "judge" in assert_one_sentence(run("evaluate", "base", *data, "--judge", ""))
    assert "no results" in assert_one_sentence(run("compare", tmp_path, tmp_path))
