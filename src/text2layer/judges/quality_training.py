"""Training of the quality classifiers: one neuron each on frozen features.

The features of all cases are computed once; a neuron on fixed features is logistic regression,
which L-BFGS solves to its optimum, so that there is no number of epochs or learning rate to choose.
Held-out figures are given for each source of labels apart:

    composed   the heads as they are stored, on splits of the library that they never saw: other
               concepts before other backgrounds
    photo      cross-validation over photos: each is scored by heads trained without it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from text2layer.errors import DataError, InputError
from text2layer.judges.cases import Case
from text2layer.judges.labels import KINDS, Kind, count_labels
from text2layer.judges.pair import Layers
from text2layer.judges.quality import (
    PAIR,
    Backbone,
    QualityConfig,
    QualityModel,
    backbone_sha256,
    features_of,
    load_backbone,
    save_quality,
)
from text2layer.judges.settings import QualitySettings as QualitySettings

# labels of photos from which the thresholds are theirs and not the composed ones'
LEAST_PHOTOS = 40
STEPS = 200  # of L-BFGS at most; it stops at the optimum, usually before 50


@dataclass(frozen=True)
class Table:
    """Features and verdicts of all cases of one kind.

    Attributes:
        features: (N, C) float32.
        good: (N,) bool.
        photo: (N,) bool; False is composed.
        held_out: (N,) bool; composed cases that no head is trained on.
        fold: (N,) int; part of the cross-validation that the case's group belongs to.
        keys: of the samples.
    """

    features: Tensor
    good: Tensor
    photo: Tensor
    held_out: Tensor
    fold: Tensor
    keys: tuple[str, ...]


def train_quality(
    cases: Iterable[Case], out: str | Path, settings: QualitySettings | None = None, *,
    pairs: Iterable[tuple[str, bool, Layers]] = (), progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Train the heads, measure them held out, and write them to a folder.

    Args:
        cases: labelled pictures of both kinds; composed cases whose group is not "train" are held
            out.
        out: folder that `load_quality` reads.
        settings: see there.
        pairs: key, verdict and layers of photos whose mask and fill are both among the cases
            (`cases.photo_pairs`); without any, no judge of the pair is trained.
        progress: draw a bar on stderr.

    Returns:
        Counts of labels, and for each kind and source the held-out figures (`Ranking`).

    Raises:
        DataError: a kind has no good or no bad cases to train on.
        InputError, FormatError: the folder cannot be written.
    """
    from text2layer.judges.pair_training import tabulate_pairs, train_pair

    settings = settings or QualitySettings()
    backbone = load_backbone(settings.backbone)
    tables, counts = tabulate(cases, backbone, settings.folds, progress=progress)
    heads: dict[str, nn.Linear] = {}
    thresholds: dict[str, float] = {}
    held_out: dict[str, Any] = {}
    for kind in KINDS:
        if kind not in tables:
            raise DataError(f"There is no label of a {kind} to train on.")
        table = tables[kind]
        heads[kind] = fit(table, ~table.held_out, settings, kind)
        figures = held_out_figures(table, heads[kind], settings, kind)
        held_out[kind] = {source: ranking.to_json() for source, ranking in figures.items()}
        if figures:
            enough = "photo" in figures and figures["photo"].count >= LEAST_PHOTOS
            source = "photo" if enough or "composed" not in figures else "composed"
            thresholds[kind] = round(figures[source].threshold, 4)
    together = tabulate_pairs(pairs, backbone, settings.folds, progress=progress)
    if together is not None:
        heads[PAIR], ranking = train_pair(together, tables, heads, settings)
        held_out[PAIR] = {"photo": ranking.to_json()}
        thresholds[PAIR] = round(ranking.threshold, 4)
    config = QualityConfig(
        settings.backbone, backbone_sha256(settings.backbone), thresholds, counts, held_out
    )
    save_quality(QualityModel(backbone, heads, config), out)
    return {"labels": counts, "held_out": held_out, "thresholds": thresholds}


def tabulate(
    cases: Iterable[Case], backbone: Backbone, folds: int, *, progress: bool = True
) -> tuple[dict[Kind, Table], dict[str, int]]:
    """Compute the features of all cases once; also count the labels."""
    rows: dict[Kind, list[tuple[Tensor, Case]]] = {}
    labels = []
    for case in tqdm(cases, desc="features", unit="case", disable=not progress):
        features = features_of(case.label.kind, backbone, case.picture, case.mask)
        bare = replace(case, picture=np.empty(0), mask=np.empty(0))  # pictures need not stay
        rows.setdefault(case.label.kind, []).append((features, bare))
        labels.append(case.label)
    tables = {kind: _table(found, folds) for kind, found in rows.items()}
    return tables, count_labels(labels)


