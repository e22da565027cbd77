"""Draw the sheet of 24 prompts, uncurated: every prompt once, seed = its number.

    python recipes/prompt_sheet.py OUT.png [--model DIR] [--fast] [--prompts recipes/prompts.txt]

Each cell shows foreground on a checkerboard, mask, background and composite.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from text2layer.data.contact_sheet import contact_sheet
from text2layer.parts import Parts
from text2layer.pipelines import Text2LayerPipeline, released_model

HERE = Path(__file__).parent


def read_prompts(path: Path) -> list[str]:
    """Return the lines of a file that are neither empty nor comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    """Generate every prompt with its own seed and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=str(released_model()))
    parser.add_argument("--fast", action="store_true", help="with the adapter for few steps")
    parser.add_argument("--prompts", type=Path, default=HERE / "prompts.txt")
    parser.add_argument("--columns", type=int, default=3)
    options = parser.parse_args()
    prompts = read_prompts(options.prompts)
    pipe = Text2LayerPipeline.from_pretrained(options.model, fast=options.fast)
    pictures = []
    for seed, prompt in enumerate(prompts, start=1):
        pictures += pipe(prompt, generator=torch.Generator().manual_seed(seed)).layers
    items = [Parts.from_layered([picture]) for picture in pictures]
    captions = [f"{seed}: {prompt}" for seed, prompt in enumerate(prompts, start=1)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(items, options.columns, captions).save(options.out, quality=90)
    print(options.out)


if __name__ == "__main__":
    main()
