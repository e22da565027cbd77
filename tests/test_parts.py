"""The batch of four pictures: to and from layered pictures, bytes and floats, and its composite."""

import numpy as np
import pytest
import torch

from text2layer.blend import composite_over
from text2layer.data.known_samples import KnownBatch
from text2layer.data.source import Composition
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.parts import Parts, joined


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def layered(seed: int, **fields) -> LayeredImage:
    layer = Layer(noise(seed, 12, 20, 3), noise(seed + 1, 12, 20), **fields)
    return LayeredImage(noise(seed + 2, 12, 20, 3), (layer,))


def stack(count: int = 2, layers: int = 3) -> Parts:
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(count, layers + 1, 3, 12, 20, generator=generator) * 2 - 1
    mask = torch.rand(count, layers, 1, 12, 20, generator=generator)
    return Parts(colour[:, 1:], colour[:, 0], mask)


def test_layered_pictures_come_back_exactly() -> None:
    pictures = [layered(0), layered(10)]
    images = [noise(20, 12, 20, 3), noise(21, 12, 20, 3)]
    parts = Parts.from_layered(pictures, images)
    assert len(parts) == 2
    assert parts.mask.shape == (2, 1, 12, 20)
    assert parts.foreground.dtype == parts.mask.dtype == torch.uint8
    assert parts.layered() == pictures
    assert parts.to_float().layered() == pictures
    for row, picture in enumerate(pictures):
        assert np.array_equal(parts.composite[row].permute(1, 2, 0).numpy(), picture.composite)
        assert np.array_equal(parts.image[row].permute(1, 2, 0).numpy(), images[row])


def test_a_moved_and_faint_layer_is_seen_as_it_is_composited() -> None:
    picture = layered(0, offset=(5, -3), opacity=0.5)
    parts = Parts.from_layered([picture])
    assert parts.image is None
    assert np.array_equal(parts.composite[0].permute(1, 2, 0).numpy(), picture.composite)


def test_several_layers_keep_their_order() -> None:
    parts = stack().to_bytes()
    pictures = parts.layered()
    assert [len(picture.foregrounds) for picture in pictures] == [3, 3]
    top = pictures[1].foregrounds[2]
    assert np.array_equal(top.colour, parts.foreground[1, 2].permute(1, 2, 0).numpy())
    assert np.array_equal(top.alpha, parts.mask[1, 2, 0].numpy())
    for row, picture in enumerate(pictures):
        assert np.array_equal(parts.composite[row].permute(1, 2, 0).numpy(), picture.composite)
    by_hand = parts.background
    for layer in range(3):
        by_hand = composite_over(by_hand, parts.foreground[:, layer], parts.mask[:, layer])
    assert torch.equal(parts.composite, by_hand)
    difference = stack().composite - parts.to_float().composite
    assert float(difference.abs().max()) < 4 / 127.5


def test_rows_and_joined_are_inverse_to_one_another() -> None:
    whole = Parts.from_layered([layered(seed) for seed in (0, 10, 20)], [noise(5, 12, 20, 3)] * 3)
    again = joined([whole.rows(slice(1)), whole.rows(torch.tensor([1, 2]))])
    for name in ("foreground", "background", "mask", "image"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    without = Parts(whole.foreground, whole.background, whole.mask)
    assert joined([whole, without]).image is None


def test_a_soft_mask_is_the_same_of_bytes_and_floats() -> None:
    parts = Parts.from_layered([layered(0)])
    assert parts.soft_mask.dtype == torch.float32
    assert torch.equal(parts.soft_mask, parts.to_float().soft_mask)
    assert torch.equal(parts.soft_mask, parts.mask / 255)


def test_every_batch_names_the_four_pictures_in_one_order() -> None:
    for kind in (Parts, Composition, KnownBatch):
        assert list(kind.__dataclass_fields__)[:4] == ["foreground", "background", "mask", "image"]


@pytest.mark.parametrize("sizes", [(), ((12, 20), (20, 12))])
def test_a_batch_has_pictures_of_one_size(sizes: tuple) -> None:
    pictures = [LayeredImage(np.zeros((*size, 3), np.uint8)) for size in sizes]
    with pytest.raises(InputError, match="pictures of one size, got"):
        Parts.from_layered(pictures)
