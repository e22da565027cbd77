"""The one place where pictures become tensors and tensors become pictures.

Pictures are NumPy uint8 arrays, height x width x channels, sRGB. Tensors are float32 NCHW with
colour in [-1, 1] and masks in [0, 1]; that convention holds at every public boundary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Array = np.ndarray


def colour_to_tensor(colour: Array) -> Tensor:
    """Turn uint8 colour (H, W, 3) or (N, H, W, 3) into float32 (N, 3, H, W) in [-1, 1]."""
    batch = colour[None] if colour.ndim == 3 else colour
    tensor = torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2)  # a copy: may be read-only
    return bytes_to_colour(tensor).contiguous()


def mask_to_tensor(mask: Array) -> Tensor:
    """Turn a uint8 mask (H, W) or (N, H, W) into float32 (N, 1, H, W) in [0, 1]."""
    batch = mask[None] if mask.ndim == 2 else mask
    return bytes_to_mask(torch.from_numpy(np.array(batch))[:, None])


def tensor_to_colour(tensor: Tensor) -> Array:
    """Turn float (N, 3, H, W) in [-1, 1] into uint8 (N, H, W, 3); values outside are clipped."""
    return colour_to_bytes(tensor).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def tensor_to_mask(tensor: Tensor) -> Array:
    """Turn float (N, 1, H, W) in [0, 1] into uint8 (N, H, W); values outside are clipped."""
    return mask_to_bytes(tensor)[:, 0].contiguous().cpu().numpy()


def bytes_to_colour(values: Tensor) -> Tensor:
    """Map uint8 levels 0..255 to float32 colour in [-1, 1]."""
    return values.float() / 127.5 - 1.0


def bytes_to_mask(values: Tensor) -> Tensor:
    """Map uint8 levels 0..255 to a float32 mask in [0, 1]."""
    return values.float() / 255.0


def colour_to_bytes(colour: Tensor) -> Tensor:
    """Map float colour in [-1, 1] to the nearest of the uint8 levels 0..255."""
    return ((colour.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def mask_to_bytes(mask: Tensor) -> Tensor:
    """Map a float mask in [0, 1] to the nearest of the uint8 levels 0..255."""
    return (mask.float() * 255.0).round().clamp(0, 255).to(torch.uint8)


def composite(foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """C = mF + (1 - m)B (Text2Layer, section 3), differentiable.

    Several foregrounds, (N, L, 3, H, W) with masks (N, L, 1, H, W), are laid over the background
    one after the other, bottom first.
    """
    if foreground.ndim == 4:
        return mask * foreground + (1.0 - mask) * background
    picture = background
    for index in range(foreground.shape[1]):
        picture = torch.lerp(picture, foreground[:, index], mask[:, index])
    return picture


def padded(maps: Tensor, multiple: int) -> Tensor:
    """Continue (N, C, H, W) at the right and below to sides that are multiples of `multiple`."""
    height, width = maps.shape[-2:]
    sides = (0, -width % multiple, 0, -height % multiple)
    return functional.pad(maps, sides, mode="replicate") if any(sides) else maps
