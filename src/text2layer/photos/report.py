"""What a build did, from its journals: `report.json` for programs, `report.html` for people.

The page is one file with its plots and example strips inside, no script, no network.
"""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tqdm import tqdm

from text2layer import __version__
from text2layer.data.places import Place, named, size_of, writing_to
from text2layer.data.statistics import Statistics
from text2layer.errors import DataError
from text2layer.options import require
from text2layer.photos.chunk import read_journal
from text2layer.photos.examples import KEPT, SEPARATOR
from text2layer.photos.folder import BuildFolder, write_json
from text2layer.photos.photo import WORKER

MOST_REASONS = 1000  # kinds counted apart; a plug-in stage may put numbers into its reasons
OTHER = "other"
MOST_LICENSES = 100
MOST_NAMED = 100  # photos on which a worker died that the report names; all are counted

TEMPLATE = "report.html.jinja"
NO_REPORT = "give --no-report"
INK, BAR, GRID = "#1f2933", "#3d6f9e", "#d9dee4"
MOST_BARS = 15
LEAST_RANGE = 5  # of a histogram's numbers, so that a single bar does not fill the plot


class Tally:
    """Adds up journal lines one at a time; its size does not grow with their number."""

    def __init__(self, example_keys: set[str]) -> None:
        self.photos = self.kept = 0
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.licenses: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.scores: dict[str, _Range] = {}
        self.statistics = Statistics()
        self.examples: dict[str, dict[str, Any]] = {}
        self.set_aside: list[dict[str, str]] = []
        self._example_keys = example_keys

    def add(self, line: dict[str, Any]) -> None:
        """Add one photo."""
        self.photos += 1
        self.statistics.add_source_caption(line["caption"])
        for stage, spent in line["seconds"].items():
            self.seconds[stage] += spent
            self.seen[stage] += 1
        if line["kept"]:
            self._add_kept(line)
        else:
            pair = (line["stage"], line["reason"])
            if pair not in self.reasons and len(self.reasons) >= MOST_REASONS:
                pair = (line["stage"], OTHER)
            self.reasons[pair] += 1
            if line["stage"] == WORKER and len(self.set_aside) < MOST_NAMED:
                self.set_aside.append({name: line[name] for name in ("key", "source", "reason")})
        if line["key"] in self._example_keys:
            self.examples[line["key"]] = line

    def _add_kept(self, line: dict[str, Any]) -> None:
        self.kept += 1
        self.statistics.add(line["statistics"], line["caption"])
        name = line["license"] or "unknown"
        self.licenses[name if len(self.licenses) < MOST_LICENSES else OTHER] += 1
        for score, value in line["scores"].items():
            self.scores.setdefault(score, _Range()).add(value)


