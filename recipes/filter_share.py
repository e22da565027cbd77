"""How many samples are good before and after filtering, on photographs judged one by one.

    text2layer dataset build PHOTOS runs/all --no-quality-filter --second-saliency ""
    python recipes/filter_share.py runs/all recipes/quality_labels.jsonl \
        --test recipes/quality_test_labels.jsonl

The rules look at the stored masks. The scores of the first table are cross-validated: each photo
is scored by heads trained on the other photos (five parts), so that no head has seen what it
judges; composed cases take no part. The second table is of photos that neither the shipped heads
nor their thresholds have seen, scored by the shipped heads. Intervals are Wilson's, of 95 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from text2layer.data.schema import Sample
from text2layer.data.shards import ShardReader
from text2layer.judges.cases import photo_cases, photo_pairs
from text2layer.judges.labels import KINDS, Kind, Label, read_labels
from text2layer.judges.pair import pair_scores
from text2layer.judges.pair_training import held_out_pairs, tabulate_pairs
from text2layer.judges.quality import PAIR, load_backbone, load_quality
from text2layer.judges.quality_training import QualitySettings, cross_validated_scores, tabulate
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.rules import Rules
from text2layer.photos.settings import BuildSettings

Labels = Mapping[tuple[str, Kind], Label]
LEAST = BuildSettings().mask_quality
BOUNDS = (0.6, BuildSettings().pair_quality, 0.8)  # of the pair
DEVIATIONS = 1.96  # of the normal distribution: 95 %


@dataclass(frozen=True)
class Judged:
    """A photo with its verdicts, the rules' decision and the scores of mask, fill and pair."""

    mask: bool
    fill: bool
    ruled: bool
    scores: Mapping[str, float]


def passes_rules(sample: Sample) -> bool:
    """Whether the stage `rules` lets a sample of an unfiltered build pass."""
    maximum = sample.metadata.scores["saliency_maximum"]
    photo = Photo(PhotoRef(sample.key, ""), mask=sample.mask, saliency_maximum=maximum)
    Rules(BuildSettings()).run([photo])
    return photo.rejected is None


def interval(good: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    square = DEVIATIONS**2
    middle = (good + square / 2) / (count + square)
    half = DEVIATIONS * sqrt(good * (count - good) / count + square / 4) / (count + square)
    return middle - half, middle + half


def cross_validated(build: Path, labels: Labels) -> dict[str, dict[str, float]]:
    """Scores by kind and key, each by heads that have not seen the photo."""
    settings = QualitySettings()
    backbone = load_backbone(settings.backbone)
    tables, _ = tabulate(photo_cases(build, labels), backbone, settings.folds)
    pairs = tabulate_pairs(photo_pairs(build, labels), backbone, settings.folds)
    assert pairs is not None
    found = {
        str(kind): dict(zip(table.keys, cross_validated_scores(table, settings, kind), strict=True))
        for kind, table in tables.items()
    }
    return found | {
        PAIR: dict(zip(pairs.keys, held_out_pairs(pairs, tables, settings), strict=True))
    }


def shipped(build: Path, labels: Labels) -> dict[str, dict[str, float]]:
    """Scores by kind and key of the shipped heads."""
    model = load_quality()
    found: dict[str, dict[str, float]] = {kind: {} for kind in (*KINDS, PAIR)}
    for key, _, layers in photo_pairs(build, labels):
        found["mask"][key] = model.mask_scores([layers.image], [layers.mask])[0]
        found["fill"][key] = model.fill_scores([layers.background], [layers.hole])[0]
        found[PAIR][key] = pair_scores(model, [layers])[0]
    return found


def show(
    title: str, labels: Labels, scores: Mapping[str, Mapping[str, float]], ruled: Mapping[str, bool]
) -> None:
    """Print a table."""
    photos = [
        Judged(
            bool(labels[key, "mask"].good),
            bool(labels[key, "fill"].good),
            ruled[key],
            {kind: scores[kind][key] for kind in (*KINDS, PAIR)},
        )
        for key in scores[PAIR]
    ]
    print(f"{title:34}{'kept':>11}{'mask':>6}{'fill':>6}{'both':>6}{'good':>8}{'95 %':>12}")
    row("no filter", photos, len(photos))
    passed = [photo for photo in photos if photo.ruled]
    row("rules", passed, len(photos))
    passed = [one for one in passed if min(one.scores["mask"], one.scores["fill"]) >= LEAST]
    row(f"rules, mask and fill from {LEAST:g}", passed, len(photos))
    for bound in BOUNDS:
        kept = [photo for photo in passed if photo.scores[PAIR] >= bound]
        row(f"  and pair from {bound:g}", kept, len(photos))


def row(name: str, kept: Sequence[Judged], of: int) -> None:
    """Print a line of it."""
    masks, fills = sum(one.mask for one in kept), sum(one.fill for one in kept)
    both, count = sum(one.mask and one.fill for one in kept), len(kept)
    line = f"{name:34}{count:5d}{count / of:6.0%}{masks:6d}{fills:6d}{both:6d}"
    if count:
        low, high = interval(both, count)
        line += f"{both / count:8.0%}{low:7.0%}-{high:.0%}"
    print(line)


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--test", type=Path, help="Labels that no head was trained on.")
    parser.add_argument("--sample", type=Path, help="Only photos whose keys stand here.")
    options = parser.parse_args()
    labels = read_labels(options.labels)
    if options.sample:
        keys = set(options.sample.read_text(encoding="utf-8").split())
        labels = {place: label for place, label in labels.items() if place[0] in keys}
    ruled = {sample.key: passes_rules(sample) for sample in ShardReader(options.build)}
    show("cross-validated", labels, cross_validated(options.build, labels), ruled)
    if options.test:
        untouched = read_labels(options.test)
        show("test", untouched, shipped(options.build, untouched), ruled)


if __name__ == "__main__":
    main()
