"""What all protocols are tried on."""

from pathlib import Path

import pytest

from tests.toy_library import build_toy_library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small picture library with all three splits."""
    return build_toy_library(tmp_path_factory.mktemp("evaluation") / "library")
