"""Composed pictures made more various than the library is, for networks that look at them.

A library of a few hundred backgrounds can be learnt by heart, and what is not among them then
passes for an object. Colours of every layer are drawn anew, and some backgrounds are two in one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CONTRAST = (0.7, 1.2)
BRIGHTNESS = 0.15  # most that all channels move, in colour that spans 2
TINT = 0.1  # most that a channel moves by itself
MERGED = 0.2  # share of backgrounds that are two in one
FIELD = 3  # cells along each side of what decides which of the two is seen
COLOUR_DRAWS = 5
SHARES = (COLOUR_DRAWS, COLOUR_DRAWS, COLOUR_DRAWS, 1, FIELD**2)  # of a sample's random numbers
DRAWS = sum(SHARES)


def varied_layers(
    foreground: Tensor, background: Tensor, other: Tensor, draws: Tensor
) -> tuple[Tensor, Tensor]:
    """Change the colours of both layers and merge some backgrounds with another one.

    Args:
        foreground: (N, 3, H, W) in [-1, 1].
        background: likewise.
        other: likewise, a second background for each.
        draws: (N, DRAWS) uniform in [0, 1).

    Returns:
        Foreground and background, (N, 3, H, W) in [-1, 1].
    """
    *colours, merge, field = draws.to(background).split(SHARES, 1)
    foreground, background, other = (
        recoloured(picture, own)
        for picture, own in zip((foreground, background, other), colours, strict=True)
    )
    field = field.view(-1, 1, FIELD, FIELD) * 2 - 1
    field = functional.interpolate(field, background.shape[-2:], mode="bicubic")
    merge = merge[:, :, None, None]
    share = torch.sigmoid((2 + 40 * merge / MERGED) * field)  # from a soft blend to a clear edge
    return foreground, torch.lerp(background, other, share * (merge < MERGED))


def recoloured(picture: Tensor, draws: Tensor) -> Tensor:
    """Contrast around the mean, brightness and tint of (N, 3, H, W) by draws (N, COLOUR_DRAWS)."""
    draws = draws[:, :, None, None]
    mean = picture.mean((1, 2, 3), keepdim=True)
    contrast = CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * draws[:, :1]
    shift = BRIGHTNESS * (2 * draws[:, 1:2] - 1) + TINT * (2 * draws[:, 2:] - 1)
    return ((picture - mean) * contrast + mean + shift).clamp(-1, 1)
