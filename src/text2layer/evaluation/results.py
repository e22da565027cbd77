"""What a protocol gives: figures with intervals, what is absent and why, and where it comes from.

OUT/results.json            everything below; `compare` reads it
OUT/scores.safetensors      the value of every sample, "protocol/metric" -> (N,) float64
OUT/table.md                the figures for people
OUT/sheet-PROTOCOL.png      the first samples, uncurated
OUT/plots.png               how the scores of samples are spread
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from text2layer.errors import InputError, Text2LayerError
from text2layer.evaluation.interval import Interval, bootstrap_mean
from text2layer.files import writing
from text2layer.options import require

FORMAT = 1  # of results.json
RESULTS, SCORES, TABLE = "results.json", "scores.safetensors", "table.md"
PLOT_COLUMNS, PLOT_BINS = 4, 24
PLOT_SIZE = (3.2, 2.2)  # inches of one plot

# what a reader must know of each figure: unit, and which way is better (1 up, -1 down, 0 neither)
METRICS: dict[str, tuple[str, int]] = {
    "fid_composite": ("", -1),
    "fid_foreground": ("on grey", -1),
    "fid_background": ("", -1),
    "kid_composite": ("", -1),
    "kid_foreground": ("on grey", -1),
    "kid_background": ("", -1),
    "precision": ("", 1),
    "recall": ("", 1),
    "density": ("", 1),
    "coverage": ("", 1),
    "hard_iou_judge": ("", 1),
    "soft_iou_judge": ("", 1),
    "mean_absolute_error_judge": ("", -1),
    "relevance": ("cosine", 1),
    "relevance_r1": ("text to picture", 1),
    "relevance_r5": ("text to picture", 1),
    "clip_cosine": ("", 1),
    "recomposition_max": ("levels", -1),
    "recomposition_mean": ("levels", -1),
    "halo": ("levels", -1),
    "halo_share": ("of the background", -1),
    "psnr_predicted": ("dB", 1),
    "ssim_predicted": ("", 1),
    "lpips_predicted": ("", -1),
    "mask_share": ("of the picture", 0),
    "empty_masks": ("share", -1),
    "psnr_foreground": ("dB, inside the mask", 1),
    "psnr_background": ("dB", 1),
    "psnr_hidden": ("dB, behind the object", 1),
    "psnr_composite": ("dB", 1),
    "ssim_composite": ("", 1),
    "lpips_composite": ("", -1),
    "ssim_background": ("", 1),
    "lpips_background": ("", -1),
    "hard_iou": ("", 1),
    "soft_iou": ("", 1),
    "mean_absolute_error": ("", -1),
    "sum_of_absolute_differences": ("thousand pixels", -1),
    "mean_squared_error": ("", -1),
    "gradient_error": ("thousand", -1),
    "connectivity_error": ("thousand", -1),
    "layerd_rgb_l1": ("LayerD as published", -1),
    "layerd_alpha_iou": ("LayerD as published", 1),
    "edits_rgb_l1": ("corrected", -1),
    "edits_alpha_iou": ("corrected", 1),
    **{
        f"error_{kind}_{level}": ("caption", -1 if kind == "own" else 0)
        for level in ("0.5", "0.7", "0.85", "0.95")
        for kind in ("own", "empty", "other")
    },
    "chosen_own": ("share", 1),
    "object_top1": ("is the nearest thing", 1),
    "object_top5": ("among the five nearest", 1),
    "object_top1_ceiling": ("real, decoded", 0),
    "object_top5_ceiling": ("real, decoded", 0),
    "object_top1_chance": ("drawn for another", 0),
    "object_top5_chance": ("drawn for another", 0),
    "object_top1_real": ("is the nearest real drawing", 1),
    "object_top5_real": ("among the five nearest real drawings", 1),
    "object_top1_real_ceiling": ("real, decoded", 0),
    "object_top5_real_ceiling": ("real, decoded", 0),
    "object_top1_real_chance": ("drawn for another", 0),
    "object_top5_real_chance": ("drawn for another", 0),
    "given_changed": ("largest difference, levels", -1),
}


@dataclass
class ProtocolResult:
    """Figures of one protocol.

    Attributes:
        protocol: generate, reconstruct, decompose, given-background, given-foreground, prompt or
            objects.
        version: of the protocol; figures of different versions must not be compared.
        samples: how many.
        about: model, data, prompts, seeds, networks by hash, machine, times.
        metrics: by name of METRICS.
        absent: why a metric is not there.
        per_sample: (N,) float64 of the metrics that are means over samples.
    """

    protocol: str
    version: int
    samples: int
    about: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Interval] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    per_sample: dict[str, np.ndarray] = field(default_factory=dict)

    def measure(self, name: str, figure: Any) -> None:
        """Keep what `figure()` gives, an Interval, or say why there is none."""
        try:
            self.metrics[name] = figure()
        except Text2LayerError as error:
            self.absent[name] = str(error)

    def add_means(self, per_sample: dict[str, np.ndarray]) -> None:
        """Keep the values of samples and their means with bootstrap intervals."""
        for name, values in per_sample.items():
            self.per_sample[name] = values
            self.measure(name, lambda values=values: bootstrap_mean(values))


def write_results(results: list[ProtocolResult], folder: Path) -> None:
    """Write results.json, scores.safetensors and table.md; each is whole or not there."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    scores = {
        f"{result.protocol}/{name}": np.ascontiguousarray(values, np.float64)
        for result in results
        for name, values in result.per_sample.items()
    }
    with writing(folder / SCORES) as file:
        file.write(save(scores))
    with writing(folder / RESULTS) as file:
        file.write(json.dumps(as_json(results), indent=2, allow_nan=False).encode() + b"\n")
    with writing(folder / TABLE) as file:
        file.write(table(results).encode())


