"""Objects are cut out alike wherever they stand, and ranks are counted right."""

import numpy as np
import pytest
import torch
from torch import nn

from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.object_accuracy import Gallery, cut_to_object, object_features, ranks
from text2layer.models.efficientnet import EfficientNetLite0


class Thumbnail(nn.Module):
    """The picture itself, 16 x 16: differences in any part count."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x).flatten(1)


def scene(top: int, left: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A red object of 20 x 10 pixels with a blue head, and noise where the mask is 0."""
    colour = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    mask = torch.zeros(1, 1, size, size)
    mask[..., top : top + 20, left : left + 10] = 1
    red, blue = (torch.tensor(c, dtype=torch.uint8)[:, None, None]
                 for c in ((250, 0, 0), (0, 0, 250)))  # fmt: skip
    colour[0, :, top : top + 20, left : left + 10] = red
    colour[0, :, top : top + 5, left : left + 10] = blue
    return colour, mask


def test_the_object_fills_the_middle_of_a_grey_square():
    picture = np.full((8, 8, 3), 7, np.uint8)
    picture[2:6, 3:5] = 200
    mask = np.zeros((8, 8))
    mask[2:6, 3:5] = 0.6
    mask[0, 0] = 0.4  # half-transparent pixels are not the object
    square = cut_to_object(picture, mask)
    assert square.shape == (4, 4, 3)
    assert (square[:, 1:3] == 200).all()
    assert (square[:, [0, 3]] == 128).all()
    assert cut_to_object(picture, mask * 0.5) is None


def test_neither_place_nor_what_the_mask_hides_changes_the_features():
    torch.manual_seed(0)
    colours, masks = zip(scene(0, 0), scene(30, 50), scene(44, 20), strict=True)
    features = object_features(Thumbnail(), torch.cat(colours), torch.cat(masks))
    assert torch.allclose(features[0], features[1])
    assert torch.allclose(features[0], features[2])
    assert torch.allclose(features.norm(dim=1), torch.ones(3))
    turned = object_features(Thumbnail(), colours[0].flip(2), masks[0].flip(2))
    assert (features[0] @ turned[0]) < 0.9


def test_an_empty_mask_has_no_features_and_is_wrong():
    colour, mask = scene(0, 0)
    colours, masks = colour.repeat(2, 1, 1, 1), torch.cat([mask, mask * 0])
    features = object_features(Thumbnail(), colours, masks)
    assert features[1].isnan().all()
    assert not features[0].isnan().any()
    gallery = Gallery(["thing", "other"], torch.tensor([0, 1]), features[:1].repeat(2, 1) * -1)
    found = ranks(gallery.similarity(features), torch.tensor([0, 0]))
    assert found[1] == torch.inf
    assert object_features(Thumbnail(), colour, mask * 0).isnan().all()
    with pytest.raises(InputError, match="does not fit"):
        object_features(Thumbnail(), colour, mask[..., :9])


def test_a_thing_counts_once_by_its_nearest_drawing():
    angles = torch.tensor([0.0, 1.0, 0.2, 0.3, 0.4])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    gallery = Gallery(["fox", "cup", "owl"], torch.tensor([0, 0, 1, 1, 2]), features)
    seen = torch.tensor([[0.99, 0.01]])
    similarity = gallery.similarity(seen / seen.norm())
    assert similarity.argmax().item() == 0
    # by drawings the owl is fourth, by things it is third
    assert [ranks(similarity, torch.tensor([n])).item() for n in range(3)] == [0, 1, 2]


def test_a_tie_is_not_right():
    assert ranks(torch.full((1, 4), 0.5), torch.tensor([1])).item() == 3


def test_the_real_network_tells_shapes_apart():
    try:
        network = EfficientNetLite0()
    except WeightsError as error:
        pytest.skip(str(error))
    rows, columns = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    disc = ((rows**2 + columns**2) < 24**2).float()[None, None]
    ring = disc * ((rows**2 + columns**2) > 14**2).float()
    bar = ((rows.abs() < 24) & (columns.abs() < 6)).float()[None, None]
    red = torch.tensor([200, 30, 30], dtype=torch.uint8)[None, :, None, None].expand(3, 3, 64, 64)
    shapes = torch.cat([disc, ring, bar])
    gallery = Gallery(
        ["disc", "ring", "bar"], torch.arange(3), object_features(network, red, shapes)
    )
    moved = object_features(network, red.roll(1, 1), shapes.roll(4, 3))  # green, and aside
    assert ranks(gallery.similarity(moved), torch.arange(3)).tolist() == [0, 0, 0]
