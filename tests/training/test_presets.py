"""Every preset that a CPU trains in seconds runs at its own size, with previews and export."""

from pathlib import Path

import pytest

from tests.training.toy_source import DiscSource
from text2layer import Text2LayerPipeline
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.denoiser import train_denoiser
from text2layer.training.matting import train_matting
from text2layer.training.settings import PRESETS, settings_from

# the other presets are networks for hours of a GPU, or need weights that are fetched
FITTING = [
    ("autoencoder", "tiny"), ("autoencoder", "bench"), ("autoencoder", "bench-no-sup"),
    ("autoencoder", "bench-plain"), ("denoiser", "tiny"), ("denoiser", "bench"),
    ("matting", "tiny"),
]  # fmt: skip
TRAINERS = {
    "autoencoder": train_autoencoder, "denoiser": train_denoiser, "matting": train_matting,
}  # fmt: skip


@pytest.mark.parametrize(("trainer", "preset"), FITTING, ids=map("-".join, FITTING))
def test_a_preset_runs_at_its_own_size(
    trainer: str, preset: str, tmp_path: Path, autoencoder_folder: Path, toy_text_encoder: Path
) -> None:
    own = PRESETS[trainer][preset]
    shorter = {"steps": 2, "batch_size": 2, "device": "cpu", "out": str(tmp_path / "run")}
    if trainer == "denoiser":
        shorter |= {
            "autoencoder": str(autoencoder_folder), "text_encoder": str(toy_text_encoder),
            "preview_steps": 1, "cache_samples": min(4, own.cache_samples),
        }  # fmt: skip
    settings = settings_from(trainer, preset, **shorter)
    assert settings.size == own.size
    source = DiscSource(own.size)
    assert TRAINERS[trainer](settings, source, source).step == 2
    assert (tmp_path / "run" / "previews" / "step-00000002.png").is_file()
    if trainer == "denoiser":
        pipe = Text2LayerPipeline.from_pretrained(tmp_path / "run" / "pipeline")
        (drawn,) = pipe("a red disc", num_inference_steps=1).layers
        assert min(drawn.size) >= 64
