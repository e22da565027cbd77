"""The PatchGAN, its losses and the adaptive weight."""

import pytest
import torch
from torch import nn

from text2layer.errors import InputError
from text2layer.models.losses import (
    PatchDiscriminator,
    adaptive_weight,
    generator_loss,
    hinge_discriminator_loss,
)


def test_it_is_the_discriminator_of_latent_diffusion():
    """NLayerDiscriminator(input_nc=3, ndf=64, n_layers=3): no bias before a normalisation."""
    layers = list(PatchDiscriminator().layers)
    kinds = ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3, "Conv2d"]
    assert [type(layer).__name__ for layer in layers] == kinds
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [c.in_channels for c in convolutions] == [3, 64, 128, 256, 512]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 1]
    assert [c.stride[0] for c in convolutions] == [2, 2, 2, 1, 1]
    assert [c.bias is not None for c in convolutions] == [True, False, False, False, True]
    assert {(c.kernel_size, c.padding) for c in convolutions} == {((4, 4), (1, 1))}
    assert {x.negative_slope for x in layers if isinstance(x, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize(("size", "patches"), [((24, 24), (1, 1)), ((64, 96), (6, 10))])
def test_every_patch_gets_a_logit(size, patches):
    assert PatchDiscriminator()(torch.zeros(2, 3, *size)).shape == (2, 1, *patches)


def test_a_logit_sees_a_patch_of_seventy_pixels():
    discriminator = PatchDiscriminator(base_channels=4).eval()
    image = torch.randn(1, 3, 160, 160, requires_grad=True)
    discriminator(image)[0, 0, 9, 9].backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 70


def test_initial_weights_are_those_of_pix2pix():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    for module in discriminator.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("numbers", [(0, 64, 3), (3, 0, 3), (3, 64, 0)])
def test_numbers_that_are_not_positive_are_refused(numbers):
    with pytest.raises(InputError, match="positive"):
        PatchDiscriminator(*numbers)


def test_hinge_losses_have_their_known_values():
    zero = torch.zeros(2, 1, 3, 3)
    assert hinge_discriminator_loss(zero, zero).item() == 1.0
    assert hinge_discriminator_loss(zero + 1, zero - 1).item() == 0.0
    assert hinge_discriminator_loss(zero + 7, zero - 9).item() == 0.0  # no reward beyond the hinge
    assert hinge_discriminator_loss(zero - 1, zero + 1).item() == 2.0
    assert generator_loss(zero + 3).item() == -3.0


def test_a_discriminator_learns_to_tell_noise_from_stripes():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(base_channels=8)
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    stripes = torch.sin(torch.arange(32.0)).expand(8, 3, 32, 32)
    for _ in range(30):
        noise = torch.rand(8, 3, 32, 32) * 2 - 1
        loss = hinge_discriminator_loss(discriminator(stripes), discriminator(noise))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2


def test_the_adaptive_weight_is_the_ratio_of_the_two_gradients():
    last = nn.Parameter(torch.tensor([3.0, 4.0]))
    reconstruction, adversarial = 6.0 * last.sum(), 2.0 * last.sum()
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight.item() == pytest.approx(3.0, rel=1e-3)
    assert not weight.requires_grad
    (reconstruction + weight * adversarial).backward()  # both graphs are still there
    assert last.grad.tolist() == pytest.approx([12.0, 12.0], rel=1e-3)


def test_the_adaptive_weight_is_bounded_where_the_discriminator_is_silent():
    last = nn.Parameter(torch.ones(4))
    assert adaptive_weight(1e6 * last.sum(), 0.0 * last.sum(), last).item() == 1e4
    assert adaptive_weight(0.0 * last.sum(), last.sum(), last).item() == 0.0
