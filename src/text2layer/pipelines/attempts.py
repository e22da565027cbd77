"""A picture is taken apart several times; the layers that make the picture best are kept."""

from __future__ import annotations

from torch import Tensor

from text2layer.models.autoencoder import LayerComponents
from text2layer.tensors import composite

STEPS = 5  # sampling steps of an attempt, where the model's own are more: 20 are no better
ATTEMPTS = 8
MAX_ATTEMPTS = 64


def best_attempts(parts: LayerComponents, picture: Tensor, attempts: int) -> Tensor:
    """Choose for each picture the attempt whose layers make it best.

    A model that mistook the subject draws layers whose composite is not the picture, so the mean
    difference of the two tells a good attempt from a bad one without any truth: of four attempts
    at each of 16 test pictures it took masks from a soft IoU of .777 to .843, where the best of
    the four had .846 (docs/log.md, 2026-11-26).

    Args:
        parts: of N pictures, all attempts (N * attempts, ...) of one beside one another.
        picture: (1 or N, 3, H, W) in [-1, 1], what was taken apart.
        attempts: how many there are of each.

    Returns:
        (N,) rows of `parts`.
    """
    composites = composite(parts.foreground, parts.background, parts.mask)
    composites = composites.unflatten(0, (-1, attempts))  # (N, attempts, 3, H, W)
    errors = (composites - picture[:, None]).abs().mean((2, 3, 4))  # (N, attempts)
    best = errors.argmin(1)
    return best + attempts * best.new_tensor(range(len(best)))
