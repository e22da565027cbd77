"""FID against torchmetrics, SciPy's matrix root, closed forms and repeated experiments."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import linalg

from text2layer.errors import InputError
from text2layer.evaluation.features import FeatureStore
from text2layer.evaluation.fid import fid, frechet_distance

DIMENSION = 24
# few: the samples themselves are the roots; many: covariances; mixed: one of each, both ways
SIZES = [(10, 16), (24, 24), (60, 90), (12, 70), (70, 12), (25, 24)]


def features(count: int, seed: int, dimension: int = DIMENSION, shift: float = 0.0) -> np.ndarray:
    """Correlated and non-negative, as the features of a network are."""
    mixing = np.random.default_rng(99).normal(size=(dimension, dimension)) / math.sqrt(dimension)
    values = np.random.default_rng(seed).normal(size=(count, dimension)) @ mixing + shift
    return np.maximum(values + 0.3, 0).astype(np.float32)


def with_matrix_root(real: np.ndarray, generated: np.ndarray) -> float:
    """The formula as Heusel et al. wrote it down, with SciPy."""
    a, b = real.astype(np.float64), generated.astype(np.float64)
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(apart + np.trace(covariances[0] + covariances[1] - 2 * root))


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_it_is_that_of_torchmetrics(n, m):
    image = pytest.importorskip("torchmetrics.image.fid")

    class Columns(torch.nn.Module):
        """Takes the features out of the pictures they are handed over in."""

        num_features = DIMENSION

        def forward(self, pictures):
            return pictures[:, 0, 0, :]

    metric = image.FrechetInceptionDistance(feature=Columns(), normalize=True)
    real, generated = features(n, 0), features(m, 1, shift=0.2)
    for values, is_real in ((real, True), (generated, False)):
        picture = torch.from_numpy(values)[:, None, None, :].expand(-1, 3, 1, -1)
        metric.update(picture, real=is_real)
    assert frechet_distance(real, generated) == pytest.approx(metric.compute().item(), rel=1e-3)


@pytest.mark.parametrize(("n", "m"), [(60, 90), (400, 300)])
def test_it_is_that_of_a_matrix_root(n, m):
    real, generated = features(n, 0), features(m, 1, shift=0.2)
    expected = with_matrix_root(real, generated)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_all_routes_agree(n, m):
    """Features without information make few samples out of many, or the other way round."""
    real, generated = features(n, 0), features(m, 1, shift=0.2)
    padding = [np.zeros((len(x), 200), np.float32) for x in (real, generated)]
    wide = [np.concatenate(pair, axis=1) for pair in zip((real, generated), padding, strict=True)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(real, generated), rel=1e-7)


def test_independent_features_have_a_closed_form():
    """Each column has the same two values: variance and mean are known exactly."""
    spreads = np.array([[1.0, 2.0, 0.5], [3.0, 0.0, 0.5]])
    signs = linalg.hadamard(8)[:, 1:4]  # columns of mean 0 that are orthogonal
    variances = spreads**2 * 8 / 7
    real = signs * spreads[0]
    generated = signs * spreads[1] + np.array([0.0, 1.0, 2.0])
    expected = 5.0 + ((np.sqrt(variances[0]) - np.sqrt(variances[1])) ** 2).sum()
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("count", [2, 24, 100])
def test_the_same_features_have_no_distance_in_any_order(count):
    values = features(count, 0)
    assert frechet_distance(values, values[::-1]) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(values, values + 1) == pytest.approx(DIMENSION, rel=1e-5)


def test_constant_features_are_apart_by_their_means():
    assert frechet_distance(np.ones((5, 3)), np.full((40, 3), 3.0)) == pytest.approx(12)
    interval = fid(np.ones((50, 3)), np.full((40, 3), 3.0))
    assert interval.value == interval.low == interval.high == pytest.approx(12)


@pytest.mark.parametrize(("n", "m"), [(16, 20), (400, 500), (20, 500)])
def test_the_interval_surrounds_the_value(n, m):
    real, generated = features(n, 0), features(m, 1, shift=0.2)
    interval = fid(real, generated)
    assert interval.value == frechet_distance(real, generated)
    assert 0 <= interval.low < interval.value < interval.high
    assert interval.samples == n
    assert bool(interval.note) == (n <= DIMENSION)
    assert fid(real, generated, seed=0) == interval
    assert fid(real, generated, seed=1) != interval
    wider = fid(real, generated, confidence=0.99)
    assert wider.high > interval.high


def test_leaving_a_group_out_is_computing_without_it():
    """The shortcut through sums gives what the samples themselves give."""
    from text2layer.evaluation.interval import jackknife, split_groups

    real, generated = features(90, 0), features(70, 1)
    labels = [split_groups(len(x), 5, 7) for x in (real, generated)]
    without = [frechet_distance(real[labels[0] != g], generated[labels[1] != g]) for g in range(5)]
    expected = jackknife(frechet_distance(real, generated), without)
    interval = fid(real, generated, resamples=5, seed=7)
    assert interval.high == pytest.approx(expected.high, rel=1e-6)


def test_more_samples_more_sure():
    widths = [(i := fid(features(n, 2), features(n, 3, shift=0.2))).high - i.low
              for n in (100, 400, 1600)]  # fmt: skip
    assert widths[0] > 1.4 * widths[1] > 1.4**2 * widths[2]


@pytest.mark.parametrize(("count", "dimension"), [(16, 24), (80, 8)])
def test_the_interval_holds_the_mean_over_experiments_as_often_as_it_says(count, dimension):
    intervals = [
        fid(features(count, 2 * seed, dimension), features(count, 2 * seed + 1, dimension, 0.3))
        for seed in range(100, 220)
    ]
    expected = np.mean([interval.value for interval in intervals])
    hits = np.mean([interval.low <= expected <= interval.high for interval in intervals])
    assert hits > 0.9


def test_features_on_disk_need_no_memory():
    peaks = []
    for repeats in (1, 20):  # 1,500 and 30,000 samples: 0.1 and 2.9 MB, 5.8 MB as float64
        with FeatureStore(DIMENSION) as real, FeatureStore(DIMENSION) as generated:
            for repeat in range(repeats):
                real.append(features(1500, repeat))
                generated.append(features(1500, repeat + 100))
            tracemalloc.start()
            frechet_distance(real.array(), generated.array())
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000  # the numbers of the rows


def test_too_few_samples_and_other_input_are_refused():
    values = features(10, 0)
    for one in ((values[:1], values), (values, values[:1])):
        with pytest.raises(InputError, match="at least 2 samples"):
            frechet_distance(*one)
        with pytest.raises(InputError, match="at least 2 samples"):
            fid(*one)
    with pytest.raises(InputError, match="same dimension"):
        fid(values, values[:, :5])
    broken = values.copy()
    broken[4, 1] = np.nan
    with pytest.raises(InputError, match="real sample 4 are not finite"):
        fid(broken, values)
    with pytest.raises(InputError, match="resamples"):
        fid(values, values, resamples=3)
    with pytest.raises(InputError, match="confidence"):
        fid(values, values, confidence=1.0)


@pytest.mark.parametrize("count", [2, 3])
def test_with_hardly_any_samples_the_interval_is_open(count):
    interval = fid(features(count, 0), features(count, 1))
    assert (interval.low, interval.high) == (0.0, math.inf)
