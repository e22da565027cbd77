"""Adapters for few steps: silent at first, small, merged exactly, and never into other weights."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file

from tests.toy_model import TEXT_WIDTH, build_network
from text2layer.errors import InputError, WeightsError
from text2layer.files import file_sha256
from text2layer.models.adapter import (
    FewSteps,
    add_adapter,
    merge,
    merge_adapter,
    read_note,
    save_adapter,
)
from text2layer.models.denoiser import denoise


def answer(network) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    states = torch.randn(2, 5, TEXT_WIDTH, generator=generator)
    with torch.no_grad():
        return denoise(
            network, latents, torch.zeros_like(latents), torch.zeros(2, 3),
            torch.tensor([900.0, 300.0]), states, torch.ones(2, 5, dtype=torch.bool),
        )  # fmt: skip


def adapted(rank: int = 2):
    """A network whose adapter says something."""
    network = build_network()
    add_adapter(network, rank)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_((0.2 * drawn).half())  # what the file keeps
        elif "lora_A" in name:
            parameter.data.copy_(parameter.data.half())
    return network


@pytest.fixture
def denoiser(tmp_path: Path) -> Path:
    build_network().save_pretrained(tmp_path / "denoiser")
    return tmp_path / "denoiser"


@pytest.fixture
def saved(tmp_path: Path, denoiser: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_adapter(adapted(), folder, FewSteps(4, file_sha256(denoiser / SAFETENSORS_WEIGHTS_NAME)))
    return folder


def test_a_new_adapter_is_silent_and_alone_in_training():
    network = build_network()
    before = answer(network)
    add_adapter(network, 2)
    assert torch.equal(answer(network), before)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert any("attn2.to_k" in name for name in trained)  # where the words come in
    assert any("ff.net.2" in name for name in trained)
    assert any("proj_out" in name for name in trained)


def test_its_size_follows_the_rank():
    def count(rank: int) -> int:
        return sum(p.numel() for p in adapted(rank).parameters() if p.requires_grad)

    assert count(4) == 2 * count(2) > 0


def test_merged_or_not_it_answers_alike(saved: Path):
    network = adapted()
    expected = answer(network)
    assert not torch.allclose(expected, answer(build_network()), atol=1e-2)
    merge(network)
    torch.testing.assert_close(answer(network), expected, rtol=1e-4, atol=1e-5)
    assert network.state_dict().keys() == build_network().state_dict().keys()
    loaded = build_network()
    merge_adapter(loaded, saved)
    torch.testing.assert_close(answer(loaded), expected, rtol=1e-4, atol=1e-5)
    assert loaded.state_dict().keys() == build_network().state_dict().keys()


def test_the_folder_is_peft_s_own(saved: Path):
    from peft import PeftModel

    assert {file.name for file in saved.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "few_steps.json",
    }  # fmt: skip
    tensors = load_file(saved / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    with_peft = PeftModel.from_pretrained(build_network(), saved)
    torch.testing.assert_close(
        answer(with_peft.base_model.model), answer(adapted()), rtol=1e-4, atol=1e-5
    )


def test_it_fits_the_denoiser_it_was_made_for_alone(saved: Path, denoiser: Path, tmp_path: Path):
    assert read_note(saved, denoiser).steps == 4
    other = build_network()
    other.proj_out.bias.data += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(WeightsError, match="made for another denoiser"):
        read_note(saved, tmp_path / "other")


@pytest.mark.parametrize("text", [None, "nothing", "{}", '{"steps": 4, "denoiser": "a", "b": 1}'])
def test_no_adapter_is_said(saved: Path, denoiser: Path, text: str | None):
    (saved / "few_steps.json").unlink()
    if text is not None:
        (saved / "few_steps.json").write_text(text)
    with pytest.raises(WeightsError, match="no adapter for few steps"):
        read_note(saved, denoiser)


def test_a_damaged_adapter_is_one_sentence(saved: Path):
    file = saved / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(WeightsError, match="cannot be loaded") as error:
        merge_adapter(build_network(), saved)
    assert "\n" not in str(error.value)


def test_an_adapter_of_other_layers_is_refused(saved: Path):
    file = saved / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "r": 3}))
    with pytest.raises(WeightsError, match="cannot be loaded"):
        merge_adapter(build_network(), saved)


def test_a_unet_takes_none():
    network = build_network("tiny-paper")
    assert isinstance(network, UNet2DConditionModel)
    with pytest.raises(InputError, match="takes no adapter"):
        add_adapter(network, 2)
