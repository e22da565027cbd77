"""Overlaps and errors of masks against NumPy sets, torchmetrics and hand-computed values."""

import numpy as np
import pytest
import torch

from text2layer.errors import InputError
from text2layer.evaluation.mask_overlap import hard_iou, mean_absolute_error, soft_iou

METRICS = [soft_iou, hard_iou, mean_absolute_error]


def masks(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.rand(2, count, 1, 9, 13, generator=generator)
    return a, b


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
def test_hard_iou_is_the_iou_of_sets_of_pixels(threshold):
    a, b = masks()
    for one, other, score in zip(a, b, hard_iou(a, b, threshold), strict=True):
        first, second = (
            set(zip(*np.nonzero(m[0].numpy() > threshold), strict=True)) for m in (one, other)
        )
        assert float(score) == len(first & second) / len(first | second)


def test_hard_iou_is_that_of_torchmetrics():
    classification = pytest.importorskip("torchmetrics.classification")
    a, b = masks()
    for one, other, score in zip(a, b, hard_iou(a, b, 0.3), strict=True):
        metric = classification.BinaryJaccardIndex(threshold=0.3)
        assert float(score) == pytest.approx(float(metric(one, (other > 0.3).int())), rel=1e-6)


def test_the_threshold_is_strict_and_half_of_eight_bits_is_level_128():
    levels = torch.tensor([127.0, 128.0]).view(1, 1, 1, 2) / 255
    assert hard_iou(levels, torch.tensor([[[[0.0, 1.0]]]])).item() == 1
    edge = torch.full((1, 1, 2, 2), 0.1)
    assert hard_iou(edge, torch.ones(1, 1, 2, 2), threshold=0.1).item() == 0


def test_soft_iou_of_soft_masks_is_numpys():
    a, b = masks()
    x, y = a.double().numpy(), b.double().numpy()
    expected = np.minimum(x, y).sum((1, 2, 3)) / np.maximum(x, y).sum((1, 2, 3))
    np.testing.assert_allclose(soft_iou(a, b).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(soft_iou(b, a).numpy(), expected, rtol=1e-12)


def test_soft_iou_of_hard_masks_is_their_hard_iou():
    a, b = ((m > 0.4).float() for m in masks())
    torch.testing.assert_close(soft_iou(a, b), hard_iou(a, b))


def test_mean_absolute_error_is_numpys():
    a, b = masks()
    expected = np.abs(a.double().numpy() - b.double().numpy()).mean((1, 2, 3))
    np.testing.assert_allclose(mean_absolute_error(a, b).numpy(), expected, rtol=1e-12)


def test_empty_masks_agree_and_an_empty_one_has_nothing_in_common_with_a_full_one():
    empty, full = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    full[1] = 1
    assert soft_iou(empty, full).tolist() == [1, 0]
    assert hard_iou(empty, full).tolist() == [1, 0]
    assert mean_absolute_error(empty, full).tolist() == [0, 1]


@pytest.mark.parametrize("metric", METRICS)
def test_nan_stays_with_its_sample_and_scores_are_float64(metric):
    a, b = masks(2)
    a[1, 0, 0, 0] = torch.nan
    score = metric(a, b)
    assert score.dtype == torch.float64
    assert score.isnan().tolist() == [False, True]
    empty = torch.full((1, 1, 2, 2), torch.nan)
    assert metric(empty, torch.zeros(1, 1, 2, 2)).isnan().all()


@pytest.mark.parametrize("metric", METRICS)
def test_what_are_not_two_masks_is_refused_in_one_sentence(metric):
    a, b = masks(2)
    with pytest.raises(InputError, match=r"one shape .* got \(2, 1, 9, 13\) and \(2, 1, 9, 12\)"):
        metric(a, b[..., :-1])
    with pytest.raises(InputError, match="one shape"):
        metric(a[:, 0], b[:, 0])
    with pytest.raises(InputError, match=r"float in \[0, 1\], but torch.uint8"):
        metric(a.byte(), b.byte())
    with pytest.raises(InputError, match=r"in \[0, 1\], but .* to 255"):
        metric(a * 0 + 255, b)


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match="threshold"):
        hard_iou(*masks(), threshold=threshold)
