"""ComfyUI's tensors and layered pictures.

IMAGE is (B, H, W, 3) float32 in [0, 1], MASK (B, H, W) float32 in [0, 1]. A mask here is 1 where a
layer is opaque, as masks of selections are. The MASK of ComfyUI's Load Image is the other way
round, 1 where the picture is transparent: `opaque` turns it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from text2layer import Layer, LayeredImage
from text2layer.errors import InputError


def pictures(image: torch.Tensor) -> list[np.ndarray]:
    """Each picture of an IMAGE: (H, W, 3) uint8; a fourth channel is left out.

    Raises:
        InputError: it is no IMAGE.
    """
    if image.ndim != 4 or image.shape[3] not in (3, 4) or not image.numel():
        raise InputError(f"An IMAGE has the shape (B, H, W, 3), got {tuple(image.shape)}.")
    return list(_bytes(image[..., :3]))


def opaque(mask: torch.Tensor, size: tuple[int, int], count: int, transparency: bool) -> Any:
    """Alpha of each of `count` pictures: (count, H, W) uint8; one mask holds for all.

    Args:
        mask: a MASK, or one mask (H, W).
        size: (width, height) of the pictures.
        count: how many pictures there are.
        transparency: whether the mask is 1 where a picture is transparent, as of Load Image.

    Raises:
        InputError: it has another size, or there are too many or too few.
    """
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or (mask.shape[2], mask.shape[1]) != size:
        raise InputError(
            f"The mask has the shape {tuple(mask.shape)} and the picture is {size[0]} x {size[1]}; "
            "give a mask of its size (Load Image gives 64 x 64 for a file without transparency)."
        )
    if mask.shape[0] not in (1, count):
        raise InputError(
            f"{mask.shape[0]} masks were given for {count} pictures; give 1 or {count}."
        )
    alpha = _bytes(1 - mask if transparency else mask)
    return np.broadcast_to(alpha, (count, *alpha.shape[1:]))


def image_of(made: list[np.ndarray]) -> torch.Tensor:
    """An IMAGE of pictures (H, W, 3) uint8 of one size."""
    return torch.from_numpy(np.stack(made).astype(np.float32) / 255)


def mask_of(alphas: list[np.ndarray]) -> torch.Tensor:
    """A MASK of alphas (H, W) uint8 of one size."""
    return torch.from_numpy(np.stack(alphas).astype(np.float32) / 255)


def outputs(layered: list[LayeredImage]) -> tuple[Any, ...]:
    """What nodes that make layers give: LAYERS, composite, foreground, mask, background.

    The foregrounds of a picture are merged in `foreground` and `mask`.
    """
    return (
        layered,
        image_of([one.composite for one in layered]),
        image_of([one.foreground for one in layered]),
        mask_of([one.mask for one in layered]),
        image_of([one.background for one in layered]),
    )


def cutout(colour: np.ndarray, alpha: np.ndarray) -> LayeredImage:
    """A picture with one layer of its size, to be given as a foreground."""
    layer = Layer(colour, np.ascontiguousarray(alpha), name="Foreground")
    return LayeredImage(np.zeros_like(colour), (layer,))


def _bytes(values: torch.Tensor) -> np.ndarray:
    levels = torch.nan_to_num(values.detach().float().cpu()).clamp(0, 1) * 255
    return np.ascontiguousarray(levels.round().to(torch.uint8).numpy())
