"""KID against torchmetrics, pairs written out, and repeated experiments."""

import math

import numpy as np
import pytest
import torch

from text2layer.errors import InputError
from text2layer.evaluation.features import CHUNK_ROWS
from text2layer.evaluation.kid import kernel, kid

DIMENSION = 16


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    return (np.abs(values) + shift).astype(np.float32)


def pair_by_pair(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 4 of the paper with Python's sums."""

    def k(a, b):
        return (float(a @ b) / DIMENSION + 1) ** 3

    x, y = x.astype(np.float64), y.astype(np.float64)
    n, m = len(x), len(y)
    own_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    own_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return own_x + own_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


class Columns(torch.nn.Module):
    """Takes the features out of the pictures they are handed over in."""

    num_features = DIMENSION

    def forward(self, pictures):
        return pictures[:, 0, 0, :]


def of_torchmetrics(
    real: np.ndarray, generated: np.ndarray, subsets: int, size: int
) -> list[float]:
    image = pytest.importorskip("torchmetrics.image.kid")
    metric = image.KernelInceptionDistance(
        feature=Columns(), subsets=subsets, subset_size=size, normalize=True
    )
    for values, is_real in ((real, True), (generated, False)):
        picture = torch.from_numpy(values)[:, None, None, :].expand(-1, 3, 1, -1)
        metric.update(picture, real=is_real)
    return [value.item() for value in metric.compute()]


def test_it_is_that_of_torchmetrics_over_all_samples():
    real, generated = features(150, 0), features(150, 1, 0.1)
    mean, _ = of_torchmetrics(real, generated, 1, 150)
    assert kid(real, generated).value == pytest.approx(mean, rel=1e-3)


def test_over_all_samples_it_is_the_mean_of_torchmetrics_over_subsets():
    torch.manual_seed(0)
    real, generated = features(400, 0), features(300, 1, 0.1)
    mean, deviation = of_torchmetrics(real, generated, 300, 50)
    assert kid(real, generated).value == pytest.approx(mean, abs=4 * deviation / math.sqrt(300))


@pytest.mark.parametrize(("n", "m"), [(2, 2), (7, 12), (30, 5)])
def test_it_is_the_sum_over_pairs(n, m):
    x, y = features(n, 0), features(m, 1, 0.2)
    assert kid(x, y).value == pytest.approx(pair_by_pair(x, y), rel=1e-9)


def test_blocks_do_not_change_it():
    n, m = 2 * CHUNK_ROWS + 3, CHUNK_ROWS + 7
    x, y = features(n, 0), features(m, 1, 0.1)
    a, b = x.astype(np.float64), y.astype(np.float64)
    own = [(k := kernel(z, z)).sum() - np.trace(k) for z in (a, b)]
    expected = own[0] / (n * (n - 1)) + own[1] / (m * (m - 1)) - 2 * kernel(a, b).mean()
    assert kid(x, y).value == pytest.approx(expected, rel=1e-8)


def test_leaving_a_group_out_is_computing_without_it():
    from text2layer.evaluation.interval import jackknife, split_groups

    x, y = features(41, 0), features(33, 1, 0.1)
    labels = [split_groups(len(z), 6, 7) for z in (x, y)]
    without = [pair_by_pair(x[labels[0] != g], y[labels[1] != g]) for g in range(6)]
    expected = jackknife(pair_by_pair(x, y), without)
    interval = kid(x, y, resamples=6, seed=7)
    assert interval.low == pytest.approx(expected.low, rel=1e-7)
    assert interval.high == pytest.approx(expected.high, rel=1e-7)


def test_the_interval_surrounds_the_value_and_shrinks():
    widths = []
    for count in (50, 200, 800):
        interval = kid(features(count, 2), features(count, 3, 0.1))
        assert interval.low < interval.value < interval.high
        assert interval.samples == count
        widths.append(interval.high - interval.low)
    assert widths[0] > 1.3 * widths[1] > 1.3**2 * widths[2]


def test_it_is_unbiased_and_its_interval_holds_as_often_as_it_says():
    """Over experiments of 40 samples the mean is that of large sets, and zero for equal ones."""
    intervals = [kid(features(40, 2 * s), features(40, 2 * s + 1, 0.2)) for s in range(50, 250)]
    values = np.array([interval.value for interval in intervals])
    truth = kid(features(4000, 0), features(4000, 1, 0.2)).value
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))
    hits = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert hits > 0.88
    same = [kid(features(40, 2 * s), features(40, 2 * s + 1)).value for s in range(50, 250)]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(len(same))
    assert min(same) < 0


def test_constant_features_are_apart_by_the_kernel():
    interval = kid(np.zeros((9, 4)), np.ones((6, 4)))
    assert interval.value == pytest.approx(1 + 8 - 2)
    assert interval.high - interval.low == pytest.approx(0, abs=1e-9)


def test_unfit_input_is_refused():
    values = features(10, 0)
    broken = values.copy()
    broken[4, 1] = np.inf
    with pytest.raises(InputError, match="at least 2 samples"):
        kid(values[:1], values)
    with pytest.raises(InputError, match="same dimension"):
        kid(values, values[:, :5])
    with pytest.raises(InputError, match="generated sample 4 are not finite"):
        kid(values, broken)
    with pytest.raises(InputError, match="resamples"):
        kid(values, values, resamples=3)
    with pytest.raises(InputError, match="confidence"):
        kid(values, values, confidence=0.0)


def test_with_hardly_any_samples_the_interval_is_open():
    interval = kid(features(3, 0), features(50, 1))
    assert (interval.low, interval.high) == (-math.inf, math.inf)
