"""The benchmark's baselines are trained by the same trainers: SD-AE-UNet and flat."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.runs import metrics
from text2layer.errors import InputError
from text2layer.models.plain_autoencoder import PARTS, PlainAutoencoder
from text2layer.pipelines import Text2LayerPipeline
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.checkpoints import load_autoencoder
from text2layer.training.denoiser import train_denoiser


@pytest.fixture
def plain(autoencoder_settings, source, tmp_path: Path) -> Path:
    settings = autoencoder_settings(
        preset="tiny-plain", out=str(tmp_path / "plain"), steps=12, composition_weight=0.0,
        laplacian_weight=0.0, mask_l1_weight=3.0,
    )  # fmt: skip
    train_autoencoder(settings, source, source)
    return tmp_path / "plain"


def test_a_plain_autoencoder_learns_all_four_pictures(plain):
    losses = [line["loss"] for line in metrics(plain) if "loss" in line]
    assert losses[-1] < losses[0]
    network = load_autoencoder(plain / "model")
    assert isinstance(network, PlainAutoencoder)
    assert tuple(network.config.parts) == PARTS
    assert len(network.config.latent_shift) == network.config.latent_channels


@pytest.mark.parametrize(("parts", "channels"), [("layers", 6), ("image", 2)])
def test_a_denoiser_takes_the_parts_it_is_told(
    denoiser_settings, source, plain, tmp_path, parts, channels
):
    settings = denoiser_settings(
        autoencoder=str(plain / "model"), parts=parts, steps=2, job_text=1.0, job_background=0.0,
        job_foreground=0.0, job_image=0.0,
    )  # fmt: skip
    train_denoiser(settings, source, source)
    pipeline = Text2LayerPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.denoiser.config.out_channels == channels
    assert pipeline.autoencoder.is_flat == (parts == "image")
    made = pipeline("a red ball", width=64, height=64, generator=torch.Generator().manual_seed(0))
    assert len(made.predicted_images) == (parts == "image")
    assert bool((made.layers[0].mask == 255).all()) == (parts == "image")


def test_parts_are_a_matter_of_plain_autoencoders(denoiser_settings, source):
    with pytest.raises(InputError, match="can be asked of a plain autoencoder"):
        train_denoiser(denoiser_settings(parts="image"), source, source)
    with pytest.raises(InputError, match="parts must be"):
        denoiser_settings(parts="mask")


def test_a_saved_baseline_loads_where_nothing_else_was_imported(
    denoiser_settings, source, plain, tmp_path
):
    settings = denoiser_settings(autoencoder=str(plain / "model"), parts="layers", steps=1)
    train_denoiser(settings, source, source)
    code = (
        "import sys; from text2layer.pipelines import Text2LayerPipeline; "
        "print(type(Text2LayerPipeline.from_pretrained(sys.argv[1]).autoencoder).__name__)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run" / "pipeline")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "PlainAutoencoder"
