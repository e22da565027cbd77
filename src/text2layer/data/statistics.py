"""What a layered data set looks like in numbers: the statistics of LAION-L2I (arXiv 2307.09781)."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from text2layer.masks import connected_components

AREA_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)  # mask values, as in LAION-L2I
COMPONENT_THRESHOLDS = (0.5, 0.9)
LEAST_COMPONENT = 100  # pixels
LEAST_OBJECT = 0.01  # share of the picture: smaller parts are not counted as objects (ours)
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BINS = 20  # of a histogram over 0..1
MOST_COMPONENTS = 20  # more are counted as this many
MOST_WORDS = 200  # longer captions are counted as this long
VOCABULARY = 100_000  # words counted; the rarest are forgotten beyond twice as many
COMPARED_WORDS = 10_000  # the source's most frequent words, whose frequencies are compared
WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


def measure_mask(mask: np.ndarray) -> dict[str, float]:
    """Measures of one soft mask, for `Statistics.add`.

    Args:
        mask: (H, W) uint8.

    Returns:
        `area_T`: share of the pixels above T, for each of AREA_THRESHOLDS. `components_T`: parts
        of LEAST_COMPONENT pixels or more above T, pixels touching at a side. `objects`: parts
        above .5 that cover LEAST_OBJECT of the picture or more; no detector takes part.
    """
    measures = {f"area_{t}": float((mask > t * 255).mean()) for t in AREA_THRESHOLDS}
    for threshold in COMPONENT_THRESHOLDS:
        sizes = connected_components(mask > threshold * 255, 4)[1]
        measures[f"components_{threshold}"] = int((sizes >= LEAST_COMPONENT).sum())
        if threshold == 0.5:
            measures["objects"] = int((sizes >= LEAST_OBJECT * mask.size).sum())
    return measures


def words_of(caption: str) -> list[str]:
    """The words of a caption in lower case; numbers and signs are none."""
    return WORD.findall(caption.lower())


class WordCounts:
    """Word frequencies in bounded memory: beyond 2 * VOCABULARY the rarest are forgotten."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, words: Iterable[str]) -> None:
        """Count some words."""
        self.counts.update(words)
        if len(self.counts) > 2 * VOCABULARY:
            self.counts = Counter(dict(self.counts.most_common(VOCABULARY)))

    def correlation(self, source: "WordCounts") -> float | None:
        """Pearson's correlation of the relative frequencies of the source's frequent words.

        None where it is not defined: no words, or frequencies that are all the same.
        """
        names = [word for word, _ in source.counts.most_common(COMPARED_WORDS)]
        ours = np.array([self.counts[name] for name in names], float)
        theirs = np.array([source.counts[name] for name in names], float)
        if len(names) < 2 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
            return None
        return float(np.corrcoef(ours, theirs)[0, 1])


class Statistics:
    """Adds up samples one at a time; its size does not grow with their number.

    Attributes:
        samples: how many were added.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._areas = {t: np.zeros(BINS, np.int64) for t in AREA_THRESHOLDS}
        self._area_sums = dict.fromkeys(AREA_THRESHOLDS, 0.0)
        self._parts: dict[str, Counter[int]] = {
            name: Counter()
            for name in ("objects", *(f"components_{t}" for t in COMPONENT_THRESHOLDS))
        }
        self._lengths: Counter[int] = Counter()
        self._words, self._source_words = WordCounts(), WordCounts()

    def add(self, measures: Mapping[str, float], caption: str) -> None:
        """Add one sample: what `measure_mask` gave, and its caption."""
        self.samples += 1
        for threshold, histogram in self._areas.items():
            area = measures[f"area_{threshold}"]
            histogram[min(int(area * BINS), BINS - 1)] += 1
            self._area_sums[threshold] += area
        for name, counter in self._parts.items():
            counter[min(int(measures[name]), MOST_COMPONENTS)] += 1
        words = words_of(caption)
        self._lengths[min(len(words), MOST_WORDS)] += 1
        self._words.add(words)

    def add_source_caption(self, caption: str) -> None:
        """Add a caption of the source, whether or not its photo was kept."""
        self._source_words.add(words_of(caption))

    def to_json(self) -> dict[str, Any]:
        """Means and histograms by name.

        `area` by threshold: `mean` and a histogram of BINS equal bins over 0..1; `objects` and
        `components` by threshold: `mean` and a histogram by number; `caption_words`: mean,
        percentiles and histogram; `word_correlation`: with the source, None without one.
        """
        return {
            "samples": self.samples,
            "area": {
                str(t): {
                    "mean": self._area_sums[t] / self.samples if self.samples else None,
                    "histogram": self._areas[t].tolist(),
                }
                for t in AREA_THRESHOLDS
            },
            "objects": _counted(self._parts["objects"]),
            "components": {
                str(t): _counted(self._parts[f"components_{t}"]) for t in COMPONENT_THRESHOLDS
            },
            "caption_words": _counted(self._lengths)
            | {"percentiles": {str(p): percentile(self._lengths, p) for p in PERCENTILES}},
            "vocabulary": len(self._words.counts),
            "word_correlation": self._words.correlation(self._source_words),
        }


def percentile(histogram: Mapping[int, int], percent: float) -> int | None:
    """The least value that at least `percent` % of what was counted do not exceed."""
    total = sum(histogram.values())
    seen = 0
    for value in sorted(histogram):
        seen += histogram[value]
        if seen * 100 >= percent * total:
            return value
    return None


def _counted(histogram: Mapping[int, int]) -> dict[str, Any]:
    total = sum(histogram.values())
    return {
        "mean": sum(n * times for n, times in histogram.items()) / total if total else None,
        "histogram": {str(n): histogram[n] for n in sorted(histogram)},
    }
