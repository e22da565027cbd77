"""Activations computed twice instead of kept: the same loss and gradients, less kept."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.toy_source import DiscSource
from text2layer.training.autoencoder import AutoencoderObjective
from text2layer.training.denoiser import DenoiserObjective
from text2layer.training.loop import Objective, step_generator


def one_update(objective: Objective) -> tuple[float, dict[str, Tensor], int]:
    """Loss and gradients of a step, and how many numbers were kept for the backward pass."""
    sizes: dict[Any, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    objective.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = objective(0, step_generator(0, 0))["loss"]
    kept = sum(sizes.values())
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in objective.network.named_parameters()}
    objective.network.zero_grad()
    return float(loss.detach()), gradients, kept


@pytest.mark.parametrize(
    "options",
    [{}, {"mask_block": True}, {"preset": "tiny-plain"}],
    ids=["tiny", "mask block", "plain"],
)
def test_of_an_autoencoder(options, autoencoder_settings):
    settings = autoencoder_settings(batch_size=4, **options)
    objective = AutoencoderObjective(settings, DiscSource(), DiscSource(), torch.device("cpu"))
    check(objective)
    for module in objective.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert int(module.num_batches_tracked) == 2  # of two updates, none counted twice


def test_a_block_for_the_mask_is_computed_twice_as_well(autoencoder_settings):
    spared = {}
    for block in (False, True):
        settings = autoencoder_settings(batch_size=8, mask_block=block)
        objective = AutoencoderObjective(settings, DiscSource(), DiscSource(), torch.device("cpu"))
        before = one_update(objective)[2]
        objective.checkpoint_gradients()
        spared[block] = before - one_update(objective)[2]
    assert spared[True] > spared[False]


@pytest.mark.parametrize("preset", ["tiny", "tiny-paper"])
def test_of_a_denoiser(preset, denoiser_settings):
    settings = denoiser_settings(preset=preset, cache_samples=8)
    check(DenoiserObjective(settings, DiscSource(), DiscSource(), torch.device("cpu")))


def check(objective: Objective) -> None:
    loss, gradients, kept = one_update(objective)
    objective.checkpoint_gradients()
    again, others, less = one_update(objective)
    assert again == pytest.approx(loss, rel=1e-6)
    for name, value in gradients.items():
        torch.testing.assert_close(others[name], value, atol=1e-6, rtol=1e-4, msg=name)
    assert less < kept
