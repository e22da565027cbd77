"""What every test shares: no network, repeatable hypothesis runs, GPU tests only with a GPU."""

import os
from pathlib import Path
from typing import Any

# before any test module imports a hub client or a tokenizer
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked gpu on a machine without CUDA."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def toy_text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random BERT and its tokenizer."""
    from tests import toy_model

    return toy_model.save_text_encoder(tmp_path_factory.mktemp("toy") / "text_encoder")


@pytest.fixture(scope="session")
def toy_model_folder(toy_text_encoder: Path) -> Path:
    """A saved tiny pipeline with all its components; do not write into it."""
    from tests import toy_model

    folder = toy_text_encoder.parent / "model"
    toy_model.build_pipeline(toy_text_encoder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pipeline(toy_text_encoder: Path) -> Any:
    """A tiny untrained pipeline; do not change it."""
    from tests import toy_model

    return toy_model.build_pipeline(toy_text_encoder)


@pytest.fixture(scope="session")
def toy_pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny text-to-image pipelines of diffusers, by name; do not write into them."""
    from tests import toy_diffusers

    folder = tmp_path_factory.mktemp("pipelines")
    return {name: toy_diffusers.saved(name, folder) for name in toy_diffusers.PIPELINES}


@pytest.fixture(scope="session")
def toy_layered_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Qwen-Image-Layered; do not write into it."""
    from tests import toy_diffusers

    folder = tmp_path_factory.mktemp("layered") / "qwen"
    toy_diffusers.qwen_image_layered().save_pretrained(folder)
    return folder
