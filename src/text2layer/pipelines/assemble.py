"""From decoded parts to layered pictures: the last step of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from text2layer.blend import composite_over, match_composite
from text2layer.layers import Layer, LayeredImage
from text2layer.models.autoencoder import LayerComponents
from text2layer.pipelines import inputs
from text2layer.pipelines.frame import Frame
from text2layer.pipelines.placement import place
from text2layer.tensors import tensor_to_colour, tensor_to_mask

MASK_FLOOR = 0.03  # predicted alpha below this is 0, above 1 - this is 1: no veil, no pinholes


def assemble(
    parts: LayerComponents,
    given: inputs.Given,
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
