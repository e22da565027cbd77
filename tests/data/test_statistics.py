"""Each figure against one worked out by hand."""

import numpy as np
import pytest

from text2layer.data import statistics
from text2layer.data.statistics import Statistics, WordCounts, measure_mask, percentile


def two_squares() -> np.ndarray:
    """100 x 100: 20 x 20 at 255, 10 x 10 at 200 and 5 x 5 at 140, apart from one another."""
    mask = np.zeros((100, 100), np.uint8)
    mask[10:30, 10:30] = 255
    mask[50:60, 50:60] = 200
    mask[80:85, 80:85] = 140
    return mask


def test_areas_parts_and_objects() -> None:
    measures = measure_mask(two_squares())
    assert measures == {
        "area_0.3": 0.0525,
        "area_0.5": 0.0525,
        "area_0.7": 0.05,
        "area_0.9": 0.04,
        "components_0.5": 2,  # the third has 25 pixels
        "components_0.9": 1,
        "objects": 2,  # 400 and 100 of 10,000 pixels
    }


def test_parts_that_touch_at_a_corner_are_two() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:10, :10] = mask[10:20, 10:20] = 255
    assert measure_mask(mask)["components_0.5"] == 2


def test_sums_over_samples() -> None:
    both = Statistics()
    both.add(measure_mask(two_squares()), "a red Cup, on 2 tables")
    both.add(measure_mask(np.full((20, 20), 255, np.uint8)), "cup")
    figures = both.to_json()
    assert figures["samples"] == 2
    assert figures["area"]["0.9"]["mean"] == pytest.approx((0.04 + 1) / 2)
    histogram = figures["area"]["0.9"]["histogram"]
    assert (histogram[0], histogram[-1], sum(histogram)) == (1, 1, 2)
    assert figures["objects"] == {"mean": 1.5, "histogram": {"1": 1, "2": 1}}
    assert figures["caption_words"]["mean"] == 3
    assert figures["caption_words"]["percentiles"]["50"] == 1
    assert figures["caption_words"]["percentiles"]["99"] == 5
    assert figures["vocabulary"] == 5  # a, red, cup, on, tables


def test_an_empty_set_has_no_means() -> None:
    figures = Statistics().to_json()
    assert figures["area"]["0.3"]["mean"] is None
    assert figures["caption_words"]["percentiles"]["50"] is None
    assert figures["word_correlation"] is None


def test_percentiles_are_those_of_the_sorted_values() -> None:
    values = np.random.default_rng(0).integers(0, 30, 999)
    histogram = {
        int(v): int(n) for v, n in zip(*np.unique(values, return_counts=True), strict=True)
    }
    for percent in (1, 25, 50, 75, 99):
        oracle = np.percentile(values, percent, method="inverted_cdf")
        assert percentile(histogram, percent) == oracle


def test_word_correlation() -> None:
    source, same, other = WordCounts(), WordCounts(), WordCounts()
    source.add(["a"] * 6 + ["cup"] * 3 + ["dog"])
    same.add(["a"] * 12 + ["cup"] * 6 + ["dog"] * 2 + ["new"] * 50)
    other.add(["dog"] * 6 + ["cup"] * 3 + ["a"])
    assert same.correlation(source) == pytest.approx(1)
    assert other.correlation(source) == pytest.approx(np.corrcoef([6, 3, 1], [1, 3, 6])[0, 1])
    assert source.correlation(WordCounts()) is None


def test_words_in_memory_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "VOCABULARY", 10)
    words = WordCounts()
    for number in range(1000):
        words.add(["often", "x" * (number + 1)])
        assert len(words.counts) <= 21
    assert words.counts["often"] == 1000
