"""SSIM against scikit-image and torchmetrics, LPIPS against the network, PSNR by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.picture_similarity import (
    perceptual_distance,
    psnr,
    squared_error,
    ssim,
)
from text2layer.models.lpips import LPIPS
from text2layer.pretrained import resolve


def pictures(size: tuple[int, int] = (40, 53)) -> tuple[torch.Tensor, torch.Tensor]:
    """Three pairs: slightly and much disturbed, and unrelated."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(3, 3, 6, 7, generator=generator)
    smooth = F.interpolate(coarse, size=size, mode="bilinear") * 255
    noise = torch.randn(3, 3, *size, generator=generator)
    made = smooth + noise * torch.tensor([3.0, 30.0, 0.0]).view(3, 1, 1, 1)
    made[2] = noise[2] * 60 + 128
    return smooth.round().to(torch.uint8), made.round().clamp(0, 255).to(torch.uint8)


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures()
    expected = [
        metrics.structural_similarity(
            x.permute(1, 2, 0).numpy(), y.permute(1, 2, 0).numpy(), channel_axis=-1,
            data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        ) for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    score = ssim(a, b)
    assert score.dtype == torch.float64
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-9)
    assert score[0] > score[1] > score[2]


def test_ssim_is_that_of_torchmetrics_without_its_reflected_border():
    image = pytest.importorskip("torchmetrics.functional.image")
    a, b = pictures()
    _, full = image.structural_similarity_index_measure(
        a.double(), b.double(), data_range=255.0, reduction="none", return_full_image=True
    )
    expected = full[..., 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(ssim(a, b).numpy(), expected.numpy(), rtol=1e-9)


def test_ssim_of_equal_and_plain_pictures_by_hand():
    a, _ = pictures()
    assert ssim(a, a).tolist() == pytest.approx([1, 1, 1])
    dark = torch.full((1, 3, 11, 11), 50, dtype=torch.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 50 * 100 + c1) / (50**2 + 100**2 + c1)
    assert ssim(dark, dark * 2).item() == pytest.approx(expected)


def test_psnr_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures()
    expected = [
        metrics.peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=255)
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(psnr(squared_error(a, b)).numpy(), expected, rtol=1e-9)


def test_only_weighted_pixels_count_and_without_any_there_is_no_score():
    a, b = pictures()
    b[..., 20:, :] = 0
    weight = torch.zeros(3, 1, 40, 53)
    weight[:2, :, :20] = 1
    score = psnr(squared_error(a, b, weight))
    expected = squared_error(a[:2, :, :20].contiguous(), b[:2, :, :20].contiguous())
    torch.testing.assert_close(score[:2], psnr(expected))
    assert score.isnan().tolist() == [False, False, True]


def test_perceptual_distance_is_the_networks():
    torch.manual_seed(0)
    network = LPIPS("alex", pretrained=False)
    a, b = pictures()
    distance = perceptual_distance(a, b, network)
    assert distance.dtype == torch.float64
    expected = network(a.float() / 127.5 - 1, b.float() / 127.5 - 1)
    np.testing.assert_allclose(distance.numpy(), expected.numpy(), rtol=1e-5)
    assert perceptual_distance(a, a, network).tolist() == [0, 0, 0]


def test_the_published_network_ranks_disturbances():
    try:
        resolve("lpips-alex", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    distance = perceptual_distance(*pictures((64, 64)), LPIPS("alex"))
    assert 0 < distance[0] < distance[1] < distance[2]


def test_scores_are_reported_with_alexnet_alone():
    with pytest.raises(InputError, match="'alex', not 'vgg'"):
        perceptual_distance(*pictures(), LPIPS("vgg", pretrained=False))


@pytest.mark.parametrize("metric", [squared_error, ssim])
def test_what_are_not_two_8_bit_pictures_is_refused(metric):
    a, b = pictures()
    with pytest.raises(InputError, match=r"one shape .* \(3, 3, 40, 53\) and \(3, 3, 40, 52\)"):
        metric(a, b[..., :-1])
    with pytest.raises(InputError, match=r"uint8 \(see colour_to_bytes\), got torch.float32"):
        metric(torch.full((1, 3, 40, 53), torch.nan), b[:1])


def test_pictures_and_weights_of_wrong_size_are_refused():
    a, b = pictures((10, 40))
    with pytest.raises(InputError, match=r"at least 11 x 11 pixels, got \(10, 40\)"):
        ssim(a, b)
    with pytest.raises(InputError, match="at least 31 pixels"):
        perceptual_distance(a, b, LPIPS("alex", pretrained=False))
    with pytest.raises(InputError, match="does not fit"):
        squared_error(a, b, torch.ones(3, 1, 10, 39))
