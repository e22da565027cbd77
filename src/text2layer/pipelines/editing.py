"""Layered pictures changed by a model: one more layer, or one layer made new.

Everything else in the picture stays bit for bit as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage, clean_name
from text2layer.pipelines.placement import box_at, window_around

Draw = Callable[..., Any]  # a Text2LayerPipeline


def add_layer(
    draw: Draw,
    layered: LayeredImage,
    prompt: str,
    at: str | Sequence[int] | None = None,
    **options: Any,
) -> LayeredImage:
    """See `Text2LayerPipeline.add_layer`."""
    layer = draw_layer(draw, layered, prompt, at, options)
    return layered.add(layer.replace(name=free_name(layered, prompt)))


def replace_layer(
    draw: Draw,
    layered: LayeredImage,
    layer: str | int,
    prompt: str | None = None,
    at: str | Sequence[int] | None = None,
    **options: Any,
) -> LayeredImage:
    """See `Text2LayerPipeline.replace_layer`."""
    names = [one.name for one in layered.foregrounds]
    if layer == layered.background_name and layer not in names:
        return _replace_background(draw, layered, prompt, at, options)
    index = layered.find_layer(layer)
    below = layered.replace(foregrounds=layered.foregrounds[:index])
    old = layered.foregrounds[index]
    words = prompt or old.metadata.get("prompt")
    if not words and len(layered.foregrounds) == 1:
        words = layered.metadata.get("prompt")
    if not words:
        raise InputError(
            f"The layer {old.name!r} does not say from which prompt it was made; give a prompt."
        )
    place = at if at is not None else _visible_box(old, layered.size)
    new = draw_layer(draw, below, words, place, options)
    name = old.name if prompt is None else free_name(layered.remove_layer(index), words)
    return layered.replace_layer(
        index,
        new.replace(name=name, opacity=old.opacity, visible=old.visible, blend_mode=old.blend_mode),
    )


def draw_layer(
    draw: Draw,
    layered: LayeredImage,
    prompt: str,
    at: str | Sequence[int] | None,
    options: dict[str, Any],
) -> Layer:
    """Draw one foreground over the composite of a picture, for its canvas."""
    if "num_images_per_prompt" in options or not isinstance(prompt, str):
        raise InputError("One layer is drawn for one prompt; ask for them one after the other.")
    picture = layered.composite
    if at is None:
        made = draw(prompt, background=picture, **options).layers[0]
        layer: Layer = _only(made)
    else:
        box = box_at(at, layered.size)
        x, y, width, height = window_around(box, layered.size)
        window = picture[y : y + height, x : x + width].copy()
        made = draw(prompt, background=window, **options).layers[0]
        layer = _only(made).moved(x, y).fitted(box)
    return layer.replace(metadata=made.metadata)


def free_name(layered: LayeredImage, prompt: str) -> str:
    """A name from the prompt that no layer has: "a blue ball 1", "a blue ball 2", ..."""
    taken = {layer.name for layer in layered.foregrounds} | {layered.background_name}
    label = clean_name(prompt[:60].strip(), "Layer")
    return next(n for i in range(1, len(taken) + 2) if (n := f"{label} {i}") not in taken)


def _replace_background(
    draw: Draw,
    layered: LayeredImage,
    prompt: str | None,
    at: str | Sequence[int] | None,
    options: dict[str, Any],
) -> LayeredImage:
    if at is not None:
        raise InputError("A background fills the canvas; no place can be asked for it.")
    words = prompt or layered.metadata.get("background", layered.metadata).get("prompt")
    if not words:
        raise InputError("The picture does not say from which prompt it was made; give a prompt.")
    visible = layered.replace(foregrounds=tuple(x for x in layered.foregrounds if x.visible))
    made = draw(words, foreground=visible, **options).layers[0]
    metadata = layered.metadata | {"background": made.metadata}
    return layered.replace(background=made.background, metadata=metadata)


def _only(made: LayeredImage) -> Layer:
    if len(made.foregrounds) != 1:
        raise InputError(
            f"The model draws {len(made.foregrounds)} foregrounds at once; single layers need a "
            "model of one."
        )
    return made.foregrounds[0]


def _visible_box(layer: Layer, canvas: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The layer's box if a new one can be asked for there."""
    if layer.box is None:
        return None
    x, y, width, height = layer.box
    try:
        return box_at((x, y, min(width, canvas[0]), min(height, canvas[1])), canvas)
    except InputError:  # outside of the canvas, or a speck
        return None
