"""Filled backgrounds with a known verdict: the true one is known, so a fill is measured against it.

Bad fills are those of PAPER.md section 5.4: an object or artefact in the filled region, or a
region not cohesive with the rest. All functions take and give (H, W, 3) uint8 and change the hole
alone, apart from what an incomplete mask leaves beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from text2layer.blend import extend_edge_colours

Inpaint = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (picture, bool hole) -> picture

# bounds on what a fill differs by from the truth, in levels of 0..255 after a blur of 1/64 side,
# and on its share of the truth's fine texture; between good and bad nothing is claimed
GOOD_COLOUR, BAD_COLOUR = 9.0, 26.0
GOOD_TEXTURE, BAD_TEXTURE = (0.6, 1.7), (0.3, 3.0)
FLAT = 2.0  # mean gradient in levels per pixel, below which the truth counts as without texture


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
        """True: as good as the truth; False: clearly not; None: nobody can say."""
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
    difference = np.abs(_blurred(fill, radius) - _blurred(truth, radius))[hole].mean()
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


def _square(radius: int) -> ImageFilter.MaxFilter:
    return ImageFilter.MaxFilter(2 * max(radius, 1) + 1)


def _blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    soft = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(soft, np.float32)


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
