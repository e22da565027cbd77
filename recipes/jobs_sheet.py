"""Draw one sheet of the four jobs and of `add_layer`, uncurated: seeds are 1, 2, 3, ...

    python recipes/jobs_sheet.py OUT.png [--model DIR]

What is given comes from the model's own first picture, so the sheet needs no other art. Each row:
foreground on a checkerboard, mask, background, composite.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from text2layer.data.contact_sheet import contact_sheet
from text2layer.pipelines import Text2LayerPipeline, released_model

FIRST = "a 3d icon of a cat in a meadow"


def main() -> None:
    """Generate, give parts back one after the other, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=str(released_model()))
    options = parser.parse_args()
    pipe = Text2LayerPipeline.from_pretrained(options.model)

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    first = pipe(FIRST, generator=seeded(1)).layers[0]
    rows = [
        (f"text: {FIRST}", first),
        ("background given: a red car", pipe(
            "a red car", background=first.background, generator=seeded(2)).layers[0]),
        ("foreground given: a beach at sunset", pipe(
            "a beach at sunset", foreground=first, generator=seeded(3)).layers[0]),
        (f"picture given: {FIRST}", pipe(
            FIRST, image=first, generator=seeded(4)).layers[0]),
        ("add_layer: a blue ball", pipe.add_layer(first, "a blue ball", generator=seeded(5))),
    ]  # fmt: skip
    items = [(p.foreground, p.mask, p.background, p.composite) for _, p in rows]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(items, 1, [text for text, _ in rows]).save(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
