"""A picture is taken apart several times; the layers that make it best, as most do, are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from text2layer.models.autoencoder import LayerComponents
from text2layer.models.losses import overlap
from text2layer.tensors import composite

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
