"""Masks with a known verdict: exact masks of composed pictures, perturbed a little or damaged.

The ways of being bad are those of PAPER.md section 5.4: the object is largely incomplete, the mask
holds background, the object is too small. The good ones are not exact either but as soft and
wobbly as those of a network, so that a classifier cannot tell good from bad by their edge.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

GOOD_IOU = 0.9  # with the exact mask, both cut at one half: what a good mask reaches
BAD_IOU = 0.75  # what a damaged mask stays below
KEPT = (0.2, 0.7)  # share of the object that an incomplete mask keeps
ADDED = (0.4, 2.0)  # background that a mask takes in / area of the object
SMALL_SHARE = 0.04  # of the picture; an object below it is too small (settings.min_object)


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two uint8 masks (H, W), both cut at one half; 1 where both are empty."""
    one, other = first > 127, second > 127
    union = int(np.count_nonzero(one | other))
    return float(np.count_nonzero(one & other)) / union if union else 1.0


def wobble(mask: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A mask like a network's: soft, its edge moved in and out, not quite sure of itself.

    Args:
        mask: (H, W) uint8.
        rng: draws how.
        strength: 0 leaves the edge where it is.
    """
    height, width = mask.shape
    blur = rng.uniform(0.6, 1.2 + strength) * max(1.0, max(height, width) / 256)
    soft = _blurred(mask, blur).astype(np.float32) / 255
    edge = 0.5 + 0.35 * strength * (smooth_noise((height, width), rng, cells=10) - 0.5)
    steep = rng.uniform(1.5, 5.0)
    sure = rng.uniform(0.9, 1.0)
    return _to_bytes(np.clip((soft - edge) * steep + 0.5, 0, 1) * sure)


def good_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A perturbed mask whose IoU with the exact one is at least `GOOD_IOU`."""
    for strength in (1.0, 0.5, 0.25, 0.0):
        found = wobble(mask, rng, strength)
        if intersection_over_union(found, mask) >= GOOD_IOU:
            return found
    return mask.copy()


def incomplete_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask that lost a connected part of the object: all on one side of a wavy line, or blobs."""
    field = _direction(mask.shape, rng) + rng.choice([0.3, 1.5]) * smooth_noise(mask.shape, rng, 5)
    inside = mask > 127
    if not inside.any():
        return mask.copy()
    limit = np.quantile(field[inside], rng.uniform(*KEPT))
    kept = np.where(field <= limit, mask, 0).astype(np.uint8)
    return wobble(kept, rng, 0.5)


def spilled_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask that holds background: a fat border, a patch on one side, blobs, or the whole box."""
    outside = mask <= 127
    area = int(mask.size - np.count_nonzero(outside))
    wanted = min(int(area * rng.uniform(*ADDED)), int(0.9 * np.count_nonzero(outside)))
    if not area or not wanted:
        return mask.copy()
    near = _blurred(mask, max(mask.shape) / 8).astype(np.float32) / 255
    noise = smooth_noise(mask.shape, rng, 6)
    way = int(rng.integers(4))
    if way == 0:
        field = near
    elif way == 1:
        field = near + 0.4 * _direction(mask.shape, rng)
    elif way == 2:
        field = 0.5 * near + noise
    else:
        field = 2.0 * _box(mask) + 0.2 * near
    limit = np.partition(field[outside], -wanted)[-wanted]
    sure = rng.uniform(0.5, 1.0)  # a network is less sure of what it took in by mistake
    added = np.where(outside & (field >= limit), round(255 * sure), 0).astype(np.uint8)
    return wobble(np.maximum(mask, added), rng, 0.5)


def stray_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask of some place beside the object, as a network gives that found nothing."""
    field = smooth_noise(mask.shape, rng, 4) - 2.0 * (_blurred(mask, max(mask.shape) / 40) > 25)
    limit = np.quantile(field, 1 - rng.uniform(0.05, 0.25))
    return wobble(np.where(field >= limit, 255, 0).astype(np.uint8), rng)


def smooth_noise(shape: tuple[int, int], rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth random field (H, W) float32 in [0, 1] with about `cells` hills across."""
    grid = rng.random((cells + 1, cells + 1), dtype=np.float32)
    picture = Image.fromarray(grid, "F").resize(shape[::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(picture), 0, 1)


def _direction(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A field (H, W) that rises from 0 to about 1 across the picture in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.linspace(-0.5, 0.5, shape[0]), np.linspace(-0.5, 0.5, shape[1])
    field: np.ndarray = 0.5 + np.sin(angle) * rows[:, None] + np.cos(angle) * columns[None, :]
    return field.astype(np.float32)


def _box(mask: np.ndarray) -> np.ndarray:
    """1 inside the bounding box of the object, 0 outside."""
    rows, columns = np.nonzero(mask > 127)
    box = np.zeros(mask.shape, np.float32)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    return box


def _blurred(mask: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(radius)))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)
