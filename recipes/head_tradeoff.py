"""What the picture head costs the layers, and what balances it: autoencoders of one budget.

    python recipes/head_tradeoff.py LIBRARY
    python recipes/head_tradeoff.py LIBRARY --steps 350 --variants no-head head both --seeds 0 1

Autoencoders of preset `bench` at 64 px, alike but for the options of VARIANTS, each measured with
protocol `reconstruct` on the same samples of unseen concepts. What is done already is not done
again, so the same command goes on where it was stopped. Printed is a table of means over samples
and seeds, each with its differences to the variants without and with the head; bold are those that
the choice of samples does not explain (paired bootstrap, 95 %). Seeds of training differ too: from
one seed, a bold difference may still be that seed's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmark import DONE, run

from text2layer.evaluation.compare import check_comparable, paired_difference
from text2layer.evaluation.results import read_results

REFERENCES = ("no-head", "head")
VARIANTS: dict[str, tuple[object, ...]] = {
    "no-head": ("--no-auxiliary-head",),
    "head": (),
    "image-0.25": ("--image-weight", 0.25),
    "mask-block": ("--mask-block",),
    "both": ("--image-weight", 0.25, "--mask-block"),
    "mask-2": ("--mask-weight", 2),
    "no-head-mask-block": ("--no-auxiliary-head", "--mask-block"),  # is it but the added weights?
}
FIGURES = {  # title and decimals
    "psnr_foreground": ("F, dB", 2),
    "psnr_background": ("B, dB", 2),
    "psnr_composite": ("composite, dB", 2),
    "soft_iou": ("mask, soft IoU", 3),
    "mean_absolute_error": ("mask, MAE", 4),
    "lpips_composite": ("composite, LPIPS", 3),
}


def train_and_measure(name: str, seed: int, options: argparse.Namespace) -> None:
    """An autoencoder of one variant and seed, and its scores, unless they are there."""
    folder = options.out / f"{name}-{seed}"
    if not (folder / DONE).is_file():
        steps = ["--steps", options.steps] if options.steps else []
        run("train", "autoencoder", "--preset", "bench", "--data", options.library,
            "--out", folder, "--seed", seed, "--preview-every", 0,
            *VARIANTS[name], *steps)  # fmt: skip
        (folder / DONE).touch()
    scores = scores_folder(name, seed, options)
    if not (scores / "results.json").is_file():
        run("evaluate", folder / "model", "--data", options.library, "--out", scores,
            "--protocols", "reconstruct", "--samples", options.samples, "--size", 64)  # fmt: skip


def scores_folder(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Where the scores of a variant and seed lie."""
    return Path(options.out) / "scores" / f"{name}-{seed}"


def table(options: argparse.Namespace) -> str:
    """Markdown: a row for each variant, a column for each figure."""
    found = {
        name: [read_results(scores_folder(name, seed, options))[0] for seed in options.seeds]
        for name in options.variants
    }
    first = found[options.variants[0]][0]
    for results in found.values():
        for result in results:
            check_comparable(first, result)
    figures = [name for name in FIGURES if name in first.per_sample]
    scores = {
        name: {key: np.mean([one.per_sample[key] for one in results], axis=0) for key in figures}
        for name, results in found.items()
    }
    references = [name for name in REFERENCES if name in scores]
    against = " and ".join(references)
    lines = [f"{first.samples} samples, seeds {options.seeds}; (difference to {against})", ""]
    lines.append("| | " + " | ".join(FIGURES[key][0] for key in figures) + " |")
    lines.append("|---" * (1 + len(figures)) + "|")
    for name, values in scores.items():
        cells = [
            cell(values[key], [scores[other][key] for other in references if other != name], digits)
            for key, (_, digits) in FIGURES.items()
            if key in figures
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(values: np.ndarray, references: list[np.ndarray], digits: int) -> str:
    """Mean of (N,) scores and its differences to those of the references, clear ones bold."""
    words = []
    for reference in references:
        difference = paired_difference(reference, values)
        word = f"{difference.value:+.{digits}f}"
        words.append(f"**{word}**" if difference.low > 0 or difference.high < 0 else word)
    mean = f"{np.nanmean(values):.{digits}f}"
    return f"{mean} ({', '.join(words)})" if words else mean


def main() -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/tradeoff"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--steps", type=int, default=0, help="Updates; 0 for the preset's 700.")
    options = parser.parse_args()
    if not (options.library / "foregrounds.jsonl").is_file():
        parser.error(f"{options.library} is no picture library (docs/data-format.md)")
    for seed in options.seeds:
        for name in options.variants:
            train_and_measure(name, seed, options)
    print(table(options))


if __name__ == "__main__":
    main()
