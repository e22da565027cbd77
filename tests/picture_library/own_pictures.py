"""Folders with pictures as a person has them: big, loosely cut, named after what they show."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CUT_OUTS = {
    "red-apple.png": ((214, 40, 40), "ellipse"),
    "fruit/green apple 2.png": ((46, 160, 67), "ellipse"),
    "old_keys.webp": ((120, 120, 120), "rectangle"),
}
PLACES = {"beach.jpg": (230, 200, 150), "a forest at night.png": (20, 60, 30)}


def cut_out(colour: tuple[int, int, int], shape: str, size: tuple[int, int] = (300, 420)) -> Image:
    """A shape with a wide empty margin, hidden colour of its own kind under alpha 0."""
    picture = Image.new("RGBA", size, (255, 0, 255, 0))
    box = (40, 60, size[0] - 41, size[1] - 61)
    getattr(ImageDraw.Draw(picture), shape)(box, fill=(*colour, 255))
    if shape == "rectangle":  # not a full rectangle: those are no cut-outs
        ImageDraw.Draw(picture).ellipse((100, 100, 200, 200), fill=(255, 0, 255, 0))
    return picture


def place(colour: tuple[int, int, int], size: tuple[int, int] = (900, 450)) -> Image:
    """Waves of a colour."""
    waves = np.sin(np.arange(size[0]) / 9)[None, :, None] * 20
    pixels = np.clip(np.array(colour) + np.broadcast_to(waves, (size[1], size[0], 1)), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def write_own_pictures(folder: Path) -> tuple[Path, Path]:
    """Folders `objects` and `places` below `folder`."""
    for kind, pictures in (("objects", CUT_OUTS), ("places", PLACES)):
        for name, what in pictures.items():
            file = folder / kind / name
            file.parent.mkdir(parents=True, exist_ok=True)
            (cut_out(*what) if kind == "objects" else place(what)).save(file)
    return folder / "objects", folder / "places"
