"""Photos that the toy stages understand: a bright shape on a dark ground, each one different."""

from pathlib import Path

import numpy as np
from PIL import Image

WORDS = ("red", "green", "blue", "old", "small", "happy", "wet")


def draw_photo(number: int, side: int = 48) -> np.ndarray:
    """(side, side, 3) uint8: noise and a disc of random place; every fifth has none."""
    rng = np.random.default_rng(number)
    ground = rng.integers(0, 80, (6, 6, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(ground).resize((side, side), Image.Resampling.BICUBIC))
    picture = picture.copy()
    if number % 5 != 4:
        rows, columns = np.indices((side, side))
        top, left = rng.integers(side // 4, 3 * side // 4, 2)
        disc = (rows - top) ** 2 + (columns - left) ** 2 < (side // 5) ** 2
        picture[disc] = rng.integers(180, 256, 3, dtype=np.uint8)
    return picture


def write_photos(folder: Path, count: int, side: int = 48) -> Path:
    """A folder of PNG files with captions in text files next to them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(draw_photo(number, side)).save(folder / f"photo{number:04d}.png")
        caption = f"a {WORDS[number % len(WORDS)]} disc number {'one' if number % 2 else 'two'}"
        (folder / f"photo{number:04d}.txt").write_text(caption, encoding="utf-8")
    return folder


def shards_in(folder: Path) -> dict[str, bytes]:
    """The bytes of a folder's shards by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def photo_refs(folder: Path) -> list:
    """References to the photos of `write_photos`, without a source or an index."""
    from text2layer.photos.photo import PhotoRef

    return [
        PhotoRef(
            key=path.stem,
            location=str(path),
            caption=path.with_suffix(".txt").read_text(encoding="utf-8"),
            source="toy photos",
            license="CC0-1.0",
            author="nobody",
        )
        for path in sorted(folder.glob("*.png"))
    ]