def as_json(results: list[ProtocolResult]) -> dict[str, Any]:
    """results.json: the figures with infinite ends as null."""
    return {
        "format": FORMAT,
        "results": [
            {
                "protocol": result.protocol,
                "version": result.version,
                "samples": result.samples,
                "about": result.about,
                "metrics": {
                    name: {
                        "value": interval.value,
                        "low": finite_json(interval.low),
                        "high": finite_json(interval.high),
                        "samples": interval.samples,
                        "ignored": interval.ignored,
                        **({"note": interval.note} if interval.note else {}),
                    }
                    for name, interval in result.metrics.items()
                },
                "absent": result.absent,
            }
            for result in results
        ],
    }


def finite_json(value: Any) -> Any:
    """JSON values with infinities and NaN as null."""
    if isinstance(value, dict):
        return {name: finite_json(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_results(folder: Path) -> list[ProtocolResult]:
    """Read what `write_results` wrote.

    Raises:
        InputError: the folder holds no results, or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        scores = load_file(folder / SCORES)
        if stored.get("format") != FORMAT:
            raise ValueError(f"its format is {stored.get('format')!r}, this release reads {FORMAT}")
        return [_from_json(item, scores) for item in stored["results"]]
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError,
    ) as error:  # fmt: skip
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder} holds no results that can be read ({reason}); give a folder that "
            "`text2layer evaluate --out` wrote."
        ) from None


def _from_json(item: dict[str, Any], scores: dict[str, np.ndarray]) -> ProtocolResult:
    def end(value: float | None, other: float) -> float:
        return other if value is None else value

    prefix = f"{item['protocol']}/"
    return ProtocolResult(
        item["protocol"], item["version"], item["samples"], item["about"],
        {
            name: Interval(
                figure["value"], end(figure["low"], -math.inf), end(figure["high"], math.inf),
                figure["samples"], figure["ignored"], figure.get("note", ""),
            )
            for name, figure in item["metrics"].items()
        },
        item["absent"],
        {name.removeprefix(prefix): values for name, values in scores.items()
         if name.startswith(prefix)},
    )  # fmt: skip


def table(results: list[ProtocolResult]) -> str:
    """Markdown: one table for each protocol, its conditions above it."""
    lines = []
    for result in results:
        about = result.about
        lines += [f"## {result.protocol} (version {result.version})", ""]
        lines += [f"{result.samples} samples; " + "; ".join(
            f"{name} {about[name]}" for name in ("model", "size", "split", "steps", "guidance")
            if name in about), ""]  # fmt: skip
        lines += ["| figure | value | 95 % interval | samples |", "|---|---|---|---|"]
        for name in sorted(result.metrics, key=order):
            interval = result.metrics[name]
            unit, better = METRICS.get(name, ("", 0))
            arrow = {1: " (up)", -1: " (down)", 0: ""}[better]
            title = name.replace("_", " ") + (f", {unit}" if unit else "") + arrow
            lines.append(
                f"| {title} | {shown(interval.value)} | {ends(interval)} | {interval.samples} |"
            )
        lines.append("")
        for name, reason in result.absent.items():
            lines.append(f"- {name.replace('_', ' ')}: absent. {reason}")
        if result.absent:
            lines.append("")
    return "\n".join(lines)


def order(name: str) -> int:
    """Place of a metric in tables."""
    return list(METRICS).index(name) if name in METRICS else len(METRICS)


def shown(value: float) -> str:
    """Four significant digits, plain."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}"


def ends(interval: Interval) -> str:
    """Both ends, or a dash where the samples are too few."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "-"
    return f"{shown(interval.low)} to {shown(interval.high)}"


def plot_scores(results: list[ProtocolResult]) -> bytes:
    """PNG with the histograms of all per-sample scores; the line is the mean.

    Raises:
        InputError: matplotlib is not installed, or no result has scores of samples.
    """
    items = [
        (result.protocol, name, values[np.isfinite(values)])
        for result in results
        for name, values in sorted(result.per_sample.items(), key=lambda pair: order(pair[0]))
        if np.isfinite(values).any()
    ]
    if not items:
        raise InputError("There are no scores of samples to plot.")
    figure_type = _figure()
    rows = -(-len(items) // PLOT_COLUMNS)
    figure = figure_type(
        figsize=(PLOT_SIZE[0] * PLOT_COLUMNS, PLOT_SIZE[1] * rows), layout="constrained"
    )
    for place, (protocol, name, values) in enumerate(items):
        axes = figure.add_subplot(rows, PLOT_COLUMNS, place + 1)
        axes.hist(values, PLOT_BINS, color="#4878a8")
        axes.axvline(float(values.mean()), color="#c0504d")
        unit = METRICS.get(name, ("", 0))[0]
        title = f"{protocol}: {name.replace('_', ' ')}" + (f"\n{unit}" if unit else "")
        axes.set_title(title, fontsize=7)
        axes.tick_params(labelsize=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def check_plots() -> None:
    """Raise InputError unless plots can be drawn; asked before a long run, not after it."""
    _figure()


def _figure() -> Any:
    return require("matplotlib.figure", "matplotlib", "Drawing plots").Figure
