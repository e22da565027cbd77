"""Pictures to tensors and back: exact levels, the convention, compositing."""

import numpy as np
import pytest
import torch

from text2layer.tensors import (
    bytes_to_colour,
    bytes_to_mask,
    colour_to_bytes,
    colour_to_tensor,
    composite,
    mask_to_bytes,
    mask_to_tensor,
    tensor_to_colour,
    tensor_to_mask,
)

LEVELS = np.arange(256, dtype=np.uint8)


def test_every_level_survives_the_round_trip():
    colour = np.stack([LEVELS, LEVELS[::-1], np.roll(LEVELS, 7)], axis=-1).reshape(16, 16, 3)
    assert np.array_equal(tensor_to_colour(colour_to_tensor(colour))[0], colour)
    mask = LEVELS.reshape(16, 16)
    assert np.array_equal(tensor_to_mask(mask_to_tensor(mask))[0], mask)


def test_colour_is_minus_one_to_one_and_channels_come_first():
    colour = np.zeros((2, 5, 3), np.uint8)
    colour[1, 4] = (255, 0, 51)
    tensor = colour_to_tensor(colour)
    assert tensor.shape == (1, 3, 2, 5)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert tensor[0, :, 0, 0].tolist() == [-1.0, -1.0, -1.0]
    assert tensor[0, :, 1, 4].tolist() == pytest.approx([1.0, -1.0, -0.6])


def test_masks_are_zero_to_one_with_one_channel():
    mask = np.array([[0, 255], [51, 204], [0, 0]], np.uint8)
    tensor = mask_to_tensor(mask)
    assert tensor.shape == (1, 1, 3, 2)
    assert tensor.dtype == torch.float32
    assert tensor[0, 0].flatten().tolist() == pytest.approx([0, 1, 0.2, 0.8, 0, 0])


def test_batches_keep_their_order():
    batch = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    assert colour_to_tensor(batch).shape == (3, 3, 4, 6)
    assert np.array_equal(tensor_to_colour(colour_to_tensor(batch)), batch)
    assert np.array_equal(tensor_to_mask(mask_to_tensor(batch[..., 0])), batch[..., 0])


def test_values_outside_are_clipped_and_others_rounded_to_the_nearest_level():
    assert colour_to_bytes(torch.tensor([-3.0, 3.0, 0.0])).tolist() == [0, 255, 128]
    assert mask_to_bytes(torch.tensor([-0.5, 1.5, 0.4 / 255, 0.6 / 255])).tolist() == [0, 255, 0, 1]
    assert colour_to_bytes(torch.tensor([1.0], dtype=torch.bfloat16)).tolist() == [255]


def test_read_only_pictures_are_taken_and_left_alone():
    colour = np.full((4, 4, 3), 9, np.uint8)
    colour.setflags(write=False)
    colour_to_tensor(colour).zero_()
    assert (colour == 9).all()


def test_byte_maps_agree_with_their_inverse():
    levels = torch.from_numpy(LEVELS)
    assert torch.equal(colour_to_bytes(bytes_to_colour(levels)), levels)
    assert torch.equal(mask_to_bytes(bytes_to_mask(levels)), levels)


def test_composite_of_one_layer_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    foreground, background = torch.rand(2, 2, 3, 4, 5, generator=generator) * 2 - 1
    mask = torch.rand(2, 1, 4, 5, generator=generator)
    expected = np.empty((2, 3, 4, 5))
    for place in np.ndindex(2, 3, 4, 5):
        n, _, y, x = place
        m = float(mask[n, 0, y, x])
        expected[place] = m * float(foreground[place]) + (1 - m) * float(background[place])
    np.testing.assert_allclose(composite(foreground, background, mask), expected, atol=1e-6)


def test_composite_of_several_layers_is_bottom_first():
    generator = torch.Generator().manual_seed(1)
    foreground = torch.rand(2, 3, 3, 4, 4, generator=generator) * 2 - 1
    background = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1
    mask = torch.rand(2, 3, 1, 4, 4, generator=generator)
    expected = background
    for layer in range(3):
        expected = composite(foreground[:, layer], expected, mask[:, layer])
    torch.testing.assert_close(composite(foreground, background, mask), expected)
    mask[:, 2] = 1.0  # an opaque top layer hides everything
    assert torch.equal(composite(foreground, background, mask), foreground[:, 2])


def test_composite_lets_gradients_through():
    parts = [torch.rand(1, c, 2, 2, requires_grad=True) for c in (3, 3, 1)]
    composite(*parts).sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)
