"""Recomposition errors against exact fractions and by hand."""

from fractions import Fraction

import pytest
import torch

from text2layer.errors import InputError
from text2layer.evaluation.recomposition import recomposition_error


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
