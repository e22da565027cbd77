"""Halos: wrong colour along a layer's edge, which shows when the layer is put on a new ground."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from text2layer.blend import composite_over, extend_edge_colours
from text2layer.errors import InputError
from text2layer.evaluation.mask_overlap import check_masks, nan_if_unknown
from text2layer.evaluation.picture_similarity import check_pictures
from text2layer.tensors import mask_to_bytes

FAINT, NEARLY_OPAQUE = 0.02, 0.98  # mask levels between which a pixel is partly transparent
RADIUS = 2  # pixels by which the edge is widened to a band
# black, white, mid grey, and the green of a studio: each shows errors that the others hide
GROUNDS = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (0, 255, 0))


def halo(
    foreground: Tensor,
    mask: Tensor,
    true_foreground: Tensor,
    true_mask: Tensor,
    radius: int = RADIUS,
    grounds: Sequence[tuple[int, int, int]] = GROUNDS,
) -> Tensor:
    """Colour error along the edge when the layer is put on new grounds, against the true layer.

    Mean absolute difference in levels between the predicted and the true layer over the same plain
    ground, over the pixels of `edge_band` of either mask, the channels and the grounds. Colour
    that cannot be seen does not count; a wrong mask does.

    Args:
        foreground: (N, 3, H, W) uint8, predicted.
        mask: (N, 1, H, W) float in [0, 1], predicted; rounded to 8 bits for the composite.
        true_foreground: as `foreground`.
        true_mask: as `mask`.
        radius: half-width of the band in pixels, at least 0.
        grounds: colours in levels 0..255, at least one.

    Returns:
        (N,) float64 in levels, 0..255; 0 where both masks are empty, NaN where there is no edge
        otherwise (both masks plain) and where a mask holds NaN.

    Raises:
        InputError: the pictures are not uint8, a mask is not float in [0, 1], sizes differ, the
            radius is negative, or there is no ground.

    Example:
        >>> black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> half = torch.full((1, 1, 8, 8), 0.4)
        >>> halo(black + 50, half, black, half).item()  # 40 % of 50 levels on every ground
        20.0
    """
    check_masks(mask, true_mask)
    check_pictures(foreground, true_foreground, mask=mask)
    if not grounds:
        raise InputError("A halo needs at least one ground to be seen on.")
    band = (edge_band(mask, radius) | edge_band(true_mask, radius)).double()  # (N, 1, H, W)
    alpha, true_alpha = (mask_to_bytes(m.nan_to_num(0)) for m in (mask, true_mask))
    error = torch.zeros_like(band)
    for colour in grounds:
        ground = torch.tensor(colour, dtype=torch.uint8, device=mask.device).view(1, 3, 1, 1)
        seen = composite_over(ground, foreground, alpha)
        expected = composite_over(ground, true_foreground, true_alpha)
        error += (seen.double() - expected.double()).abs().mean(1, keepdim=True)
    score = (error * band).sum((1, 2, 3)) / (len(grounds) * band.sum((1, 2, 3)))
    empty = (torch.maximum(mask, true_mask) <= FAINT).flatten(1).all(1)
    return nan_if_unknown(score.masked_fill(empty, 0.0), mask, true_mask)


def edge_band(mask: Tensor, radius: int = RADIUS) -> Tensor:
    """Pixels within `radius` of a partly transparent pixel, or of a step from clear to opaque.

    That is: whose square of 2 radius + 1 pixels holds one above 0.02 and one below 0.98; a mask
    without soft pixels has an edge too, unless `radius` is 0.

    Args:
        mask: (N, 1, H, W) float in [0, 1].
        radius: pixels, at least 0.

    Returns:
        (N, 1, H, W) bool.

    Raises:
        InputError: the radius is negative.
    """
    if radius < 0:
        raise InputError(f"A band's radius must be at least 0 pixels, but {radius} was given.")
    window = 2 * radius + 1
    highest = F.max_pool2d(mask.double(), window, stride=1, padding=radius)
    lowest = -F.max_pool2d(-mask.double(), window, stride=1, padding=radius)
    return (highest > FAINT) & (lowest < NEARLY_OPAQUE)


def halo_without_truth(foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """How far the edge's colour lies on the way from the object's colour to the old background.

    For generated layers, which have no truth. In each partly transparent pixel (mask between 0.02
    and 0.98) the object's own colour I is continued outward from where the mask is at least 0.98
    (`blend.extend_edge_colours`), F is the layer's colour, B the background's. The score is the t
    that fits F - I = t (B - I) best over these pixels, weighted by a (1 - a)::

        t = sum a (1 - a) <F - I, B - I> / sum a (1 - a) |B - I|^2, clipped to [0, 1]

    which is the mean of the pixels' own fractions, weighted by a (1 - a) |B - I|^2: visible pixels
    and plain differences count most. Clipping the mean and not each pixel keeps the object's
    texture, which lies to both sides of I, from counting as a halo.

    0 is a clean edge and 1 an edge of the background's colour. A layer whose colour is the
    composite itself (a matte laid on the photograph) has t = 1 - a in each pixel, so about 0.5 over
    an even ramp. Only meaningful where the object's edge has the colour of its inside.

    Args:
        foreground: (N, 3, H, W) uint8.
        background: (N, 3, H, W) uint8, what was behind the layer.
        mask: (N, 1, H, W) float in [0, 1]; rounded to 8 bits.

    Returns:
        (N,) float64 in [0, 1]; NaN without partly transparent pixels (an empty, plain or hard
        mask), without a pixel of at least 0.98, where background and object have one colour, and
        where the mask holds NaN.

    Raises:
        InputError: the pictures are not uint8, the mask is not float in [0, 1], or sizes differ.

    Example:
        >>> white, mask = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8), torch.ones(1, 1, 4, 4)
        >>> mask[..., 2:] = 0.6
        >>> halo_without_truth(white, white * 0, mask).item()  # white to the very edge
        0.0
    """
    check_masks(mask)
    check_pictures(foreground, background, mask=mask)
    alpha = mask_to_bytes(mask.nan_to_num(0))
    scores = [
        _share_of_background(*(part.cpu().numpy() for part in (colour, ground, a)))
        for colour, ground, a in zip(
            foreground.permute(0, 2, 3, 1), background.permute(0, 2, 3, 1), alpha[:, 0], strict=True
        )
    ]
    return nan_if_unknown(torch.tensor(scores, dtype=torch.float64, device=mask.device), mask)


def _share_of_background(colour: np.ndarray, ground: np.ndarray, alpha: np.ndarray) -> float:
    """`halo_without_truth` of one layer: colour and ground (H, W, 3), alpha (H, W), uint8."""
    opaque = math.ceil(NEARLY_OPAQUE * 255)
    partly = (alpha > FAINT * 255) & (alpha < opaque)
    if not partly.any() or not (alpha >= opaque).any():
        return math.nan
    inner = extend_edge_colours(colour, alpha, opaque)[partly].astype(np.float64)  # (P, 3)
    share = alpha[partly].astype(np.float64) / 255
    weight = (share * (1 - share))[:, None]
    way = ground[partly] - inner
    length = float((weight * way * way).sum())
    if length == 0:
        return math.nan
    return float(np.clip((weight * (colour[partly] - inner) * way).sum() / length, 0, 1))
