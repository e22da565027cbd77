"""The four errors of image matting (Rhemann et al., "A Perceptually Motivated Online Benchmark for
Image Matting", CVPR 2009), here over the whole picture instead of a trimap's unknown region.

Units are those of the published evaluation code (Xu et al., "Deep Image Matting", 2017), to which
tables of today go back: sums are over pixels and divided by 1000.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from text2layer.evaluation.mask_overlap import check_masks, nan_if_unknown
from text2layer.masks import connected_components

THOUSAND = 1000.0  # sums over pixels are given in thousands of pixels
SIGMA = 1.4  # pixels, of the Gaussian derivative (Rhemann, section 3.3)
SMALLEST_WEIGHT = 1e-2  # where the published code cuts the Gaussian off: 9 taps
STEPS = 10  # levels of connectivity: a step of 0.1
SMALLEST_GAP = 0.15  # theta: less distance from the connected level does not count


def sum_of_absolute_differences(predicted: Tensor, true: Tensor) -> Tensor:
    """SAD per sample: the sum of |predicted - true| over the picture, in thousands of pixels.

    Args:
        predicted: (N, 1, H, W) float in [0, 1].
        true: likewise.

    Returns:
        (N,) float64, at least 0; grows with the picture's size. NaN where a mask holds NaN.

    Raises:
        InputError: the masks differ in shape, are not float, or leave [0, 1].

    Example:
        >>> black, white = torch.zeros(1, 1, 20, 50), torch.ones(1, 1, 20, 50)
        >>> sum_of_absolute_differences(black, white).item()
        1.0
    """
    check_masks(predicted, true)
    return (predicted.double() - true.double()).abs().sum((1, 2, 3)) / THOUSAND


def mean_squared_error(predicted: Tensor, true: Tensor) -> Tensor:
    """MSE per sample over the picture, in [0, 1]; tables often print it times 1000.

    Args, Returns and Raises: as `sum_of_absolute_differences`.

    Example:
        >>> mean_squared_error(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)).item()
        0.25
    """
    check_masks(predicted, true)
    return (predicted.double() - true.double()).square().mean((1, 2, 3))


def gradient_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Squared difference of the gradients' lengths, summed over the picture, in thousands.

    The gradient comes from first derivatives of a Gaussian (sigma 1.4, 9 x 9 taps, each kernel of
    Euclidean length 1), the border being repeated outward. Sensitive to lost or invented detail.

    Args, Returns and Raises: as `sum_of_absolute_differences`.

    Example:
        >>> mask = torch.rand(1, 1, 16, 16)
        >>> gradient_error(mask, mask).item()
        0.0
    """
    check_masks(predicted, true)
    difference = _gradient_length(predicted.double()) - _gradient_length(true.double())
    return difference.square().sum((1, 2, 3)) / THOUSAND


def _gradient_length(mask: Tensor) -> Tensor:
    """Length of the Gaussian gradient of (N, 1, H, W) float64, of the same shape."""
    extent = math.log(math.sqrt(2 * math.pi) * SIGMA * SMALLEST_WEIGHT)
    half = math.ceil(SIGMA * math.sqrt(-2 * extent))
    position = torch.arange(-half, half + 1, dtype=mask.dtype, device=mask.device)
    smooth = torch.exp(-position.square() / (2 * SIGMA**2))
    slope = position * smooth
    smooth, slope = smooth / smooth.norm(), slope / slope.norm()
    padded = F.pad(mask, [half] * 4, mode="replicate")
    across = F.conv2d(F.conv2d(padded, slope.view(1, 1, 1, -1)), smooth.view(1, 1, -1, 1))
    down = F.conv2d(F.conv2d(padded, smooth.view(1, 1, 1, -1)), slope.view(1, 1, -1, 1))
    return torch.sqrt(across.square() + down.square())


def connectivity_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Difference of the degrees of connectedness, summed over the picture, in thousands.

    A pixel is connected up to the level l (in steps of 0.1) at which it last belonged to the
    largest 4-connected region where both masks reach that level. With d = alpha - l, the degree is
    1 - d where d is at least 0.15, else 1. Of two largest regions the first by rows counts.
    Sensitive to islands and holes.

    Args, Returns and Raises: as `sum_of_absolute_differences`.

    Example:
        >>> true = torch.tensor([[[[1.0, 1.0, 0.0, 1.0]]]])  # an object and an island
        >>> predicted = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])  # the island is lost
        >>> connectivity_error(predicted, true).item()
        0.001
    """
    check_masks(predicted, true)
    level = torch.zeros_like(true[:, 0], dtype=torch.float64)  # (N, H, W)
    for number, both in enumerate(torch.minimum(predicted, true)[:, 0]):
        level[number] = _connected_level(both)
    degrees = []
    for mask in (predicted, true):
        gap = mask[:, 0].double() - level  # (N, H, W)
        degrees.append(1 - gap * (gap >= SMALLEST_GAP))
    error = (degrees[0] - degrees[1]).abs().sum((1, 2)) / THOUSAND
    return nan_if_unknown(error, predicted, true)


def _connected_level(both: Tensor) -> Tensor:
    """Level up to which each pixel of the lesser mask (H, W) is connected; (H, W) float64."""
    level = torch.zeros_like(both, dtype=torch.float64)
    connected = torch.ones_like(both, dtype=torch.bool)
    for step in range(1, STEPS + 1):
        connected &= _largest_component(both >= step / STEPS)
        level[connected] = step / STEPS
    return level


def _largest_component(inside: Tensor) -> Tensor:
    """Pixels of the largest 4-connected component of (H, W) bool, the first by rows of equals."""
    if not inside.any():
        return inside
    labels, sizes = connected_components(inside.cpu().numpy(), 4)
    return torch.from_numpy(labels == sizes.argmax() + 1).to(inside.device)
