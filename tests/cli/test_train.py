"""The whole way on a tiny library: train both networks, measure, draw from what was trained."""

import json
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
        "evaluate", "autoencoder", autoencoder / "model", library, "--samples", 3, "--size", 32,
        "--batch-size", 2, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["samples"] == 3
    assert 0 < scores["psnr_composite"] < 60
    assert 0 <= scores["soft_iou_mask"] <= 1

    result = run(
        "train", "denoiser", *few, "--out", denoiser, "--autoencoder", autoencoder / "model",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr

    result = run("evaluate", "prompt", denoiser / "pipeline", library, "--samples", 8, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert (scores["samples"], scores["chance"]) == (16, 1 / 8)  # batches are full
    assert 0 <= scores["chosen_own"] <= 1

    picture = tmp_path / "apple.psd"
    result = run(
        "generate", "a red apple in front of a blue sky", "-o", picture, "--seed", 1,
        "--model", denoiser / "pipeline", "--width", 64, "--height", 64, "--steps", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert load(picture).size == (64, 64)


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


def test_evaluating_no_autoencoder_gets_one_sentence(run, library: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in assert_one_sentence(run("evaluate", "autoencoder", tmp_path, library))
