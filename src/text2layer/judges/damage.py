"""Masks and fills with a known verdict: those of composed pictures, perturbed or damaged.

The ways of being bad are those of Text2Layer (arXiv 2307.09781), section 5.4:

    mask   the object is largely incomplete, the mask holds background, the object is too small
    fill   an object or an artefact in the filled region, or a region not cohesive with the rest

Good masks are not exact either but as soft and wobbly as those of a network, so that a classifier
cannot tell good from bad by their edge. A fill is measured against the true background. Functions
of fills take and give (H, W, 3) uint8 and change the hole alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from text2layer.blend import extend_edge_colours
from text2layer.masks import intersection_over_union

GOOD_IOU = 0.9  # with the exact mask, both cut at one half: what a good mask reaches
BAD_IOU = 0.75  # what a damaged mask stays below
KEPT = (0.2, 0.7)  # share of the object that an incomplete mask keeps
ADDED = (0.4, 2.0)  # background that a mask takes in / area of the object
SMALL_SHARE = 0.04  # of the picture; an object below it is too small (settings.min_object)

Inpaint = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (picture, bool hole) -> picture

# bounds on what a fill differs by from the truth, in levels of 0..255 after a blur of 1/64 side,
# and on its share of the truth's fine texture; between good and bad nothing is claimed
GOOD_COLOUR, BAD_COLOUR = 9.0, 26.0
GOOD_TEXTURE, BAD_TEXTURE = (0.6, 1.7), (0.3, 3.0)
FLAT = 2.0  # mean gradient in levels per pixel, below which the truth counts as without texture


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
    return _bytes(np.clip((soft - edge) * steep + 0.5, 0, 1) * sure * 255)


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


@dataclass(frozen=True)
class FillError:
    """How a fill differs from the true background inside the hole.

    Attributes:
        colour: mean absolute difference in levels, both blurred.
        texture: mean gradient of the fill / that of the truth; 1 where both are flat.
    """

    colour: float
    texture: float

    @property
    def verdict(self) -> bool | None:
        """True: as good as the truth; False: clearly not; None: neither is certain."""
        if self.colour >= BAD_COLOUR or not BAD_TEXTURE[0] <= self.texture <= BAD_TEXTURE[1]:
            return False
        low, high = GOOD_TEXTURE
        return True if self.colour <= GOOD_COLOUR and low <= self.texture <= high else None

    @property
    def reason(self) -> str:
        """What is wrong with a bad fill, as a reason of the labels."""
        if self.colour >= BAD_COLOUR:
            return "not cohesive"
        return "blurred" if self.texture < 1 else "artefact"


def fill_error(fill: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> FillError:
    """Measure a fill against the true background; `hole` is (H, W) bool and not empty."""
    radius = max(hole.shape) / 64
    filled, true = (_blurred(picture, radius).astype(np.float32) for picture in (fill, truth))
    difference = np.abs(filled - true)[hole].mean()
    ours, theirs = _gradient(fill)[hole].mean(), _gradient(truth)[hole].mean()
    flat = ours < FLAT and theirs < FLAT
    return FillError(float(difference), 1.0 if flat else float(ours / max(theirs, 0.5)))


def grown_hole(mask: np.ndarray, growth: int, below: int) -> np.ndarray:
    """(H, W) bool: the mask's pixels above .1 and `growth` around them, `below` under them."""
    hole = mask > 25
    grown = np.asarray(Image.fromarray(_mask_bytes(hole)).filter(_square(growth))) > 0
    lower = grown.copy()
    for _ in range(max(0, below - growth)):
        lower[1:] |= lower[:-1].copy()
    return lower


def pasted_object(
    background: np.ndarray, hole: np.ndarray, colour: np.ndarray, alpha: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """The true background with another object (`colour`, `alpha`) painted somewhere in the hole."""
    top, left, bottom, right = box_of(hole)
    scale = rng.uniform(0.35, 0.9)
    height, width = max(4, int((bottom - top) * scale)), max(4, int((right - left) * scale))
    size = (width, height)
    patch = np.asarray(Image.fromarray(colour).resize(size, Image.Resampling.BILINEAR))
    cover = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BILINEAR))
    y = top + int(rng.integers(0, bottom - top - height + 1))
    x = left + int(rng.integers(0, right - left - width + 1))
    picture = background.copy()
    place = (slice(y, y + height), slice(x, x + width))
    weight = (cover / 255.0 * rng.uniform(0.6, 1.0))[..., None] * hole[place][..., None]
    picture[place] = _bytes(patch * weight + picture[place] * (1 - weight))
    return picture


def foreign_texture(
    background: np.ndarray, hole: np.ndarray, donor: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The hole filled from another picture, with a hard or a feathered seam."""
    return mixed(background, donor, hole, feather=float(rng.choice([0.0, 1.5, 4.0])))


def smeared(background: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The hole filled by the colours of its border alone, without any texture."""
    alpha = np.where(hole, 0, 255).astype(np.uint8)
    return extend_edge_colours(background, alpha)


def seamed(background: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The true background with another brightness or tint in the hole."""
    shift = rng.choice([-1, 1]) * rng.uniform(22, 55) + rng.uniform(-12, 12, 3)
    return mixed(
        background, _bytes(background + shift), hole, feather=float(rng.choice([0.0, 1.5]))
    )


def streaked(background: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hole filled by lines drawn from its border, or by a repeating pattern over the truth."""
    picture = background.copy()
    if rng.random() < 0.5:
        period, strength = int(rng.integers(3, 10)), rng.uniform(12, 35)
        rows, columns = np.indices(hole.shape)
        pattern = np.where(((rows + columns * rng.integers(0, 2)) // period) % 2, 1.0, -1.0)
        return mixed(background, _bytes(background + strength * pattern[..., None]), hole)
    flipped = rng.random() < 0.5
    work, gap = (np.swapaxes(picture, 0, 1), hole.T) if flipped else (picture, hole)
    for column in range(1, work.shape[1]):  # copies what lies to the left, already filled
        inside = gap[:, column]
        work[inside, column] = work[inside, column - 1]
    return picture


def mixed(
    outside: np.ndarray, inside: np.ndarray, hole: np.ndarray, *, feather: float = 0.0
) -> np.ndarray:
    """`inside` within the hole and `outside` elsewhere; `feather` pixels of transition within."""
    if not feather:
        return np.where(hole[..., None], inside, outside)
    soft = Image.fromarray(_mask_bytes(hole)).filter(ImageFilter.GaussianBlur(feather))
    weight = np.clip(np.asarray(soft, np.float32) / 127.5 - 1, 0, 1)[..., None]
    return _bytes(inside * weight + outside * (1 - weight))


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the pixels that are not 0; there is one at least."""
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


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


def _blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def _square(radius: int) -> ImageFilter.MaxFilter:
    return ImageFilter.MaxFilter(2 * max(radius, 1) + 1)


def _gradient(picture: np.ndarray) -> np.ndarray:
    """(H, W) float32: steps to the right and downward, in levels, mean over colours."""
    grey = picture.astype(np.float32).mean(axis=2)
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    return 0.5 * (down + across)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _mask_bytes(hole: np.ndarray) -> np.ndarray:
    return np.where(hole, 255, 0).astype(np.uint8)
