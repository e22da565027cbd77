"""Draw a sheet of the five jobs and of `add_layer`, eight examples each; uncurated: seeds 1 to 8.

    python recipes/jobs_sheet.py OUT.png [--model DIR]

What is given are pictures that the model drew from text, so the sheet needs no other art. Each
example: foreground on a checkerboard, background, mask, composite.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from text2layer.data.contact_sheet import contact_sheet
from text2layer.parts import Parts
from text2layer.pipelines import Text2LayerPipeline, released_model

COLUMNS = 4
OBJECTS = (
    "a red apple", "a 3d icon of a cat", "a car", "a fish", "a 3d icon of a house", "a guitar",
    "a dog", "an umbrella",
)  # fmt: skip
GROUNDS = (
    "a snowy mountain", "a meadow", "a desert at sunset", "the sea",
    "a night sky", "a beach", "a forest", "a city street",
)  # fmt: skip


def main() -> None:
    """Generate, give parts back, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=str(released_model()))
    options = parser.parse_args()
    pipe = Text2LayerPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    rows: dict[str, list] = {
        job: [] for job in ("text", "background", "foreground", "image", "reference", "add")
    }
    for number in range(8):
        seed, other = number + 1, (number + 3) % 8
        whole = f"{OBJECTS[number]} in front of {GROUNDS[number]}"
        first = pipe(whole, generator=seeded(seed)).layers[0]
        rows["text"].append((whole, first))
        made = pipe(OBJECTS[other], background=first.background, generator=seeded(seed)).layers[0]
        rows["background"].append((OBJECTS[other], made))
        made = pipe(GROUNDS[other], foreground=first, generator=seeded(seed)).layers[0]
        rows["foreground"].append((GROUNDS[other], made))
        made = pipe(whole, image=first, generator=seeded(seed)).layers[0]
        rows["image"].append((whole, made))
        again = f"{OBJECTS[number]} in front of {GROUNDS[other]}"
        made = pipe(again, reference=first, generator=seeded(seed)).layers[0]
        rows["reference"].append((again, made))
        made = pipe.add_layer(first, OBJECTS[other], at="left", generator=seeded(seed))
        rows["add"].append((f"{OBJECTS[other]}, at the left", made))
    items, captions = [], []
    for job, examples in rows.items():
        for seed, (text, layered) in enumerate(examples, start=1):
            items.append(Parts.from_layered([layered]))
            captions.append(f"{job}, seed {seed}: {text}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(items, COLUMNS, captions).save(options.out, quality=90)
    print(options.out)


def seeded(seed: int) -> torch.Generator:
    """A generator that starts from `seed`."""
    return torch.Generator().manual_seed(seed)


if __name__ == "__main__":
    main()
