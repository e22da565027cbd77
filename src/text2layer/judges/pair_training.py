"""Training of the judge of the pair: one neuron over layers and composite of labelled photos.

Its logit is half the logit of the mask judge, half that of the fill judge, and a quarter of that of
a neuron of its own which sees the composite. All three are linear in frozen features, so the sum is
one neuron again, and is stored as one. Only photos teach it: composed cases have no pair of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from text2layer.errors import DataError
from text2layer.judges.labels import KINDS, Kind
from text2layer.judges.pair import Layers, composite_features
from text2layer.judges.quality import PAIR, Backbone
from text2layer.judges.quality_training import (
    Ranking,
    Table,
    cross_validated_scores,
    fit,
    fold_of,
    rank,
)
from text2layer.judges.settings import QualitySettings

LAYER_WEIGHT = 0.5  # of the logits of the mask judge and of the fill judge
OWN_WEIGHT = 0.25  # of the logit of the neuron that sees the composite
LEAST = 1e-6  # of a score and of 1 - score, before its logit is taken


def tabulate_pairs(
    pairs: Iterable[tuple[str, bool, Layers]], backbone: Backbone, folds: int, *,
    progress: bool = True,
) -> Table | None:  # fmt: skip
    """Composite features and verdicts of labelled samples; None where there is none.

    Args:
        pairs: key, whether mask and fill are both good, and layers of each sample.
        backbone: gives feature maps.
        folds: parts of the cross-validation.
        progress: draw a bar on stderr.
    """
    features, verdicts, keys = [], [], []
    for key, good, layers in tqdm(pairs, desc="composites", unit="photo", disable=not progress):
        features.append(composite_features(backbone, layers))
        verdicts.append(good)
        keys.append(key)
    if not keys:
        return None
    every = torch.ones(len(keys), dtype=torch.bool)
    fold = torch.tensor([fold_of(key, folds) for key in keys])
    told = torch.tensor(verdicts)
    return Table(torch.stack(features), told, every, ~every, fold, tuple(keys))


def train_pair(
    pairs: Table, tables: Mapping[Kind, Table], heads: Mapping[str, nn.Linear],
    settings: QualitySettings,
) -> tuple[nn.Linear, Ranking]:  # fmt: skip
    """The neuron over `pair_features`, and its held-out figures.

    Args:
        pairs: of `tabulate_pairs`.
        tables: of mask and fill, with the same photos among their cases.
        heads: of mask and fill, trained on all labels.
        settings: of the training.

    Raises:
        DataError: no photo, or all photos, have two good layers.
    """
    own = fit(pairs, torch.ones(len(pairs.keys), dtype=torch.bool), settings, PAIR)
    weights = [LAYER_WEIGHT * heads[kind].weight.detach() for kind in KINDS]
    bias = sum(LAYER_WEIGHT * heads[kind].bias.detach() for kind in KINDS)
    bias = bias + OWN_WEIGHT * own.bias.detach()
    joined = torch.cat([*weights, OWN_WEIGHT * own.weight.detach()], dim=1)
    head = nn.Linear(joined.shape[1], 1)
    head.load_state_dict({"weight": joined, "bias": bias})
    scores = held_out_pairs(pairs, tables, settings)
    return head, rank(scores, pairs.good.numpy(), settings.precision)


def held_out_pairs(
    pairs: Table, tables: Mapping[Kind, Table], settings: QualitySettings
) -> np.ndarray:
    """Score (N,) of each pair by neurons that are trained without its photo.

    Raises:
        DataError: a photo of the pairs is missing in a table.
    """
    logits = OWN_WEIGHT * _logits(cross_validated_scores(pairs, settings, PAIR))
    for kind in KINDS:
        found = cross_validated_scores(tables[kind], settings, kind)
        scores = dict(zip(tables[kind].keys, found, strict=True))
        missing = next((key for key in pairs.keys if key not in scores), None)
        if missing is not None:
            raise DataError(f"The {kind} of '{missing}' is not among the labelled ones.")
        logits += LAYER_WEIGHT * _logits(np.array([scores[key] for key in pairs.keys]))
    result: np.ndarray = 1 / (1 + np.exp(-logits))
    return result


def _logits(scores: np.ndarray) -> np.ndarray:
    clipped = scores.clip(LEAST, 1 - LEAST)
    result: np.ndarray = np.log(clipped / (1 - clipped))
    return result
