"""Sprites for games: the layers, trimmed, on atlas pictures with JSON in TexturePacker's hash form.

The form is what TexturePacker calls "JSON (Hash)"; Phaser, PixiJS and most engines read it. A
sprite's source is the canvas, so sprites put at the canvas's corner make the picture again.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import text2layer
from text2layer import blend
from text2layer.errors import FormatError, InputError
from text2layer.files import writing
from text2layer.io import pictures, xmp
from text2layer.layers import Layer, LayeredImage

MAX_ATLAS = 4096  # pixels a side that every current GPU takes, phones included
ATLAS_LIMIT = 16_384  # pixels a side that large GPUs take
PADDING = 2  # transparent pixels between sprites
EDGE = 1  # pixels that repeat a sprite's edge, so that filtering mixes in no transparency
CENTRE = (0.5, 0.5)
SEEN = 4  # alpha of 255; what is fainter all around a sprite is cut off


@dataclass(frozen=True)
class _Sprite:
    """A trimmed layer on its way into an atlas.

    Attributes:
        key: its name among the frames.
        layer: cut to what is not transparent.
        trimmed: whether its box is not the canvas.
    """

    key: str
    layer: Layer
    trimmed: bool


@dataclass(frozen=True)
class _Place:
    """Where a sprite lies: the page from 0, the corner of its pixels there, and its edge.

    Attributes:
        edge: pixels around it that repeat its outermost ones.
    """

    page: int
    x: int
    y: int
    edge: int


def save_sprites(
    layered: LayeredImage,
    target: str | os.PathLike[str],
    *,
    max_atlas: int = MAX_ATLAS,
    pivot: tuple[float, float] = CENTRE,
    hidden: bool = False,
) -> list[Path]:
    """Write the background and every layer with a visible pixel as sprites of an atlas.

    Opacity is multiplied into the sprites' alpha, and margins fainter than 4/255 are cut off.
    Colour is straight, and goes on under alpha 0 and past a sprite's edge, so that no halo shows.

    Args:
        layered: the picture.
        target: the JSON file, as ``hero.json``; the atlas is ``hero.png``. Sprites that do not fit
            on one atlas go on to ``hero-page2.json`` and ``hero-page2.png``, which the first file
            names (``related_multi_packs``).
        max_atlas: largest side of an atlas in pixels, 1 to 16384.
        pivot: point about which a sprite turns, (0, 0) the top left and (1, 1) the bottom right of
            its trimmed box.
        hidden: hidden layers become sprites as well; the JSON says which they are.

    Returns:
        The files written, the JSON that names the others first.

    Raises:
        InputError: `max_atlas` or `pivot` is out of range, a layer is larger than the atlas, or
            the folder is missing.
        FormatError: the target does not end in ``.json``.
        WriteError: the system refused.

    Example:
        >>> save_sprites(load("hero.psd"), "assets/hero.json")       # doctest: +SKIP
        [PosixPath('assets/hero.json'), PosixPath('assets/hero.png')]
    """
    first = Path(target)
    _check(first, max_atlas, pivot)
    sprites = _sprites(layered, hidden)
    for one in sprites:
        width, height = one.layer.size
        if max(width, height) > max_atlas:
            raise InputError(
                f"{one.layer.name!r} has {width} x {height} pixels, an atlas "
                f"{max_atlas} a side: allow a larger atlas (at most {ATLAS_LIMIT}), or make the "
                "picture smaller."
            )
    places, sizes = pack([sprite.layer.size for sprite in sprites], max_atlas)
    names = [
        first.stem if not page else f"{first.stem}-page{page + 1}" for page in range(len(sizes))
    ]
    files = [first.with_name(f"{name}{suffix}") for name in names for suffix in (".json", ".png")]
    packet = xmp.write_packet(layered)
    with ExitStack() as stack:  # closed backwards: the first JSON takes its place last
        opened = [stack.enter_context(writing(path)) for path in files]
        for page, size in enumerate(sizes):
            here = [(s, p) for s, p in zip(sprites, places, strict=True) if p.page == page]
            meta: dict[str, Any] = {
                "app": "text2layer",
                "version": text2layer.__version__,
                "image": f"{names[page]}.png",
                "format": "RGBA8888",
                "size": {"w": size[0], "h": size[1]},
                "scale": "1",
            }
            if page == 0:
                if len(sizes) > 1:
                    meta["related_multi_packs"] = [f"{name}.json" for name in names[1:]]
                meta["layers"] = _layer_notes(layered, sprites)
            frames = {sprite.key: _frame(sprite, p, layered.size, pivot) for sprite, p in here}
            text = json.dumps({"frames": frames, "meta": meta}, indent=2) + "\n"
            opened[2 * page].write(text.encode("ascii"))
            pictures.write_png(opened[2 * page + 1], _atlas(size, here), packet)
    return files


def pack(
    sizes: Sequence[tuple[int, int]], max_side: int
) -> tuple[list[_Place], list[tuple[int, int]]]:
    """Place rectangles on shelves of square-like pages, tallest first.

    Args:
        sizes: (width, height) of each, at most `max_side` a side.
        max_side: of a page.

    Returns:
        The place of each, and (width, height) of each page.
    """
    cells = [_cell(size, max_side) for size in sizes]
    area = sum((w + PADDING) * (h + PADDING) for _, w, h in cells)
    wide = min(max_side, max(math.ceil(math.sqrt(area)), *(w for _, w, _ in cells)))
    shelves: list[list[int]] = []  # page, top, height, width in use
    bottoms: list[int] = []  # of each page, where its next shelf begins
    places: list[_Place] = [_Place(0, 0, 0, 0)] * len(cells)
    for number in sorted(range(len(cells)), key=lambda i: (-cells[i][2], -cells[i][1], i)):
        edge, width, height = cells[number]
        shelf = next((s for s in shelves if height <= s[2] and s[3] + width <= wide), None)
        if shelf is None:
            free = (p for p, bottom in enumerate(bottoms) if bottom + height <= max_side)
            page = next(free, len(bottoms))
            if page == len(bottoms):
                bottoms.append(0)
            shelf = [page, bottoms[page], height, 0]
            bottoms[page] += height + PADDING
            shelves.append(shelf)
        places[number] = _Place(shelf[0], shelf[3] + edge, shelf[1] + edge, edge)
        shelf[3] += width + PADDING
    pages = [
        (
            max(shelf[3] for shelf in shelves if shelf[0] == page) - PADDING,
            bottom - PADDING,
        )
        for page, bottom in enumerate(bottoms)
    ]
    return places, pages


def _cell(size: tuple[int, int], max_side: int) -> tuple[int, int, int]:
    """Edge, width and height that a sprite takes; one as large as a page has no repeated edge."""
    width, height = size
    edge = EDGE if max(size) + 2 * EDGE <= max_side else 0
    return edge, width + 2 * edge, height + 2 * edge


def _check(first: Path, max_atlas: int, pivot: tuple[float, float]) -> None:
    if first.suffix.lower() != ".json":
        raise FormatError(f"{first} is not a name for sprites: end it in .json.")
    if not 1 <= max_atlas <= ATLAS_LIMIT:
        raise InputError(f"An atlas has 1 to {ATLAS_LIMIT} pixels a side, not {max_atlas}.")
    if len(pivot) != 2 or not all(0 <= share <= 1 for share in pivot):
        raise InputError(f"A pivot is x,y from 0 to 1, as 0.5,1 for the feet, not {pivot}.")


def _sprites(layered: LayeredImage, hidden: bool) -> list[_Sprite]:
    """Background first, then the layers that show something, each under a key of its own."""
    opaque = np.full(layered.background.shape[:2], 255, np.uint8)
    layers = [Layer(layered.background, opaque, layered.background_name), *layered.foregrounds]
    keys: set[str] = set()
    sprites = []
    for layer in layers:
        cut = seen_part(layer) if layer.visible or hidden else None
        if cut is not None:
            key = _free_key(layer.name, keys)
            keys.add(key)
            sprites.append(_Sprite(key, cut, cut.box != (0, 0, *layered.size)))
    return sprites


def seen_part(layer: Layer) -> Layer | None:
    """A layer with its opacity in its alpha, without margins that nobody sees; None if empty."""
    alpha = blend.multiply_alpha(layer.alpha, layer.opacity_byte)
    part = layer.replace(alpha=alpha, opacity=1.0).trimmed(SEEN).trimmed()
    return None if part.box is None else part


def _free_key(name: str, taken: set[str]) -> str:
    """A frame's name that no other has, is no path, and means nothing to JavaScript or Phaser."""
    plain = re.sub(r"[/\\:]+", "-", name).strip(" .").removeprefix("__").lstrip("_") or "layer"
    key, number = plain, 1
    while key in taken:
        number += 1
        key = f"{plain} {number}"
    return key


