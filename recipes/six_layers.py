"""Build a picture of six layers, one at a time, and draw how it grew; uncurated: seeds are 1 to 6.

    python recipes/six_layers.py OUT.png [--file OUT.psd] [--model DIR]

Upper row: the composite after each layer. Lower row: each layer alone, the background first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from text2layer import save
from text2layer.data.contact_sheet import grid
from text2layer.pipelines import Text2LayerPipeline, released_model

FIRST = "a palm tree in a meadow"
SIZE = 256  # of the file; the model draws at its own size
ADDED = (
    ("a house", "150,90,95,95"),
    ("a car", "10,150,100,80"),
    ("a dog", "100,180,60,60"),
    ("a cloud", "top-right"),
    ("a bird", "30,20,60,50"),
)


def main() -> None:
    """Draw, add five times, save and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--file", type=Path, help="Also write the layered file.")
    parser.add_argument("--model", default=str(released_model()))
    options = parser.parse_args()
    pipe = Text2LayerPipeline.from_pretrained(options.model)

    layered = (
        pipe(FIRST, generator=torch.Generator().manual_seed(1)).layers[0].resized((SIZE, SIZE))
    )
    steps = [layered]
    for seed, (prompt, place) in enumerate(ADDED, start=2):
        generator = torch.Generator().manual_seed(seed)
        steps.append(pipe.add_layer(steps[-1], prompt, at=place, generator=generator))
    if options.file:
        options.file.parent.mkdir(parents=True, exist_ok=True)
        save(steps[-1], options.file)
    alone = [np.dstack(steps[-1].on_canvas(layer)) for layer in steps[-1].foregrounds]
    captions = [
        "1: " + FIRST + "; " + "; ".join(f"{i}: {text} ({at})" for i, (text, at) in
                                         enumerate(ADDED, start=2)),
        ", ".join([steps[-1].background_name, *(x.name for x in steps[-1].foregrounds)]),
    ]  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [[step.composite for step in steps], [steps[-1].background, *alone]]
    grid(rows, captions).save(options.out, quality=90)
    print(options.out)


if __name__ == "__main__":
    main()
