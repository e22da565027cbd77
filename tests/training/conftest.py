"""What tests of the trainers share: samples, settings of a few seconds, a trained-looking model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from tests.toy_model import build_autoencoder
from tests.training.toy_source import DiscSource
from text2layer.training import autoencoder, denoiser, matting
from text2layer.training.settings import (
    AutoencoderSettings,
    DenoiserSettings,
    MattingSettings,
    settings_from,
)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Let every test choose its precision: Accelerate keeps the first one of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def small_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few samples suffice to see that validation works."""
    monkeypatch.setattr(autoencoder, "VALIDATION_SAMPLES", 16)
    monkeypatch.setattr(denoiser, "VALIDATION_SAMPLES", 16)
    monkeypatch.setattr(denoiser, "VALIDATION_BATCH", 8)
    monkeypatch.setattr(matting, "VALIDATION_SAMPLES", 16)


@pytest.fixture
def source() -> DiscSource:
    return DiscSource()


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random autoencoder with latent statistics."""
    folder = tmp_path_factory.mktemp("autoencoder")
    build_autoencoder().save_pretrained(folder)
    return folder


COMMON = {
    "mixed_precision": "no", "device": "cpu", "preview_every": 0, "validate_every": 0,
    "checkpoint_every": 1000, "warmup_steps": 5,
}  # fmt: skip


@pytest.fixture
def autoencoder_settings(tmp_path: Path) -> Callable[..., AutoencoderSettings]:
    """Settings of a tiny run in tmp_path/run."""

    def make(**overrides: Any) -> AutoencoderSettings:
        base = {"out": str(tmp_path / "run"), "learning_rate": 2e-3, **COMMON}
        return settings_from("autoencoder", "tiny", **{**base, **overrides})

    return make


@pytest.fixture
def denoiser_settings(
    tmp_path: Path, autoencoder_folder: Path, toy_text_encoder: Path
) -> Callable[..., DenoiserSettings]:
    """Settings of a tiny run in tmp_path/run."""

    def make(**overrides: Any) -> DenoiserSettings:
        base = {
            "out": str(tmp_path / "run"),
            "autoencoder": str(autoencoder_folder),
            "text_encoder": str(toy_text_encoder),
            "learning_rate": 3e-3,
            **COMMON,
        }
        return settings_from("denoiser", "tiny", **{**base, **overrides})

    return make


@pytest.fixture
def matting_settings(tmp_path: Path) -> Callable[..., MattingSettings]:
    """Settings of a tiny run in tmp_path/run."""

    def make(**overrides: Any) -> MattingSettings:
        base = {"out": str(tmp_path / "run"), "learning_rate": 3e-3, **COMMON}
        return settings_from("matting", "tiny", **{**base, **overrides})

    return make
