"""Preview sheets: their prompts, and a picture for every part of a sample."""

import numpy as np
import torch

from tests.training.toy_source import DiscSource, TwoDiscs
from text2layer.tensors import tensor_to_colour, tensor_to_mask
from text2layer.training.autoencoder import components
from text2layer.training.previews import component_rows, preview_prompts


def test_prompts_name_as_many_objects_as_there_are_foregrounds():
    alone, pairs, triples = (preview_prompts(count) for count in (1, 2, 3))
    assert len(alone) == len(pairs) == len(triples) == 8
    assert alone[0] == "a red apple in front of a snowy mountain"
    assert pairs[0] == "a red apple and a 3d icon of a cat in front of a snowy mountain"
    assert pairs[7] == "a green sofa and a red apple in front of a city skyline"
    assert triples[6] == "clip art of a tree, a green sofa and a red apple in front of a calm lake"


def test_a_row_shows_every_part():
    batch = DiscSource(16).compose(3, torch.Generator().manual_seed(0))
    parts = (batch.foreground, batch.background, batch.mask, batch.image, batch.image)
    expected = [(tensor_to_mask if part.shape[1] == 1 else tensor_to_colour)(part)[1]
                for part in parts]  # fmt: skip
    row = component_rows(components(batch), 1)
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(row, expected, strict=True))

    batch = TwoDiscs(16).take(range(3))
    row = component_rows(components(batch), 2)
    shapes = [picture.shape for picture in row]
    colour, mask = (16, 16, 3), (16, 16)
    assert shapes == [colour, colour, colour, mask, mask, colour, colour]
    for layer in range(2):
        assert np.array_equal(row[layer], tensor_to_colour(batch.foreground[2:, layer])[0])
        assert np.array_equal(row[3 + layer], tensor_to_mask(batch.mask[2:, layer])[0])
