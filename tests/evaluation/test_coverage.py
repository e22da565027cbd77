"""Precision, recall, density and coverage against their definition and cases made by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from text2layer.errors import InputError
from text2layer.evaluation import coverage as module
from text2layer.evaluation.coverage import CoverageScores, coverage_scores

NAMES = ("precision", "recall", "density", "coverage")


def features(count: int, seed: int, shift: float = 0.0, dimension: int = 6) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, dimension)) + shift
    return values.astype(np.float32)


def values(scores: CoverageScores) -> dict[str, float]:
    return {name: getattr(scores, name).value for name in NAMES}


def as_prdc(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, float]:
    """The definition in `prdc`, the authors' package, with all distances at once."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    real_radius = np.sort(cdist(real, real), axis=1)[:, k]
    generated_radius = np.sort(cdist(generated, generated), axis=1)[:, k]
    between = cdist(real, generated)
    return {
        "precision": (between < real_radius[:, None]).any(axis=0).mean(),
        "recall": (between < generated_radius[None]).any(axis=1).mean(),
        "density": (between < real_radius[:, None]).sum(axis=0).mean() / k,
        "coverage": (between.min(axis=1) < real_radius).mean(),
    }


@pytest.mark.parametrize(("n", "m"), [(60, 60), (7, 90), (130, 40)])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_it_is_the_definition(n, m, k, shift, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 32)  # several blocks, the last ones incomplete
    real, generated = features(n, 0), features(m, 1, shift)
    scores = values(coverage_scores(real, generated, k, k))
    assert scores == pytest.approx(as_prdc(real, generated, k), abs=1e-12)


def test_the_usual_neighbours_are_3_and_5():
    real, generated = features(80, 0), features(80, 1, 0.5)
    scores, three, five = (
        values(coverage_scores(real, generated)), as_prdc(real, generated, 3),
        as_prdc(real, generated, 5),
    )  # fmt: skip
    assert scores["precision"] == pytest.approx(three["precision"])
    assert scores["recall"] == pytest.approx(three["recall"])
    assert scores["density"] == pytest.approx(five["density"])
    assert scores["coverage"] == pytest.approx(five["coverage"])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_set_and_itself_score_1_even_far_from_the_origin(offset):
    """Each sample is inside its own ball and those of k - 1 others; the k-th is on the rim."""
    sample = features(70, 0, offset, dimension=64)
    scores = values(coverage_scores(sample, sample[::-1].copy()))
    assert scores == pytest.approx(dict.fromkeys(NAMES, 1.0))


def test_the_rim_of_a_ball_is_outside():
    real = np.arange(4.0)[:, None]
    scores = values(coverage_scores(real, real + 1.0, 1, 1))
    # each radius is 1; 1, 2 and 3 are real samples (distance 0), 4 is on the rim of 3
    assert scores == {"precision": 0.75, "recall": 0.75, "density": 0.75, "coverage": 0.75}


def test_sets_far_apart_score_0():
    assert values(coverage_scores(features(30, 0), features(40, 1, 100))) == dict.fromkeys(NAMES, 0)


def test_one_mode_alone_is_precise_and_covers_little():
    real = np.concatenate([features(50, 0), features(50, 1, 100)])
    scores = values(coverage_scores(real, features(100, 2)))
    assert scores["precision"] > 0.8
    assert scores["density"] > 0.8
    assert scores["recall"] < 0.6
    assert scores["coverage"] == pytest.approx(0.5, abs=0.05)


def test_an_outlier_misleads_precision_but_not_density():
    real = np.concatenate([features(60, 0), np.full((1, 6), 50.0, np.float32)])
    scores = values(coverage_scores(real, features(60, 1, 20)))
    assert scores["precision"] == 1
    assert scores["density"] < 0.3


def test_intervals_are_over_the_samples_that_are_averaged():
    scores = coverage_scores(features(40, 0), features(90, 1, 0.5))
    assert [getattr(scores, name).samples for name in NAMES] == [90, 40, 90, 40]
    for name in NAMES:
        interval = getattr(scores, name)
        assert interval.low <= interval.value <= interval.high
        assert interval.low < interval.high
    assert scores == coverage_scores(features(40, 0), features(90, 1, 0.5))


def test_one_repeated_point_has_balls_without_inside():
    point = np.full((20, 6), 0.1, np.float32)
    assert values(coverage_scores(point, point)) == dict.fromkeys(NAMES, 0)
    assert values(coverage_scores(point, features(20, 0)))["precision"] == 0


def test_unfit_input_is_refused():
    sample = features(10, 0)
    broken = sample.copy()
    broken[3, 0] = np.nan
    with pytest.raises(InputError, match="real set needs at least 6 samples"):
        coverage_scores(sample[:5], sample)
    with pytest.raises(InputError, match=r"generated set needs at least 6 samples .*got 1\."):
        coverage_scores(sample, sample[:1])
    with pytest.raises(InputError, match="same dimension"):
        coverage_scores(sample, sample[:, :3])
    with pytest.raises(InputError, match="real sample 3 are not finite"):
        coverage_scores(broken, sample)
    with pytest.raises(InputError, match="neighbour, not 0"):
        coverage_scores(sample, sample, precision_neighbours=0)
