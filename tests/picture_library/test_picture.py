"""Pictures of a library: what is written can be read as what it is."""

import io

import numpy as np
import pytest
from PIL import Image

from text2layer.picture_library.picture import LONGEST_SIDE, cut_out, encode_cut_out


@pytest.mark.parametrize("size", [(40, 30), (256, 256), (700, 512)])
@pytest.mark.parametrize("channel", [True, False])
def test_a_drawing_that_fills_its_rectangle_keeps_an_alpha_channel(size, channel) -> None:
    colour = np.full((*size, 3), (200, 40, 60), np.uint8)
    alpha = np.full(size, 255, np.uint8) if channel else None
    with Image.open(io.BytesIO(encode_cut_out(*cut_out(colour, alpha, True)))) as written:
        assert written.mode == "RGBA"
        assert max(written.size) <= LONGEST_SIDE
        inside = np.asarray(written)[2:-2, 2:-2]
    assert (inside[..., 3] == 255).all()
    assert np.abs(inside[..., :3] - np.array([200, 40, 60])).max() <= 8
