"""Runs the command line in this process and gives small layered files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.toy_library import build_toy_library
from text2layer import Layer, LayeredImage, save
from text2layer.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Call `text2layer ARGUMENTS`; the result has exit_code, stdout, stderr."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def layered() -> LayeredImage:
    """Two soft foregrounds of different sizes over a background, with provenance."""
    random = np.random.default_rng(7)

    def pixels(*shape: int) -> np.ndarray:
        return random.integers(0, 256, shape, dtype=np.uint8)

    return LayeredImage(
        pixels(20, 30, 3),
        (
            Layer(pixels(12, 10, 3), pixels(12, 10), name="Apple", offset=(4, -3)),
            Layer(pixels(6, 8, 3), pixels(6, 8), name="Leaf", opacity=0.6, visible=False),
        ),
        metadata={"prompt": "a red apple", "seed": 11, "model_hash": "0123456789abcdef"},
    )


@pytest.fixture
def psd(layered: LayeredImage, tmp_path: Path) -> Path:
    """The layered picture as a PSD."""
    path = tmp_path / "apple.psd"
    save(layered, path)
    return path


@pytest.fixture
def unchanged(psd: Path, tmp_path: Path) -> Iterator[None]:
    """Hold that the test leaves the files of its folder as they were, temporary ones included."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    yield
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small picture library with all three splits."""
    return build_toy_library(tmp_path_factory.mktemp("data") / "library")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained tiny model, as a trainer would write it."""
    from tests.toy_model import build_pipeline, save_text_encoder
    from text2layer.training.outputs import export_pipeline

    folder = tmp_path_factory.mktemp("model")
    statistics = {"latent_shift": [0.0] * 4, "latent_scale": [1.0] * 4}
    pipeline = build_pipeline(save_text_encoder(folder / "text"), **statistics)
    return export_pipeline(pipeline, folder / "tiny")
