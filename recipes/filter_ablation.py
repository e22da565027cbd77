"""What the builder's quality filter is worth: to the data, and to a model trained on it.

    python recipes/benchmark.py library               # trains the autoencoder that is used here
    python recipes/filter_ablation.py library

Thousands of photographs would be the data to ask. This asks pictures composed from the training
split of a library, for two reasons: there are enough of them, and their layers are known, so that
masks and fills of the builder can be measured. Steps, each a folder of `--out` that is not made
again, so that the same command goes on where it was stopped:

    composed    layered samples with their truth
    photos      the same as flat PNG files with captions, which is all that the builder sees
    build       `dataset build` with the filter off: every photo is kept, with its scores
    filtered    at random of what passes the rules and both classifiers at their default bounds
    unfiltered  as many, at random of all
    truth       the photos of `unfiltered` with the layers that they were composed of: what perfect
                masks and fills would give

Then a `bench` denoiser for each set and seed of training, with equal updates on one autoencoder,
and `evaluate` on unseen concepts as in `recipes/benchmark.py`. Cost on one Zen 3 core: 2 seconds a
picture for the build; about 5 minutes for a denoiser (600 updates) and 6 for its scores.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from benchmark import DONE, cell, run
from filter_share import passes_rules
from PIL import Image

from text2layer.data.schema import Sample
from text2layer.data.shards import ShardReader, ShardWriter
from text2layer.evaluation.compare import compare, comparison_table
from text2layer.evaluation.interval import bootstrap_mean
from text2layer.evaluation.mask_overlap import OPAQUE, soft_iou
from text2layer.evaluation.picture_similarity import psnr, squared_error
from text2layer.evaluation.results import ends, read_results, shown
from text2layer.photos.settings import BuildSettings
from text2layer.tensors import mask_to_tensor

SIDE = 160  # pixels of the pictures; the model is trained at 64
SALIENCY = "u2netp"  # a third of the time of the default u2net
CACHED = 1000  # draws that are encoded before training; sets of a few hundred need no more
VALIDATION = 64  # samples of the library's split val, the same for every set
COMPOSE_SEED, CHOICE_SEED = 7, 0
BOUNDS = (0.9, 0.75)  # soft IoU of a mask with the truth: shares above are shown
ALL_GATES = 3
SETS = ("unfiltered", "filtered", "truth")
FIGURES = (
    "fid_composite", "fid_foreground", "fid_background", "kid_composite", "coverage",
    "soft_iou_judge", "relevance", "relevance_r5", "halo_share", "psnr_predicted", "mask_share",
    "empty_masks",
)  # fmt: skip


def write_photos(composed: Path, photos: Path) -> None:
    """The composites of the training split as PNG files, and captions.tsv beside them."""
    photos.mkdir(exist_ok=True)
    lines = ["file\tcaption"]
    for sample in ShardReader(composed, "train"):
        Image.fromarray(sample.image).save(photos / f"{sample.key}.png")
        lines.append(f"{sample.key}.png\t{sample.text}")
    (photos / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def build(out: Path, workers: int) -> None:
    """The photos, and what the builder makes of them."""
    table = out / "photos" / "captions.tsv"
    if not table.is_file():
        write_photos(out / "composed", table.parent)
    if not (out / "build" / DONE).is_file():
        run("dataset", "build", table.parent, out / "build", "--captions", table, "--size", SIDE,
            "--min-size", 64, "--saliency", SALIENCY, "--no-quality-filter", "--second-saliency",
            "", "--photos-per-shard", 16, "--workers", workers)  # fmt: skip
        (out / "build" / DONE).touch()


def gates_passed(sample: Sample) -> int:
    """How many of the filter's three gates, rules, mask and fill classifier, let a sample by."""
    scores, bounds = sample.metadata.scores, BuildSettings()
    gates = (
        passes_rules(sample),
        scores["mask_quality"] >= bounds.mask_quality,
        scores["fill_quality"] >= bounds.fill_quality,
    )
    return gates.index(False) if False in gates else ALL_GATES


def choose(passed: dict[str, int], most: int) -> dict[str, list[str]]:
    """Keys of each set, all of one size: `most`, or as many as pass the filter.

    Args:
        passed: how many gates each sample of the build passed, by key.
        most: samples of a set.
    """
    good = [key for key, gates in passed.items() if gates == ALL_GATES]
    count, rng = min(most, len(good)), random.Random(CHOICE_SEED)
    unfiltered = rng.sample(list(passed), count)
    return {
        "unfiltered": unfiltered,
        "filtered": rng.sample(good, count),
        "truth": [composed_key(key) for key in unfiltered],
    }


def composed_key(key: str) -> str:
    """The composed sample of a built one, whose key is the photo's name and a hash of its place."""
    return key.rpartition("-")[0]


def write_set(out: Path, name: str, keys: list[str]) -> None:
    """Shards of a set, composed ones as split val, and a sheet to look at."""
    folder, wanted = out / name, set(keys)
    if any(folder.glob("val-*.tar")):  # written last
        return
    shutil.rmtree(folder, ignore_errors=True)
    source = out / ("composed" if name == "truth" else "build")
    with ShardWriter(folder, prefix="train", lossless=name == "truth") as writer:
        for sample in ShardReader(source):
            if sample.key in wanted:
                writer.write(sample)
    with ShardWriter(folder, prefix="val") as writer:
        for sample in ShardReader(out / "composed", "val"):
            writer.write(sample)
    run("dataset", "view", folder, "-o", out / f"{name}.png", "--split", "train",
        "--count", 24, "--columns", 4)  # fmt: skip


