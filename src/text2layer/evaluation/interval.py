"""A figure with the interval it is known to: bootstrap for means, jackknife for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from text2layer.errors import InputError

LEAST_GROUPS = 4  # fewer say next to nothing about the spread
DRAWN = 1_000_000  # scores that a bootstrap holds at a time: bounds its memory


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval; low <= value <= high.

    Attributes:
        value: The figure.
        low: Lower end; -inf where the samples are too few to tell.
        high: Upper end; inf likewise.
        samples: How many samples it is made from; of two sets the smaller one.
        ignored: Samples left out because they had no score (NaN).
        note: What a reader must know to compare it; empty when nothing.
    """

    value: float
    low: float
    high: float
    samples: int = 0
    ignored: int = 0
    note: str = ""


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Mean of per-sample scores with a percentile bootstrap interval (Efron 1979), by SciPy.

    The samples are drawn again with replacement, `resamples` times, and the interval runs between
    the percentiles of the means. It holds for independent samples: scores of several seeds for one
    prompt should be averaged first.

    Args:
        values: (N,) scores; NaN says that the score is not defined for that sample.
        confidence: Between 0 and 1.
        resamples: At least 2.
        seed: Of the draws.

    Returns:
        The mean of the values that are no NaN; `ignored` counts the others. One value alone has
        no ends.

    Raises:
        InputError: no value is left, one is infinite, or an option is out of range.

    Example:
        >>> bootstrap_mean([1.0, 2.0, 3.0, float("nan")]).value
        2.0
    """
    check_confidence(confidence)
    if resamples < 2:
        raise InputError(f"A bootstrap needs at least 2 resamples, not {resamples}.")
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1:
        raise InputError(f"A mean is taken over scores (N,), got {tuple(scores.shape)}.")
    known = scores[~np.isnan(scores)]
    ignored = len(scores) - len(known)
    if not len(known):
        raise InputError(f"There is no score to average: {ignored} samples, all without one.")
    if np.isinf(known).any():
        place = int(np.argmax(np.isinf(scores)))
        raise InputError(f"The score of sample {place} is infinite; its mean says nothing.")
    mean = float(known.mean())
    if len(known) == 1:
        return Interval(mean, -math.inf, math.inf, 1, ignored)
    from scipy import stats  # takes a second, and not every command needs it

    low, high = stats.bootstrap(
        (known,), np.mean, n_resamples=resamples, batch=max(1, DRAWN // len(known)),
        confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(mean, min(float(low), mean), max(float(high), mean), len(known), ignored)


def jackknife(
    value: float,
    without: Sequence[float],
    confidence: float = 0.95,
    samples: int = 0,
    note: str = "",
) -> Interval:
    """Interval of a figure that is no mean, from its values with one group of samples left out.

    Delete-a-group jackknife: with G groups the variance is (G - 1) / G times the sum of squared
    deviations of `without` from its mean; the ends are the value -/+ Student's t of G - 1 degrees
    times the root. Unlike the bootstrap it never counts a sample twice, which FID would take for
    less variety. On average it is no narrower than it should be (Efron and Stein 1981). It tells
    the spread for this many samples and leaves a bias of the figure in.

    Args:
        value: From all samples.
        without: (G,) the same figure with one of G equal groups left out at a time.
        confidence: Between 0 and 1.
        samples: Handed on to the interval.
        note: Handed on likewise.

    Returns:
        The interval; unbounded with fewer than 4 groups.
    """
    check_confidence(confidence)
    groups = len(without)
    if groups < LEAST_GROUPS:
        return Interval(value, -math.inf, math.inf, samples, note=note)
    values = np.asarray(without, np.float64)
    error = math.sqrt((groups - 1) / groups * float(((values - values.mean()) ** 2).sum()))
    from scipy import stats

    reach = float(stats.t.ppf((1 + confidence) / 2, groups - 1)) * error
    return Interval(value, value - reach, value + reach, samples, note=note)


def split_groups(samples: int, groups: int, seed: int) -> np.ndarray:
    """Group (0..groups-1) of each sample, (N,), of nearly equal size, at random.

    Sets of the same size are split alike, so that samples of one prompt stay together.
    """
    return np.random.default_rng(seed).permutation(samples) % groups


def check_confidence(confidence: float) -> None:
    """Raise InputError unless it lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise InputError(f"A confidence lies between 0 and 1, {confidence} does not.")
