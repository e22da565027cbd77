"""From decoded parts to layered pictures, and what decomposing a picture adds: rough layers first,
several attempts, the best kept.

What a picture and its mask give without any model is where sampling begins. The foreground is the
picture where it is surely foreground, continued outward; the background is the picture around the
object, continued into the hole. What they lack is what was hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from text2layer.blend import composite_over, extend_edge_colours, match_composite
from text2layer.layers import Layer, LayeredImage
from text2layer.models.losses import overlap
from text2layer.parts import Parts
from text2layer.pipelines.frame import Frame
from text2layer.pipelines.placement import place
from text2layer.tensors import colour_to_tensor, composite, tensor_to_colour, tensor_to_mask

if TYPE_CHECKING:
    from text2layer.pipelines.inputs import Given

SURE_LEVEL = 240  # mask level (0..255) from which a pixel has the foreground's colour alone
FAINT = 0.02  # mask above which a pixel may have some of it
RIM = 4  # pixels around those that are not taken for background either


def rough_layers(picture: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground and background of pictures whose mask is known.

    Args:
        picture: (N, 3, H, W) in [-1, 1].
        mask: (N, 1, H, W) in [0, 1].

    Returns:
        Two of (N, 3, H, W) in [-1, 1]; the picture itself where no pixel is sure, or none is left.
    """
    hole = functional.max_pool2d((mask > FAINT).float(), 2 * RIM + 1, stride=1, padding=RIM)
    layers = []
    for alpha in (mask, 1 - hole):
        continued = [
            extend_edge_colours(colour, level, SURE_LEVEL)
            for colour, level in zip(tensor_to_colour(picture), tensor_to_mask(alpha), strict=True)
        ]
        layers.append(torch.cat([colour_to_tensor(colour) for colour in continued]).to(picture))
    return layers[0], layers[1]


STEPS = 5  # sampling steps of an attempt, where the model's own are more: 20 are no better
ATTEMPTS = 8
MATTED_ATTEMPTS = 4  # where a matting network gave the mask: eight find no better background
MAX_ATTEMPTS = 64
AGREEMENT_WEIGHT = 0.03  # in units of colour, which spans 2; .01 to .1 choose alike


def best_attempts(
    parts: Parts, picture: Tensor, attempts: int, mask: Tensor | None = None
) -> Tensor:
    """Choose for each picture one of its attempts, without knowing the truth.

    Two things tell a good attempt. Its layers make the picture: where the model mistook the
    subject, their composite is another one. And its mask agrees with the other attempts' masks: an
    empty one under a background that is the whole picture makes the picture too. The score is the
    mean difference of composite and picture, less AGREEMENT_WEIGHT times the mean soft IoU with the
    other masks. docs/log.md (2026-11-26) says what either gives. Where a matting network gave the
    mask, it is agreement with that one.

    Args:
        parts: of N pictures, all attempts (N * attempts, ...) of one beside one another.
        picture: (1 or N, 3, H, W) in [-1, 1], what was taken apart.
        attempts: how many there are of each.
        mask: (N, 1, H, W) in [0, 1], by the matting network.

    Returns:
        (N,) rows of `parts`.
    """
    composites = composite(parts.foreground, parts.background, parts.mask)
    composites = composites.unflatten(0, (-1, attempts))  # (N, attempts, 3, H, W)
    errors = (composites - picture[:, None]).abs().mean((2, 3, 4))  # (N, attempts)
    masks = parts.mask.flatten(1).unflatten(0, (-1, attempts))  # (N, attempts, pixels)
    agreement = agreement_of(masks, masks if mask is None else mask.flatten(2))
    best = (errors - AGREEMENT_WEIGHT * agreement).argmin(1)
    return best + attempts * torch.arange(len(best), device=best.device)


def agreement_of(masks: Tensor, others: Tensor) -> Tensor:
    """Mean soft IoU of each mask (N, attempts, pixels) with others (N, M, pixels): (N, attempts).

    An empty mask agrees with nothing, not even another empty one.
    """
    return torch.stack([overlap(one[:, None], others).mean(1) for one in masks.unbind(1)], 1)


MASK_FLOOR = 0.03  # predicted alpha below this is 0, above 1 - this is 1: no veil, no pinholes


def assemble(
    parts: Parts,
    given: Given,
    frame: Frame,
    provenance: list[dict[str, Any]],
) -> list[LayeredImage]:
    """Turn decoded parts into layered pictures of the frame's size; what was given stays exact.

    A given background or foreground replaces the decoded one. The layers of a picture taken apart
    get its pixels: the background where the mask is 0, a foreground where it is 1, and both are
    matched where it is soft, so that their composite is the picture.
    """
    soft = ((parts.mask - MASK_FLOOR) / (1 - 2 * MASK_FLOOR)).clamp(0, 1)
    several = soft.ndim == 5  # (N, L, 1, H, W)
    masks = soft if several else soft[:, None]
    colours = parts.foreground if several else parts.foreground[:, None]
    backgrounds = tensor_to_colour(parts.background)
    pictures = []
    for index, metadata in enumerate(provenance):
        background = frame.deliver_colour(backgrounds[index])
        stack = [
            frame.deliver_layer(colour, alpha)
            for colour, alpha in zip(
                tensor_to_colour(colours[index]), tensor_to_mask(masks[index]), strict=True
            )
        ]
        if given.kind == "background" and given.colour is not None:
            background = given.colour
        elif given.kind == "image" and given.colour is not None:
            stack, background = _matched(given.colour, stack, background)
        layers = given.layers or tuple(
            Layer(colour, alpha, name="Foreground" if len(stack) == 1 else f"Foreground {i + 1}")
            for i, (colour, alpha) in enumerate(stack)
        )
        pictures.append(LayeredImage(background, layers, metadata=metadata))
    return pictures


def moved(
    layered: LayeredImage, at: str | Sequence[int] | None, scale: float | None
) -> LayeredImage:
    """Put the drawn foreground of a picture where it is asked for; see `placement.place`."""
    if at is None and scale is None:
        return layered
    return layered.replace_layer(0, place(layered.foregrounds[0], at, scale, layered.size))


def _matched(
    picture: np.ndarray, stack: list[tuple[np.ndarray, np.ndarray]], background: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Give layers the colours of the picture they came from; their composite becomes it."""
    stack = [(composite_over(colour, picture, alpha), alpha) for colour, alpha in stack]
    union = np.max([alpha for _, alpha in stack], axis=0)
    background = composite_over(picture, background, union)
    matched = []
    for index in reversed(range(len(stack))):  # from the top: what it leaves is asked of the rest
        colour, alpha = stack[index]
        below = background
        for lower, share in stack[:index]:
            below = composite_over(below, lower, share)
        colour, picture = match_composite(picture, colour, below, alpha)
        matched.append((colour, alpha))
    return matched[::-1], picture
