"""How alike two pictures are: squared error, PSNR, SSIM and LPIPS, per sample.

Pictures are 8-bit, as files hold them; `text2layer.tensors.colour_to_bytes` makes them from float
colour. So a picture cannot hold NaN, and float pictures are refused.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from text2layer.blend import composite_over
from text2layer.errors import InputError
from text2layer.evaluation.mask_overlap import check_masks, nan_if_unknown
from text2layer.models.lpips import LPIPS
from text2layer.tensors import bytes_to_colour, mask_to_bytes

LARGEST = 255.0  # level
WINDOW = 11  # pixels, SSIM's Gaussian window (Wang et al. 2004, section III-C)
SIGMA = 1.5  # pixels
K1, K2 = 0.01, 0.03  # SSIM's constants, as shares of the largest level


def squared_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error per sample between 8-bit pictures, levels 0..255.

    Args:
        a: (N, 3, H, W) uint8.
        b: likewise.
        weight: (N, 1, H, W), which pixels count; all when None.

    Returns:
        (N,) float64; NaN for a sample in which no pixel counts.

    Raises:
        InputError: the pictures are not uint8, or differ in shape.

    Example:
        >>> black = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
        >>> squared_error(black, black + 10).item()
        100.0
    """
    check_pictures(a, b, mask=weight)
    error = (a.double() - b.double()) ** 2
    weight = torch.ones_like(error[:, :1]) if weight is None else weight.double()
    return (error * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * error.shape[1])


def psnr(mean_squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for levels 0..255; equal pictures count as 1/12 level^2.

    The floor is the error of rounding, so that one perfect sample cannot make a mean infinite.

    Example:
        >>> round(float(psnr(torch.tensor(65.025))), 2)
        30.0
    """
    return 10 * torch.log10(LARGEST**2 / mean_squared_error.clamp(min=1 / 12))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per sample (Wang et al., IEEE TIP 13(4), 2004, equation 13).

    Local means, variances and covariances under an 11 x 11 Gaussian window of sigma 1.5, only where
    the window fits the picture; the mean over pixels and the three colour channels. Figures of
    torchmetrics 1.9 differ: it counts the border as well, reflected outward.

    Args:
        a: (N, 3, H, W) uint8, H and W at least 11.
        b: likewise.

    Returns:
        (N,) float64 in [-1, 1], 1 for equal pictures.

    Raises:
        InputError: the pictures are not uint8, differ in shape, or are smaller than the window.

    Example:
        >>> black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
        >>> round(ssim(black, black + 255).item(), 4)  # only the constants are left
        0.0001
    """
    check_pictures(a, b)
    if min(a.shape[2:]) < WINDOW:
        raise InputError(
            f"SSIM needs pictures of at least {WINDOW} x {WINDOW} pixels, got {tuple(a.shape[2:])}."
        )
    x, y = a.double(), b.double()
    mean_x, mean_y, square_x, square_y, product = (
        _window_mean(values) for values in (x, y, x * x, y * y, x * y)
    )
    c1, c2 = (K1 * LARGEST) ** 2, (K2 * LARGEST) ** 2
    covariance = product - mean_x * mean_y
    variances = square_x - mean_x**2 + square_y - mean_y**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (likeness / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))).mean((1, 2, 3))


def _window_mean(values: Tensor) -> Tensor:
    """Gaussian mean of each channel, (N, C, H, W) -> (N, C, H - 10, W - 10)."""
    position = torch.arange(WINDOW, dtype=values.dtype, device=values.device) - WINDOW // 2
    weight = torch.exp(-position.square() / (2 * SIGMA**2))
    weight = weight / weight.sum()
    count, channels, height, width = values.shape
    flat = values.reshape(count * channels, 1, height, width)
    flat = F.conv2d(F.conv2d(flat, weight.view(1, 1, 1, -1)), weight.view(1, 1, -1, 1))
    return flat.reshape(count, channels, *flat.shape[2:])


