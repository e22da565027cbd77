"""Where on a canvas a layer is asked for: "left", "top-right", a box in pixels; and how large."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from text2layer.canonical import FOOT, LONGEST
from text2layer.errors import InputError
from text2layer.layers import FAINT, Layer

Box = tuple[int, int, int, int]  # x, y, width, height in pixels

SHARE = 0.5  # of the canvas's shorter side: the box that a word stands for
MARGIN = 0.05  # of the shorter side, between that box and the border
MIN_BOX = 4  # pixels
SCALES = (0.05, 4.0)  # least and most that a drawn object is scaled by
WORDS = (
    "left", "centre", "right", "top", "bottom",
    "top-left", "top-right", "bottom-left", "bottom-right",
)  # fmt: skip


def box_at(at: str | Sequence[int], canvas: tuple[int, int]) -> Box:
    """Return the box that a word or "x,y,width,height" means.

    Args:
        at: one of `WORDS` ("center" too): a square of half the canvas's shorter side; or four whole
            numbers of pixels, as text or not.
        canvas: (width, height) in pixels.

    Raises:
        InputError: neither, too small, larger than the canvas, or wholly outside.
    """
    word = _word(at)
    if word in WORDS:
        side = max(MIN_BOX, round(SHARE * min(canvas)))
        return (*_corner(word, (side, side), canvas), side, side)
    numbers = re.split(r"\s*,\s*", at.strip()) if isinstance(at, str) else list(at)
    try:
        x, y, width, height = (int(number) for number in numbers)
    except (TypeError, ValueError):
        raise InputError(
            f"{at!r} is no place: say {', '.join(WORDS)}, or x,y,width,height in pixels."
        ) from None
    if not (MIN_BOX <= width <= canvas[0] and MIN_BOX <= height <= canvas[1]):
        raise InputError(
            f"A layer's box must have sides of {MIN_BOX} pixels to the canvas's {canvas[0]} x "
            f"{canvas[1]}, got {width} x {height}."
        )
    if not (-width < x < canvas[0] and -height < y < canvas[1]):
        raise InputError(
            f"The box at {x},{y} lies outside of the canvas of {canvas[0]} x {canvas[1]} pixels."
        )
    return x, y, width, height


def place(
    layer: Layer, at: str | Sequence[int] | None, scale: float | None, canvas: tuple[int, int]
) -> Layer:
    """Cut a layer to its object, resize that and put it where it is asked for.

    A box, or a word without a scale, is filled as `Layer.fitted` does: as large as the object's
    shape allows, standing on the box's bottom. A word with a scale puts the scaled object there: at
    the border, or in the middle. A scale alone keeps the middle of the object's lower edge.

    Args:
        layer: on the canvas; an empty one, and any without `at` and `scale`, stays as it is.
        at: see `box_at`.
        scale: size / the layer's own, within SCALES.
        canvas: (width, height) in pixels.

    Raises:
        InputError: see `check_place`; or the object would have more than `MAX_SIDE` pixels a side.
    """
    check_place(at, scale, canvas)
    if layer.box is None or (at is None and scale is None):
        return layer
    if at is not None and scale is None:
        return layer.fitted(box_at(at, canvas))
    cut = layer.trimmed(FAINT).trimmed()  # as `fitted` cuts it
    scaled = cut.scaled(scale or 1.0)
    if at is not None:
        return scaled.replace(offset=_corner(_word(at), scaled.size, canvas))
    foot = cut.offset[1] + cut.size[1]
    return scaled.replace(offset=(scaled.offset[0], foot - scaled.size[1]))


def check_place(
    at: str | Sequence[int] | None, scale: float | None, canvas: tuple[int, int]
) -> None:
    """Raise InputError for a place or scale that cannot be used, or that contradict each other."""
    if at is not None:
        box_at(at, canvas)
    if scale is None:
        return
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise InputError(f"A scale must be a number, got {scale!r}.")
    if not SCALES[0] <= scale <= SCALES[1]:
        raise InputError(f"The scale must lie in {SCALES[0]:g}..{SCALES[1]:g}, got {scale:g}.")
    if at is not None and _word(at) not in WORDS:
        raise InputError(
            "A box says how large the object is; give a scale with a word such as left, or none."
        )


def check_moved(
    at: str | Sequence[int] | None,
    scale: float | None,
    given: str | None,
    size: tuple[int, int],
    num_foregrounds: int,
    output_type: str,
) -> dict[str, Any]:
    """Return what metadata say of the place and the scale that are asked for.

    Args:
        at: see `place`.
        scale: likewise.
        given: what is given: foreground, background, image, reference or None.
        size: (width, height) of the picture in pixels.
        num_foregrounds: of the model.
        output_type: of the call.

    Raises:
        InputError: one is asked for, and it cannot be used or no drawn layer can be put there.
    """
    if at is None and scale is None:
        return {}
    asked = "A place" if at is not None else "A scale"
    if given == "image":
        raise InputError(
            f"{asked} is for an object that is drawn; the layers of a picture that is taken apart "
            "stay where they are."
        )
    if given == "foreground":
        raise InputError(
            f"{asked} is for an object that is drawn, and the given foreground comes back "
            "unchanged; move it before, so that the background is drawn for its place."
        )
    if num_foregrounds > 1:
        raise InputError(
            f"The model draws {num_foregrounds} foregrounds at once; move them one by one in the "
            "file that it gives."
        )
    if output_type != "layered":
        raise InputError(f"{asked} is for layered pictures, not for output_type {output_type!r}.")
    check_place(at, scale, size)
    said: dict[str, Any] = {} if scale is None else {"scale": float(scale)}
    if at is not None:
        said["at"] = at if isinstance(at, str) else [int(number) for number in at]
    return said


def _word(at: str | Sequence[int]) -> str:
    return at.strip().lower().replace("center", "centre") if isinstance(at, str) else ""


def _corner(word: str, size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Top-left corner of something of a size at the place that a word of WORDS names."""
    margin = round(MARGIN * min(canvas))
    places = []
    for side, length, (first, last) in zip(
        size, canvas, (("left", "right"), ("top", "bottom")), strict=True
    ):
        free = length - side
        places.append(margin if first in word else free - margin if last in word else free // 2)
    return places[0], places[1]


def window_around(box: Box, canvas: tuple[int, int]) -> Box:
    """Return the part of the canvas that is shown to the model, so that it draws into the box.

    A square in whose canonical place (module `canonical`) an object as long as the box's longer
    side would stand on the box's bottom; cut to the canvas's sides and moved onto it.
    """
    x, y, width, height = box
    side = round(max(width, height) / LONGEST)
    corners = x + (width - side) // 2, y + height - round(FOOT * side)
    spans = []
    for start, limit in zip(corners, canvas, strict=True):
        wanted = min(side, limit)
        spans.append((min(max(start, 0), limit - wanted), wanted))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]
