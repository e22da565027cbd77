"""How the model decomposes a picture: rough layers to begin with, several attempts, the best kept.

What a picture and its mask give without any model is where sampling begins. The foreground is the
picture where it is surely foreground, continued outward; the background is the picture around the
object, continued into the hole. What they lack is what was hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from text2layer.blend import extend_edge_colours
from text2layer.models.autoencoder import LayerComponents
from text2layer.models.losses import overlap
from text2layer.tensors import colour_to_tensor, composite, tensor_to_colour, tensor_to_mask

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


STEPS = 5  # sampling steps of an attempt, where the model's own are more: 20 are no better
ATTEMPTS = 8
MATTED_ATTEMPTS = 4  # where a matting network gave the mask: eight find no better background
MAX_ATTEMPTS = 64
AGREEMENT_WEIGHT = 0.03  # in units of colour, which spans 2; .01 to .1 choose alike


def best_attempts(
    parts: LayerComponents, picture: Tensor, attempts: int, mask: Tensor | None = None
) -> Tensor:
    """Choose for each picture one of its attempts, without knowing the truth.

    Two things tell a good attempt. Its layers make the picture: where the model mistook the
    subject, their composite is another one. And its mask agrees with the other attempts' masks: an
    empty one under a background that is the whole picture makes the picture too. The score is the
    mean difference of composite and picture, less AGREEMENT_WEIGHT times the mean soft IoU with the
    other masks. docs/log.md (2026-11-26) says what either gives. Where a matting network gave the
    mask, it is agreement with that one.

    Args:
        parts: of N pictures, all attempts (N * attempts, ...) of one beside one another.
        picture: (1 or N, 3, H, W) in [-1, 1], what was taken apart.
        attempts: how many there are of each.
        mask: (N, 1, H, W) in [0, 1], by the matting network.

    Returns:
        (N,) rows of `parts`.
    """
    composites = composite(parts.foreground, parts.background, parts.mask)
    composites = composites.unflatten(0, (-1, attempts))  # (N, attempts, 3, H, W)
    errors = (composites - picture[:, None]).abs().mean((2, 3, 4))  # (N, attempts)
    masks = parts.mask.flatten(1).unflatten(0, (-1, attempts))  # (N, attempts, pixels)
    agreement = agreement_of(masks, masks if mask is None else mask.flatten(2))
    best = (errors - AGREEMENT_WEIGHT * agreement).argmin(1)
    return best + attempts * torch.arange(len(best), device=best.device)


def agreement_of(masks: Tensor, others: Tensor) -> Tensor:
    """Mean soft IoU of each mask (N, attempts, pixels) with others (N, M, pixels): (N, attempts).

    An empty mask agrees with nothing, not even another empty one.
    """
    return torch.stack([overlap(one[:, None], others).mean(1) for one in masks.unbind(1)], 1)
