"""Preview sheets of the trainers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from text2layer.data.captions import listed
from text2layer.data.contact_sheet import grid
from text2layer.layers import LayeredImage
from text2layer.models.autoencoder import LayerComponents
from text2layer.tensors import composite, tensor_to_colour, tensor_to_mask

PREVIEWS = [
    ("a red apple", "in front of a snowy mountain"),
    ("a 3d icon of a cat", "on a green meadow"),
    ("a yellow sports car", "against a desert at sunset"),
    ("a wooden chair", "in front of a forest"),
    ("a flat icon of a blue fish", "on a rocky seashore"),
    ("a 3d icon of a house", "in front of a starry night sky"),
    ("clip art of a tree", "in front of a calm lake"),
    ("a green sofa", "in front of a city skyline"),
]


def preview_prompts(num_foregrounds: int = 1) -> list[str]:
    """The same prompts every time, each of so many objects.

    Example:
        >>> preview_prompts(2)[0]
        'a red apple and a 3d icon of a cat in front of a snowy mountain'
    """
    things = [thing for thing, _ in PREVIEWS]
    return [
        f"{listed((things[number:] + things)[:num_foregrounds])} {place}"
        for number, (_, place) in enumerate(PREVIEWS)
    ]


def component_rows(parts: LayerComponents, index: int) -> list[np.ndarray]:
    """Foregrounds, background, masks, composite and predicted picture of one sample, as uint8."""
    pick = slice(index, index + 1)
    row = [
        *tensor_to_colour(parts.foreground[pick].flatten(0, -4)),
        *tensor_to_colour(parts.background[pick]),
        *tensor_to_mask(parts.mask[pick].flatten(0, -4)),
        *tensor_to_colour(
            composite(parts.foreground[pick], parts.background[pick], parts.mask[pick])
        ),
    ]
    if parts.predicted_image is not None:
        row.extend(tensor_to_colour(parts.predicted_image[pick]))
    return row


def reconstruction_sheet(target: LayerComponents, output: LayerComponents) -> Image.Image:
    """Per sample one row of truth and one of reconstruction: F, B, m, C, I."""
    rows = []
    captions = []
    for index in range(target.mask.shape[0]):
        rows += [component_rows(target, index), component_rows(output, index)]
        captions += ["truth", "reconstruction"]
    return grid(rows, captions)


def generation_sheet(pictures: list[LayeredImage]) -> Image.Image:
    """Per picture one row: foreground colours, background, masks, composite; its prompt below."""
    rows = [
        [*(layer.colour for layer in p.foregrounds), p.background,
         *(layer.alpha for layer in p.foregrounds), p.composite]
        for p in pictures
    ]  # fmt: skip
    return grid(rows, [str(p.metadata.get("prompt", "")) for p in pictures])
