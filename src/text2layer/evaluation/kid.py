"""Kernel inception distance between two sets of features (Binkowski et al., arXiv 1801.01401)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from text2layer.errors import InputError
from text2layer.evaluation.features import CHUNK_ROWS, check_pair
from text2layer.evaluation.interval import Interval, check_confidence, jackknife, split_groups

DEGREE = 3  # of the kernel, section 4 of the paper


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Polynomial kernel (a.b / D + 1)^3 of the paper, section 4.

    Args:
        a: (N, D) float64.
        b: (M, D) float64.

    Returns:
        (N, M).
    """
    return (a @ b.T / a.shape[1] + 1.0) ** DEGREE


def kid(
    real: np.ndarray,
    generated: np.ndarray,
    resamples: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Unbiased squared maximum mean discrepancy of the whole sets, equation 4 of the paper.

    It has the expectation of the usual mean over random subsets, at any number of samples, without
    the noise of the draws. The interval is a delete-a-group jackknife, as in `fid`. Time grows with
    (N + M)^2, memory does not: only sums of the kernel over pairs of groups are kept.

    Args:
        real: (N, D) features, for published figures those of `InceptionFeatures`.
        generated: (M, D).
        resamples: Groups of the jackknife, at least 4; fewer are used when samples are fewer.
        confidence: Between 0 and 1.
        seed: Of the split into groups; the value does not depend on it.

    Returns:
        Value and ends; an unbiased value may be a little below 0. With fewer than 4 samples the
        ends are infinite.

    Raises:
        InputError: fewer than 2 samples, different dimensions, values that are not finite, or an
            option out of range.

    Example:
        >>> a = np.array([[1.0], [2.0]])
        >>> round(kid(a, a + 1).value, 6)
        90.5
    """
    check_pair(real, generated)
    check_confidence(confidence)
    if resamples < 4:
        raise InputError(f"The interval of KID needs at least 4 resamples, not {resamples}.")
    fewest = min(len(real), len(generated))
    groups = min(resamples, fewest)
    labels = [np.eye(groups)[split_groups(len(side), groups, seed)] for side in (real, generated)]
    sums = (
        _kernel_sums(real, None, labels[0], labels[0]),
        _kernel_sums(generated, None, labels[1], labels[1]),
        _kernel_sums(real, generated, labels[0], labels[1]),
    )
    sizes = labels[0].sum(axis=0), labels[1].sum(axis=0)
    every = np.ones(groups)
    value = _discrepancy(every, *sums, *sizes)
    without = []
    if fewest >= 4:
        without = [_discrepancy(every - row, *sums, *sizes) for row in np.eye(groups)]
    return jackknife(value, without, confidence, fewest)


def _kernel_sums(
    a: np.ndarray, b: np.ndarray | None, groups_a: np.ndarray, groups_b: np.ndarray
) -> np.ndarray:
    """Kernel summed over pairs of groups (G, G); with b None over pairs of two rows of `a`.

    Args:
        a: (N, D).
        b: (M, D).
        groups_a: (N, G), 1 where the row is in the group.
        groups_b: (M, G).
    """
    sums = np.zeros((groups_a.shape[1], groups_b.shape[1]))
    for rows in _parts(a):
        x = np.array(a[rows], np.float64)
        for columns in _parts(a if b is None else b):
            if b is None and columns.start < rows.start:
                continue  # the kernel is symmetric
            values = kernel(x, np.array((a if b is None else b)[columns], np.float64))
            if b is None and columns == rows:
                np.fill_diagonal(values, 0.0)
            block = groups_a[rows].T @ values @ groups_b[columns]
            sums += block
            if b is None and columns != rows:
                sums += block.T
    return sums


def _parts(features: np.ndarray) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, len(features), CHUNK_ROWS))


def _discrepancy(
    chosen: np.ndarray,
    real: np.ndarray,
    generated: np.ndarray,
    between: np.ndarray,
    real_sizes: np.ndarray,
    generated_sizes: np.ndarray,
) -> float:
    """Equation 4 over the chosen groups (G,), from sums of the kernel (G, G) and sizes (G,)."""
    n, m = chosen @ real_sizes, chosen @ generated_sizes
    own = chosen @ real @ chosen / (n * (n - 1)) + chosen @ generated @ chosen / (m * (m - 1))
    return float(own - 2 * (chosen @ between @ chosen) / (n * m))
