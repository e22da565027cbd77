"""Preview sheets of the trainers."""

from __future__ import annotations

from PIL import Image

from text2layer.data.contact_sheet import grid
from text2layer.layers import LayeredImage
from text2layer.models.autoencoder import LayerComponents
from text2layer.tensors import composite, tensor_to_colour, tensor_to_mask

PREVIEW_PROMPTS = [
    "a red apple in front of a snowy mountain",
    "a 3d icon of a cat on a green meadow",
    "a yellow sports car against a desert at sunset",
    "a wooden chair in front of a forest",
    "a flat icon of a blue fish on a rocky seashore",
    "a 3d icon of a house in front of a starry night sky",
    "clip art of a tree in front of a calm lake",
    "a green sofa in front of a city skyline",
]


def component_rows(parts: LayerComponents, index: int) -> list:  # type: ignore[type-arg]
    """Foreground, background, mask, composite and predicted picture of one sample, as uint8."""
    pick = slice(index, index + 1)
    row = [
        tensor_to_colour(parts.foreground[pick])[0],
        tensor_to_colour(parts.background[pick])[0],
        tensor_to_mask(parts.mask[pick])[0],
        tensor_to_colour(
            composite(parts.foreground[pick], parts.background[pick], parts.mask[pick])
        )[0],
    ]
    if parts.predicted_image is not None:
        row.append(tensor_to_colour(parts.predicted_image[pick])[0])
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
    """Per picture one row: foreground colour, background, mask, composite; its prompt below."""
    rows = [[p.foreground, p.background, p.mask, p.composite] for p in pictures]
    return grid(rows, [str(p.metadata.get("prompt", "")) for p in pictures])
