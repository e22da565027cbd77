import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text2layer.errors import InputError
from text2layer.training.ranking import (
    precision_and_recall,
    rank,
    roc_auc,
    threshold_for_precision,
)

CASES = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30)


@given(CASES)
def test_roc_auc_is_the_share_of_pairs_in_order(cases):
    scores = np.array([score / 5 for score, _ in cases])
    good = np.array([verdict for _, verdict in cases])
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[good] for b in scores[~good]]
    if pairs:
        assert roc_auc(scores, good) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(roc_auc(scores, good))


@given(CASES, st.sampled_from([0.5, 0.8, 1.0]))
def test_the_threshold_is_the_least_that_is_precise_enough(cases, wanted):
    scores = np.array([score / 5 for score, _ in cases])
    good = np.array([verdict for _, verdict in cases])
    fitting = [
        s for s in set(scores.tolist()) if precision_and_recall(scores, good, s)[0] >= wanted
    ]
    assert threshold_for_precision(scores, good, wanted) == min(fitting, default=1.0)


def test_figures_by_hand():
    scores, good = np.array([0.9, 0.8, 0.6, 0.2]), np.array([True, False, True, True])
    found = rank(scores, good, 1.0)
    assert (found.count, found.good) == (4, 3)
    assert found.precision == found.recall == pytest.approx(2 / 3)
    assert (found.threshold, found.precision_there) == (0.9, 1.0)
    assert found.recall_there == pytest.approx(1 / 3)
    none = rank(np.array([0.1]), np.array([False]))
    assert none.to_json()["precision"] is None
    assert none.threshold == 1.0


def test_nothing_to_rank_is_named():
    with pytest.raises(InputError, match="0 scores"):
        rank(np.array([]), np.array([], bool))
