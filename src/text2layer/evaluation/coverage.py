"""Where generated samples lie among real ones: precision and recall, density and coverage.

Improved precision and recall: Kynkaanniemi et al., arXiv 1904.06991. Density and coverage: Naeem et
al., arXiv 2002.09797. All four ask which samples fall into the balls around the samples of the
other set that reach to their k-th neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from text2layer.errors import InputError
from text2layer.evaluation.features import check_pair, mean_of
from text2layer.evaluation.interval import Interval, bootstrap_mean

BLOCK = 2048  # samples on each side of a block of distances: 32 MiB
# squared distances of float64 rows are known to about 1e-14 of the rows' squared lengths
NOISE = 1e-12
TIE = 1e-9  # closer than this to the rim of a ball, relative, is on it


@dataclass(frozen=True)
class CoverageScores:
    """Scores of `coverage_scores`; all but density lie in 0..1, 1 is best.

    Attributes:
        precision: Share of generated samples in a ball of any real one: how believable they are.
        recall: Share of real samples in a ball of any generated one: how much variety there is.
        density: In how many balls of real samples a generated one lies, divided by k; about 1 for
            equal distributions. Unlike precision it does not trust a real outlier's huge ball.
        coverage: Share of real samples that have a generated one in their ball. Unlike recall it
            does not trust a generated outlier's huge ball.
    """

    precision: Interval
    recall: Interval
    density: Interval
    coverage: Interval


def coverage_scores(
    real: np.ndarray,
    generated: np.ndarray,
    precision_neighbours: int = 3,
    density_neighbours: int = 5,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> CoverageScores:
    """Precision, recall, density and coverage in one pass over the distances.

    As in the authors' `prdc`, a sample is in a ball when its Euclidean distance is strictly less
    than that of the centre's k-th neighbour (itself not counted), so sets of one repeated point
    score 0. Each score is a mean over samples and has a bootstrap interval over those samples; the
    balls stay as they are. Values depend on N and M: compare only equal counts. Time grows with
    (N + M)^2, memory with N + M.

    Args:
        real: (N, D) features.
        generated: (M, D).
        precision_neighbours: k of precision and recall, 3 in the paper.
        density_neighbours: k of density and coverage, 5 in the paper.
        confidence: Between 0 and 1.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        The four scores; `samples` of an interval is N or M, whichever it is a mean over.

    Raises:
        InputError: no more samples than neighbours, different dimensions, values that are not
            finite, or an option out of range.

    Example:
        >>> a = np.arange(10.0)[:, None]
        >>> coverage_scores(a, a + 100).precision.value
        0.0
    """
    if min(precision_neighbours, density_neighbours) < 1:
        raise InputError(
            "Coverage needs at least one neighbour, "
            f"not {min(precision_neighbours, density_neighbours)}."
        )
    check_pair(real, generated, least=max(precision_neighbours, density_neighbours) + 1)
    centre = mean_of(real)  # distances from rows near 0 lose fewer digits
    ks = (precision_neighbours, density_neighbours)
    real_precision, real_density = squared_radii(real, ks, centre)
    (made_recall,) = squared_radii(generated, ks[:1], centre)

    precise, dense = np.zeros(len(generated), bool), np.zeros(len(generated))
    recalled, nearest = np.zeros(len(real), bool), np.full(len(real), np.inf)
    for rows, columns, squared in _squared_distances(real, generated, centre):
        precise[columns] |= (squared < real_precision[rows, None]).any(axis=0)
        dense[columns] += (squared < real_density[rows, None]).sum(axis=0)
        recalled[rows] |= (squared < made_recall[None, columns]).any(axis=1)
        nearest[rows] = np.minimum(nearest[rows], squared.min(axis=1))
    per_sample = (precise, recalled, dense / density_neighbours, nearest < real_density)
    return CoverageScores(
        *(bootstrap_mean(scores, confidence, resamples, seed) for scores in per_sample)
    )


def squared_radii(
    features: np.ndarray, neighbours: tuple[int, ...], centre: np.ndarray
) -> list[np.ndarray]:
    """Squared distance to the k-th neighbour of each sample, a hair less so that ties are outside.

    Args:
        features: (N, D), N greater than every k.
        neighbours: The ks.
        centre: (D,), subtracted for the sake of precision.

    Returns:
        (N,) float64 for each k.
    """
    most = max(neighbours) + 1  # the sample itself is the nearest of all
    best = np.full((len(features), most), np.inf)
    for rows, _, squared in _squared_distances(features, features, centre):
        candidates = np.concatenate([best[rows], squared], axis=1)
        best[rows] = np.partition(candidates, most - 1, axis=1)[:, :most]
    best.sort(axis=1)
    return [best[:, k] * (1 - TIE) for k in neighbours]


def _squared_distances(
    a: np.ndarray, b: np.ndarray, centre: np.ndarray
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield blocks: rows of `a`, rows of `b`, their squared distances; 0 for equal rows."""
    for row in range(0, len(a), BLOCK):
        x = np.array(a[row : row + BLOCK], np.float64) - centre
        x_length = (x**2).sum(axis=1)[:, None]
        for column in range(0, len(b), BLOCK):
            y = np.array(b[column : column + BLOCK], np.float64) - centre
            lengths = x_length + (y**2).sum(axis=1)[None]
            squared = lengths - 2 * (x @ y.T)
            squared[squared < NOISE * lengths] = 0.0
            yield slice(row, row + len(x)), slice(column, column + len(y)), squared
