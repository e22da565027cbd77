"""The released model, from a picture library to its scores, by the clock.

    python recipes/base_model.py LIBRARY --out runs/base --minutes 150
    python recipes/base_model.py LIBRARY --out runs/base --minutes 10 --machine gpu

    1  autoencoder, 128 px        encoder and decoder of half the size, cheaply
    2  decoder, 256 px            the encoder frozen, a decoder of its own, the rate falling to zero
    3  denoiser, 256 px           64 tokens a picture: what things look like, most of the time
    4  denoiser, falling          from there, the rate falling to zero
    5  few steps, 256 px          an adapter for `--fast`: six steps, no guidance
    6  matting, 128 and 256 px    the masks of pictures that are taken apart
    7  scores and sheet           `text2layer evaluate` on the test split, and 24 prompts

Each stage of training gets its share of the minutes that are left and starts from the averaged
weights of the one before, the first of each kind from those of `--start`. A stage that is done is
not done again; with `--start` and its autoencoder folder given as `--autoencoder`, the first two
are left out. The denoiser draws what `recipes/drawings.py` lists, or --drawings FILE, in the small
world of its preset (docs/data-format.md). The model is OUT/denoiser-falling/pipeline, with
pipeline-fast and pipeline-matting beside it; scores are in OUT/scores and OUT/scores-fast.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.data.world import read_weights, world_of
from text2layer.pipelines.loading import folder_beside, matting_folder
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.denoiser import train_denoiser
from text2layer.training.matting import train_matting
from text2layer.training.settings import settings_from

STYLES = "3d render=0.3,3d icon=0.35,flat icon=0.22,clip art=0.13"
NEVER = 10**9
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Stage:
    """One training run.

    Attributes:
        name: its folder.
        share: of the time that is left when it begins.
        size: of its pictures, pixels.
        cpu: settings on a CPU, over those of the preset.
        gpu: settings on a GPU, likewise.
        beside: what its result is beside the model, MODEL-fast or MODEL-matting; "" if it is none.
        preset: of its trainer; "" for `base`, on a GPU `base-gpu`.
    """

    name: str
    share: float
    size: int
    cpu: dict[str, Any]
    gpu: dict[str, Any]
    beside: str = ""
    preset: str = ""


FALLING = {"decay_fraction": 0.8}
FEW_STEPS = {
    "distil_steps": 6, "distil_substeps": 2, "distil_guidance": 6.0, "learning_rate": 4e-4,
    "weight_decay": 0.0, "ema_decay": 0.995, "warmup_steps": 50, **FALLING,
}  # fmt: skip
STAGES = (
    Stage("autoencoder-128", 0.15, 128, {"decay_fraction": 0.3}, {"batch_size": 32}),
    Stage("autoencoder-256", 0.15, 256, {"freeze_encoder": True, **FALLING},
          {"freeze_encoder": True, "batch_size": 16, **FALLING}, preset="base-256"),
    Stage("denoiser-256", 0.75, 256, {"decay_fraction": 0.0}, {"batch_size": 128}),
    Stage("denoiser-falling", 0.4, 256, {"decay_fraction": 1.0},
          {"batch_size": 128, "decay_fraction": 1.0}),
    Stage("denoiser-fast", 0.4, 256,
          {"batch_size": 8, "cache_samples": 8000, **FEW_STEPS},
          {"batch_size": 64, "cache_samples": 30_000, **FEW_STEPS}, "fast"),
    Stage("matting-128", 0.45, 128, {"batch_size": 32, "decay_fraction": 0.25}, {}),
    Stage("matting-256", 1.0, 256, {"learning_rate": 7e-4, **FALLING}, FALLING, "matting"),
)  # fmt: skip


def main() -> None:
    """Train every stage that is not done, then measure."""
    arguments = parse()
    model = train_stages(arguments, time.monotonic() + 60 * arguments.minutes)
    if arguments.samples:
        measure(model, arguments.library, arguments.out, arguments.samples)


def train_stages(
    arguments: argparse.Namespace,
    deadline: float,
    stages: tuple[Stage, ...] | None = None,
    finished: Callable[[Stage, Path], None] = lambda stage, result: None,
    **overrides: Any,
) -> Path:
    """Train every stage that is not done and return the model's folder.

    Args:
        arguments: of the command line.
        deadline: of the monotonic clock.
        stages: which; all of them by default.
        finished: called with each stage and the folder of what it gave.
        overrides: settings over those of each stage.
    """
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    drawings = arguments.drawings or out / "drawings.txt"
    if arguments.drawings is None:
        choose = [sys.executable, str(HERE / "drawings.py"), str(arguments.library), str(drawings)]
        subprocess.run(choose, check=True)
    on_gpu = arguments.machine == "gpu"
    library, weights = Library(arguments.library), read_weights(STYLES, "styles")
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    wide = [
        Composer(library, split, 256, device, style_weights=weights, workers=16 if on_gpu else 4)
        for split in ("train", "val")
    ]
    world = world_of(settings_from("denoiser", "base", drawings=str(drawings)))
    small = Composer(library, "train", 256, device, workers=16 if on_gpu else 4, world=world)
    say("library loaded", deadline)
    autoencoder = arguments.autoencoder or out / "autoencoder-256" / "model"
    model = out / "denoiser-falling" / "pipeline"
    starts = {kind: arguments.start and arguments.start / kind for kind in KINDS}
    starts["matting"] = arguments.start and matting_folder(arguments.start)
    for stage in STAGES if stages is None else stages:
        kind = stage.name.split("-")[0]
        train, product = KINDS[kind]
        distils = "distil_steps" in stage.cpu
        result = out / stage.name / ("adapter" if distils else product)
        if kind == "autoencoder" and arguments.autoencoder:
            continue
        if not result.is_dir():
            settings = settings_from(kind, stage.preset or ("base-gpu" if on_gpu else "base"), **{
                "size": stage.size, "data": str(arguments.library), "out": str(out / stage.name),
                "init": str(starts[kind] or ""), "steps": NEVER, "timed": True,
                "max_minutes": (deadline - time.monotonic()) / 60 * stage.share,
                "validate_every": 1000, "preview_every": NEVER,
                **(stage.gpu if on_gpu else stage.cpu),
                **({"autoencoder": str(autoencoder), "text_encoder": arguments.text_encoder,
                    "drawings": str(drawings)} if kind == "denoiser" else {}),
                **(toy(kind) if arguments.toy else {}), **overrides,
            })  # fmt: skip
            sources = [small, small.held_out_pairings()] if kind == "denoiser" else wide
            done = train(settings, *(source.at_size(stage.size) for source in sources))
            say(f"{stage.name}: {done.step} updates of {settings.batch_size}", deadline)
        if stage.beside:
            shutil.copytree(result, folder_beside(model, stage.beside), dirs_exist_ok=True)
        else:
            starts[kind] = result / "denoiser" if kind == "denoiser" else result
        finished(stage, starts[kind] if not stage.beside else result)
    return model


KINDS = {
    "autoencoder": (train_autoencoder, "model"),
    "denoiser": (train_denoiser, "pipeline"),
    "matting": (train_matting, "matting"),
}


def measure(model: Path, library: Path, out: Path, samples: int) -> None:
    """Scores on the test split, of few steps too, and the sheet of 24 prompts."""
    evaluate = [sys.executable, "-m", "text2layer", "evaluate", str(model), "--data", str(library)]
    evaluate += ["--samples", str(samples), "--judge-samples", "32"]
    sheet = [sys.executable, str(HERE / "prompt_sheet.py"), str(out / "prompts.png")]
    subprocess.run([*evaluate, "--out", str(out / "scores")], check=True)
    fast = ["--fast", "--protocols", "generate", "--out", str(out / "scores-fast")]
    subprocess.run([*evaluate, *fast], check=True)
    subprocess.run([*sheet, "--model", str(model)], check=True)


def toy(kind: str) -> dict[str, Any]:
    """Settings with which every stage takes seconds on a CPU, to see the machinery at work."""
    small = {"batch_size": 4, "steps": 4, "validate_every": 2, "preset": "tiny", "compile": False}
    more = {"denoiser": {"cache_samples": 32}, "autoencoder": {"lpips_weight": 0.0}}
    return small | more.get(kind, {})


def say(text: str, deadline: float) -> None:
    """Print what was done and what is left of the time."""
    print(f"{text}; {deadline - time.monotonic():.0f} s left", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path, help="picture library (docs/data-format.md)")
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    parser.add_argument("--minutes", type=float, default=150.0, help="of training, all stages")
    parser.add_argument("--machine", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--start", type=Path, help="folder of a model to start from")
    parser.add_argument("--autoencoder", type=Path, help="folder of one that is trained already")
    parser.add_argument("--drawings", type=Path, help="list of cut-outs to learn")
    parser.add_argument("--text-encoder", default="minilm", help="weights name or folder")
    parser.add_argument("--samples", type=int, default=128, help="of the scores; 0 for none")
    parser.add_argument("--toy", action="store_true", help="four updates of tiny networks a stage")
    return parser.parse_args()


if __name__ == "__main__":
    main()
