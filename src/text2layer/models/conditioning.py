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

    A given foreground, or a reference to one, comes with its mask over a mid-grey background; a
    given background or whole picture comes as background under empty foregrounds (colour 0, mask
    0). Which of them it is, the flags say.

    Args:
        autoencoder: trained, with measured latent statistics.
        foreground: (N, 3, H, W) in [-1, 1]; (N, L, 3, H, W) for an autoencoder of L > 1.
        mask: (N, 1, H, W) in [0, 1], with `foreground`; (N, L, 1, H, W) likewise.
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
        one = foreground if foreground.ndim == 4 else foreground[:, 0]
        parts = (foreground, torch.zeros_like(one), mask)
    else:
        picture = given[0]
        colour, hole = torch.zeros_like(picture), torch.zeros_like(picture[:, :1])
        if (layers := autoencoder.config.num_foregrounds) > 1:
            colour, hole = (part[:, None].expand(-1, layers, -1, -1, -1) for part in (colour, hole))
        parts = (colour, picture, hole)
    return autoencoder.scale_latents(autoencoder.encode(*parts).mode())
