"""Photos in batches give what single ones give, also with graphs that were exported for one."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests import toy_onnx
from text2layer.errors import WeightsError
from text2layer.files import file_sha256
from text2layer.models.batches import in_batches
from text2layer.models.inpainting import MIGAN_GIVES, MIGAN_TAKES, MiganInpainter, load_inpainter
from text2layer.models.saliency import SaliencyModel, load_saliency
from text2layer.pretrained import WEIGHTS, resolve


def photos(count: int = 8) -> list[np.ndarray]:
    """Pictures of different sizes and colours."""
    rng = np.random.default_rng(8)
    small = [rng.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in range(count)]
    return [
        np.asarray(Image.fromarray(one).resize((90 - 5 * n, 40 + 7 * n), Image.Resampling.BICUBIC))
        for n, one in enumerate(small)
    ]


def holes_of(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A hole in each, of different sizes; none in the second."""
    holes = []
    for n, image in enumerate(images):
        hole = np.zeros(image.shape[:2], bool)
        hole[10 : 20 + n, 12 : 30 - n] = n != 1
        holes.append(hole)
    return holes


def assert_same_maps(single: SaliencyModel, several: SaliencyModel, count: int = 8) -> None:
    """Masks within one level of 255; IS-Net's file has 16-bit floats, so its maximum in 1e-4."""
    ones, together = single.predict(photos(count)), several.predict(photos(count))
    assert len(together) == count
    for one, other in zip(ones, together, strict=True):
        assert other.maximum == pytest.approx(one.maximum, abs=1e-4)
        assert np.abs(one.mask.astype(int) - other.mask).max() <= 1


@pytest.mark.parametrize("batch", [3, 8])
def test_a_graph_of_one_picture_takes_several_and_its_file_stays(
    tmp_path: Path, batch: int
) -> None:
    path = toy_onnx.brightness_network(tmp_path / "toy.onnx", (1, 3, 12, 20))
    before = path.read_bytes()
    single, several = load_saliency(str(path), 1), load_saliency(str(path), 1, batch=batch)
    assert (single.batch, several.batch) == (1, batch)
    given: list[int] = []
    run = several._run
    several._run = lambda values: given.append(len(values)) or run(values)
    assert_same_maps(single, several)
    assert given == {3: [3, 3, 2], 8: [8]}[batch]
    assert several.sha256 == single.sha256 == file_sha256(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [toy_onnx.one_picture_network, toy_onnx.mixing_network])
def test_a_graph_that_does_not_keep_pictures_apart_stays_at_one(tmp_path: Path, make) -> None:
    path = make(tmp_path / "toy.onnx")
    several = load_saliency(str(path), 1, batch=4)
    assert several.batch == 1
    assert_same_maps(load_saliency(str(path), 1), several)


def test_a_network_with_weights_in_a_file_of_their_own_takes_several(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(toy_onnx.brightness_network(tmp_path / "plain.onnx", (1, 3, 12, 20)))
    weight = onnx.numpy_helper.from_array(np.full((1, 3, 12, 20), 1.5, np.float32), "weight")
    model.graph.initializer.append(weight)
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["input", "weight"], ["weighed"]))
    model.graph.node[1].input[0] = "weighed"
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    assert (tmp_path / "model.onnx_data").stat().st_size == 4 * 720
    several = load_saliency(str(path), 1, batch=3)
    assert several.batch == 3
    assert_same_maps(load_saliency(str(path), 1), several)


def test_what_memory_does_not_hold_is_halved_and_nothing_is_lost() -> None:
    owner = SimpleNamespace(batch=8)
    tried: list[int] = []

    def run(part: Sequence[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")
        return [one * 10 for one in part]

    assert in_batches(owner, range(10), run) == [one * 10 for one in range(10)]
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    assert owner.batch == 2


@pytest.mark.parametrize(
    ("batch", "words"), [(4, "Invalid input"), (1, "Failed to allocate memory for 3 bytes")]
)
def test_what_smaller_batches_do_not_mend_is_raised(batch: int, words: str) -> None:
    def run(part: Sequence[int]) -> list[int]:
        raise RuntimeError(words)

    with pytest.raises(RuntimeError, match=words):
        in_batches(SimpleNamespace(batch=batch), range(4), run)


@pytest.mark.parametrize("batch", [3, 8])
def test_migan_in_three_parts_fills_as_the_whole(tmp_path: Path, batch: int) -> None:
    path = toy_onnx.migan_like(tmp_path / "toy.onnx", MIGAN_TAKES, MIGAN_GIVES)
    single, several = MiganInpainter(path, 1), MiganInpainter(path, 1, batch)
    images = photos()
    holes = holes_of(images)
    ones = [single.fill(image, hole) for image, hole in zip(images, holes, strict=True)]
    network = several._parts[1]
    given: list[int] = []
    run = network.run
    network.run = lambda names, feed: given.append(len(feed[MIGAN_TAKES])) or run(names, feed)
    together = several.fill_all(images, holes)
    assert given == {3: [3, 3, 1], 8: [7]}[batch]  # one has no hole
    for image, hole, one, other in zip(images, holes, ones, together, strict=True):
        assert np.array_equal(other, one)
        assert np.array_equal(other[~hole], image[~hole])
    assert not np.array_equal(ones[0], images[0])
    assert not np.shares_memory(together[1], images[1])


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), ("N", 3, 32, 32), (1, 3, "height", "width")])
def test_lama_fills_several_as_it_fills_one(tmp_path: Path, shape) -> None:
    path = toy_onnx.inverting_lama(tmp_path / "lama.onnx", 255, shape)
    single, several = load_inpainter(str(path), 1), load_inpainter(str(path), 1, batch=3)
    images = photos()
    holes = holes_of(images)
    given: list[int] = []
    run = several._run
    several._run = lambda squares, holes: given.append(len(squares)) or run(squares, holes)
    together = several.fill_all(images, holes)
    assert given == [3, 3, 1]  # one has no hole
    for image, hole, other in zip(images, holes, together, strict=True):
        assert np.abs(single.fill(image, hole).astype(int) - other).max() <= 1
        assert np.array_equal(other[~hole], image[~hole])


def real(name: str) -> None:
    try:
        path = resolve(name, offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    assert file_sha256(path) == WEIGHTS[name].sha256


def test_u2netp_takes_batches() -> None:
    real("u2netp")
    several = load_saliency("u2netp", 1, batch=2)
    assert (several.batch, several.sha256) == (2, WEIGHTS["u2netp"].sha256)
    assert_same_maps(load_saliency("u2netp", 1), several, 3)


@pytest.mark.slow  # networks of a second a photo
@pytest.mark.parametrize("name", ["u2net", "isnet"])
def test_the_saliency_networks_take_batches(name: str) -> None:
    real(name)
    several = load_saliency(name, 1, batch=3)
    assert (several.batch, several.sha256) == (3, WEIGHTS[name].sha256)
    assert_same_maps(load_saliency(name, 1), several, 3)


@pytest.mark.slow
def test_migan_takes_batches() -> None:
    real("migan")
    images = [np.kron(image, np.ones((4, 4, 1), np.uint8)) for image in photos(4)]
    holes = [np.kron(hole, np.ones((4, 4), bool)) for hole in holes_of(photos(4))]
    single, several = load_inpainter("migan", 1), load_inpainter("migan", 1, batch=3)
    for image, hole, other in zip(images, holes, several.fill_all(images, holes), strict=True):
        assert np.abs(single.fill(image, hole).astype(int) - other).max() <= 1
