"""Compositing, edge colours and resizing of straight-alpha 8-bit pictures.

One integer formula decides every composite of this project, for NumPy arrays and torch tensors
alike, so that a preview in a file, the composer's training picture and a test agree to the bit.
This module never imports torch: it uses only methods that a tensor brings along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from text2layer.blend_modes import blended
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer.layers import Layer

SMOOTHNESS = 1e-5  # of estimated colours where alpha does not change, as in the paper
SMALL_SIDE, SMALL_STEPS, LARGE_STEPS = 32, 20, 4  # steps of a level; Jacobi needs twice the paper's
BAND_PIXELS = 2**18  # worked on at once where whole pictures would need much memory

Pixels: TypeAlias = Any  # a NumPy array or a torch tensor, and no import of torch to name it


def composite_over(background: Pixels, colour: Pixels, alpha: Pixels) -> Pixels:
    """Lay `colour` over `background`: ``(a F + (255 - a) B + 127) // 255``, rounded once.

    255 is odd, so no value lies halfway between two results and adding 127 rounds to the nearest.

    Args:
        background: uint8 NumPy array or torch tensor, any shape that broadcasts with `colour`.
        colour: uint8, the same kind as `background`; (H, W, 3) or (N, 3, H, W), for instance.
        alpha: uint8, broadcastable to `colour`; (H, W) is taken as (H, W, 1) beside (H, W, 3).

    Returns:
        uint8, of the same kind; alpha 255 gives `colour` and alpha 0 gives `background`, exactly.
    """
    if tuple(alpha.shape) == tuple(colour.shape[:-1]):
        alpha = alpha[..., None]
    if isinstance(colour, np.ndarray):  # 255 * 255 + 127 fits 16 unsigned bits
        weight = alpha.astype(np.uint16)
        over = weight * colour + (255 - weight) * background
        return ((over + np.uint16(127)) // np.uint16(255)).astype(np.uint8)
    weight = alpha.int()
    return ((weight * colour.int() + (255 - weight) * background.int() + 127) // 255).byte()


def multiply_alpha(alpha: Pixels, factor: Pixels | int) -> Pixels:
    """Product of two uint8 alphas, ``(a b + 127) // 255``; `factor` may be an int in 0..255."""
    if isinstance(alpha, np.ndarray):
        wide = np.asarray(factor, dtype=np.uint16)
        return ((alpha.astype(np.uint16) * wide + np.uint16(127)) // np.uint16(255)).astype(
            np.uint8
        )
    wide_factor = factor if isinstance(factor, int) else factor.int()
    return ((alpha.int() * wide_factor + 127) // 255).byte()


def blend(background: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Composite of visible layers over an opaque background, bottom layer first.

    Args:
        background: (H, W, 3) uint8.
        layers: foregrounds, bottom first; parts outside the canvas are cut off.

    Returns:
        (H, W, 3) uint8; each layer is rounded once, its opacity folded into its alpha first, and
        once more by a blend mode other than "normal".
    """
    canvas = background.copy()
    for layer in layers:
        lay_over(canvas, layer)
    return canvas


def lay_over(canvas: np.ndarray, layer: Layer) -> None:
    """Composite one layer, if it is visible, onto a canvas (H, W, 3) uint8, in place."""
    if not layer.visible:
        return
    height, width = canvas.shape[:2]
    target, source = overlap(layer.offset, layer.size, (width, height))
    below, colour, opacity = canvas[target], layer.colour[source], layer.alpha[source]
    for rows in _bands(*opacity.shape):
        alpha = multiply_alpha(opacity[rows], layer.opacity_byte)
        mixed = blended(below[rows], colour[rows], layer.blend_mode)
        below[rows] = composite_over(below[rows], mixed, alpha)


def _bands(height: int, width: int) -> Iterator[slice]:
    """Rows of at most `BAND_PIXELS` pixels at a time, an even number: wide copies stay small."""
    step = max(2, BAND_PIXELS // max(width, 1) // 2 * 2)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def overlap(
    offset: tuple[int, int], size: tuple[int, int], canvas: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns that a layer shares with the canvas, on the canvas and in the layer.

    Args:
        offset: (x, y) of the layer's top-left corner, may be negative.
        size: (width, height) of the layer; canvas: (width, height).

    Returns:
        (canvas index, layer index), each (rows, columns); empty slices if they do not meet.
    """
    on_canvas, in_layer = [], []
    for start, length, limit in zip(offset[::-1], size[::-1], canvas[::-1], strict=True):
        first = min(max(start, 0), limit)
        last = max(min(start + length, limit), first)
        on_canvas.append(slice(first, last))
        in_layer.append(slice(first - start, last - start) if last > first else slice(0, 0))
    return (on_canvas[0], on_canvas[1]), (in_layer[0], in_layer[1])


def match_composite(
    picture: np.ndarray, colour: np.ndarray, background: np.ndarray, alpha: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Change two layers where needed so that their composite is a known picture exactly.

    The upper layer gives way first, F = (I - (1 - a) B) / a; what its range cannot hold, the
    background takes. So an object's edge goes with the object and leaves little of an outline
    behind (docs/log.md has the comparison with the heavier layer first).

    Args:
        picture: (H, W, 3) uint8.
        colour: (H, W, 3) uint8, straight colour of the upper layer.
        background: (H, W, 3) uint8.
        alpha: (H, W) uint8.

    Returns:
        New colour and background with ``composite_over(background, colour, alpha) == picture``.
        Colour under alpha 0 and background under alpha 255 stay.
    """
    new_colour, new_background = colour.copy(), background.copy()
    step = max(1, BAND_PIXELS // alpha.shape[1])
    for start in range(0, alpha.shape[0], step):
        rows = slice(start, start + step)
        new_colour[rows], new_background[rows] = _match_rows(
            picture[rows], colour[rows], background[rows], alpha[rows]
        )
    return new_colour, new_background


def _match_rows(
    picture: np.ndarray, colour: np.ndarray, background: np.ndarray, alpha: np.ndarray
) -> list[np.ndarray]:
    layers = [colour, background]
    for index, share in enumerate((alpha, 255 - alpha)):
        wrong = composite_over(layers[1], layers[0], alpha) != picture
        wrong &= (share > 0)[..., None]
        layers[index] = np.where(
            wrong, solve_colour(picture, layers[1 - index], share), layers[index]
        )
    return layers


def solve_colour(picture: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The colour that makes a known picture, mixed with another one: (I - (1 - s) O) / s.

    Args:
        picture: (..., 3) uint8.
        other: (..., 3) uint8, the colour that has the rest of the weight.
        share: (...) uint8, weight of the colour that is sought; where it is 0, so is the result.

    Returns:
        (..., 3) uint8, rounded to the nearest and clipped to 0..255.
    """
    weight = share[..., None].astype(np.int32)
    needed = 255 * picture.astype(np.int32) - (255 - weight) * other
    solved: np.ndarray = np.clip((2 * needed + weight) // np.maximum(2 * weight, 1), 0, 255)
    return (solved * (weight > 0)).astype(np.uint8)


def extend_edge_colours(colour: np.ndarray, alpha: np.ndarray, threshold: int = 1) -> np.ndarray:
    """Continue the colour of covered pixels outward, so that no halo shows when a layer moves.

    Push-pull (Gortler et al., "The Lumigraph", 1996): averages of the covered pixels are pushed up
    a pyramid and pulled down, bilinearly, into the pixels that have none. Linear in the pixels.

    Args:
        colour: (H, W, 3) uint8.
        alpha: (H, W) uint8.
        threshold: pixels with ``alpha >= threshold`` (1..255) keep their colour.

    Returns:
        (H, W, 3) uint8; `colour` itself, copied, where no pixel or every pixel is covered.
    """
    return extend_with_mean(colour, alpha, threshold)[0]


def extend_with_mean(
    colour: np.ndarray, alpha: np.ndarray, threshold: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """As `extend_edge_colours`; also the colour that it tends to far outward.

    Returns:
        (H, W, 3) uint8, and (3,) float32 in 0..255: the mean of the pyramid's first level without
        a gap.
    """
    if not 1 <= threshold <= 255:
        raise InputError(f"The alpha threshold must lie in 1..255, but {threshold} was given.")
    known = alpha >= threshold
    if known.all() or not known.any():
        return colour.copy(), colour.mean((0, 1), dtype=np.float32)
    coarse, mean = _push_pull(*_halved_picture(colour, known))
    height, width = known.shape
    result = colour.copy()
    for rows in _bands(height, width):  # the picture itself is never held as floats
        filled = _double(_double(coarse, height, 0, rows), width, 1)
        rounded = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
        result[rows] = np.where(known[rows][..., None], colour[rows], rounded)
    return result, mean


def _halved_picture(colour: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-size float32 averages of a uint8 picture's known pixels, and where there are any."""
    height, width = known.shape
    coarse = np.empty(((height + 1) // 2, (width + 1) // 2, colour.shape[2]), np.float32)
    covered = np.empty(coarse.shape[:2], bool)
    for rows in _bands(height, width):
        half = slice(rows.start // 2, (rows.stop + 1) // 2)
        seen = np.where(known[rows][..., None], colour[rows], 0).astype(np.float32)
        coarse[half], covered[half] = _halved(seen, known[rows])
    return coarse, covered


def _halved(colour: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages of the known pixels of each 2 x 2 block, and which blocks have some."""
    height, width = known.shape
    padding = ((0, height % 2), (0, width % 2))
    blocks = np.pad(known, padding).astype(np.float32)
    count = blocks[::2, ::2] + blocks[1::2, ::2] + blocks[::2, 1::2] + blocks[1::2, 1::2]
    total = np.pad(colour, (*padding, (0, 0)))
    total = total[::2] + total[1::2]
    total = total[:, ::2] + total[:, 1::2]
    return total / np.maximum(count, 1)[..., None], count > 0


def _push_pull(colour: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill unknown pixels of (H, W, C) float32 from half-size averages; some pixel is known.

    Returns:
        The filled picture, and the mean (C,) of the first level without a gap.
    """
    if known.all():
        return colour, colour.mean((0, 1))
    height, width = known.shape
    coarse, mean = _push_pull(*_halved(colour, known))
    filled = _double(_double(coarse, height, 0), width, 1)
    return np.where(known[..., None], colour, filled), mean


def _double(coarse: np.ndarray, length: int, axis: int, part: slice = slice(None)) -> np.ndarray:
    """Bilinear doubling along `axis`, cut to a part of `length`; pixel centres stay in place."""
    position = np.clip((np.arange(length)[part] - 0.5) / 2, 0, coarse.shape[axis] - 1)
    lower = position.astype(np.intp)
    upper = np.minimum(lower + 1, coarse.shape[axis] - 1)
    share = (position - lower).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    near: np.ndarray = np.take(coarse, lower, axis)
    return near + share * (np.take(coarse, upper, axis) - near)


def estimate_colours(picture: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two colours that a picture was mixed from, of which only the share is known.

    Germer et al., "Fast Multi-Level Foreground Estimation" (ICPR 2020): F and B that are smooth,
    most of all where alpha changes, and give a F + (1 - a) B = I, found from coarse to fine. Here
    with Jacobi's steps, so that NumPy does whole pictures at once.

    Args:
        picture: (H, W, 3) uint8.
        alpha: (H, W) uint8.

    Returns:
        F and B, each (H, W, 3) uint8; F goes on smoothly where alpha is 0, B where it is 255.
    """
    height, width = alpha.shape
    levels = max(1, int(np.ceil(np.log2(max(height, width)))))
    upper = lower = np.full((1, 1, 3), 0.5, np.float32)
    for level in range(levels + 1):
        rows = _nearest(round(height ** (level / levels)), height)
        columns = _nearest(round(width ** (level / levels)), width)
        size = (len(rows), len(columns))
        image = picture[rows[:, None], columns].astype(np.float32) / 255
        share = alpha[rows[:, None], columns].astype(np.float32)[..., None] / 255
        upper, lower = (_enlarged(colour, size) for colour in (upper, lower))
        steps = SMALL_STEPS if max(size) <= SMALL_SIDE else LARGE_STEPS
        upper, lower = _relaxed(image, share, upper, lower, steps)
    return _rounded(upper), _rounded(lower)


def _relaxed(
    image: np.ndarray, share: np.ndarray, upper: np.ndarray, lower: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobi steps of a level: each pixel's best F and B, its four neighbours' being given."""
    weights = [SMOOTHNESS + np.abs(share - near) for near in _neighbours(share)]
    total = sum(weights)
    rest = 1 - share
    # of the 2 x 2 equations of a pixel; the terms of fourth order in its determinant cancel
    factor = 1 / (total * (share**2 + rest**2 + total))
    for _ in range(steps):
        above, below = share * image, rest * image
        for weight, near, other in zip(
            weights, _neighbours(upper), _neighbours(lower), strict=True
        ):
            above = above + weight * near
            below = below + weight * other
        mixed = share * rest
        upper = np.clip(factor * ((rest**2 + total) * above - mixed * below), 0, 1)
        lower = np.clip(factor * ((share**2 + total) * below - mixed * above), 0, 1)
    return upper, lower


def _neighbours(values: np.ndarray) -> Iterator[np.ndarray]:
    """(H, W, C) moved by a pixel to each of four sides; at the edge a pixel is its own one."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    yield padded[1:-1, :-2]
    yield padded[1:-1, 2:]
    yield padded[:-2, 1:-1]
    yield padded[2:, 1:-1]


def _nearest(length: int, of: int) -> np.ndarray:
    """Indices of `length` samples, evenly spread over `of`."""
    return np.arange(length) * of // length


def _enlarged(colour: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (_nearest(size[i], colour.shape[i]) for i in (0, 1))
    return colour[rows[:, None], columns]


def _rounded(colour: np.ndarray) -> np.ndarray:
    return np.rint(colour * 255).astype(np.uint8)


def resize_colour_and_alpha(
    colour: np.ndarray, alpha: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resize a layer without a halo: edge colours are continued, then the two are resized apart.

    Together would not do: Pillow's RGBA resize zeroes colour under alpha 0. The colour is resampled
    with Lanczos; the alpha with a bicubic, whose undershoot is clipped and which has no outer lobe
    to draw a faint second contour.

    Args:
        colour: (H, W, 3) uint8.
        alpha: (H, W) uint8.
        size: (width, height) in pixels, at least 1 each.

    Returns:
        (height, width, 3) and (height, width) uint8; unchanged copies if the size stays.
    """
    width, height = checked_size(size)
    if (height, width) == alpha.shape:
        return colour.copy(), alpha.copy()
    continued = resize_colour(extend_edge_colours(colour, alpha), (width, height))
    bicubic = Image.Resampling.BICUBIC
    return continued, np.array(Image.fromarray(alpha).resize((width, height), bicubic))


def resize_colour(colour: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lanczos resize of an opaque (H, W, 3) uint8 picture to (width, height)."""
    picture = Image.fromarray(np.ascontiguousarray(colour))
    return np.array(picture.resize(checked_size(size), Image.Resampling.LANCZOS))


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` as two ints, or InputError if it is not (width, height) of at least one pixel."""
    try:
        width, height = (int(length) for length in size)
    except (TypeError, ValueError):
        raise InputError(f"A size is (width, height) in pixels, but {size!r} was given.") from None
    if width < 1 or height < 1:
        raise InputError(f"A size must be at least 1 x 1 pixels, but {width} x {height} was given.")
    return width, height
