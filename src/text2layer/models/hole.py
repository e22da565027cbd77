"""The hole that is cut around an object of a photo, to be filled by inpainting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from text2layer.options import require

if TYPE_CHECKING:
    import numpy as np  # not at run time: a build's settings come from here, and so does --help

MASK_THRESHOLD = 0.1  # mask value above which a pixel is foreground (Text2Layer, section 3.2)
DILATION = 0.016  # growth of the hole around the object / longest side
DILATION_BELOW = 0.04  # growth below it, where its contact shadow lies


def threshold_level(threshold: float) -> int:
    """Least mask level (1..255) that lies above a threshold of 0..1."""
    return min(int(threshold * 255) + 1, 255)


def cut_hole(
    mask: np.ndarray,
    threshold: float = MASK_THRESHOLD,
    dilation: float = DILATION,
    dilation_below: float = DILATION_BELOW,
) -> np.ndarray:
    """The object grown to all sides, and further below it, where its contact shadow lies.

    Args:
        mask: (H, W) uint8.
        threshold: mask value (0..1) above which a pixel belongs to the object.
        dilation: growth as a share of the longest side.
        dilation_below: growth downward as a share of the longest side; less than `dilation` is
            taken as `dilation`.

    Returns:
        (H, W) bool.
    """
    cv2 = opencv()
    longest = max(mask.shape)
    radius = round(dilation * longest)
    extra = max(round(dilation_below * longest) - radius, 0)
    grown: np.ndarray = (mask >= threshold_level(threshold)).astype("uint8")
    if extra:
        # a column whose last row is the anchor: a pixel is set if one of those above it is
        column = cv2.getStructuringElement(cv2.MORPH_RECT, (1, extra + 1))
        grown = cv2.dilate(grown, column, anchor=(0, extra))
    if radius:
        size = (2 * radius + 1, 2 * radius + 1)
        grown = cv2.dilate(grown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
    return grown.astype(bool)


def opencv() -> Any:
    """OpenCV, or InputError that says how to install it."""
    return require("cv2", "OpenCV", "Cutting holes and counting parts", extra="decompose")
