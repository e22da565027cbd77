"""Saliency networks: their recipes against independent ones, toy networks, what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image, ImageDraw

from tests import toy_onnx
from text2layer.errors import InputError, WeightsError
from text2layer.models.saliency import load_saliency, stretch
from text2layer.models.torch_saliency import TorchSaliency
from text2layer.pretrained import WEIGHTS, resolve

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def a_photo(width: int = 90, height: int = 70) -> np.ndarray:
    """A red ball before a green gradient, its brightest value below 255."""
    across = np.linspace(40, 120, width, dtype=np.uint8)
    picture = Image.fromarray(np.dstack([np.tile(across // (2 - c % 2), (height, 1))
                                         for c in range(3)]))  # fmt: skip
    box = (width * 0.3, height * 0.25, width * 0.7, height * 0.8)
    ImageDraw.Draw(picture).ellipse(box, fill=(200, 40, 30))
    return np.asarray(picture)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    one, other = first > 127, second > 127
    return float((one & other).sum() / (one | other).sum())


def test_u2netp_gives_the_mask_that_rembg_gives() -> None:
    """rembg's published recipe (sessions/base.py, u2netp.py), written down a second time."""
    try:
        path = resolve("u2netp", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    photo = a_photo(360, 280)
    resized = Image.fromarray(photo).resize((320, 320), Image.Resampling.LANCZOS)
    colour = np.array(resized) / max(np.max(np.array(resized)), 1e-6)
    values = ((colour - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output = session.run(None, {session.get_inputs()[0].name: values})[0][0, 0]
    output = (output - output.min()) / (output.max() - output.min())
    expected = Image.fromarray((output * 255).astype(np.uint8))
    expected = np.asarray(expected.resize((360, 280), Image.Resampling.LANCZOS))
    found = load_saliency("u2netp", threads=1).predict([photo])[0]
    assert found.mask.shape == (280, 360)
    assert overlap(found.mask, expected) > 0.99
    assert np.abs(found.mask.astype(int) - expected).max() <= 2
    assert found.mask[140, 180] > 200  # the ball
    assert found.mask[5, 5] < 50


def test_a_known_file_is_known_by_its_content_under_any_name(tmp_path: Path) -> None:
    try:
        path = resolve("u2netp", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    (tmp_path / "mine.onnx").write_bytes(path.read_bytes())
    named, mine = load_saliency("u2netp", 1), load_saliency(str(tmp_path / "mine.onnx"), 1)
    assert named.sha256 == mine.sha256 == WEIGHTS["u2netp"].sha256
    dark = a_photo() // 2  # where dividing by 255 and by the brightest value differ most
    assert np.array_equal(named.predict([dark])[0].mask, mine.predict([dark])[0].mask)


def test_another_onnx_network_gets_imagenet_statistics_at_its_own_size(tmp_path: Path) -> None:
    path = toy_onnx.brightness_network(tmp_path / "toy.onnx", (1, 3, 12, 20))
    network = load_saliency(str(path), threads=1)
    assert network.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    photo = a_photo()
    small = np.asarray(Image.fromarray(photo).resize((20, 12), Image.Resampling.LANCZOS)) / 255
    raw = 1 / (1 + np.exp(-((small - MEAN) / STD).mean(-1)))
    found = network.predict([photo])[0]
    assert found.maximum == pytest.approx(raw.max(), abs=1e-5)
    levels = ((raw - raw.min()) / (raw.max() - raw.min()) * 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(levels).resize((90, 70), Image.Resampling.LANCZOS))
    assert np.abs(found.mask.astype(int) - expected).max() <= 2


def test_photos_of_different_sizes_keep_their_sizes_and_order(tmp_path: Path) -> None:
    network = load_saliency(str(toy_onnx.brightness_network(tmp_path / "toy.onnx")), 1)
    photos = [a_photo(), a_photo(40, 60), a_photo(31, 17)]
    found = network.predict(photos)
    assert [one.mask.shape for one in found] == [(70, 90), (60, 40), (17, 31)]
    for photo, one in zip(photos, found, strict=True):
        assert np.array_equal(network.predict([photo])[0].mask, one.mask)
    assert network.predict([]) == []


def test_logits_go_through_a_sigmoid(tmp_path: Path) -> None:
    shape = (1, 3, 12, 20)
    through = toy_onnx.brightness_network(tmp_path / "sigmoid.onnx", shape)
    plain = toy_onnx.brightness_network(tmp_path / "logits.onnx", shape, last="Identity")
    first = load_saliency(str(through), 1).predict([a_photo()])[0]
    second = load_saliency(str(plain), 1).predict([a_photo()])[0]
    assert second.maximum == pytest.approx(first.maximum, abs=1e-5)
    assert np.abs(first.mask.astype(int) - second.mask).max() <= 1


def test_a_map_without_contrast_is_not_stretched_into_an_object() -> None:
    found = stretch(np.full((8, 8), 0.02, np.float32), (16, 10))
    assert found.mask.shape == (10, 16)
    assert found.mask.max() == 5
    assert found.maximum == pytest.approx(0.02)
    broken = stretch(np.full((8, 8), np.nan, np.float32), (16, 10))
    assert not broken.mask.any()
    assert broken.maximum == 0


class Brightness(torch.nn.Module):
    """Logits that rise with red, as the last of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, values: torch.Tensor) -> list[torch.Tensor]:
        return [values[:, :1] * 0, values[:, :1] * self.weight]


def test_a_torch_network_is_run_with_imagenet_statistics() -> None:
    network = TorchSaliency("toy", Brightness(), (32, 32))
    photo = a_photo()
    small = np.asarray(Image.fromarray(photo).resize((32, 32), Image.Resampling.LANCZOS))
    logits = (small[..., 0] / 255 - MEAN[0]) / STD[0] * 3
    found = network.predict([photo])[0]
    assert found.maximum == pytest.approx(1 / (1 + np.exp(-logits.max())), abs=1e-5)
    assert found.mask[35, 45] > 200
    assert found.mask[2, 2] < 50
    other = Brightness()
    other.weight.data += 1
    assert TorchSaliency("toy", other).sha256 != network.sha256
    assert TorchSaliency("toy", Brightness()).sha256 == network.sha256


def eight_photos() -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    return [rng.integers(0, 256, (30 + 7 * n, 90 - 5 * n, 3), dtype=np.uint8) for n in range(8)]


@pytest.mark.parametrize("batch", [3, 8])
def test_photos_in_batches_give_what_single_ones_give(tmp_path: Path, batch: int) -> None:
    """As on a GPU, with rests and sizes that differ: masks within one level of 255."""
    path = toy_onnx.brightness_network(tmp_path / "toy.onnx", ("N", 3, 12, 20))
    for network in (load_saliency(str(path), 1), TorchSaliency("toy", Brightness(), (32, 32))):
        assert network.batch == 1
        single = network.predict(eight_photos())
        network.batch = batch
        together = network.predict(eight_photos())
        assert len(together) == 8
        for one, other in zip(single, together, strict=True):
            assert other.maximum == pytest.approx(one.maximum, abs=1e-5)
            assert np.abs(one.mask.astype(int) - other.mask).max() <= 1


def test_what_is_no_network_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"this is not a network")
    two = toy_onnx.inverting_inpainter(tmp_path / "two.onnx")
    for name, error, words in (
        ("", InputError, "no name"),
        ("u3net", InputError, "no saliency network 'u3net'; give u2net, u2netp, isnet"),
        (str(tmp_path / "gone.onnx"), WeightsError, "is not there"),
        (str(tmp_path / "noise.onnx"), WeightsError, "is not an ONNX network that can be run"),
        (str(two), WeightsError, "must take one float picture"),
        ("nobody/no-such-network", WeightsError, "'nobody/no-such-network' cannot be loaded"),
    ):
        with pytest.raises(error, match=words) as caught:
            load_saliency(name, 1)
        assert "\n" not in str(caught.value)
