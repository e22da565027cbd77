"""Samples per second and core of the composer, as a ratio to composing with Pillow.

    python benchmarks/composer.py LIBRARY [--size 256] [--batches 8]

The reference is what a loader does without tensors: decode the two files with Pillow, resize,
paste, convert; one sample at a time, one thread, in the same run.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from text2layer.data.composer import Composer
from text2layer.data.library import Library

BATCH = 32


def pillow_sample(library: Library, size: int, rng: random.Random) -> np.ndarray:
    """Decode, place and composite one random sample with Pillow."""
    foreground = rng.choice(library.foregrounds_of("train"))
    background = rng.choice(library.backgrounds_of("train"))
    canvas = Image.open(Path(library.root) / background.file).convert("RGB")
    side = min(canvas.size)
    left = rng.randrange(canvas.width - side + 1)
    canvas = canvas.crop((left, 0, left + side, side)).resize((size, size))
    cutout = Image.open(Path(library.root) / foreground.file).convert("RGBA")
    scale = rng.uniform(0.5, 0.85) * size / max(cutout.size)
    cutout = cutout.resize([max(1, round(s * scale)) for s in cutout.size])
    layer = Image.new("RGBA", (size, size))
    place = [rng.randrange(size - s + 1) for s in cutout.size]
    layer.paste(cutout, (place[0], place[1]))
    canvas.paste(layer, (0, 0), layer)
    return np.stack([np.asarray(canvas), np.asarray(layer.convert("RGB"))])


def main() -> None:
    """Measure both in one thread and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    library = Library(Path(options.library))
    composer = Composer(library, "train", options.size, workers=1)
    generator = torch.Generator().manual_seed(0)
    composer.compose(BATCH, generator)
    begun = time.perf_counter()
    for _ in range(options.batches):
        composer.compose(BATCH, generator)
    ours = options.batches * BATCH / (time.perf_counter() - begun)
    rng = random.Random(0)
    count = options.batches * BATCH
    begun = time.perf_counter()
    for _ in range(count):
        pillow_sample(library, options.size, rng)
    reference = count / (time.perf_counter() - begun)
    print(f"{options.size} px, one thread, {count} samples each, seed 0")
    print(f"{'reference: Pillow, one at a time':36}{reference:8.1f} samples/s   ratio 1.00")
    print(f"{'Composer, batches of ' + str(BATCH):36}{ours:8.1f} samples/s   "
          f"ratio {ours / reference:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
