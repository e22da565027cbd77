"""The condition latent: the autoencoder's encoding of what is given, the rest neutral."""

from __future__ import annotations

import torch
from torch import Tensor

from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder


def condition_latents(
    autoencoder: CaT2IAutoencoder,
    *,
    foreground: Tensor | None = None,
    mask: Tensor | None = None,
    background: Tensor | None = None,
    image: Tensor | None = None,
) -> Tensor:
    """Encode one given part, scaled to the denoiser's space.

    A given foreground comes with its mask over a mid-grey background; a given background or whole
    picture comes as background under an empty foreground (colour 0, mask 0). Which of the two it
    is, the flags say.

    Args:
        foreground: (N, 3, H, W) in [-1, 1].
        mask: (N, 1, H, W) in [0, 1], with `foreground`.
        background: (N, 3, H, W) in [-1, 1].
        image: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, C, H / f, W / f).

    Raises:
        InputError: unless exactly one of foreground, background and image is given.
    """
    given = [part for part in (foreground, background, image) if part is not None]
    if len(given) != 1:
        raise InputError(
            f"Give exactly one of foreground, background and image; {len(given)} were given."
        )
    if foreground is not None:
        if mask is None:
            raise InputError("A given foreground needs its mask; give both.")
        parts = (foreground, torch.zeros_like(foreground), mask)
    else:
        picture = given[0]
        parts = (torch.zeros_like(picture), picture, torch.zeros_like(picture[:, :1]))
    return autoencoder.scale_latents(autoencoder.encode(*parts).mode())
