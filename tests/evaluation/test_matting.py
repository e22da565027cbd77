"""Matting errors against definitions written out with scipy and scikit-image, and by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from text2layer.errors import InputError
from text2layer.evaluation.matting import (
    connectivity_error,
    gradient_error,
    mean_squared_error,
    sum_of_absolute_differences,
)

METRICS = [sum_of_absolute_differences, mean_squared_error, gradient_error, connectivity_error]


def noise(count: int = 3, size: tuple[int, int] = (23, 31)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    a, b = torch.rand(2, count, 1, *size, generator=generator)
    return a, b


def objects() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth blobs with islands and holes, in 8 bits: what masks look like."""
    generator = torch.Generator().manual_seed(6)
    coarse = torch.rand(6, 1, 7, 9, generator=generator)
    fine = F.interpolate(coarse, size=(35, 48), mode="bicubic", align_corners=False)
    levels = ((fine - 0.5) * 4 + 0.5).clamp(0, 1).mul(255).round() / 255
    return levels[:3], (levels[:3] * 0.8 + levels[3:] * 0.2).mul(255).round() / 255


def reference_gradient_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """Rhemann's definition with a two-dimensional kernel, by scipy."""
    ndimage = pytest.importorskip("scipy.ndimage")
    sigma, cut = 1.4, 1e-2
    half = int(np.ceil(sigma * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * sigma * cut))))
    v, u = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    gauss = np.exp(-(u**2 + v**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    kernel = -u / sigma**2 * gauss
    kernel /= np.sqrt((kernel**2).sum())
    lengths = []
    for mask in (predicted, true):
        across = ndimage.convolve(mask, kernel, mode="nearest")
        down = ndimage.convolve(mask, kernel.T, mode="nearest")
        lengths.append(np.hypot(across, down))
    return float(((lengths[0] - lengths[1]) ** 2).sum() / 1000)


def reference_connectivity_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """Rhemann's definition, level by level, by scikit-image."""
    measure = pytest.importorskip("skimage.measure")
    level = np.full(true.shape, -1.0)
    for step in range(1, 11):
        labels = measure.label((predicted >= step / 10) & (true >= step / 10), connectivity=1)
        sizes = np.bincount(labels.ravel())[1:]
        omega = labels == np.argmax(sizes) + 1 if len(sizes) else np.zeros(true.shape, bool)
        level[(level == -1) & ~omega] = (step - 1) / 10
    level[level == -1] = 1
    degrees = [1 - (m - level) * (m - level >= 0.15) for m in (predicted, true)]
    return float(np.abs(degrees[0] - degrees[1]).sum() / 1000)


@pytest.mark.parametrize("pair", [noise, objects])
@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        (sum_of_absolute_differences, lambda p, t: np.abs(p - t).sum() / 1000),
        (mean_squared_error, lambda p, t: ((p - t) ** 2).mean()),
        (gradient_error, reference_gradient_error),
        (connectivity_error, reference_connectivity_error),
    ],
)
def test_every_sample_scores_what_the_definition_says(metric, reference, pair):
    predicted, true = pair()
    expected = [
        reference(p[0].double().numpy(), t[0].double().numpy())
        for p, t in zip(predicted, true, strict=True)
    ]
    score = metric(predicted, true)
    assert score.dtype == torch.float64
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-9)
    assert (score > 0).all()


def test_the_gradient_of_a_step_by_hand():
    mask = torch.zeros(1, 1, 20, 40)
    mask[..., 20:] = 1
    position = np.arange(-4, 5)
    smooth = np.exp(-(position**2) / (2 * 1.4**2))
    slope = position * smooth
    slope, smooth = (k / math.sqrt((k**2).sum()) for k in (slope, smooth))
    beside = [slope[k:].sum() for k in range(9)]  # what a step k taps away leaves of the slope
    expected = 20 * sum((b * smooth.sum()) ** 2 for b in beside) / 1000
    assert gradient_error(mask, torch.zeros_like(mask)).item() == pytest.approx(expected, rel=1e-6)
    assert gradient_error(mask.mT, torch.zeros_like(mask.mT)).item() == pytest.approx(expected)


def row(*alphas: float) -> torch.Tensor:
    return torch.tensor(alphas, dtype=torch.float32).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (row(1, 1, 1, 0, 0), row(1, 1, 1, 0, 1), 1.0),  # an island is lost: degrees 1 and 0
        (row(1, 1, 1, 0, 1), row(1, 1, 1, 0, 1), 0.0),  # an island in both is no error
        (row(1, 1, 1, 0, 0.1), row(1, 1, 1, 0, 1), 1.0),  # .1 is less than .15: still degree 1
        (row(1, 1, 1, 0, 0.5), row(1, 1, 1, 0, 1), 0.5),
        (row(0.6, 1, 1), row(1, 1, 1), 0.4),  # connected up to .6: degrees 1 and .6
        (row(0.9, 1, 1), row(1, 1, 1), 0.0),  # connected up to .9: .1 does not count
        (row(1, 0, 1), row(1, 0, 1), 0.0),
        (row(1, 0, 0), row(1, 0, 1), 1.0),
        (row(0, 0, 1), row(1, 0, 1), 1.0),
    ],
)
def test_connectivity_by_hand(predicted, true, expected):
    assert connectivity_error(predicted, true).item() * 1000 == pytest.approx(expected, abs=1e-6)


def test_a_spiral_is_one_component_and_corners_do_not_connect():
    spiral = torch.tensor(
        [
            [1, 1, 1, 1, 1],
            [0, 0, 0, 0, 1],
            [1, 1, 1, 0, 1],
            [1, 0, 0, 0, 1],
            [1, 1, 1, 1, 1],
        ]
    ).float()[None, None]
    assert connectivity_error(spiral, torch.ones_like(spiral)).item() * 1000 == 8  # the gaps
    corners = torch.eye(2)[None, None]
    fainter = corners * torch.tensor([1, 0.9])  # degrees .1 and 0; both 1 if it were connected
    assert connectivity_error(fainter, corners).item() * 1000 == pytest.approx(0.1, rel=1e-6)


def test_units_are_thousands_of_pixels_and_the_mean():
    black, white = torch.zeros(1, 1, 40, 50), torch.ones(1, 1, 40, 50)
    assert sum_of_absolute_differences(black, white).item() == 2
    assert mean_squared_error(black, white).item() == 1
    assert gradient_error(black, white).item() == pytest.approx(0)  # both plain
    assert connectivity_error(black, white).item() == 2


@pytest.mark.parametrize("metric", METRICS)
def test_equal_and_empty_masks_have_no_error(metric):
    true = torch.cat([objects()[0], torch.zeros(1, 1, 35, 48), torch.ones(1, 1, 35, 48)])
    assert metric(true, true.clone()).tolist() == [0] * 5


@pytest.mark.parametrize("metric", METRICS)
def test_nan_stays_with_its_sample(metric):
    predicted, true = noise(2)
    predicted[0, 0, 4, 4] = torch.nan
    assert metric(predicted, true).isnan().tolist() == [True, False]
    torch.testing.assert_close(metric(predicted, true)[1:], metric(predicted[1:], true[1:]))
    assert metric(predicted[:0], true[:0]).shape == (0,)


@pytest.mark.parametrize("metric", METRICS)
def test_masks_of_two_sizes_are_refused(metric):
    with pytest.raises(InputError, match="one shape"):
        metric(noise()[0], noise(size=(23, 30))[1])
