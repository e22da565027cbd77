from pathlib import Path

import pytest

from tests.toy_library import build_toy_library
from text2layer.data.composer import Composer
from text2layer.data.library import Library


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_library(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    """A library that a test may damage."""
    return build_toy_library(tmp_path / "own", 10, 4)


@pytest.fixture(scope="session")
def composer(toy_root: Path) -> Composer:
    return Composer(Library(toy_root), "train", 64, progress=False)
