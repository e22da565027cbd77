"""How the scores of samples are spread: one histogram for each metric, as a picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from text2layer.errors import InputError
from text2layer.evaluation.results import METRICS, ProtocolResult, order

COLUMNS = 4
BINS = 24
SIDE = (3.2, 2.2)  # inches of one plot


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
    rows = -(-len(items) // COLUMNS)
    figure = figure_type(figsize=(SIDE[0] * COLUMNS, SIDE[1] * rows), layout="constrained")
    for place, (protocol, name, values) in enumerate(items):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        axes.hist(values, BINS, color="#4878a8")
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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("Plots need matplotlib: pip install 'text2layer[build]'.") from None
    return Figure
