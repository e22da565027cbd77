"""Pixels of a source to a picture of the library: cropped, shrunk, continued, measured, encoded."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from text2layer.blend import extend_edge_colours, resize_colour, resize_colour_and_alpha

MADE_BY = 2  # raise it when the same pixels give another picture or record
LONGEST_SIDE = 256  # pixels of a cut-out
HEIGHT, WIDEST = 384, 768  # pixels of a background
SHORTEST_SIDE = 16  # pixels of a cut-out's longer side below which nothing can be seen
VISIBLE = 8  # alpha from which a pixel belongs to the crop
OPAQUE_SHARE = 0.98  # of the crop from which a cut-out is a tile or a framed scene
QUALITY = 92
COLOUR_SHARE = 0.55  # of the object that must have a colour before the record names it


class NoUse(Exception):
    """A picture that cannot enter the library: a reason in a few words, and a sentence."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.reason, self.said = reason, said


def cut_out(
    colour: np.ndarray, alpha: np.ndarray | None, may_be_opaque: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Crop to what is visible, shrink to LONGEST_SIDE, continue the edge colours outward.

    Args:
        colour: (H, W, 3) uint8, straight.
        alpha: (H, W) uint8; None is opaque.
        may_be_opaque: keep a picture that fills its rectangle.

    Returns:
        (h, w, 3) and (h, w) uint8, h and w at most LONGEST_SIDE.

    Raises:
        NoUse: nothing is visible, too little is, or everything.
    """
    if alpha is None:
        if not may_be_opaque:
            raise NoUse("no transparency", "It has no alpha channel: cut the object out first.")
        alpha = np.full(colour.shape[:2], 255, np.uint8)
    rows, columns = (np.flatnonzero((alpha >= VISIBLE).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise NoUse("nothing visible", "Its alpha is 0 everywhere.")
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    colour, alpha = np.ascontiguousarray(colour[box]), np.ascontiguousarray(alpha[box])
    if max(alpha.shape) < SHORTEST_SIDE:
        raise NoUse("too small", f"It is smaller than {SHORTEST_SIDE} pixels.")
    if not may_be_opaque and (alpha > 250).mean() > OPAQUE_SHARE:
        raise NoUse(
            "no transparency", "It fills its rectangle: a tile or a scene, or not cut out yet."
        )
    if alpha.min() == 255:  # a WebP file has no alpha then, and would not be read as a cut-out
        margin = -(-max(alpha.shape) // LONGEST_SIDE)
        alpha = np.pad(alpha, margin)
        colour = np.pad(colour, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    scale = LONGEST_SIDE / max(alpha.shape)
    if scale < 1:
        height, width = (max(round(side * scale), 1) for side in alpha.shape)
        return resize_colour_and_alpha(colour, alpha, (width, height))  # continues colours, too
    return extend_edge_colours(colour, alpha), alpha


def place(colour: np.ndarray) -> np.ndarray:
    """Shrink a background to HEIGHT rows and cut its sides to WIDEST; (h, w, 3) uint8."""
    height, width = colour.shape[:2]
    if height > HEIGHT:
        colour = resize_colour(colour, (max(round(width * HEIGHT / height), 1), HEIGHT))
    left = max(colour.shape[1] - WIDEST, 0) // 2
    return np.ascontiguousarray(colour[:, left : left + WIDEST])


def encode_cut_out(colour: np.ndarray, alpha: np.ndarray) -> bytes:
    """A WebP file: lossless alpha, colour kept under alpha 0."""
    file = io.BytesIO()
    Image.fromarray(np.dstack([colour, alpha])).save(
        file, "WEBP", quality=QUALITY, alpha_quality=100, method=4, exact=True
    )
    return file.getvalue()


def encode_place(colour: np.ndarray) -> bytes:
    """A JPEG file."""
    file = io.BytesIO()
    Image.fromarray(colour).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def main_colour(colour: np.ndarray, alpha: np.ndarray) -> str:
    """The colour in a word that most of an object has, or "".

    Args:
        colour: (H, W, 3) uint8.
        alpha: (H, W) uint8.

    Example:
        >>> main_colour(np.full((2, 2, 3), (210, 30, 30), np.uint8), np.full((2, 2), 255, np.uint8))
        'red'
    """
    pixels = colour[::2, ::2][alpha[::2, ::2] > 127].astype(np.float32) / 255
    if not len(pixels):
        return ""
    value, least = pixels.max(1), pixels.min(1)
    chroma = value - least
    saturation = chroma / np.maximum(value, 1e-6)
    red, green, blue = pixels.T
    safe = np.maximum(chroma, 1e-6)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    hue = hue * 60
    plain = saturation < 0.18
    names = ["black", "white", "grey", "brown", "red", "orange", "yellow", "green", "teal", "blue",
             "purple", "pink"]  # fmt: skip
    conditions = [
        value < 0.2,
        plain & (value > 0.85),
        plain,
        (hue >= 8) & (hue < 45) & (value < 0.62),
        ((hue < 12) | (hue >= 335)) & (saturation > 0.5),
        (hue >= 12) & (hue < 42),
        (hue >= 42) & (hue < 68),
        (hue >= 68) & (hue < 165),
        (hue >= 165) & (hue < 190),
        (hue >= 190) & (hue < 255),
        (hue >= 255) & (hue < 300),
    ]
    found = np.select(conditions, range(11), 11)
    counts = np.bincount(found, minlength=12) / len(found)
    best = int(counts.argmax())
    return names[best] if counts[best] > COLOUR_SHARE else ""
