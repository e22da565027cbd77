"""A 64-bit perceptual hash: nearly the same picture, nearly the same bits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image

BITS = 64
FLAT = 8  # grey levels: pictures whose 72 cells span less would all look alike


def perceptual_hash(picture: Image.Image) -> int | None:
    """Difference hash: is each of 8 x 8 grey cells darker than its right neighbour?

    The dHash of Neal Krawetz, "Kind of Like That" (The Hacker Factor Blog, 2013): unchanged by
    scale, brightness and contrast, and nearly so by compression.

    Args:
        picture: of any size and mode that Pillow turns into grey.

    Returns:
        0 .. 2^64 - 1; the first row's first cell is the highest bit. None for a picture that is
        all but uniform: nothing can be said of it.
    """
    grey = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    if np.ptp(cells) < FLAT:
        return None
    bits = (cells[:, 1:] > cells[:, :-1]).flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(a: int, b: int) -> int:
    """Number of bits in which two hashes differ, 0 .. 64."""
    return (a ^ b).bit_count()


def bands(value: int, count: int) -> list[int]:
    """Cut a hash into `count` runs of bits, as even as they can be.

    Two hashes that differ in fewer than `count` bits agree in at least one whole run (pigeonhole),
    so near ones can be looked up by equality.
    """
    edges = [BITS * place // count for place in range(count + 1)]
    return [(value >> low) & ((1 << (high - low)) - 1) for low, high in pairwise(edges)]
