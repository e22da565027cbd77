"""A real, small picture library: shapes in several colours before gradients."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (240, 200, 30),
    "purple": (128, 50, 170),
    "orange": (240, 130, 20),
}
SHAPES = {  # name -> (split, what is drawn); a concept lies in one split only
    "circle": "train",
    "square": "train",
    "ring": "train",
    "triangle": "val",
    "diamond": "test",
}
STYLES = ("flat icon", "3d render")
SCENES = (("hills", "day"), ("sea", "sunset"), ("forest", "night"), ("desert", "day"))
SIZES = ((96, 96), (64, 96), (96, 48))
SPLITS = ("train", "val", "train", "test")


def build_toy_library(path: Path, n_foregrounds: int = 24, n_backgrounds: int = 8) -> Path:
    """Write a library in the format of docs/data-format.md; the same arguments, the same bytes."""
    (path / "foregrounds").mkdir(parents=True)
    (path / "backgrounds").mkdir()
    foregrounds = [_foreground(path, number) for number in range(n_foregrounds)]
    backgrounds = [_background(path, number) for number in range(n_backgrounds)]
    write_lines(path / "foregrounds.jsonl", foregrounds)
    write_lines(path / "backgrounds.jsonl", backgrounds)
    (path / "ATTRIBUTION.md").write_text("- Toy Maker: every shape (CC0-1.0)\n", encoding="utf-8")
    return path


def write_lines(path: Path, records: list[dict[str, object]]) -> None:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _foreground(path: Path, number: int) -> dict[str, object]:
    shape = list(SHAPES)[number % len(SHAPES)]
    colour = list(COLOURS)[number // len(SHAPES) % len(COLOURS)]
    style = STYLES[number % len(STYLES)]
    name = f"{shape}-{number:03d}"
    file = f"foregrounds/{name}.webp"
    pixels = _cut_out(shape, COLOURS[colour], SIZES[number % len(SIZES)], style)
    Image.fromarray(pixels).save(path / file, lossless=True, exact=True)
    record: dict[str, object] = {
        "id": name,
        "file": file,
        "caption": f"a {shape}",
        "tags": ["shape"],
        "style": style,
        "concept": shape,
        "color": colour,
        "group": f"toy:{shape}",
        "license": "CC0-1.0",
        "author": "Toy Maker",
        "source": "toy==1.0",
        "source_file": f"{name}.svg",
        "split": SHAPES[shape],
    }
    return record | ({"view": {"azimuth": 30, "elevation": 18}} if style == "3d render" else {})


def _cut_out(
    shape: str, colour: tuple[int, int, int], size: tuple[int, int], style: str
) -> np.ndarray:
    """(h, w, 4) uint8 with a soft edge; a render is lit from above."""
    wide, high = size[0] * 4, size[1] * 4
    mask = Image.new("L", (wide, high))
    draw = ImageDraw.Draw(mask)
    box = (4, 4, wide - 5, high - 5)
    if shape in ("circle", "ring"):
        draw.ellipse(box, fill=255)
        if shape == "ring":
            draw.ellipse((wide // 4, high // 4, wide * 3 // 4, high * 3 // 4), fill=0)
    elif shape == "square":
        draw.rectangle(box, fill=255)
    elif shape == "triangle":
        draw.polygon([(wide // 2, 4), (wide - 5, high - 5), (4, high - 5)], fill=255)
    else:
        draw.polygon(
            [(wide // 2, 4), (wide - 5, high // 2), (wide // 2, high - 5), (4, high // 2)], fill=255
        )
    alpha = np.asarray(mask.resize(size, Image.Resampling.BOX))
    pixels = np.empty((size[1], size[0], 4), np.uint8)
    light = np.linspace(1.1, 0.6, size[1])[:, None, None] if style == "3d render" else 1.0
    pixels[..., :3] = np.clip(np.array(colour) * light, 0, 255)
    pixels[..., 3] = alpha
    return pixels


def _background(path: Path, number: int) -> dict[str, object]:
    scene, time = SCENES[number % len(SCENES)]
    wide = (192, 170)[number % 2]
    rng = np.random.default_rng(number)
    top, bottom = rng.integers(0, 256, (2, 3))
    rows = np.linspace(0, 1, 96)[:, None, None]
    waves = 12 * np.sin(np.arange(wide) / (5 + number))[None, :, None]
    pixels = np.clip(top * (1 - rows) + bottom * rows + waves, 0, 255).astype(np.uint8)
    file = f"backgrounds/place-{number:03d}.jpg"
    Image.fromarray(pixels).save(path / file, quality=90)
    return {
        "id": f"place-{number:03d}",
        "file": file,
        "caption": f"soft {scene} under a plain sky",
        "scene": scene,
        "time": time,
        "has_subject": False,
        "group": f"place-{number:03d}",
        "license": "CC0-1.0",
        "author": "Toy Maker",
        "source": "toy==1.0",
        "source_file": f"place-{number:03d}.png",
        "width": wide,
        "height": 96,
        "split": SPLITS[number % len(SPLITS)],
    }
