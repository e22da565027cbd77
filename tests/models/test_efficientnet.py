"""EfficientNet-lite0 against the numbers of an independent implementation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from text2layer.errors import InputError, WeightsError
from text2layer.models.efficientnet import (
    SIZE,
    ConvolutionNorm,
    EfficientNetLite0,
    network_input,
)
from text2layer.pretrained import resolve

# of efficientnet_lite_pytorch 0.1.0 with the same weights on the picture below: its first logits
# and the five likeliest classes; the two networks agree to the last bit
REFERENCE_LOGITS = [-0.43049, 0.22901, 1.31387, 1.17953, 1.2585, 1.39902]
REFERENCE_CLASSES = [844, 916, 409, 783, 111]


def ramps_and_squares() -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    squares = (x // 16 + y // 16) % 2 * 255
    return np.stack([x * 255 // 223, y * 255 // 223, squares], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def published():
    try:
        resolve("efficientnet-lite0", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def random_weights():
    torch.manual_seed(0)
    return EfficientNetLite0(pretrained=False)


def test_published_weights_give_the_reference_logits(published):
    logits = published.logits(network_input([ramps_and_squares()]))[0]
    torch.testing.assert_close(logits[:6], torch.tensor(REFERENCE_LOGITS), atol=2e-4, rtol=1e-3)
    assert logits.topk(5).indices.tolist() == REFERENCE_CLASSES


@pytest.mark.parametrize(("length", "kernel", "stride"), [(224, 3, 2), (7, 5, 1), (15, 5, 2)])
def test_padding_is_that_of_tensorflow(length, kernel, stride):
    """The output has ceil(length / stride) pixels; an odd pixel of padding comes last."""
    layer = ConvolutionNorm(1, 1, kernel, stride, activate=False).eval()
    torch.nn.init.ones_(layer.convolution.weight)
    x = torch.arange(float(length)).expand(1, 1, 1, length)[..., :1, :].repeat(1, 1, length, 1)
    out = -(-length // stride)
    total = max((out - 1) * stride + kernel - length, 0)
    before = total // 2
    expected = []
    for step in range(out):
        taken = [step * stride - before + tap for tap in range(kernel)]
        expected.append(sum(float(i) for i in taken if 0 <= i < length))
    middle = layer(x)[0, 0, out // 2] / kernel * (1 + 1e-3) ** 0.5
    torch.testing.assert_close(middle, torch.tensor(expected), rtol=1e-4, atol=1e-3)


def test_maps_shrink_as_the_table_says(random_weights):
    x = network_input([ramps_and_squares()])
    shapes = [tuple(m.shape[1:]) for m in random_weights.maps(x)]
    assert shapes == [
        (16, 112, 112), (24, 56, 56), (40, 28, 28), (80, 14, 14), (112, 14, 14), (192, 7, 7),
        (320, 7, 7), (1280, 7, 7),
    ]  # fmt: skip
    pooled = F.adaptive_avg_pool2d(random_weights.maps(x)[-1], 1).flatten(1)
    torch.testing.assert_close(random_weights(x), pooled)


def test_it_is_frozen(random_weights):
    assert not random_weights.training
    assert not any(parameter.requires_grad for parameter in random_weights.parameters())


def test_weights_of_another_network_are_refused(random_weights):
    with pytest.raises(WeightsError, match="not those of this network"):
        random_weights.load_published({"_fc.weight": torch.zeros(10, 1280)})
    with pytest.raises(WeightsError, match="not those of this network"):
        random_weights.load_published({"layer1.weight": torch.zeros(3)})


def test_pictures_of_any_size_become_one_batch():
    white = np.full((10, 300, 3), 255, np.uint8)
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    x = network_input([white, black])
    assert x.shape == (2, 3, SIZE, SIZE)
    assert torch.equal(x[0], torch.ones_like(x[0]))
    assert torch.equal(x[1], torch.full_like(x[1], -127 / 128))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)])
def test_what_is_no_picture_is_named(shape):
    with pytest.raises(InputError, match="must be"):
        network_input([np.zeros(shape, np.uint8)])
