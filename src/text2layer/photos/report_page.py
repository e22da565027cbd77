"""Draws `report.html`: one file with its plots and example strips inside, no script, no network."""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from text2layer.data.build.examples import KEPT
from text2layer.errors import InputError

TEMPLATE = "report.html.jinja"
INK, BAR, GRID = "#1f2933", "#3d6f9e", "#d9dee4"
MOST_BARS = 15
LEAST_RANGE = 5  # of a histogram's numbers, so that a single bar does not fill the plot


def draw_report(figures: dict[str, Any], examples: Path) -> str:
    """The page for the figures of `report.collect`.

    Args:
        figures: see `report.json`.
        examples: folder of the strips that they name.

    Raises:
        InputError: jinja2 or matplotlib is missing.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise InputError(
            "The report needs jinja2; run pip install 'text2layer[build]', or give --no-report."
        ) from None
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    environment.filters["percent"] = lambda value: "-" if value is None else f"{value:.1%}"
    text = files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        figures=figures, plots=_plots(figures), examples=_grouped(figures["examples"], examples)
    )


def _grouped(examples: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Examples by kind, what was kept first, each with its strip as a data address."""
    kinds: dict[str, dict[str, Any]] = {}
    for example in sorted(examples, key=lambda one: one["kind"] != KEPT):
        strip = folder / example["file"]
        if not strip.is_file():
            continue
        if example["kind"] == KEPT:
            title = "Kept"
        elif "reason" in example:
            title = f"{example['stage']}: {example['reason']}"
        else:
            continue  # of a chunk that was cut off before its journal
        group = kinds.setdefault(example["kind"], {"title": title, "strips": []})
        address = "data:image/jpeg;base64," + base64.b64encode(strip.read_bytes()).decode()
        group["strips"].append(example | {"address": address})
    return list(kinds.values())


def _plots(figures: dict[str, Any]) -> dict[str, str]:
    """SVG drawings by name; nothing is drawn of a build that kept nothing."""
    plots = {}
    reasons = {
        f"{stage}: {reason}": count
        for stage, counted in figures["rejected"].items()
        for reason, count in counted.items()
    }
    if reasons or figures["kept"]:
        most = sorted(reasons.items(), key=lambda item: -item[1])[:MOST_BARS]
        plots["reasons"] = _bars(dict([("kept", figures["kept"]), *most]), "photos")
    if figures["time"]["seconds_by_stage"]:
        plots["time"] = _bars(figures["time"]["seconds_by_stage"], "seconds of all workers")
    statistics = figures["statistics"]
    if statistics["samples"]:
        plots["area"] = _areas(statistics["area"])
        counted = {"objects (above .5)": statistics["objects"]} | {
            f"parts above {t}": part for t, part in statistics["components"].items()
        }
        plots["parts"] = _counts(counted, "number in a picture")
        plots["words"] = _counts({"captions": statistics["caption_words"]}, "words in a caption")
    return plots


def _areas(area: dict[str, Any]) -> str:
    """Histograms of the mask's share of the picture, one line for each threshold."""
    figure, axes = _figure(4.6, 2.7)
    for shade, (threshold, values) in zip((0.35, 0.55, 0.75, 1.0), area.items(), strict=True):
        counts = values["histogram"]
        edges = [n / len(counts) for n in range(len(counts) + 1)]
        axes.stairs(counts, edges, color=BAR, alpha=shade, label=f"mask above {threshold}")
    axes.locator_params(axis="y", integer=True)
    axes.set_xlabel("share of the picture")
    axes.set_ylabel("samples")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _counts(histograms: dict[str, Any], label: str) -> str:
    """Histograms of whole numbers side by side."""
    figure, axes = _figure(4.6, 2.7)
    width = 0.8 / len(histograms)
    for place, (name, values) in enumerate(histograms.items()):
        at = [int(n) + (place - (len(histograms) - 1) / 2) * width for n in values["histogram"]]
        shade = 1 - place * 0.3
        axes.bar(at, values["histogram"].values(), width, color=BAR, alpha=shade, label=name)
    longest = max(int(n) for values in histograms.values() for n in values["histogram"])
    axes.set_xlim(-0.5, max(longest, LEAST_RANGE) + 0.5)
    axes.locator_params(axis="both", integer=True)
    axes.set_xlabel(label)
    axes.set_ylabel("samples")
    if len(histograms) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _bars(values: dict[str, float], label: str) -> str:
    """Named numbers as lying bars, from top to bottom."""
    figure, axes = _figure(7.5, 0.6 + 0.27 * len(values))
    names = list(values)[::-1]
    drawn = axes.barh(names, [values[name] for name in names], color=BAR)
    axes.bar_label(drawn, [_number(values[name]) for name in names], padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel(label)
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure in inches and its axes; not pyplot, which keeps figures alive."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "The report needs matplotlib; run pip install 'text2layer[build]', or give --no-report."
        ) from None
    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]


def _number(value: float | None) -> str:
    """1234567 as 1,234,567; 0.12345 as 0.123; None as a dash."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
