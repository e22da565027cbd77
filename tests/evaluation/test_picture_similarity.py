"""SSIM against scikit-image and torchmetrics, LPIPS against the network, PSNR by hand."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.picture_similarity import (
    perceptual_distance,
    psnr,
    recomposition_error,
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


def levels(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def exact_blend(foreground: int, background: int, alpha: int) -> int:
    value = Fraction(alpha * foreground + (255 - alpha) * background, 255)
    return int(value + Fraction(1, 2))


def expected(composite, layers, background, alphas) -> tuple[float, float]:
    differences = []
    for channel, y, x in torch.cartesian_prod(*(torch.arange(n) for n in composite.shape)).tolist():
        value = int(background[channel, y, x])
        for layer, alpha in zip(layers, alphas, strict=True):
            value = exact_blend(int(layer[channel, y, x]), value, int(alpha[0, y, x]))
        differences.append(abs(value - int(composite[channel, y, x])))
    return max(differences), sum(differences) / len(differences)


def test_the_differences_are_those_of_exactly_rounded_blends():
    composite, foreground, background = (levels(seed, 2, 3, 6, 5) for seed in range(3))
    alpha = levels(3, 2, 1, 6, 5)
    error = recomposition_error(composite, foreground, background, alpha / 255)
    for n in range(2):
        largest, mean = expected(composite[n], [foreground[n]], background[n], [alpha[n]])
        assert error.maximum[n].item() == largest
        assert error.mean[n].item() == pytest.approx(mean)
    assert error.mean.dtype == error.maximum.dtype == torch.float64


def test_several_layers_lie_over_one_another_bottom_first():
    composite, background = levels(0, 1, 3, 4, 4), levels(1, 1, 3, 4, 4)
    foregrounds, alpha = levels(2, 1, 3, 3, 4, 4), levels(3, 1, 3, 1, 4, 4)
    error = recomposition_error(composite, foregrounds, background, alpha / 255)
    largest, mean = expected(composite[0], foregrounds[0], background[0], alpha[0])
    assert (error.maximum.item(), error.mean.item()) == (largest, pytest.approx(mean))


def test_one_wrong_value_by_hand():
    composite = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    composite[0, 1, 0, 1] = 112
    same = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    error = recomposition_error(composite, same, same, torch.rand(1, 1, 2, 2))
    assert (error.maximum.item(), error.mean.item()) == (12, 1)


def test_empty_masks_show_the_background_and_nan_stays_with_its_sample():
    foreground, background = levels(0, 2, 3, 4, 4), levels(1, 2, 3, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[1, 0, 0, 0] = torch.nan
    error = recomposition_error(background, foreground, background, mask)
    assert error.maximum.tolist()[0] == error.mean.tolist()[0] == 0
    assert error.maximum.isnan().tolist() == error.mean.isnan().tolist() == [False, True]


def test_what_does_not_fit_is_refused():
    picture, mask = levels(0, 1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    with pytest.raises(InputError, match="one shape"):
        recomposition_error(picture, picture, picture[..., :3], mask)
    with pytest.raises(InputError, match="one shape"):
        recomposition_error(picture, picture[..., :3], picture, mask)
    with pytest.raises(InputError, match="does not fit"):
        recomposition_error(picture, picture, picture, mask[..., :3])
    with pytest.raises(InputError, match="in pairs"):
        recomposition_error(picture, picture[:, None].repeat(1, 2, 1, 1, 1), picture, mask)
    with pytest.raises(InputError, match=r"must be uint8 .* torch.float32"):
        recomposition_error(picture.float(), picture, picture, mask)
