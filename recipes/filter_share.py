"""How many samples are good before and after filtering, on photographs judged one by one.

    text2layer dataset build PHOTOS runs/all --no-quality-filter --second-saliency ""
    python recipes/filter_share.py runs/all recipes/quality_labels.jsonl recipes/random_sample.txt

The rules look at the stored masks. The classifiers' scores are cross-validated:
each photo is scored by heads trained on the other photos (five parts), so that no head has seen
what it judges; composed cases take no part. Only photos of the random sample count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from text2layer.data.schema import Sample
from text2layer.data.shards import ShardReader
from text2layer.judges.cases import photo_cases
from text2layer.judges.labels import read_labels
from text2layer.judges.quality import load_backbone
from text2layer.judges.quality_training import QualitySettings, cross_validated_scores, tabulate
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.rules import Rules
from text2layer.photos.settings import BuildSettings

BOUNDS = (0.5, 0.6, 0.7)


def passes_rules(sample: Sample) -> bool:
    """Whether the stage `rules` lets a sample of an unfiltered build pass."""
    maximum = sample.metadata.scores["saliency_maximum"]
    photo = Photo(PhotoRef(sample.key, ""), mask=sample.mask, saliency_maximum=maximum)
    Rules(BuildSettings()).run([photo])
    return photo.rejected is None


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("build", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("sample", type=Path, help="Keys of a random sample, one a line.")
    options = parser.parse_args()
    labels, settings = read_labels(options.labels), QualitySettings()
    keys = [key for key in options.sample.read_text(encoding="utf-8").split() if key]
    measured = {sample.key: passes_rules(sample) for sample in ShardReader(options.build)}
    tables, _ = tabulate(
        photo_cases(options.build, labels), load_backbone(settings.backbone), settings.folds
    )
    scores = {
        kind: dict(zip(table.keys, cross_validated_scores(table, settings, kind), strict=True))
        for kind, table in tables.items()
    }
    known = [key for key in keys if all((key, kind) in labels for kind in scores)]
    known = [key for key in known if key in measured]
    good = {kind: np.array([bool(labels[key, kind].good) for key in known]) for kind in scores}
    ruled = np.array([measured[key] for key in known])

    def show(name: str, chosen: np.ndarray) -> None:
        counts = [int((good[kind] & chosen).sum()) for kind in ("mask", "fill")]
        both = int((good["mask"] & good["fill"] & chosen).sum())
        total = max(int(chosen.sum()), 1)
        print(f"{name:34}{chosen.sum():5d}{counts[0]:6d}{counts[1]:6d}{both:6d}{both / total:8.0%}")

    print(f"{'':34}{'kept':>5}{'mask':>6}{'fill':>6}{'both':>6}{'good':>8}")
    show("no filter", np.ones(len(known), bool))
    show("rules", ruled)
    for bound in BOUNDS:
        passed = ruled.copy()
        for kind in scores:
            passed &= np.array([scores[kind][key] >= bound for key in known])
        show(f"rules, classifiers from {bound:g}", passed)


if __name__ == "__main__":
    main()
