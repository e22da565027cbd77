"""The released model from a picture library in four stages, by the clock: `base` for one GPU.

    python recipes/base_model.py LIBRARY --out runs/base-gpu --minutes 10

    1  autoencoder, 128 px        learns most of what it will know, cheaply
    2  autoencoder, 256 px        at the size of the release, the rate falling to zero
    3  denoiser, 128 px           which words belong to which objects: a quarter of the tokens
    4  denoiser, 256 px           from there at the size of the release, the rate falling to zero

Each stage gets its share of the minutes that are left and starts from the averaged weights of the
one before; a stage that is done is not done again. The model ends in OUT/denoiser-256/pipeline.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.denoiser import train_denoiser
from text2layer.training.settings import read_style_weights, settings_from

STYLES = "3d render=0.3,3d icon=0.35,flat icon=0.22,clip art=0.13"
NEVER = 10**9


@dataclass(frozen=True)
class Stage:
    """One training run: its share of what is left of the time, and settings of its preset."""

    name: str
    share: float
    size: int
    overrides: dict[str, Any]


# shares of the time that is left when a stage begins; about .21 .13 .24 .42 of the whole
STAGES = (
    Stage("autoencoder-128", 0.21, 128, {}),
    Stage("autoencoder-256", 0.16, 256, {
        "batch_size": 64, "learning_rate": 4e-4, "decay_fraction": 1.0,
    }),
    Stage("denoiser-128", 0.36, 128, {}),
    Stage("denoiser-256", 1.0, 256, {
        "batch_size": 256, "learning_rate": 6e-4, "decay_fraction": 0.6, "timestep_mean": 1.4,
        "cache_samples": 100_000, "sampling_shift": 3.0,
    }),
)  # fmt: skip


def main() -> None:
    """Train every stage that is not done."""
    arguments = parse()
    deadline = time.monotonic() + 60 * arguments.minutes
    out: Path = arguments.out
    device = "cuda" if torch.cuda.is_available() else "cpu"
    library, weights = Library(arguments.library), read_style_weights(STYLES)
    sources = [
        Composer(library, split, 256, device, style_weights=weights, workers=16)
        for split in ("train", "val")
    ]
    say(f"library loaded, {device}", deadline)
    previous: Path | None = None
    for stage in STAGES:
        kind = stage.name.split("-")[0]
        folder = out / stage.name
        result = folder / ("model" if kind == "autoencoder" else "pipeline")
        if not result.is_dir():
            left = (deadline - time.monotonic()) / 60
            settings = settings_from(kind, arguments.preset, **{
                "size": stage.size, "data": str(arguments.library), "style_weights": STYLES,
                "out": str(folder), "max_minutes": left * stage.share, "timed": True,
                "steps": NEVER, "checkpoint_every": NEVER, "validate_every": 1000,
                "preview_every": NEVER, "init": str(previous or ""), **stage.overrides,
                **toy(kind, arguments.toy),
                **({"autoencoder": str(out / "autoencoder-256" / "model"),
                    "text_encoder": arguments.text_encoder} if kind == "denoiser" else {}),
                **({"compile": True} if arguments.compile else {}),
            })  # fmt: skip
            train = train_autoencoder if kind == "autoencoder" else train_denoiser
            done = train(settings, *(source.at_size(stage.size) for source in sources))
            say(f"{stage.name}: {done.step} updates of {settings.batch_size}", deadline)
        previous = None
        if stage.size == 128:
            previous = result if kind == "autoencoder" else result / "denoiser"


def toy(kind: str, wanted: bool) -> dict[str, Any]:
    """Settings with which every stage takes seconds on a CPU, to see the machinery at work."""
    if not wanted:
        return {}
    small = {"batch_size": 4, "steps": 4, "validate_every": 2}
    if kind == "denoiser":
        small |= {"cache_samples": 32, "preset": "tiny", "compile": False}
    else:
        small |= {"preset": "tiny", "lpips_weight": 0.0}
    return small


def say(text: str, deadline: float) -> None:
    """Print what was done and what is left of the time."""
    print(f"{text}; {deadline - time.monotonic():.0f} s left", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path, help="picture library (docs/data-format.md)")
    parser.add_argument("--out", type=Path, default=Path("runs/base-gpu"))
    parser.add_argument("--minutes", type=float, default=10.0, help="for everything")
    parser.add_argument("--preset", default="base-gpu", help="of both trainers")
    parser.add_argument("--text-encoder", default="minilm", help="weights name or folder")
    parser.add_argument("--compile", action="store_true", help="compile the autoencoder too")
    parser.add_argument("--toy", action="store_true", help="four updates of tiny networks a stage")
    return parser.parse_args()


if __name__ == "__main__":
    main()
