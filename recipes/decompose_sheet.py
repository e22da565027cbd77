"""Draw the sheet of docs/decompose.md: a scene, its layers, and the layers moved.

    python recipes/decompose_sheet.py OUT.png

The scene is computed here, balls on a lawn under a sky, so that no photograph is passed on; it is
taken apart by the usual networks (`text2layer weights fetch u2net migan`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from text2layer.data.contact_sheet import grid
from text2layer.pipelines import PhotoLayers

WIDTH, HEIGHT, HORIZON = 360, 260, 110
FINE = 3  # drawn so many times larger, then averaged: soft edges
# middle x, ground y, radius in pixels; colour
BALLS = (
    (95, 212, 56, (214, 60, 48)),
    (222, 190, 38, (240, 196, 52)),
    (315, 176, 24, (60, 96, 210)),
)
LIGHT = np.array([-0.5, -0.65, 0.57])


def scene() -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8."""
    random = np.random.default_rng(3)
    height, width, horizon = HEIGHT * FINE, WIDTH * FINE, HORIZON * FINE
    y, x = np.mgrid[:height, :width].astype(float)
    up = np.clip(1 - y / horizon, 0, 1)[..., None]
    picture = up * np.array([96, 150, 222]) + (1 - up) * np.array([214, 228, 240])
    hills = horizon - FINE * (14 + 10 * np.sin(x / 170) + 6 * np.sin(x / 61 + 1))
    picture[y > hills] = (128, 150, 140)
    blades = ndimage.gaussian_filter(random.normal(size=(height, width)), (4, 1))
    depth = np.clip((y - horizon) / (height - horizon), 0, 1)
    lawn = np.array([92, 140, 62]) * (0.75 + 0.3 * depth + 1.6 * blades * depth**0.5)[..., None]
    picture = np.where((y > horizon)[..., None], lawn, picture)
    for left, ground, radius, colour in BALLS:
        x0, y0, r = left * FINE, (ground - radius) * FINE, radius * FINE
        shadow = np.hypot((x - x0 - 0.45 * r) / 1.2, (y - ground * FINE + 2 * FINE) / 0.24) / r
        picture *= 1 - 0.55 * np.clip(1.6 * (1 - shadow), 0, 1)[..., None]
        across, down = (x - x0) / r, (y - y0) / r
        inside = across**2 + down**2 < 1
        normal = np.stack([across, down, np.sqrt(np.clip(1 - across**2 - down**2, 0, 1))], -1)
        lit = np.clip(normal @ LIGHT, 0, 1)[..., None]
        ball = np.array(colour) * (0.35 + 0.7 * lit) + 150 * lit**24
        picture = np.where(inside[..., None], ball, picture)
    small = picture.reshape(HEIGHT, FINE, WIDTH, FINE, 3).mean((1, 3))
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def main() -> None:
    """Draw, take apart, move, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    picture = scene()
    layered = PhotoLayers(max_layers=4, progress=True)(picture)
    cutouts = [np.dstack(layered.on_canvas(layer)) for layer in layered.foregrounds]
    steps = ((165, 2), (-60, -8), (-255, 34), (0, 0))
    moved = layered.replace(
        foregrounds=tuple(
            layer.moved(*step) for layer, step in zip(layered.foregrounds, steps, strict=False)
        )
    )
    first = [picture, *cutouts]
    second = [layered.composite, layered.mask, layered.background, moved.composite]
    captions = ["the picture, and its subjects", "composite, mask, background; layers moved"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    grid([first, second], captions).save(options.out, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
