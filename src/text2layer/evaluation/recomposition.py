"""Whether layers, laid over one another, give the picture that they claim to be the layers of.

The self-consistency of ART and MRT (FID, PSNR and SSIM of merged layers are the same comparison
with the measures of `picture_similarity`), here as differences in 8-bit levels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from text2layer.blend import composite_over
from text2layer.errors import InputError
from text2layer.evaluation.mask_overlap import check_masks, nan_if_unknown
from text2layer.evaluation.picture_similarity import check_pictures
from text2layer.tensors import mask_to_bytes


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
