"""A drawn photo whose two subjects a network of brightness finds, and a cut-out file."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage


def two_boxes(width: int = 96, height: int = 96) -> np.ndarray:
    """A large and a small bright box with soft edges before a dark, uneven wall."""
    bright = np.zeros((height, width))
    bright[height * 3 // 10 : height * 6 // 10, width // 6 : width // 2] = 1
    bright[height // 2 : height * 7 // 10, width * 7 // 10 : width * 8 // 10] = 1
    share = ndimage.gaussian_filter(bright, 1.0)[..., None]
    wall = np.random.default_rng(0).integers(20, 50, (height, width, 3))
    return np.rint(share * np.array([250, 230, 240]) + (1 - share) * wall).astype(np.uint8)


def cutout_file(folder: Path) -> Path:
    """A red disc with soft alpha, 64 x 64."""
    y, x = np.mgrid[:64, :64]
    alpha = np.clip(255 * (20 - np.hypot(x - 32, y - 32)), 0, 255).astype(np.uint8)
    red = np.broadcast_to(np.array([200, 30, 30], np.uint8), (64, 64, 3))
    Image.fromarray(np.dstack([red, alpha])).save(folder / "disc.png")
    return folder / "disc.png"
