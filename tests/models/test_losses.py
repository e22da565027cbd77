"""Losses of the autoencoder against plain loops over NumPy arrays."""

import math

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from text2layer.models.losses import (
    composition_loss,
    kl_loss,
    laplacian_loss,
    laplacian_pyramid,
    per_pixel,
    perceptual_losses,
    reconstruction_losses,
)
from text2layer.parts import Parts

COUNT, HEIGHT, WIDTH = 2, 12, 16


def random_parts(seed: int, layers: int = 1, image: bool = True) -> Parts:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(COUNT, *shape, HEIGHT, WIDTH, generator=generator)

    lead = (layers,) if layers > 1 else ()
    return Parts(
        foreground=rand(*lead, 3) * 2 - 1,
        background=rand(3) * 2 - 1,
        mask=rand(*lead, 1),
        image=rand(3) * 2 - 1 if image else None,
    )


@pytest.fixture
def target() -> Parts:
    return random_parts(0)


@pytest.fixture
def prediction() -> Parts:
    return random_parts(1)


def as_arrays(parts: Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(part.double().numpy() for part in (parts.foreground, parts.background, parts.mask))


def charbonnier_by_loops(foreground, background, mask, truth) -> float:
    """Mean over the batch of sum sqrt((C - C^)^2 + eps^2) / (H W), one value after the other."""
    total = 0.0
    for n, c, y, x in np.ndindex(COUNT, 3, HEIGHT, WIDTH):
        m = mask[n, 0, y, x]
        composed = m * foreground[n, c, y, x] + (1 - m) * background[n, c, y, x]
        m = truth[2][n, 0, y, x]
        wanted = m * truth[0][n, c, y, x] + (1 - m) * truth[1][n, c, y, x]
        total += math.sqrt((wanted - composed) ** 2 + 1e-6**2)
    return total / (COUNT * HEIGHT * WIDTH)


def test_joint_composition_takes_predicted_colours_and_mask(prediction, target):
    expected = charbonnier_by_loops(*as_arrays(prediction), as_arrays(target))
    assert float(composition_loss(prediction, target)) == pytest.approx(expected, rel=1e-5)
    assert float(composition_loss(prediction, target, "joint")) == pytest.approx(expected, rel=1e-5)


def test_dim_composition_takes_true_colours_and_the_predicted_mask(prediction, target):
    foreground, background, _ = as_arrays(target)
    mask = as_arrays(prediction)[2]
    expected = charbonnier_by_loops(foreground, background, mask, as_arrays(target))
    assert float(composition_loss(prediction, target, "dim")) == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(float(composition_loss(prediction, target)), rel=0.05)


def test_composition_of_several_layers_is_laid_one_over_the_other():
    prediction, target = random_parts(2, layers=2), random_parts(3, layers=2)

    def compose(parts: Parts) -> np.ndarray:
        picture = parts.background.numpy()
        for layer in range(2):
            mask = parts.mask[:, layer].numpy()
            picture = mask * parts.foreground[:, layer].numpy() + (1 - mask) * picture
        return picture

    difference = compose(prediction) - compose(target)
    expected = np.sqrt(difference**2 + 1e-12).sum() / (COUNT * HEIGHT * WIDTH)
    assert float(composition_loss(prediction, target)) == pytest.approx(float(expected), rel=1e-5)


def downsample_by_loops(picture: np.ndarray) -> np.ndarray:
    """5x5 binomial blur with repeated borders, every second pixel; (H, W) -> (H/2, W/2)."""
    line = np.array([1, 4, 6, 4, 1]) / 16
    height, width = picture.shape
    smaller = np.zeros(((height + 1) // 2, (width + 1) // 2))
    for y, x in np.ndindex(*smaller.shape):
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                row = min(max(2 * y + dy, 0), height - 1)
                column = min(max(2 * x + dx, 0), width - 1)
                smaller[y, x] += line[dy + 2] * line[dx + 2] * picture[row, column]
    return smaller


def upsample_by_loops(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned (the half-pixel convention), borders repeated."""
    larger = np.zeros(shape)
    for y, x in np.ndindex(*shape):
        row = max((y + 0.5) * picture.shape[0] / shape[0] - 0.5, 0)
        column = max((x + 0.5) * picture.shape[1] / shape[1] - 0.5, 0)
        top, left = int(row), int(column)
        below, right = min(top + 1, picture.shape[0] - 1), min(left + 1, picture.shape[1] - 1)
        v, u = row - top, column - left
        upper = (1 - u) * picture[top, left] + u * picture[top, right]
        lower = (1 - u) * picture[below, left] + u * picture[below, right]
        larger[y, x] = (1 - v) * upper + v * lower
    return larger


def laplacian_by_loops(mask: np.ndarray, target: np.ndarray) -> float:
    """sum_j 2^(j-1) ||phi_j(m^) - phi_j(m)||_1, mean over the batch, per pixel of level 1."""
    total = 0.0
    for n in range(mask.shape[0]):
        one, other = mask[n, 0], target[n, 0]
        for level in (1, 2, 3):
            smaller, other_smaller = downsample_by_loops(one), downsample_by_loops(other)
            band = one - upsample_by_loops(smaller, one.shape)
            other_band = other - upsample_by_loops(other_smaller, other.shape)
            total += 2 ** (level - 1) * np.abs(band - other_band).sum()
            one, other = smaller, other_smaller
    return total / (mask.shape[0] * mask.shape[2] * mask.shape[3])


def test_laplacian_loss_is_the_papers_sum(prediction, target):
    expected = laplacian_by_loops(as_arrays(prediction)[2], as_arrays(target)[2])
    assert float(laplacian_loss(prediction.mask, target.mask)) == pytest.approx(expected, rel=1e-4)


def test_the_pyramid_halves_rounding_up_and_is_linear():
    generator = torch.Generator().manual_seed(4)
    a, b = torch.rand(2, 1, 2, 13, 10, generator=generator)
    bands = laplacian_pyramid(a)
    assert [tuple(band.shape[-2:]) for band in bands] == [(13, 10), (7, 5), (4, 3)]
    for mixed, one, other in zip(
        laplacian_pyramid(2 * a - 3 * b), bands, laplacian_pyramid(b), strict=True
    ):
        torch.testing.assert_close(mixed, 2 * one - 3 * other, atol=1e-5, rtol=1e-5)


def test_the_pyramid_of_a_flat_mask_is_empty():
    for band in laplacian_pyramid(torch.full((1, 1, 16, 16), 0.7)):
        assert band.abs().max() < 1e-6


def test_laplacian_loss_of_several_layers_is_the_sum_over_layers():
    prediction, target = random_parts(5, layers=3), random_parts(6, layers=3)
    alone = [laplacian_loss(prediction.mask[:, i], target.mask[:, i]) for i in range(3)]
    torch.testing.assert_close(laplacian_loss(prediction.mask, target.mask), sum(alone))


def test_equal_pictures_cost_nothing_but_the_charbonnier_floor(target):
    losses = reconstruction_losses(target, target)
    floor = losses.pop("composition")
    assert float(floor) == pytest.approx(3e-6, rel=1e-3)  # 3 channels, sqrt(eps^2)
    assert all(float(value) == 0 for value in losses.values())


def test_the_reduction_is_latent_diffusions_sum_per_pixel(prediction, target):
    """LDM: torch.sum(|x - x^|) / batch; here divided by H * W as well, for every term alike."""
    losses = reconstruction_losses(prediction, target)
    pixels = HEIGHT * WIDTH
    made, true = prediction.tensors(), target.tensors()
    for name in ("foreground", "background"):
        ldm = np.abs(made[name].numpy() - true[name].numpy()).sum() / COUNT
        assert float(losses[f"l1_{name}"]) * pixels == pytest.approx(float(ldm), rel=1e-5)
    ldm = np.abs(prediction.image.numpy() - target.image.numpy()).sum() / COUNT
    assert float(losses["l1_image"]) * pixels == pytest.approx(float(ldm), rel=1e-5)
    ldm = np.abs(prediction.mask.numpy() - target.mask.numpy()).sum() / COUNT
    assert float(losses["mask_l1"]) * pixels == pytest.approx(float(ldm), rel=1e-5)


def test_values_do_not_depend_on_the_size_of_the_picture(prediction, target):
    def larger(parts: Parts) -> Parts:
        return parts.each(lambda tensor: tensor.tile(2, 2))

    small = reconstruction_losses(prediction, target)
    large = reconstruction_losses(larger(prediction), larger(target))
    assert float(per_pixel(torch.ones(5, 3, 8, 4))) == 3
    for name in small:
        tolerance = 0.1 if name == "laplacian" else 1e-4  # its borders are repeated, not tiled
        assert float(large[name]) == pytest.approx(float(small[name]), rel=tolerance)


def test_terms_are_named_and_the_image_term_needs_the_head(prediction, target):
    masks = {"mask_l1", "composition", "laplacian"}
    assert set(reconstruction_losses(prediction, target)) == masks | {
        "l1_foreground", "l1_background", "l1_image",
    }  # fmt: skip
    without = random_parts(1, image=False)
    assert set(reconstruction_losses(without, target)) == masks | {"l1_foreground", "l1_background"}


@pytest.mark.parametrize("layers", [1, 2])
def test_perceptual_terms_average_a_callable_over_all_pictures(layers):
    prediction, target = random_parts(1, layers), random_parts(0, layers)

    def root_of_squares(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape == b.shape
        assert a.shape[1:] == (3, HEIGHT, WIDTH)
        return (a - b).square().sum(dim=(1, 2, 3)).sqrt()

    losses = perceptual_losses(prediction, target, root_of_squares)
    difference = (prediction.foreground - target.foreground).numpy().reshape(-1, 3, HEIGHT, WIDTH)
    expected = np.mean([np.sqrt((d.astype(float) ** 2).sum()) for d in difference])
    assert float(losses["lpips_foreground"]) == pytest.approx(expected, rel=1e-5)
    assert set(losses) == {"lpips_foreground", "lpips_background", "lpips_image"}


def test_every_term_pulls_at_what_it_should(prediction, target):
    touched = {
        "l1_foreground": {"foreground"},
        "l1_background": {"background"},
        "l1_image": {"image"},
        "mask_l1": {"mask"},
        "composition": {"foreground", "background", "mask"},
        "laplacian": {"mask"},
    }
    for term, parts in touched.items():
        free = Parts(
            **{name: value.clone().requires_grad_() for name, value in prediction.tensors().items()}
        )
        reconstruction_losses(free, target)[term].backward()
        gradients = {name: tensor.grad for name, tensor in free.tensors().items()}
        pulled = {k for k, grad in gradients.items() if grad is not None and grad.abs().sum() > 0}
        assert pulled == parts, term


def test_dim_composition_pulls_at_the_mask_alone(prediction, target):
    free = prediction.each(lambda tensor: tensor.clone().requires_grad_())
    composition_loss(free, target, "dim").backward()
    assert [k for k, v in free.tensors().items() if v.grad is not None] == ["mask"]


def test_kl_is_the_textbook_sum_per_pixel():
    moments = torch.randn(COUNT, 8, 3, 4, generator=torch.Generator().manual_seed(7))
    posterior = DiagonalGaussianDistribution(moments)
    mean, log_variance = moments.double().numpy().reshape(COUNT, 2, -1).transpose(1, 0, 2)
    expected = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum() / COUNT / (24 * 32)
    assert float(kl_loss(posterior, 24 * 32)) == pytest.approx(expected, rel=1e-5)
