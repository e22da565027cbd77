"""Losses of the composition-aware autoencoder (Text2Layer, section 4.2).

Every term is summed over channels and pixels, averaged over the batch and divided by the number of
pixels H * W. That is latent diffusion's reduction up to one common constant, so the weights
between terms are the paper's, and values do not depend on the picture's size.

The adversarial term: PatchGAN (pix2pix, arXiv 1611.07004) with hinge losses (arXiv 1705.02894) and
the adaptive weight of VQGAN (arXiv 2012.09841, equation 7), the settings of
`LPIPSWithDiscriminator` in latent diffusion (arXiv 2112.10752).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError
from text2layer.parts import Parts
from text2layer.tensors import composite

CompositionLoss = Literal["joint", "dim"]
CHARBONNIER_EPSILON = 1e-6  # Text2Layer, equation of l_comp
LAPLACIAN_LEVELS = 3  # Text2Layer, equation of l_lap


def per_pixel(values: Tensor) -> Tensor:
    """Sum over channels and pixels, mean over the batch, divided by H * W; a scalar."""
    return values.sum() / (values.shape[0] * values.shape[-2] * values.shape[-1])


def composition_loss(prediction: Parts, target: Parts, kind: CompositionLoss = "joint") -> Tensor:
    """l_comp = sum sqrt((C - C^)^2 + eps^2).

    Args:
        kind: `joint` composes C^ from predicted mask and predicted colours, m^F^ + (1 - m^)B^;
            `dim` from the predicted mask and true colours, as Deep Image Matting does.
    """
    if kind == "joint":
        predicted = composite(prediction.foreground, prediction.background, prediction.mask)
    else:
        predicted = composite(target.foreground, target.background, prediction.mask)
    truth = composite(target.foreground, target.background, target.mask)
    return per_pixel(torch.sqrt((truth - predicted) ** 2 + CHARBONNIER_EPSILON**2))


def laplacian_pyramid(mask: Tensor, levels: int = LAPLACIAN_LEVELS) -> list[Tensor]:
    """Band-pass levels of (N, C, H, W), finest first, with the 5x5 binomial kernel of Burt-Adelson.

    Sides are halved per level, rounding up.
    """
    far = (torch.arange(5, device=mask.device, dtype=mask.dtype) - 2).abs()
    line = (6 - 1.5 * far - 0.5 * far.square()) / 16.0  # 1 4 6 4 1, made where the mask lies
    channels = mask.shape[1]
    kernel = (line[:, None] * line[None, :]).expand(channels, 1, 5, 5)
    bands = []
    current = mask
    for _ in range(levels):
        padded = functional.pad(current, (2, 2, 2, 2), mode="replicate")
        smaller = functional.conv2d(padded, kernel, stride=2, groups=channels)
        larger = functional.interpolate(
            smaller, size=current.shape[-2:], mode="bilinear", align_corners=False
        )
        bands.append(current - larger)
        current = smaller
    return bands


def laplacian_loss(mask: Tensor, target: Tensor, levels: int = LAPLACIAN_LEVELS) -> Tensor:
    """l_lap = sum_j 2^(j-1) ||phi_j(m^) - phi_j(m)||_1 over a Laplacian pyramid, per pixel."""
    difference = (mask - target).flatten(1, -3)  # the pyramid is linear
    pixels = difference.shape[0] * difference.shape[-2] * difference.shape[-1]
    bands = laplacian_pyramid(difference, levels)
    return sum((2**j) * band.abs().sum() for j, band in enumerate(bands)) / pixels


def overlap(masks: Tensor, others: Tensor) -> Tensor:
    """Soft IoU of masks (..., pixels) with others of a shape that broadcasts: (...).

    Differentiable, and 0 where both are empty: for losses and for choosing. Scores come from
    `evaluation.mask_overlap`.
    """
    shared, either = torch.minimum(masks, others), torch.maximum(masks, others)
    return shared.sum(-1) / either.sum(-1).clamp(min=1e-6)


def reconstruction_losses(
    prediction: Parts,
    target: Parts,
    composition: CompositionLoss = "joint",
) -> dict[str, Tensor]:
    """Every term of L_img and L_mask by name, unweighted, but for the perceptual ones.

    Args:
        prediction: unclamped output of the decoder.
        target: ground truth; `image` is the original picture I.
        composition: see `composition_loss`.

    Returns:
        `l1_*` for foreground, background and (with the auxiliary head) image; `mask_l1`,
        `composition`, `laplacian`.
    """
    pairs = _pictures(prediction, target)
    losses = {f"l1_{name}": per_pixel((a - b).abs()) for name, (a, b) in pairs.items()}
    losses["mask_l1"] = per_pixel((prediction.mask - target.mask).abs())
    losses["composition"] = composition_loss(prediction, target, composition)
    losses["laplacian"] = laplacian_loss(prediction.mask, target.mask)
    return losses


def perceptual_losses(
    prediction: Parts,
    target: Parts,
    perceptual: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """`lpips_*` for foreground, background and (with the auxiliary head) image.

    Args:
        prediction: unclamped output of the decoder.
        target: ground truth.
        perceptual: LPIPS, (N, 3, H, W) twice -> (N,).
    """
    return {
        f"lpips_{name}": perceptual(*(x.reshape(-1, 3, *x.shape[-2:]) for x in pair)).mean()
        for name, pair in _pictures(prediction, target).items()
    }


def _pictures(prediction: Parts, target: Parts) -> dict[str, tuple[Tensor, Tensor]]:
    """The pictures of L_img: (predicted, true) by name."""
    pictures = {
        "foreground": (prediction.foreground, target.foreground),
        "background": (prediction.background, target.background),
    }
    if prediction.image is not None and target.image is not None:
        pictures["image"] = (prediction.image, target.image)
    return pictures


def kl_loss(posterior: DiagonalGaussianDistribution, pixels: int) -> Tensor:
    """KL divergence to the unit Gaussian, summed over the latent, per sample and picture pixel."""
    return posterior.kl().mean() / pixels


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
    return 0.5 * (functional.relu(1.0 - real).mean() + functional.relu(1.0 + fake).mean())


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