def _layer_notes(layered: LayeredImage, sprites: Sequence[_Sprite]) -> list[dict[str, Any]]:
    """Of every sprite, bottom first, what the frames have no place for."""
    return [
        {"name": one.layer.name, "frame": one.key, "visible": one.layer.visible,
         "blendMode": one.layer.blend_mode,
         "x": one.layer.offset[0], "y": one.layer.offset[1]}
        for one in sprites
    ]  # fmt: skip


def _frame(
    sprite: _Sprite, place: _Place, canvas: tuple[int, int], pivot: tuple[float, float]
) -> dict[str, Any]:
    """The entry of a sprite; the pivot there is in parts of the canvas."""
    (x, y), (width, height) = sprite.layer.offset, sprite.layer.size
    point = {
        "x": round((x + pivot[0] * width) / canvas[0], 8),
        "y": round((y + pivot[1] * height) / canvas[1], 8),
    }
    return {
        "frame": {"x": place.x, "y": place.y, "w": width, "h": height},
        "rotated": False,
        "trimmed": sprite.trimmed,
        "spriteSourceSize": {"x": x, "y": y, "w": width, "h": height},
        "sourceSize": {"w": canvas[0], "h": canvas[1]},
        "pivot": point,
        "anchor": point,  # what PixiJS calls it
    }


def _atlas(size: tuple[int, int], here: Sequence[tuple[_Sprite, _Place]]) -> np.ndarray:
    """(H, W, 4) uint8: the sprites of a page, their edges repeated where there is room for it."""
    width, height = size
    atlas = np.zeros((height, width, 4), np.uint8)
    for sprite, place in here:
        rgba = np.dstack([sprite.layer.colour, sprite.layer.alpha])
        around = (place.edge, place.edge)
        rgba = np.pad(rgba, (around, around, (0, 0)), mode="edge")
        top, left = place.y - place.edge, place.x - place.edge
        atlas[top : top + rgba.shape[0], left : left + rgba.shape[1]] = rgba
    return atlas
