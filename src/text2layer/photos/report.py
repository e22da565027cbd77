"""What a build did, from its journals: `report.json` for programs, `report.html` for people."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from text2layer import __version__
from text2layer.data.build.examples import SEPARATOR
from text2layer.data.statistics import Statistics
from text2layer.errors import DataError
from text2layer.io.atomic import writing
from text2layer.photos.chunk import read_journal
from text2layer.photos.folder import BuildFolder, write_json

MOST_REASONS = 1000  # kinds counted apart; a plug-in stage may put numbers into its reasons
OTHER = "other"
MOST_LICENSES = 100


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


def write_report(out: str | Path, *, progress: bool = True) -> dict[str, Any]:
    """Read all journals of a build, finished or not; write both reports and return the figures.

    Raises:
        DataError: the folder holds no build, or a journal is damaged.
        InputError: a package that draws the report is missing.
    """
    from text2layer.photos.report_page import draw_report

    folder = BuildFolder(Path(out))
    record = folder.read_record()
    if not record:
        raise DataError(f"There is no build in '{out}'; name the folder that a build has made.")
    figures = collect(folder, record, progress=progress)
    page = draw_report(figures, folder.examples)
    write_json(folder.root / "report.json", figures)
    with writing(folder.root / "report.html") as file:
        file.write(page.encode())
    return figures


def collect(
    folder: BuildFolder, record: dict[str, Any], *, progress: bool = True
) -> dict[str, Any]:
    """The figures of `report.json`."""
    strips = sorted(folder.examples.glob(f"*{SEPARATOR}*.jpg"))
    tally = Tally({path.stem.partition(SEPARATOR)[2] for path in strips})
    for line in _lines(folder, progress):
        tally.add(line)
    stages: dict[str, dict[str, int]] = {}
    for (stage, reason), count in tally.reasons.most_common():
        stages.setdefault(stage, {})[reason] = count
    spent = sum(tally.seconds.values())
    shards = list(folder.root.glob("shard-*.tar"))
    expected = record.get("index", {}).get("photos", 0)
    return {
        "text2layer": __version__,
        "complete": tally.photos == expected and expected > 0,
        "photos_found": expected,
        "photos": tally.photos,
        "kept": tally.kept,
        "kept_share": tally.kept / tally.photos if tally.photos else None,
        "rejected": stages,
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
        "storage": {"shards": len(shards), "bytes": sum(path.stat().st_size for path in shards)},
        "examples": [_example(path, tally.examples) for path in strips],
        "models": record.get("models", {}),
        "packages": {"python": record["python"]} | record["packages"],
        "settings": record["settings"],
        "stages": record["stages"],
        "fingerprint": record["fingerprint"],
        "index": record.get("index", {}).get("fingerprint", ""),
    }


def _lines(folder: BuildFolder, progress: bool) -> Iterator[dict[str, Any]]:
    journals = sorted(folder.journals.glob("*.jsonl"))
    for path in tqdm(journals, desc="report", unit="chunk", disable=not progress):
        yield from read_journal(path)


def _rate(runs: list[dict[str, Any]]) -> float | None:
    """Photos per second of all runs, loading the models included; None before the first."""
    seconds = sum(run["seconds"] for run in runs)
    return sum(run["photos"] for run in runs) / seconds if seconds else None


def _example(path: Path, lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the report says next to a strip; a strip of a chunk that is not done says less."""
    kind, _, key = path.stem.partition(SEPARATOR)
    line = lines.get(key, {})
    wanted = ("stage", "reason", "detail", "caption", "license", "source", "scores")
    return {"file": path.name, "kind": kind, "key": key} | {
        name: line[name] for name in wanted if line.get(name)
    }
