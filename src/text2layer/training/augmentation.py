"""What trainers change in the pictures that they draw.

`varied_layers`: composed pictures made more various than the library is, for networks that look at
them. A library of a few hundred backgrounds can be learnt by heart, and what is not among them then
passes for an object. Colours of every layer are drawn anew, and some backgrounds are two in one.

`make_imperfect`: given parts as users bring them, a cut-out with a shifted mask, a blurred or JPEG
picture. Only the condition is damaged; what the denoiser learns to draw stays clean.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from text2layer.blend import overlap
from text2layer.tensors import colour_to_tensor, mask_to_tensor, tensor_to_colour, tensor_to_mask

CONTRAST = (0.7, 1.2)
BRIGHTNESS = 0.15  # most that all channels move, in colour that spans 2
TINT = 0.1  # most that a channel moves by itself
MERGED = 0.2  # share of backgrounds that are two in one
FIELD = 3  # cells along each side of what decides which of the two is seen
COLOUR_DRAWS = 5
SHARES = (COLOUR_DRAWS, COLOUR_DRAWS, COLOUR_DRAWS, 1, FIELD**2)  # of a sample's random numbers
DRAWS = sum(SHARES)
MAX_SHIFT = 0.02  # of a mask against its colour / longest side
BLUR = (0.006, 0.016)  # standard deviation / longest side
JPEG_QUALITY = (15, 75)


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


def make_imperfect(
    parts: dict[str, Tensor], share: float, generators: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Damage a share of given parts, each in one way; of several foregrounds each by itself.

    Args:
        parts: keyword arguments of `conditioning.condition_latents`: one of foreground, background
            and image (N, 3, H, W) in [-1, 1], and mask (N, 1, H, W) in [0, 1] with a foreground;
            foregrounds and masks may be (N, L, 3, H, W) and (N, L, 1, H, W).
        share: 0..1 of the rows. 0 draws nothing from the generators.
        generators: of the CPU, N of them; may be one and the same.

    Returns:
        New tensors of the same shapes, on the same devices; untouched rows are equal.
    """
    if not share:
        return parts
    rows = {name: tensor.flatten(0, -4) for name, tensor in parts.items()}  # layer by layer
    out = {name: tensor.clone() for name, tensor in rows.items()}
    picture = next(name for name in parts if name != "mask")
    layers = len(rows[picture]) // len(generators)
    ways = ("blur", "jpeg", "mask shift", "mask blur") if "mask" in parts else ("blur", "jpeg")
    for row in range(len(rows[picture])):
        drawn = torch.rand(4, generator=generators[row // layers])
        chance, way, strength, angle = drawn.tolist()
        if chance >= share:
            continue
        chosen = ways[int(way * len(ways))]
        if chosen.startswith("mask"):
            mask = tensor_to_mask(rows["mask"][row : row + 1])[0]
            shift = chosen == "mask shift"
            damaged = _shifted(mask, strength, angle) if shift else _blurred(mask, strength)
            out["mask"][row] = mask_to_tensor(damaged)[0]
        else:
            colour = tensor_to_colour(rows[picture][row : row + 1])[0]
            damaged = _blurred(colour, strength) if chosen == "blur" else _jpeg(colour, strength)
            out[picture][row] = colour_to_tensor(damaged)[0]
    return {name: tensor.view_as(parts[name]) for name, tensor in out.items()}


def _shifted(mask: np.ndarray, strength: float, angle: float) -> np.ndarray:
    """Move by `strength` of MAX_SHIFT, at least a pixel, in the direction `angle` (turns)."""
    reach = max(1.0, strength * MAX_SHIFT * max(mask.shape))
    dx, dy = round(reach * math.cos(math.tau * angle)), round(reach * math.sin(math.tau * angle))
    target, source = overlap((dx, dy), mask.shape[::-1], mask.shape[::-1])
    moved = np.zeros_like(mask)
    moved[target] = mask[source]
    return moved


def _blurred(pixels: np.ndarray, strength: float) -> np.ndarray:
    radius = (BLUR[0] + (BLUR[1] - BLUR[0]) * strength) * max(pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(colour: np.ndarray, strength: float) -> np.ndarray:
    file = io.BytesIO()
    quality = round(JPEG_QUALITY[1] - (JPEG_QUALITY[1] - JPEG_QUALITY[0]) * strength)
    Image.fromarray(colour).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
