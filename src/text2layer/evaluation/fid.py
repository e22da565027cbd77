"""Frechet inception distance between two sets of features (Heusel et al., arXiv 1706.08500)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from text2layer.errors import InputError
from text2layer.evaluation.features import check_pair, chunks, mean_of
from text2layer.evaluation.interval import Interval, check_confidence, jackknife, split_groups


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Squared Frechet distance between the Gaussians of two sets, equation 6 of the paper.

    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64, with the unbiased covariances. The
    features are read in chunks; memory grows with D^2, not with the number of samples.

    Args:
        real: (N, D) floats, perhaps mapped from a file.
        generated: (M, D).

    Returns:
        At least 0, in squared units of the features.

    Raises:
        InputError: fewer than 2 samples, different dimensions, or values that are not finite.

    Example:
        >>> a = np.array([[0.0], [2.0]])
        >>> frechet_distance(a, a + 3.0)
        9.0
    """
    check_pair(real, generated)
    return _distance(_Side(real).gaussian(), _Side(generated).gaussian())


def fid(
    real: np.ndarray,
    generated: np.ndarray,
    resamples: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Frechet distance with an interval for the choice of the samples.

    The interval is a delete-a-group jackknife: the samples of both sets are split at random into
    `resamples` groups and the distance is taken again without each of them. It says how far the
    value would move with other samples *of the same number*; the upward bias of a small number is
    in the value and in both ends, so compare only values of equal N and M. (A bootstrap would not
    do: doubled samples look like less variety and push every resampled value up.)

    Args:
        real: (N, D) features, for published figures those of `InceptionFeatures`.
        generated: (M, D).
        resamples: Groups of the jackknife, at least 4; fewer are used when samples are fewer.
        confidence: Between 0 and 1.
        seed: Of the split.

    Returns:
        Value and ends, never below 0; `note` says so when a covariance lacks rank (N or M <= D).
        With fewer than 4 samples the upper end is infinite.

    Raises:
        InputError: as `frechet_distance`, or an option is out of range.
    """
    check_pair(real, generated)
    check_confidence(confidence)
    if resamples < 4:
        raise InputError(f"The interval of FID needs at least 4 resamples, not {resamples}.")
    sides = _Side(real), _Side(generated)
    value = _distance(*(side.gaussian() for side in sides))
    fewest = min(len(real), len(generated))
    groups = min(resamples, fewest)
    without = []
    if fewest >= 4:
        labels = [split_groups(len(side.features), groups, seed) for side in sides]
        for group in range(groups):
            without.append(
                _distance(*(side.gaussian(label == group)
                            for side, label in zip(sides, labels, strict=True)))
            )  # fmt: skip
    interval = jackknife(value, without, confidence, fewest, _note(real, generated))
    return replace(interval, low=max(interval.low, 0.0))


def _note(real: np.ndarray, generated: np.ndarray) -> str:
    dimension = real.shape[1]
    if min(len(real), len(generated)) > dimension:
        return ""
    return (
        f"{len(real)} real and {len(generated)} generated samples are too few for covariances of "
        f"{dimension} features: the value is biased upwards, compare it at equal counts only"
    )


@dataclass(frozen=True)
class _Gaussian:
    """Mean (D,), trace of the covariance S, and S itself or rows R (r, D) with R^T R = S."""

    mean: np.ndarray
    trace: float
    covariance: np.ndarray | None = None
    root: np.ndarray | None = None


class _Side:
    """One set of features, ready to be summed up whole or without some of its samples."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = features
        self.centre = mean_of(features)  # sums about it do not cancel
        self.few = len(features) <= features.shape[1]
        self.sums = None if self.few else self._sums(np.arange(len(features)))

    def gaussian(self, left_out: np.ndarray | None = None) -> _Gaussian:
        """Gaussian of all rows but those of the mask `left_out` (N,)."""
        left_out = np.zeros(len(self.features), bool) if left_out is None else left_out
        count = len(self.features) - int(left_out.sum())
        if self.sums is None:
            rows = np.array(self.features[~left_out], np.float64) - self.centre
            shift = rows.mean(axis=0)
            root = (rows - shift) / np.sqrt(count - 1)
            return _Gaussian(self.centre + shift, float((root**2).sum()), root=root)
        total, products = self.sums
        if left_out.any():
            less_total, less_products = self._sums(np.flatnonzero(left_out))
            total, products = total - less_total, products - less_products
        covariance = (products - np.outer(total, total) / count) / (count - 1)
        mean = self.centre + total / count
        return _Gaussian(mean, float(np.trace(covariance)), covariance=covariance)

    def _sums(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum (D,) and sum of outer products (D, D) of rows about the centre."""
        dimension = self.features.shape[1]
        total, products = np.zeros(dimension), np.zeros((dimension, dimension))
        for chunk in chunks(self.features, rows):
            chunk -= self.centre
            total += chunk.sum(axis=0)
            products += chunk.T @ chunk
        return total, products


def _distance(a: _Gaussian, b: _Gaussian) -> float:
    apart = float(((a.mean - b.mean) ** 2).sum())
    return max(apart + a.trace + b.trace - 2 * _trace_of_root(a, b), 0.0)


def _trace_of_root(a: _Gaussian, b: _Gaussian) -> float:
    """Tr (Sa Sb)^(1/2), which is the sum of the singular values of Ra Rb^T for any roots.

    With few samples the samples are a root, and the matrix is as small as they are few. Else the
    squares of the singular values are the eigenvalues of Ra Sb Ra^T, which is symmetric: nothing
    turns complex as in a general matrix root.
    """
    if a.root is not None and b.root is not None:
        return float(np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum())
    if a.root is None and b.root is not None:
        a, b = b, a
    root = _symmetric_root(a.covariance) if a.covariance is not None else a.root
    assert root is not None
    assert b.covariance is not None
    squares = np.linalg.eigvalsh(root @ b.covariance @ root.T)
    return float(np.sqrt(squares.clip(min=0)).sum())  # rounding leaves some just below 0


def _symmetric_root(covariance: np.ndarray) -> np.ndarray:
    """Rows R (D, D) with R^T R = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(values.clip(min=0))[:, None] * vectors.T