def _table(rows: Sequence[tuple[Tensor, Case]], folds: int) -> Table:
    cases = [case for _, case in rows]
    photo = torch.tensor([case.label.source == "photo" for case in cases])
    seen = torch.tensor([case.group == "train" for case in cases])
    return Table(
        torch.stack([features for features, _ in rows]),
        torch.tensor([bool(case.label.good) for case in cases]),
        photo,
        ~photo & ~seen,
        torch.tensor([fold_of(case.group, folds) for case in cases]),
        tuple(case.label.key for case in cases),
    )


def fold_of(group: str, folds: int) -> int:
    """The part that a group always falls into, whatever else there is."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") % folds


def held_out_figures(
    table: Table, head: nn.Linear, settings: QualitySettings, kind: Kind
) -> dict[str, Ranking]:
    """Rankings by source of cases that the scoring head has not seen, for the sources there are."""
    figures = {}
    if table.held_out.any():
        scores = _scores(head, table.features[table.held_out])
        figures["composed"] = rank(scores, table.good[table.held_out].numpy(), settings.precision)
    if table.photo.any():
        scores = cross_validated_scores(table, settings, kind)
        mine = table.photo.numpy()
        figures["photo"] = rank(scores[mine], table.good.numpy()[mine], settings.precision)
    return figures


def cross_validated_scores(table: Table, settings: QualitySettings, kind: str) -> np.ndarray:
    """Score (N,) of each photo by a head trained without it; NaN for composed cases."""
    scores = np.full(len(table.good), np.nan)
    for fold in range(settings.folds):
        tested = table.photo & (table.fold == fold)
        if tested.any():
            own = fit(table, ~table.held_out & ~tested, settings, kind)
            scores[tested.numpy()] = _scores(own, table.features[tested])
    return scores


def fit(table: Table, rows: Tensor, settings: QualitySettings, kind: str) -> nn.Linear:
    """One neuron that minimises weighted cross-entropy + decay/2 * |weights|^2.

    The features are brought to mean 0 and variance 1 first; that is folded into the weights, so
    the head takes plain features. Good and bad weigh the same within each source.

    Raises:
        DataError: there are no good or no bad cases.
    """
    good = table.good[rows]
    if good.all() or not good.any():
        missing = "bad" if good.all() else "good"
        raise DataError(f"No {missing} {kind} is among the labels; training needs both.")
    x = table.features[rows].double()
    mean, deviation = x.mean(dim=0), x.std(dim=0, unbiased=False).clamp(min=1e-4)
    x = (x - mean) / deviation / x.shape[1] ** 0.5  # rows of length about 1 for any C
    # the optimum lies in the span of the rows: fewer unknowns where there are more features
    basis = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else torch.eye(x.shape[1]).double()
    x = x @ basis  # (N, min(N, C)), lengths and angles as before
    weight = _case_weights(good, table.photo[rows], settings.photo_share)
    parameters = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )
    target = good.double()

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = x @ parameters[:-1] + parameters[-1]
        entropy = nn.functional.binary_cross_entropy_with_logits(
            logits, target, weight, reduction="sum"
        )
        loss = entropy + 0.5 * settings.decay * parameters[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    solved = parameters.detach()
    weights = (basis @ solved[:-1]) / deviation / len(basis) ** 0.5
    head = nn.Linear(len(basis), 1)
    bias = solved[-1:] - (weights * mean).sum()
    head.load_state_dict({"weight": weights[None].float(), "bias": bias.float()})
    return head


def _case_weights(good: Tensor, photo: Tensor, photo_share: float) -> Tensor:
    """(N,) float64 of sum 1: `photo_share` for photos, the rest for composed cases.

    Within a source, good and bad cases have the same sum.
    """
    weight = torch.zeros(len(good), dtype=torch.float64)
    for source, share in ((photo, photo_share), (~photo, 1 - photo_share)):
        for verdict in (good, ~good):
            cases = source & verdict
            if cases.any():
                weight[cases] = share / int(cases.sum())
    return weight / weight.sum()


def _scores(head: nn.Linear, features: Tensor) -> np.ndarray:
    with torch.no_grad():
        scores: np.ndarray = torch.sigmoid(head(features))[:, 0].double().numpy()
    return scores


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
