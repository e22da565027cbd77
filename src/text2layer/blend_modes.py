"""Blend modes: how a layer's colour meets the colour below it, before its alpha is applied.

The separable modes of W3C Compositing and Blending Level 1 (section 9.1), in 8-bit integers, and
"add", Photoshop's linear dodge. They are those that PSD and ORA both have. NumPy is imported when
colours are blended, because `--help` lists the modes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NORMAL = "normal"
_TOP, _HALF = 255, 127  # white; half of it, to round to the nearest


def blended(below: np.ndarray, colour: np.ndarray, mode: str) -> np.ndarray:
    """B(Cb, Cs): what a layer's colour becomes over an opaque picture.

    Args:
        below: (..., 3) uint8, Cb.
        colour: (..., 3) uint8, Cs.
        mode: one of `BLEND_MODES`.

    Returns:
        (..., 3) uint8, rounded once; `colour` itself for "normal".

    Example:
        >>> blended(np.uint8([[200, 100, 0]]), np.uint8([[128, 128, 128]]), "multiply").tolist()
        [[100, 50, 0]]
    """
    if mode == NORMAL:
        return colour
    return _FORMULAS[mode](below.astype("uint16"), colour.astype("uint16")).astype("uint8")


def _multiply(below: np.ndarray, colour: np.ndarray) -> np.ndarray:
    product: np.ndarray = (below * colour + _HALF) // _TOP  # 255 * 255 + 127 fits 16 bits
    return product


def _screen(below: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return _TOP - _multiply(_TOP - below, _TOP - colour)


def _overlay(below: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Multiply where the picture below is dark, screen where it is light; hard light reversed."""
    import numpy as np

    dark = np.minimum(2 * below, _TOP)
    light = np.maximum(2 * below, _TOP) - _TOP
    return np.where(below <= _HALF, _multiply(dark, colour), _screen(light, colour))


def _darken(below: np.ndarray, colour: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.minimum(below, colour)


def _lighten(below: np.ndarray, colour: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.maximum(below, colour)


def _add(below: np.ndarray, colour: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.minimum(below + colour, _TOP)


_FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "multiply": _multiply,
    "screen": _screen,
    "overlay": _overlay,
    "darken": _darken,
    "lighten": _lighten,
    "add": _add,
}
BLEND_MODES = (NORMAL, *_FORMULAS)