class _Range:
    """Mean, least and largest of numbers that are not kept."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self.least, self.largest = float("inf"), float("-inf")

    def add(self, value: float) -> None:
        self.count, self.total = self.count + 1, self.total + value
        self.least, self.largest = min(self.least, value), max(self.largest, value)

    def to_json(self) -> dict[str, float]:
        mean = self.total / self.count
        return {"mean": mean, "least": self.least, "largest": self.largest, "count": self.count}


def write_report(out: str | Place, *, progress: bool = True) -> dict[str, Any]:
    """Read all journals of a build, finished or not; write both reports and return the figures.

    Raises:
        DataError: the folder holds no build, or a journal is damaged.
        WriteError: the reports cannot be written.
        InputError: a package that draws the report is missing.
    """
    folder = BuildFolder(out)
    record = folder.read_record()
    if not record:
        raise DataError(f"There is no build in '{out}'; name the folder that a build has made.")
    figures = collect(folder, record, progress=progress)
    page = draw_report(figures, folder.examples)
    write_json(folder.root / "report.json", figures)
    with writing_to(folder.root / "report.html") as file:
        file.write(page.encode())
    return figures


def collect(
    folder: BuildFolder, record: dict[str, Any], *, progress: bool = True
) -> dict[str, Any]:
    """The figures of `report.json`."""
    strips = [entry.name for entry in named(folder.examples, f"*{SEPARATOR}*.jpg")]
    tally = Tally({Path(name).stem.partition(SEPARATOR)[2] for name in strips})
    for line in _lines(folder, progress):
        tally.add(line)
    stages: dict[str, dict[str, int]] = {}
    for (stage, reason), count in tally.reasons.most_common():
        stages.setdefault(stage, {})[reason] = count
    spent = sum(tally.seconds.values())
    sizes = [entry.size if entry.size >= 0 else size_of(folder.root / entry.name)
             for entry in folder.shards()]  # fmt: skip
    expected = record.get("index", {}).get("photos", 0)
    return {
        "text2layer": __version__,
        "complete": tally.photos == expected and expected > 0,
        "photos_found": expected,
        "photos": tally.photos,
        "kept": tally.kept,
        "kept_share": tally.kept / tally.photos if tally.photos else None,
        "rejected": stages,
        "set_aside": tally.set_aside,
        "left_out_by_source": record.get("index", {}).get("skipped", {}),
        "source_messages": record.get("index", {}).get("messages", []),
        "licenses": dict(tally.licenses.most_common()),
        "scores": {name: value.to_json() for name, value in sorted(tally.scores.items())},
        "statistics": tally.statistics.to_json(),
        "time": {
            "seconds_by_stage": {name: round(s, 3) for name, s in tally.seconds.items()},
            "photos_by_stage": dict(tally.seen),
            "share_by_stage": {n: s / spent if spent else 0 for n, s in tally.seconds.items()},
            "photos_per_second": _rate(record.get("runs", [])),
            "runs": record.get("runs", []),
        },
        "storage": {"shards": len(sizes), "bytes": sum(sizes)},
        "examples": [_example(name, tally.examples) for name in strips],
        "models": record.get("models", {}),
        "devices": record.get("devices", {}),
        "packages": {"python": record["python"]} | record["packages"],
        "settings": record["settings"],
        "stages": record["stages"],
        "fingerprint": record["fingerprint"],
        "index": record.get("index", {}).get("fingerprint", ""),
    }


def _lines(folder: BuildFolder, progress: bool) -> Iterator[dict[str, Any]]:
    numbers = sorted(folder.with_journal())
    for number in tqdm(numbers, desc="report", unit="chunk", disable=not progress):
        yield from read_journal(folder.journal(number))


def _rate(runs: list[dict[str, Any]]) -> float | None:
    """Photos per second of all runs, loading the models included; None before the first."""
    seconds = sum(run["seconds"] for run in runs)
    return sum(run["photos"] for run in runs) / seconds if seconds else None


def _example(name: str, lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the report says next to a strip; a strip of a chunk that is not done says less."""
    kind, _, key = Path(name).stem.partition(SEPARATOR)
    line = lines.get(key, {})
    wanted = ("stage", "reason", "detail", "caption", "license", "source", "scores")
    return {"file": name, "kind": kind, "key": key} | {
        field: line[field] for field in wanted if line.get(field)
    }


def draw_report(figures: dict[str, Any], examples: Place) -> str:
    """The page for the figures of `collect`.

    Args:
        figures: see `report.json`.
        examples: folder of the strips that they name.

    Raises:
        InputError: jinja2 or matplotlib is missing.
    """
    jinja2 = require("jinja2", "jinja2", "The report", instead=NO_REPORT)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    environment.filters["percent"] = lambda value: "-" if value is None else f"{value:.1%}"
    text = files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        figures=figures, plots=_plots(figures), examples=_grouped(figures["examples"], examples)
    )


def _grouped(examples: Sequence[dict[str, Any]], folder: Place) -> list[dict[str, Any]]:
    """Examples by kind, what was kept first, each with its strip as a data address."""
    kinds: dict[str, dict[str, Any]] = {}
    for example in sorted(examples, key=lambda one: one["kind"] != KEPT):
        if example["kind"] == KEPT:
            title = "Kept"
        elif "reason" in example:
            title = f"{example['stage']}: {example['reason']}"
        else:
            continue  # of a chunk that was cut off before its journal
        try:
            strip = (folder / example["file"]).read_bytes()
        except FileNotFoundError:
            continue
        group = kinds.setdefault(example["kind"], {"title": title, "strips": []})
        address = "data:image/jpeg;base64," + base64.b64encode(strip).decode()
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
    matplotlib = require("matplotlib.figure", "matplotlib", "The report", instead=NO_REPORT)
    figure = matplotlib.Figure((width, height), layout="constrained")
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
