"""The adversarial part of the autoencoder's image loss, as in latent diffusion.

PatchGAN (pix2pix, arXiv 1611.07004) with hinge losses (arXiv 1705.02894) and the adaptive weight of
VQGAN (arXiv 2012.09841, equation 7): the settings of `LPIPSWithDiscriminator` in latent diffusion
(arXiv 2112.10752).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from text2layer.errors import InputError

MAX_ADAPTIVE_WEIGHT = 1e4  # latent diffusion's clamp
ADAPTIVE_EPSILON = 1e-4  # keeps the ratio finite where the adversarial gradient vanishes


class PatchDiscriminator(nn.Module):
    """Tells for overlapping patches of a picture whether they look real.

    Args:
        in_channels: Channels of the picture.
        base_channels: Channels after the first convolution (`ndf`), doubled per layer up to 8x.
        num_layers: Convolutions with stride 2; three see patches of 70 x 70 pixels.

    Raises:
        InputError: a number is not positive.
    """

    def __init__(self, in_channels: int = 3, base_channels: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        if min(in_channels, base_channels, num_layers) < 1:
            raise InputError(
                "A PatchDiscriminator needs positive numbers, got "
                f"{in_channels=}, {base_channels=}, {num_layers=}."
            )
        widths = [base_channels * min(2**layer, 8) for layer in range(num_layers + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for layer in range(1, num_layers + 1):
            stride = 2 if layer < num_layers else 1
            layers += [
                nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[layer]),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits per patch, positive for real: (N, C, H, W) in [-1, 1] -> (N, 1, h, w).

        With three layers h = H / 8 - 2, so pictures need at least 24 x 24 pixels.
        """
        logits: torch.Tensor = self.layers(image)
        return logits


def hinge_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Loss of the discriminator: logits of real pictures above 1, of made ones below -1.

    Args:
        real: Logits of real pictures, any shape.
        fake: Logits of detached reconstructions, any shape.

    Returns:
        Scalar, 1 where the discriminator knows nothing, 0 where it is sure and right.
    """
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """Loss of the autoencoder: the negative mean logit of its reconstructions. Scalar."""
    return -fake.mean()


def adaptive_weight(
    reconstruction_loss: torch.Tensor,
    adversarial_loss: torch.Tensor,
    last_layers: torch.Tensor | Sequence[torch.Tensor],
    average: Callable[[torch.Tensor], torch.Tensor] = lambda gradient: gradient,
) -> torch.Tensor:
    """Weight that gives both losses the same pull on the decoder's last layer, or layers.

    The ratio of the two gradients' norms, |d rec / d last| / (|d adv / d last| + 1e-4), at most
    1e4 (arXiv 2012.09841, equation 7); a decoder with several heads ends in several layers, whose
    gradients count as one vector. To be multiplied by the constant discriminator weight.

    Args:
        reconstruction_loss: Scalar with a graph to every one of `last_layers`.
        adversarial_loss: Likewise.
        last_layers: Weight or weights of the last layers that both losses reach.
        average: Mean of a gradient over the processes that train together.

    Returns:
        Detached scalar in [0, 1e4]. Both graphs are kept for the backward pass.
    """
    reconstruction, adversarial = (
        average(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradients in (
            torch.autograd.grad(loss, last_layers, retain_graph=True)
            for loss in (reconstruction_loss, adversarial_loss)
        )
    )
    ratio = reconstruction.norm() / (adversarial.norm() + ADAPTIVE_EPSILON)
    return ratio.clamp(0.0, MAX_ADAPTIVE_WEIGHT).detach()


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for convolutions, N(1, 0.02) for normalisation, as in pix2pix."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
