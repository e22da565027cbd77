"""How a given picture of any size lies on the canvas that the network sees, and the way back.

The rules, for a picture of W x H pixels:

- The canvas has about as many pixels as the model's own square and the picture's shape, its sides
  multiples of the latent factor. Who asks for a width or a height decides that side of the canvas.
- The picture is stretched onto the canvas where that changes its shape by `MAX_STRETCH` at most.
- Otherwise (very long pictures, or a shape that was asked for) it is fitted in whole, at the top
  left, and the rest of the canvas is padded: colour is continued, alpha is 0.
- A given background that is far from square is shown through a square window: as large as fits, in
  the middle, at the lower border. What is drawn there becomes a layer of the whole picture. Models
  learn to draw in squares; in a strip they squash what they draw. Who asks for a width or a height
  gets the whole picture on that canvas instead.
- Nothing of a given picture is ever cropped away. What is generated is cut to where the picture
  lies and resized to W x H, colour and mask apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from text2layer.blend import resize_colour, resize_colour_and_alpha
from text2layer.errors import InputError
from text2layer.layers import LayeredImage

MIN_SIDE = 64
MAX_SIDE = 1024
MAX_STRETCH = 1.07  # between the picture's shape and the canvas's: half a multiple of 8 in 64


@dataclass(frozen=True)
class Frame:
    """Three sizes, each (width, height) in pixels.

    Attributes:
        size: of what is delivered.
        canvas: of what the network draws.
        content: of the top-left part of the canvas that becomes what is delivered.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    content: tuple[int, int]

    def fit_colour(self, colour: np.ndarray) -> np.ndarray:
        """Bring (H, W, 3) uint8 of `size` onto the canvas, its border continued."""
        return self._padded(resize_colour(colour, self.content), "edge")

    def fit_layer(self, colour: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bring straight colour (H, W, 3) and alpha (H, W) of `size` onto the canvas."""
        colour, alpha = resize_colour_and_alpha(colour, alpha, self.content)
        return self._padded(colour, "edge"), self._padded(alpha, "constant")

    def deliver_colour(self, colour: np.ndarray) -> np.ndarray:
        """Cut and resize an opaque picture of the canvas to `size`."""
        width, height = self.content
        return resize_colour(colour[:height, :width], self.size)

    def deliver_layer(self, colour: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut and resize a layer of the canvas to `size`, colour and alpha apart."""
        width, height = self.content
        return resize_colour_and_alpha(colour[:height, :width], alpha[:height, :width], self.size)

    def _padded(self, pixels: np.ndarray, mode: str) -> np.ndarray:
        width, height = self.canvas
        missing = [(0, height - pixels.shape[0]), (0, width - pixels.shape[1])]
        return np.pad(pixels, missing + [(0, 0)] * (pixels.ndim - 2), mode=mode)  # type: ignore[call-overload]


def frame_for(
    asked: tuple[int | None, int | None],
    default: int,
    factor: int,
    size: tuple[int, int] | None = None,
) -> Frame:
    """Choose the canvas.

    Args:
        asked: (width, height) of the canvas, None where open.
        default: the model's side; a canvas of open size has about `default`^2 pixels.
        factor: sides are multiples of it.
        size: (width, height) of what is given; None without, and the canvas is delivered as it is.

    Raises:
        InputError: a side that was asked for cannot be used.
    """
    width, height = asked
    if size is None:
        width = default if width is None else width
        height = default if height is None else height
    else:
        ratio = size[0] / size[1]
        if width is None:
            width = _rounded(height * ratio if height else default * ratio**0.5, factor)
        if height is None:
            height = _rounded(width / ratio, factor)
    check_size(width, height, factor)
    canvas = (width, height)
    if size is None:
        return Frame(canvas, canvas, canvas)
    stretch = (width / height) / (size[0] / size[1])
    if max(stretch, 1 / stretch) <= MAX_STRETCH:
        return Frame(size, canvas, canvas)
    scale = min(width / size[0], height / size[1])
    content = [max(1, min(round(side * scale), room))
               for side, room in zip(size, canvas, strict=True)]  # fmt: skip
    return Frame(size, canvas, (content[0], content[1]))


@dataclass(frozen=True)
class Window:
    """A square of a picture, in which a model draws.

    Attributes:
        picture: (H, W, 3) uint8, the whole.
        x: left edge of the square, pixels.
        y: upper edge.
        side: of the square.
    """

    picture: np.ndarray
    x: int
    y: int
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole picture."""
        return self.picture.shape[1], self.picture.shape[0]

    @property
    def inside(self) -> np.ndarray:
        """What the window shows, (side, side, 3)."""
        return self.picture[self.y : self.y + self.side, self.x : self.x + self.side].copy()

    def whole(self, drawn: LayeredImage, metadata: dict[str, Any]) -> LayeredImage:
        """What was drawn over `inside`, as a layer of the whole picture and of its size."""
        layer = drawn.foregrounds[0].moved(self.x, self.y)
        made = drawn.replace(
            background=self.picture, foregrounds=(layer,), metadata=drawn.metadata | metadata
        )
        colour, alpha = made.on_canvas(layer)
        layer = layer.replace(colour=colour, alpha=alpha, offset=(0, 0))
        return made.replace(foregrounds=(layer,))


def window_of(picture: np.ndarray) -> Window | None:
    """The window that a background (H, W, 3) is seen through: in the middle, at its lower border.

    None where the picture is square enough to be stretched onto a square canvas.
    """
    height, width = picture.shape[:2]
    if max(width / height, height / width) <= MAX_STRETCH:
        return None
    side = min(width, height)
    return Window(picture, (width - side) // 2, height - side, side)


def check_size(width: int, height: int, factor: int) -> None:
    """Raise InputError unless both sides are multiples of the factor and within the limits."""
    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, int):
            raise InputError(f"The {name} must be a whole number of pixels, got {side!r}.")
        if side % factor or not MIN_SIDE <= side <= MAX_SIDE:
            raise InputError(
                f"The {name} must be a multiple of {factor} from {MIN_SIDE} to {MAX_SIDE} pixels, "
                f"got {side}; {_rounded(side, factor)} would do."
            )


def _rounded(side: float, factor: int) -> int:
    return max(MIN_SIDE, round(min(side, MAX_SIDE) / factor) * factor)
