"""A picture taken apart by a toy network that finds what is bright."""

import numpy as np
import pytest

from tests import toy_onnx
from text2layer.errors import InputError
from text2layer.models.inpainting import OpencvInpainter
from text2layer.models.saliency import load_saliency
from text2layer.pipelines.photo_layers import PhotoLayers

SIDE = 96


@pytest.fixture(scope="module")
def take_apart(tmp_path_factory) -> PhotoLayers:
    path = toy_onnx.brightness_network(
        tmp_path_factory.mktemp("toy") / "toy.onnx", (1, 3, SIDE, SIDE)
    )
    return PhotoLayers(load_saliency(str(path), 1), OpencvInpainter())


def test_a_bright_box_is_lifted_off_a_dark_wall(take_apart):
    picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
    picture[30:60, 30:60] = (250, 230, 240)
    layered = take_apart(picture)
    assert layered.mask[45, 45] > 250
    assert layered.mask[5, 5] == 0
    assert np.abs(layered.background.astype(int) - 30).max() <= 10  # the box is gone
    assert np.abs(layered.composite.astype(int) - picture).mean() < 2
    far = np.ones((SIDE, SIDE), bool)
    far[20:75, 20:75] = False
    assert np.array_equal(layered.composite[far], picture[far])


@pytest.mark.parametrize("level", [0, 255])
def test_where_there_is_no_object_the_background_is_the_picture(take_apart, level):
    picture = np.full((SIDE, SIDE, 3), level, np.uint8)
    layered = take_apart(picture)
    assert not layered.mask.any()
    assert np.array_equal(layered.composite, picture)


def test_no_picture_is_one_sentence(take_apart):
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8"):
        take_apart(np.zeros((4, 4), np.uint8))
