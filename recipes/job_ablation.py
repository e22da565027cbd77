"""What the jobs cost one another, and what imperfect given parts teach: three rows of equal budget.

    python recipes/job_ablation.py LIBRARY --autoencoder runs/benchmark/bench/model

Denoisers of preset `bench` at 64 px, alike but for the shares of text / background / foreground /
image and of imperfect given parts:

    text          100 /  0 /  0 /  0 %
    mixed          55 / 10 / 10 / 25 %, a quarter of what is given imperfect
    mixed-clean    the same shares, nothing imperfect

Each is measured on the same 256 samples of unseen concepts: the squared error of its prediction,
over evenly spread noise levels, for every job, given parts clean and imperfect. What is trained
already is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from benchmark import DONE, run

from text2layer.data.known_samples import open_samples
from text2layer.pipelines import Text2LayerPipeline
from text2layer.training.denoiser import DenoiserObjective
from text2layer.training.settings import settings_from

JOBS = ("text", "background", "foreground", "image")
ROWS = {
    "text": (1.0, 0.0, 0.0, 0.0, 0.0),
    "mixed": (0.55, 0.1, 0.1, 0.25, 0.25),
    "mixed-clean": (0.55, 0.1, 0.1, 0.25, 0.0),
}


def shares(row: tuple[float, ...]) -> dict[str, float]:
    """Settings of a row."""
    return dict(zip([*(f"job_{job}" for job in JOBS), "imperfect"], row, strict=True))


def main() -> None:
    """Train, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/job_ablation"))
    options = parser.parse_args()
    for name, row in ROWS.items():
        folder = options.out / name
        if not (folder / DONE).is_file():
            chosen = [word for key, value in shares(row).items()
                      for word in ("--" + key.replace("_", "-"), value)]  # fmt: skip
            run("train", "denoiser", "--preset", "bench", "--data", options.library,
                "--autoencoder", options.autoencoder, "--out", folder, "--preview-every", 0,
                *chosen)  # fmt: skip
            (folder / DONE).touch()
    networks = {
        name: Text2LayerPipeline.from_pretrained(options.out / name / "pipeline").denoiser
        for name in ROWS
    }
    base = {"autoencoder": str(options.autoencoder), "cache_samples": 0, "caption_dropout": 0.0}
    sources = [open_samples(options.library, split, 64)
               for split in ("train", "test")]  # fmt: skip
    print("| row | " + " | ".join([*JOBS, *(f"{job}, imperfect" for job in JOBS[1:])]) + " |")
    print("|---" * 8 + "|")
    cells: dict[str, list[str]] = {name: [name] for name in ROWS}
    for imperfect in (0.0, 1.0):
        for job in JOBS[bool(imperfect) :]:
            alone = tuple(float(job == other) for other in JOBS)
            settings = settings_from("denoiser", "bench", **base, **shares((*alone, imperfect)))
            objective = DenoiserObjective(settings, *sources, torch.device("cpu"))
            for name, network in networks.items():
                cells[name].append(f"{objective.validate(network)['val_loss']:.4f}")
    for row_cells in cells.values():
        print("| " + " | ".join(row_cells) + " |")


if __name__ == "__main__":
    main()
