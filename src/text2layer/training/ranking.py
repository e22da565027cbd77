"""How well scores tell good from bad: ROC, precision and recall, the threshold for a precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from text2layer.errors import InputError


@dataclass(frozen=True)
class Ranking:
    """Held-out figures of a classifier.

    Attributes:
        count: cases scored.
        good: how many of them are good.
        roc_auc: chance that a good case scores higher than a bad one; nan without both.
        precision: share of good ones among those that score .5 or more; nan if none does.
        recall: share of the good ones that score .5 or more.
        wanted_precision: what the threshold was sought for.
        threshold: least score from which on precision is as wanted; 1 if none reaches it.
        precision_there: precision at the threshold; nan if no case reaches it.
        recall_there: recall at the threshold.
    """

    count: int
    good: int
    roc_auc: float
    precision: float
    recall: float
    wanted_precision: float
    threshold: float
    precision_there: float
    recall_there: float

    def to_json(self) -> dict[str, Any]:
        """All fields, rounded to 4 digits; nan, which JSON lacks, is null."""
        return {
            name: value if isinstance(value, int) else None if np.isnan(value) else round(value, 4)
            for name, value in asdict(self).items()
        }


def rank(scores: np.ndarray, good: np.ndarray, wanted_precision: float = 0.9) -> Ranking:
    """Figures of scores (N,) for verdicts (N,) bool.

    Raises:
        InputError: there is no case, or the lengths differ.
    """
    if not len(scores) or len(scores) != len(good):
        raise InputError(f"{len(scores)} scores came with {len(good)} verdicts.")
    threshold = threshold_for_precision(scores, good, wanted_precision)
    return Ranking(
        len(scores),
        int(good.sum()),
        roc_auc(scores, good),
        *precision_and_recall(scores, good, 0.5),
        wanted_precision,
        threshold,
        *precision_and_recall(scores, good, threshold),
    )


def roc_auc(scores: np.ndarray, good: np.ndarray) -> float:
    """Area under the ROC curve: P(good scores higher than bad), ties counting half.

    Example:
        >>> roc_auc(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False]))
        0.75
    """
    if good.all() or not good.any():
        return float("nan")
    bad = np.sort(scores[~good])
    below = np.searchsorted(bad, scores[good], side="left")
    upto = np.searchsorted(bad, scores[good], side="right")
    return float((below + upto).mean() / 2 / len(bad))


def precision_and_recall(
    scores: np.ndarray, good: np.ndarray, threshold: float
) -> tuple[float, float]:
    """Of the cases that score `threshold` or more; nan where there is nothing to divide by."""
    kept = scores >= threshold
    hits = float((kept & good).sum())
    precision = hits / kept.sum() if kept.any() else float("nan")
    return float(precision), float(hits / good.sum()) if good.any() else float("nan")


def threshold_for_precision(scores: np.ndarray, good: np.ndarray, wanted: float) -> float:
    """Least score that, as a threshold, gives the wanted precision; 1.0 if none does.

    Example:
        >>> threshold_for_precision(np.array([0.9, 0.4, 0.6]), np.array([True, True, False]), 0.9)
        0.9
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    precision = np.cumsum(good[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    fitting = np.nonzero((precision >= wanted) & last_of_ties)[0]
    return float(ranked[fitting[-1]]) if len(fitting) else 1.0