def errors(made: Sample, true: Sample) -> tuple[float, float, float]:
    """Soft IoU of the mask, PSNR (dB) of the hidden background, share of the picture masked."""
    mask, known = mask_to_tensor(made.mask), mask_to_tensor(true.mask)
    pictures = [torch.from_numpy(one.background).permute(2, 0, 1)[None] for one in (made, true)]
    hidden = psnr(squared_error(*pictures, known > OPAQUE))
    return soft_iou(mask, known).item(), hidden.item(), mask.mean().item()


def show_sets(out: Path, sets: dict[str, list[str]]) -> None:
    """Print what masks and fills of samples of the build are worth, with intervals."""
    truth = {sample.key: sample for sample in ShardReader(out / "composed", "train")}
    measured = {
        sample.key: errors(sample, truth[composed_key(sample.key)])
        for sample in ShardReader(out / "build")
    }
    above = " | ".join(f"above {bound:g}" for bound in BOUNDS)
    print(f"\n| | samples | soft IoU | {above} | hidden background, dB | mask share |")
    print("|---|" + "---|" * (4 + len(BOUNDS)))
    for name, keys in sets.items():
        columns = np.array([measured[key] for key in keys]).T
        shares = " | ".join(f"{(columns[0] > bound).mean():.0%}" for bound in BOUNDS)
        overlap, hidden, share = (
            f"{shown(mean.value)} ({ends(mean)})" for mean in map(bootstrap_mean, columns)
        )
        print(f"| {name} | {len(keys)} | {overlap} | {shares} | {hidden} | {share} |", flush=True)


def train_and_measure(name: str, seed: int, options: argparse.Namespace) -> Path:
    """A denoiser of one set and seed, and its scores; the folder of the scores."""
    out = options.out
    model, scores = out / f"{name}-{seed}", out / "scores" / f"{name}-{seed}"
    if not (model / DONE).is_file():
        shorten = ["--steps", options.steps] if options.steps else []
        run("train", "denoiser", "--preset", "bench", "--data", out / name, "--out", model,
            "--autoencoder", options.autoencoder, "--preview-every", 0, "--cache-samples", CACHED,
            "--seed", seed, *shorten)  # fmt: skip
        (model / DONE).touch()
    if not (scores / "results.json").is_file():
        run("evaluate", model / "pipeline", "--data", options.library, "--out", scores,
            "--protocols", "generate", "--samples", options.samples, "--judge-samples",
            options.judge_samples, "--cache", options.cache)  # fmt: skip
    return scores


def show_scores(scores: dict[tuple[str, int], Path], seeds: list[int]) -> None:
    """Print the figures of all runs, then what `compare` says of filtered and unfiltered."""
    found = {row: read_results(folder)[0] for row, folder in scores.items()}
    print("\n| | " + " | ".join(f"{name}, seed {seed}" for name, seed in found) + " |")
    print("|---|" + "---|" * len(found))
    for figure in FIGURES:
        cells = [cell(result, figure) for result in found.values()]
        print(f"| {figure.replace('_', ' ')} | " + " | ".join(cells) + " |")
    for seed in seeds:
        if not {("unfiltered", seed), ("filtered", seed)} <= set(found):
            continue
        first, second = (found[name, seed] for name in ("unfiltered", "filtered"))
        print("\n" + comparison_table(
            compare([first], [second]), (f"unfiltered, seed {seed}", f"filtered, seed {seed}")
        ))  # fmt: skip


def main() -> None:
    """Compose, build, choose, train, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/filter_ablation"))
    parser.add_argument("--autoencoder", type=Path, default=Path("runs/benchmark/bench/model"))
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmark/references"))
    parser.add_argument("--pictures", type=int, default=1200, help="That the builder sees.")
    parser.add_argument("--set-size", type=int, default=400, help="Most samples of a set.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="Of training.")
    parser.add_argument("--sets", choices=SETS, nargs="+", default=SETS, help="To train on.")
    parser.add_argument("--workers", type=int, default=1, help="Processes of the builder.")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--judge-samples", type=int, default=32)
    parser.add_argument("--steps", type=int, default=0, help="Shorten the training, to try it out.")
    options = parser.parse_args()
    out = options.out
    if not (options.library / "foregrounds.jsonl").is_file():
        parser.error(f"{options.library} is no picture library (docs/data-format.md)")
    if not (out / "composed" / "summary.json").is_file():
        run("dataset", "compose", options.library, out / "composed", "--count", options.pictures,
            "--val-count", VALIDATION, "--size", SIDE, "--seed", COMPOSE_SEED)  # fmt: skip
    build(out, options.workers)
    passed = {sample.key: gates_passed(sample) for sample in ShardReader(out / "build")}
    counts = [sum(gates >= least for gates in passed.values()) for least in range(ALL_GATES + 1)]
    print("built {}, pass the rules {}, the mask classifier too {}, all {}".format(*counts))
    chosen = choose(passed, options.set_size)
    for name, keys in chosen.items():
        write_set(out, name, keys)
    built = {
        "all": list(passed),
        "rejected": [key for key, gates in passed.items() if gates < ALL_GATES],
    }
    show_sets(out, built | {name: chosen[name] for name in ("unfiltered", "filtered")})
    scores = {
        (name, seed): train_and_measure(name, seed, options)
        for seed in options.seeds
        for name in options.sets
    }
    show_scores(scores, options.seeds)


if __name__ == "__main__":
    main()
