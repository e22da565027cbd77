"""Intervals against their definitions and SciPy's, and against what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from text2layer.errors import InputError
from text2layer.evaluation.interval import (
    Interval,
    bootstrap_mean,
    jackknife,
    split_groups,
)


def scores(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 3.0, size=count)


@pytest.mark.parametrize(("count", "resamples"), [(2, 9), (41, 1000), (1500, 1000)])
def test_the_bootstrap_is_its_definition_whatever_is_held_at_a_time(count, resamples):
    values, generator = scores(count), np.random.default_rng(3)
    means = [values[generator.integers(count, size=count)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.1, 0.9])
    interval = bootstrap_mean(values, 0.8, resamples, seed=3)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    intervals = [bootstrap_mean(scores(100, seed), 0.9, 300) for seed in range(300)]
    hits = sum(interval.low <= 6.0 <= interval.high for interval in intervals)
    assert 0.84 < hits / 300 < 0.94


def test_more_samples_more_sure_and_the_seed_repeats():
    widths = [(i := bootstrap_mean(scores(n))).high - i.low for n in (50, 500, 5000)]
    assert widths == sorted(widths, reverse=True)
    assert bootstrap_mean(scores(50), seed=3) == bootstrap_mean(scores(50), seed=3)
    assert bootstrap_mean(scores(50), seed=3) != bootstrap_mean(scores(50), seed=4)


def test_missing_scores_are_counted_and_left_out():
    values = [1.0, float("nan"), 3.0, float("nan")]
    interval = bootstrap_mean(values)
    assert (interval.value, interval.samples, interval.ignored) == (2.0, 2, 2)
    assert interval.low == 1.0
    assert interval.high == 3.0


def test_degenerate_scores():
    assert bootstrap_mean([2.0]) == Interval(2.0, -math.inf, math.inf, samples=1)
    third = bootstrap_mean([0.1] * 7)  # the mean of equal values may be off by one rounding
    assert third.low <= third.value <= third.high
    assert third.high - third.low < 1e-15
    for empty in ([], [float("nan")] * 3):
        with pytest.raises(InputError, match="no score to average"):
            bootstrap_mean(empty)
    with pytest.raises(InputError, match="sample 1 is infinite"):
        bootstrap_mean([0.0, float("inf")])
    with pytest.raises(InputError, match="confidence"):
        bootstrap_mean([0.0, 1.0], confidence=95)
    with pytest.raises(InputError, match="resamples"):
        bootstrap_mean([0.0, 1.0], resamples=1)
    with pytest.raises(InputError, match="scores"):
        bootstrap_mean(np.zeros((2, 2)))


def test_the_interval_says_how_many_samples_and_what_to_know():
    interval = jackknife(1.0, [1.0, 1.1, 0.9, 1.0], samples=40, note="seen")
    assert (interval.samples, interval.note) == (40, "seen")


def test_too_few_groups_say_nothing():
    assert jackknife(1.0, [1.0, 1.1, 0.9]) == Interval(1.0, -math.inf, math.inf)


@pytest.mark.parametrize("groups", [4, 5, 20])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_quantile_is_students(groups, confidence):
    values = scores(groups)
    without = [np.delete(values, i).mean() for i in range(groups)]
    interval = jackknife(float(values.mean()), without, confidence)
    expected = stats.t.interval(confidence, groups - 1, values.mean(), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)


def test_groups_are_even_repeatable_and_alike_for_equal_sizes():
    groups = split_groups(103, 20, seed=1)
    sizes = np.bincount(groups, minlength=20)
    assert sizes.min() == 5
    assert sizes.max() == 6
    np.testing.assert_array_equal(groups, split_groups(103, 20, seed=1))
    assert (groups != split_groups(103, 20, seed=2)).any()
