"""Reconstruction scores against hand-computed values and NumPy."""

import numpy as np
import pytest
import torch

from tests.toy_model import build_autoencoder
from text2layer.errors import InputError
from text2layer.evaluation.reconstruction import (
    ReconstructionScores,
    evaluate_reconstruction,
    psnr,
    soft_iou,
    squared_error,
)
from text2layer.models.autoencoder import LayerComponents


def parts(seed: int, count: int = 3) -> LayerComponents:
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(2, count, 3, 16, 16, generator=generator) * 2 - 1
    return LayerComponents(colour[0], colour[1], torch.rand(count, 1, 16, 16, generator=generator))


def test_squared_error_counts_the_weighted_pixels_alone():
    a, b = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    b[0, :, 0, 0] = 10
    b[0, :, 1, 1] = 200
    weight = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    assert float(squared_error(a, b, weight)) == pytest.approx(100 / 3)
    assert float(squared_error(a, b)) == pytest.approx((100 + 40_000) / 4)
    assert torch.isnan(squared_error(a, b, torch.zeros(1, 1, 2, 2))).all()


def test_psnr_is_that_of_the_textbook_and_bounded():
    error = torch.tensor([1.0, 100.0])
    expected = 20 * np.log10(255 / np.sqrt([1.0, 100.0]))
    np.testing.assert_allclose(psnr(error).numpy(), expected, rtol=1e-6)
    assert float(psnr(torch.tensor(0.0))) == pytest.approx(10 * np.log10(255**2 * 12), rel=1e-5)


def test_soft_iou_of_hard_masks_is_the_set_iou_and_of_empty_ones_agreement():
    a, b = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    a[0, 0, :2], b[0, 0, 1:3] = 1, 1
    assert soft_iou(a, b).tolist() == pytest.approx([4 / 12, 1.0])


def test_a_perfect_prediction_scores_the_ceiling():
    scores = ReconstructionScores()
    scores.add(parts(0), parts(0))
    means = scores.means()
    assert means["soft_iou_mask"] == 1
    assert means["psnr_composite"] == pytest.approx(float(psnr(torch.tensor(0.0))))
    assert means["mask_mean_absolute_error"] == 0


def test_the_foreground_counts_inside_the_mask_alone():
    true, made = parts(0, 1), parts(0, 1)
    true.mask.zero_()
    true.mask[..., :8, :] = 1
    made.mask.copy_(true.mask)
    made.foreground[..., 8:, :] = -1  # outside: must not count
    scores = ReconstructionScores()
    scores.add(true, made)
    assert scores.means()["psnr_foreground"] == pytest.approx(float(psnr(torch.tensor(0.0))))


def test_the_whole_evaluation_is_the_mean_over_samples_whatever_the_batches():
    autoencoder, batch = build_autoencoder(), parts(1, 4)
    whole = evaluate_reconstruction(autoencoder, [batch])
    halves = [LayerComponents(**{k: v[rows] for k, v in batch.items()})
              for rows in (slice(0, 1), slice(1, 4))]  # fmt: skip
    split = evaluate_reconstruction(autoencoder, halves)
    assert whole["samples"] == split["samples"] == 4
    for name, value in whole.items():
        assert split[name] == pytest.approx(value, rel=1e-3), name
    with pytest.raises(InputError, match="nothing to score"):
        evaluate_reconstruction(autoencoder, [])
