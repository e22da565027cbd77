"""Where on a canvas a new layer is asked for: "left", "top-right", or a box in pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from text2layer.errors import InputError

Box = tuple[int, int, int, int]  # x, y, width, height in pixels

SHARE = 0.5  # of the canvas's shorter side: the box that a word stands for
MARGIN = 0.05  # of the shorter side, between that box and the border
ROOM = 1.4  # side of the window in which a layer is drawn / side of its box
MIN_BOX = 4  # pixels
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
    word = at.strip().lower().replace("center", "centre") if isinstance(at, str) else ""
    if word in WORDS:
        side = max(MIN_BOX, round(SHARE * min(canvas)))
        margin = round(MARGIN * min(canvas))
        places = []
        for length, first, last in ((canvas[0], "left", "right"), (canvas[1], "top", "bottom")):
            free = length - side
            places.append(margin if first in word else free - margin if last in word else free // 2)
        return places[0], places[1], side, side
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


def window_around(box: Box, canvas: tuple[int, int]) -> Box:
    """Return the part of the canvas that is shown to the model: the box with room around it."""
    spans = []
    for start, length, limit in zip(box[:2], box[2:], canvas, strict=True):
        wanted = min(round(ROOM * length), limit)
        first = min(max(start - (wanted - length) // 2, 0), limit - wanted)
        spans.append((first, wanted))
    (x, width), (y, height) = spans
    return x, y, width, height
