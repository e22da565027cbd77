"""The layers that a picture and its mask give without any model: where taking apart begins.

The foreground is the picture where it is surely foreground, continued outward; the background is
the picture around the object, continued into the hole. What they lack is what was hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from text2layer.blend import extend_edge_colours
from text2layer.tensors import colour_to_tensor, tensor_to_colour, tensor_to_mask

SURE_LEVEL = 240  # mask level (0..255) from which a pixel has the foreground's colour alone
FAINT = 0.02  # mask above which a pixel may have some of it
RIM = 4  # pixels around those that are not taken for background either


def rough_layers(picture: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground and background of pictures whose mask is known.

    Args:
        picture: (N, 3, H, W) in [-1, 1].
        mask: (N, 1, H, W) in [0, 1].

    Returns:
        Two of (N, 3, H, W) in [-1, 1]; the picture itself where no pixel is sure, or none is left.
    """
    hole = functional.max_pool2d((mask > FAINT).float(), 2 * RIM + 1, stride=1, padding=RIM)
    layers = []
    for alpha in (mask, 1 - hole):
        continued = [
            extend_edge_colours(colour, level, SURE_LEVEL)
            for colour, level in zip(tensor_to_colour(picture), tensor_to_mask(alpha), strict=True)
        ]
        layers.append(torch.cat([colour_to_tensor(colour) for colour in continued]).to(picture))
    return layers[0], layers[1]
