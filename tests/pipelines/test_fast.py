"""Few steps: the adapter beside a model, asked for and not asked for."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from text2layer.errors import WeightsError
from text2layer.files import file_sha256
from text2layer.models.adapter import FewSteps, add_adapter, save_adapter
from text2layer.pipelines import Text2LayerPipeline


@pytest.fixture
def model(toy_model_folder: Path, tmp_path: Path) -> Path:
    """A model with an adapter beside it."""
    folder = shutil.copytree(toy_model_folder, tmp_path / "mine")
    network = Text2LayerPipeline.from_pretrained(folder).denoiser
    add_adapter(network, 2)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    adapter = tmp_path / "mine-fast"
    adapter.mkdir()
    save_adapter(
        network, adapter, FewSteps(2, file_sha256(folder / "denoiser" / SAFETENSORS_WEIGHTS_NAME))
    )
    return folder


def draw(pipeline: Text2LayerPipeline, **options: object):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    return pipeline("a red ball on a green meadow", generator=generator, **options).layers[0]


def test_fast_takes_the_taught_steps_without_guidance(model: Path, toy_model_folder: Path):
    calls = []
    pipeline = Text2LayerPipeline.from_pretrained(model, fast=True)
    pipeline.denoiser.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    fast = draw(pipeline)
    assert calls == [1, 1]  # one sample a call: guidance would make it two
    assert fast.metadata["steps"] == 2
    assert fast.metadata["guidance_scale"] == 1.0
    assert fast.metadata["model"] == "mine-fast"
    plain = Text2LayerPipeline.from_pretrained(model)
    assert plain.config.default_steps == 3
    slow = draw(plain, num_inference_steps=2, guidance_scale=1.0)
    assert slow.metadata["model"] == "mine"
    assert slow.metadata["model_hash"] != fast.metadata["model_hash"]
    assert (slow.background != fast.background).any()
    assert draw(pipeline, num_inference_steps=5).metadata["steps"] == 5


def test_the_folder_may_be_named_in_any_way(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(model)
    assert Text2LayerPipeline.from_pretrained(".", fast=True).config.default_steps == 2


def test_a_model_without_an_adapter_says_so(model: Path):
    shutil.rmtree(model.with_name("mine-fast"))
    with pytest.raises(WeightsError, match="no adapter for few steps"):
        Text2LayerPipeline.from_pretrained(model, fast=True)
