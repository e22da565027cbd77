"""The benchmark's table: the released weights, and the method against its baselines, trained alike.

    make benchmark LIBRARY=library                     # or: python recipes/benchmark.py LIBRARY

Every step is a command of `text2layer` and is printed; what is done already is not done again, so
the same command goes on where it was stopped. Rows at 64 px, all of one budget:

    ours          composition-aware autoencoder with the picture head; one latent
    no-sup        the same without that head
    separate      SD-AE-UNet: a plain autoencoder codes F, B and m apart, three latents side by side
    flat          text to picture with the plain autoencoder, then U^2-Net, then MI-GAN

and at its own size `base`, the released model, beside `networks`, U^2-Net and MI-GAN on the same
pictures (decompose alone).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from text2layer.evaluation.results import ProtocolResult, ends, read_results, shown

COLUMNS = {
    "generate": (
        "fid_composite", "fid_foreground", "fid_background", "kid_composite", "precision", "recall",
        "coverage", "soft_iou_judge", "hard_iou_judge", "relevance", "relevance_r1", "relevance_r5",
        "recomposition_mean", "halo_share", "psnr_predicted", "ssim_predicted", "lpips_predicted",
        "mask_share", "empty_masks",
    ),
    "reconstruct": (
        "psnr_foreground", "psnr_background", "psnr_composite", "ssim_composite", "lpips_composite",
        "soft_iou", "hard_iou", "mean_absolute_error", "halo",
    ),
    "decompose": (
        "soft_iou", "hard_iou", "mean_absolute_error", "sum_of_absolute_differences",
        "gradient_error", "connectivity_error", "psnr_foreground", "psnr_background", "psnr_hidden",
        "halo", "recomposition_mean", "layerd_rgb_l1", "layerd_alpha_iou", "edits_rgb_l1",
        "edits_alpha_iou",
    ),
    "given-background": (
        "given_changed", "fid_composite", "fid_foreground", "soft_iou_judge", "relevance",
    ),
    "given-foreground": (
        "given_changed", "fid_composite", "fid_background", "soft_iou_judge", "relevance",
    ),
}  # fmt: skip

DONE = "done"  # a run that was stopped writes a model too


@dataclass(frozen=True)
class Row:
    """A model of equal budget: presets of its autoencoder and what its denoiser sees of it."""

    name: str
    autoencoder: str
    parts: str = ""


ROWS = (
    Row("ours", "bench"),
    Row("no-sup", "bench-no-sup"),
    Row("separate", "bench-plain", "layers"),
    Row("flat", "bench-plain", "image"),
)


def run(*arguments: object) -> None:
    """Run a `text2layer` command and show it; end with its exit code if it fails."""
    words = [str(argument) for argument in arguments]
    print("$ text2layer " + shlex.join(words), flush=True)
    done = subprocess.run([sys.executable, "-m", "text2layer", *words], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)


def train(row: Row, library: Path, out: Path, shorten: list[str]) -> Path:
    """Autoencoder and denoiser of a row; the folder of the model."""
    autoencoder = out / row.autoencoder
    if not (autoencoder / DONE).is_file():
        run("train", "autoencoder", "--preset", row.autoencoder, "--data", library,
            "--out", autoencoder, "--preview-every", 0, *shorten)  # fmt: skip
        (autoencoder / DONE).touch()
    model = out / row.name
    if not (model / DONE).is_file():
        parts = ["--parts", row.parts] if row.parts else []
        run("train", "denoiser", "--preset", "bench", "--data", library, "--out", model,
            "--autoencoder", autoencoder / "model", "--preview-every", 0,
            *parts, *shorten)  # fmt: skip
        (model / DONE).touch()
    return model / "pipeline"


def evaluate(name: str, model: object, protocols: str, options: argparse.Namespace) -> None:
    """Scores of one model, unless they are there."""
    folder = options.out / "scores" / name
    if (folder / "results.json").is_file():
        return
    size = ["--size", options.base_size] if name == "networks" else []
    run("evaluate", model, "--data", options.library, "--out", folder, "--protocols", protocols,
        "--samples", options.samples, "--judge-samples", options.judge_samples,
        "--cache", options.out / "references", *size)  # fmt: skip


def table(scores: Path, names: list[str]) -> str:
    """Markdown: protocols below one another, a column for each model."""
    found = {name: {r.protocol: r for r in read_results(scores / name)} for name in names}
    lines = []
    for protocol, metrics in COLUMNS.items():
        columns = [name for name in names if protocol in found[name]]
        if not columns:
            continue
        lines += [f"### {protocol}", "", "| | " + " | ".join(columns) + " |"]
        lines.append("|---|" + "---|" * len(columns))
        for metric in metrics:
            cells = [cell(found[name][protocol], metric) for name in columns]
            if any(cells):
                lines.append(f"| {metric.replace('_', ' ')} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def cell(result: ProtocolResult, metric: str) -> str:
    """Value and interval, or nothing."""
    if metric not in result.metrics:
        return ""
    figure = result.metrics[metric]
    between = ends(figure)
    return shown(figure.value) + (f" ({between})" if between != "-" else "")


def main() -> None:
    """Train, evaluate, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--judge-samples", type=int, default=32)
    parser.add_argument("--base-size", type=int, default=256, help="Pixels of the row networks.")
    parser.add_argument("--steps", type=int, default=0, help="Shorten the training, to try it out.")
    options = parser.parse_args()
    if not (options.library / "foregrounds.jsonl").is_file():
        parser.error(f"{options.library} is no picture library (docs/data-format.md)")
    shorten = ["--steps", str(options.steps)] if options.steps else []
    evaluate("networks", "networks", "decompose", options)
    evaluate("base", "base", "all", options)
    for row in ROWS:
        model = train(row, options.library, options.out, shorten)
        evaluate(row.name, model, "generate,reconstruct", options)
    names = ["base", "networks", *(row.name for row in ROWS)]
    text = table(options.out / "scores", names)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