@torch.no_grad()
def perceptual_distance(a: Tensor, b: Tensor, network: LPIPS) -> Tensor:
    """LPIPS per sample (Zhang et al., arXiv 1801.03924), with AlexNet as scores are reported.

    Args:
        a: (N, 3, H, W) uint8, H and W at least 31.
        b: likewise.
        network: ``LPIPS("alex")``; loaded once by the caller, on the pictures' device.

    Returns:
        (N,) float64, 0 for equal pictures.

    Raises:
        InputError: the pictures are not uint8, differ in shape or are too small, or the network is
            not AlexNet.

    Example:
        >>> black = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        >>> round(perceptual_distance(black, black + 255, LPIPS("alex")).item(), 3)
        0.814
    """
    check_pictures(a, b)
    if network.network != "alex":
        raise InputError(f"LPIPS is reported with the network 'alex', not {network.network!r}.")
    distance: Tensor = network(bytes_to_colour(a), bytes_to_colour(b))
    return distance.double()


def check_pictures(*pictures: Tensor, mask: Tensor | None = None) -> None:
    """InputError unless all pictures are uint8 (N, 3, H, W) of one shape, which the mask fits."""
    for picture in pictures:
        if picture.ndim != 4 or picture.shape[1] != 3 or picture.shape != pictures[0].shape:
            shapes = " and ".join(str(tuple(other.shape)) for other in pictures)
            raise InputError(f"Pictures to compare must have one shape (N, 3, H, W), got {shapes}.")
        if picture.dtype != torch.uint8:
            raise InputError(
                f"A picture to compare must be uint8 (see colour_to_bytes), got {picture.dtype}."
            )
    if mask is not None:
        count, _, height, width = pictures[0].shape
        if tuple(mask.shape) != (count, 1, height, width):
            raise InputError(
                f"A mask of shape {tuple(mask.shape)} does not fit pictures of shape "
                f"{tuple(pictures[0].shape)}."
            )


class RecompositionError(NamedTuple):
    """Absolute difference between a composite and its recomposed layers, in levels 0..255.

    Attributes:
        maximum: (N,) float64, the largest over pixels and channels.
        mean: (N,) float64, over pixels and channels.
    """

    maximum: Tensor
    mean: Tensor


def recomposition_error(
    composite: Tensor, foreground: Tensor, background: Tensor, mask: Tensor
) -> RecompositionError:
    """Compare a composite with the blend of its layers, each rounded once, as files are blended.

    Args:
        composite: (N, 3, H, W) uint8.
        foreground: (N, 3, H, W) uint8; or (N, L, 3, H, W), bottom first.
        background: (N, 3, H, W) uint8.
        mask: (N, 1, H, W) float in [0, 1]; or (N, L, 1, H, W). Rounded to 8 bits.

    Returns:
        Maximum and mean, each (N,) float64; NaN for a sample whose mask holds NaN.

    Raises:
        InputError: the pictures are not uint8, the mask is not float in [0, 1], or sizes differ.

    Example:
        >>> black = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
        >>> half = torch.full((1, 1, 2, 2), 0.4)
        >>> error = recomposition_error(black, black + 255, black, half)
        >>> error.maximum.item(), error.mean.item()
        (102.0, 102.0)
    """
    layers = foreground[:, None] if foreground.ndim == 4 else foreground
    masks = mask[:, None] if mask.ndim == 4 else mask
    if layers.ndim != 5 or masks.ndim != 5 or layers.shape[1] != masks.shape[1]:
        raise InputError(
            f"Foregrounds {tuple(foreground.shape)} and masks {tuple(mask.shape)} must come in "
            "pairs, (N, 3, H, W) with (N, 1, H, W) or (N, L, 3, H, W) with (N, L, 1, H, W)."
        )
    check_pictures(composite, background)
    picture = background
    for layer, layer_mask in zip(layers.unbind(1), masks.unbind(1), strict=True):
        check_pictures(composite, layer, mask=layer_mask)
        check_masks(layer_mask)
        picture = composite_over(picture, layer, mask_to_bytes(layer_mask.nan_to_num(0)))
    difference = (picture.double() - composite.double()).abs().flatten(1)
    return RecompositionError(
        maximum=nan_if_unknown(torch.amax(difference, 1), *masks.unbind(1)),
        mean=nan_if_unknown(difference.mean(1), *masks.unbind(1)),
    )
