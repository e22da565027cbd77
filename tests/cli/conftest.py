"""Runs the command line in this process and gives small layered files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

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
    """Two cut-outs and two backgrounds for each split."""
    root = tmp_path_factory.mktemp("library")
    random = np.random.default_rng(0)
    lists: dict[str, list[dict]] = {"foregrounds": [], "backgrounds": []}
    for number in range(6):
        split, shade = ("train", "val", "test")[number % 3], 40 * number
        record = {"license": "CC0-1.0", "source": "made here", "split": split}
        rgba = random.integers(0, 256, (48, 40, 4), dtype=np.uint8)
        rgba[8:40, 8:32, 3] = 255
        Image.fromarray(rgba).save(root / f"f{number}.webp", lossless=True, exact=True)
        lists["foregrounds"].append(
            {"id": f"f{number}", "file": f"f{number}.webp", "caption": "a red apple",
             "style": "clip art", "concept": f"apple {number}", **record}
        )  # fmt: skip
        Image.new("RGB", (96, 64), (shade, 90, 200)).save(root / f"b{number}.png")
        lists["backgrounds"].append(
            {"id": f"b{number}", "file": f"b{number}.png", "caption": "a blue sky",
             "scene": "sky", "time": "day", **record}
        )  # fmt: skip
    for name, records in lists.items():
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (root / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return root
