"""Parallax: a looping film of a camera move over the layers, near ones moving more than far ones.

The camera shifts; it neither turns nor zooms. What a layer moves away from shows the background,
which is whole. The view is narrowed so that no edge of a picture comes into it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from text2layer import blend
from text2layer.blend_modes import NORMAL, blended
from text2layer.errors import InputError
from text2layer.io import films, xmp
from text2layer.io.sprites import seen_part
from text2layer.layers import Layer, LayeredImage

MOVE = ((3.0, 1.0),)  # percent of the canvas
FAR, NEAR = 0.25, 1.0  # depth of the background and of the topmost layer
SECONDS, FPS = 4.0, 25  # 25 frames a second are whole hundredths, which GIF counts in
OWN_SIDE = 1280  # pixels that the longer side has at most without a size
LEAST_VIEW = 0.5  # share of the canvas that the view must keep
MARGIN = 3  # transparent pixels around a layer, for a kernel of 4 taps and a shift below 1


@dataclass(frozen=True)
class _Moving:
    """A layer at the size of the film.

    Attributes:
        picture: premultiplied RGBa with a margin.
        corner: (x, y) of its pixels in the film while the camera is in the middle.
        depth: how much it moves with the camera.
        mode: its blend mode.
    """

    picture: Image.Image
    corner: tuple[float, float]
    depth: float
    mode: str


class Parallax:
    """Frames of a camera move; each is drawn when it is asked for.

    Args:
        layered: the picture; hidden and empty layers take no part.
        depths: how much each layer moves with the camera, 0 not at all: one for the background
            and one for each layer that takes part, bottom first. None: 0.25 to 1 in even steps.
        move: points that the camera passes, in percent of the canvas' width and height, right and
            down. One point: it swings there, back through the middle and as far to the other side.
            Several: it goes round through them, smoothly.
        size: (width, height) of the frames in pixels; None is the canvas, at most 1280 a side.

    Attributes:
        size: (width, height) of the frames in pixels.

    Raises:
        InputError: an argument out of range, the wrong number of depths, or a move so wide that
            less than half of the canvas would be left to see.
    """

    def __init__(
        self,
        layered: LayeredImage,
        *,
        depths: Sequence[float] | None = None,
        move: Sequence[tuple[float, float]] = MOVE,
        size: tuple[int, int] | None = None,
    ) -> None:
        visible = (layer for layer in layered.foregrounds if layer.visible)
        layers = [part for part in map(seen_part, visible) if part is not None]
        self._depths = _checked_depths(depths, layered, layers)
        self._path = _Path(move, layered.size)
        self.size = _checked_size(size, layered.size)
        films.check_size(self.size)
        self._view = self._find_view(layered, layers)
        left, top, width, _ = self._view
        self._scale = self.size[0] / width  # pixels of the film for one of the canvas
        self._background = Image.fromarray(
            blend.resize_colour(layered.background, self._scaled(layered.size))
        )
        self._canvas = layered.size
        self._moving = [
            _Moving(
                _premultiplied(
                    layer.resized(self._scaled(layer.size)), _beyond(layer, layered.size)
                ),
                ((layer.offset[0] - left) * self._scale, (layer.offset[1] - top) * self._scale),
                depth,
                layer.blend_mode,
            )
            for layer, depth in zip(layers, self._depths[1:], strict=True)
        ]

    def frame(self, time: float) -> np.ndarray:
        """(H, W, 3) uint8: what the camera sees at a time; 0 to 1 is one turn of the loop."""
        x, y = self._path.at(time % 1.0)
        canvas = np.array(self._background_at(x * self._depths[0], y * self._depths[0]))
        for layer in self._moving:
            shift = -x * layer.depth * self._scale, -y * layer.depth * self._scale
            _lay_over(canvas, layer, shift)
        return canvas

    def frames(self, count: int) -> Iterator[np.ndarray]:
        """One turn of the loop in `count` frames; the one after the last would be the first."""
        return (self.frame(number / count) for number in range(count))

    def _background_at(self, x: float, y: float) -> Image.Image:
        """The background in the view of a camera moved by so many pixels of the canvas."""
        left, top, width, height = self._view
        (across, down), (w, h) = self._canvas, self._background.size
        left, top = min(max(left + x, 0), across - width), min(max(top + y, 0), down - height)
        box = (left * w / across, top * h / down,
               min((left + width) * w / across, w), min((top + height) * h / down, h))  # fmt: skip
        return self._background.resize(self.size, Image.Resampling.BICUBIC, box)

    def _find_view(
        self, layered: LayeredImage, layers: Sequence[Layer]
    ) -> tuple[float, float, float, float]:
        """(x, y, width, height) in the middle of the canvas that no cut edge ever comes into."""
        margins = [0.0, 0.0]
        for axis in (0, 1):
            reach = self._path.reach[axis]
            margins[axis] = reach * abs(self._depths[0])
            for layer, depth in zip(layers, self._depths[1:], strict=True):
                for beyond in _beyond(layer, layered.size)[axis]:
                    if beyond >= 0:  # cut off at the border of the canvas, or past it
                        margins[axis] = max(margins[axis], reach * abs(depth) - beyond)
        width, height = (side - 2 * m for side, m in zip(layered.size, margins, strict=True))
        least = [LEAST_VIEW * side for side in layered.size]
        if width < least[0] or height < least[1]:
            raise InputError(
                "The camera moves so far that less than half of the picture is left to see: make "
                "the move or the depths smaller."
            )
        shape = self.size[0] / self.size[1]
        width, height = min(width, height * shape), min(height, width / shape)
        return (layered.size[0] - width) / 2, (layered.size[1] - height) / 2, width, height

    def _scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        return max(1, round(size[0] * self._scale)), max(1, round(size[1] * self._scale))


class _Path:
    """A closed path of the camera, in pixels of the canvas.

    Attributes:
        reach: how far it goes from the middle at most, across and down.
    """

    def __init__(self, move: Sequence[tuple[float, float]], canvas: tuple[int, int]) -> None:
        points = np.asarray(move, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not len(points) or len(points) > 100:
            raise InputError(f"A move is 1 to 100 points x,y in percent, as 3,1; not {move!r}.")
        if not (np.isfinite(points).all() and (abs(points) <= 100).all()):
            raise InputError("A point of the move lies in -100 to 100 percent of the canvas.")
        self._points = points / 100 * canvas
        self._spline = None
        if len(points) > 1:
            from scipy.interpolate import CubicSpline

            closed = np.concatenate([self._points, self._points[:1]])
            times = np.linspace(0, 1, len(closed))
            self._spline = CubicSpline(times, closed, bc_type="periodic")
        steps = [self.at(time) for time in np.linspace(0, 1, 1001)]
        self.reach = tuple(float(side) for side in abs(np.array(steps)).max(0) * 1.001)

    def at(self, time: float) -> tuple[float, float]:
        """The place at a time from 0 to 1."""
        if self._spline is None:
            x, y = self._points[0] * math.sin(2 * math.pi * time)
        else:
            x, y = self._spline(time)
        return float(x), float(y)


def save_parallax(
    layered: LayeredImage,
    target: str | os.PathLike[str],
    *,
    depths: Sequence[float] | None = None,
    move: Sequence[tuple[float, float]] = MOVE,
    seconds: float = SECONDS,
    fps: float = FPS,
    size: tuple[int, int] | None = None,
) -> None:
    """Write a looping WebP, GIF or MP4 of a camera move, frame by frame.

    Args:
        layered, depths, move, size: see `Parallax`. MP4 needs even sides; the canvas' own are
            rounded up.
        target: file in .webp, .gif (256 colours) or .mp4 (H.264, without a loop mark: players
            repeat it).
        seconds: length of the loop, above 0.
        fps: frames a second, 1 to 60; at most 50 in a GIF.

    Raises:
        InputError: see `Parallax`; or a length out of range, or imageio-ffmpeg is missing for MP4.
        FormatError: another suffix.
        WriteError: the system refused.

    Example:
        >>> save_parallax(load("apple.psd"), "apple.webp", depths=[0.1, 1])  # doctest: +SKIP
    """
    path = Path(target)
    sides = _checked_size(size, layered.size)
    if size is None and path.suffix.lower() == ".mp4":
        sides = sides[0] + sides[0] % 2, sides[1] + sides[1] % 2
    count = films.check(path, sides, seconds, fps)
    film = Parallax(layered, depths=depths, move=move, size=sides)
    films.write(path, film.frame, count, seconds, xmp.write_packet(layered))


def _checked_size(size: tuple[int, int] | None, canvas: tuple[int, int]) -> tuple[int, int]:
    if size is None:
        factor = min(1.0, OWN_SIDE / max(canvas))
        return max(1, round(canvas[0] * factor)), max(1, round(canvas[1] * factor))
    return blend.checked_size(size)


def _checked_depths(
    depths: Sequence[float] | None, layered: LayeredImage, layers: Sequence[Layer]
) -> list[float]:
    count = len(layers) + 1
    if depths is None:
        return [float(depth) for depth in np.linspace(FAR, NEAR, count)]
    if len(depths) != count:
        names = ", ".join([layered.background_name, *(layer.name for layer in layers)])
        raise InputError(
            f"{len(depths)} depths do not fit: give {count}, bottom first, for {names}."
        )
    if not all(-10 <= depth <= 10 for depth in depths):
        raise InputError(f"Depths lie in -10 to 10, not {list(depths)}.")
    return [float(depth) for depth in depths]


def _beyond(layer: Layer, canvas: tuple[int, int]) -> list[tuple[int, int]]:
    """Pixels that a layer reaches past the left and right, and top and bottom of the canvas."""
    return [
        (-start, start + side - whole)
        for start, side, whole in zip(layer.offset, layer.size, canvas, strict=True)
    ]


def _premultiplied(layer: Layer, beyond: list[tuple[int, int]]) -> Image.Image:
    """The layer as RGBa with a margin: transparent, or its edge where the canvas cuts it off."""
    weight = layer.alpha[..., None].astype(np.uint16)
    colour = ((layer.colour * weight + 127) // 255).astype(np.uint8)
    pixels = np.dstack([colour, layer.alpha])
    across, down = ([MARGIN if side >= 0 else 0 for side in sides] for sides in beyond)
    pixels = np.pad(pixels, (down, across, (0, 0)), mode="edge")
    across, down = ([MARGIN - side for side in sides] for sides in (across, down))
    pixels = np.pad(pixels, (down, across, (0, 0)))
    return Image.frombytes("RGBa", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())


def _lay_over(canvas: np.ndarray, layer: _Moving, shift: tuple[float, float]) -> None:
    """Composite a layer moved by parts of a pixel over the canvas, in place."""
    x, y = layer.corner[0] + shift[0], layer.corner[1] + shift[1]
    left, top = math.floor(x), math.floor(y)
    width, height = (side - 2 for side in layer.picture.size)
    box = (1 - (x - left), 1 - (y - top), 1 - (x - left) + width, 1 - (y - top) + height)
    offset = left - MARGIN + 1, top - MARGIN + 1
    target, source = blend.overlap(offset, (width, height), (canvas.shape[1], canvas.shape[0]))
    under = canvas[target]
    if not under.size:
        return
    moved = np.asarray(layer.picture.resize((width, height), Image.Resampling.BICUBIC, box))[source]
    alpha = moved[..., 3:].astype(np.uint16)
    shown = moved[..., :3]
    if layer.mode != NORMAL:
        straight = shown.astype(np.uint16) * 255 // np.maximum(alpha, 1)
        mixed = blended(under, np.minimum(straight, 255).astype(np.uint8), layer.mode)
        shown = ((mixed * alpha + 127) // 255).astype(np.uint8)
    rest = 255 - alpha
    canvas[target] = np.minimum(shown + (under * rest + 127) // 255, 255)
