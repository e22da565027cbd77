"""What a decoder adds to its own pictures, finer than its features can say.

The heads of `CaT2IAutoencoder` write a whole patch of pixels from one feature vector, and where
neighbouring patches disagree a grid shows. `DetailBranch` carries the features up to finer grids
instead, sees there what the heads have drawn, and predicts a correction. It starts at zero, so that
a trained autoencoder that gets such a branch begins as the autoencoder it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

NORM_GROUPS = 32  # as in the trunk, where the channels allow it


class DetailBranch(nn.Module):
    """Features at 1/s of the picture's sides to a correction of every picture, in whole pixels.

    Each of `channels` doubles the resolution (nearest neighbour, then a convolution and a residual
    block); the last one also reads the pictures themselves. Of each picture a head of
    conv-relu-conv then gives what is still missing of s by pixel shuffle. Convolutions after
    nearest neighbour treat all pixels alike, so the less is left to the shuffle, the less of a
    grid there is.

    Args:
        in_channels: of the features.
        channels: per doubling, coarsest first; at least one.
        pictures: name and number of channels of each picture that is corrected.
        scale: s, a multiple of 2 ** len(channels).
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], pictures: Mapping[str, int], scale: int
    ) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.ups = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)
        )
        self.seen = nn.Conv2d(sum(pictures.values()), widths[-1], 3, padding=1)
        self.blocks = nn.ModuleList(
            ResnetBlock2D(
                in_channels=width, temb_channels=None, groups=min(NORM_GROUPS, width // 2), eps=1e-6
            )
            for width in channels
        )
        patch = scale // 2 ** len(channels)
        self.heads = nn.ModuleDict(
            {name: correcting_head(widths[-1], count, patch) for name, count in pictures.items()}
        )

    def forward(self, features: Tensor, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Correct pictures.

        Args:
            features: (N, in_channels, H / s, W / s).
            pictures: (N, channels of the picture, H, W) of each name.

        Returns:
            The pictures with what the branch adds, (N, channels, H, W) each.
        """
        hidden = features
        last = len(self.ups) - 1
        for place, (up, block) in enumerate(zip(self.ups, self.blocks, strict=True)):
            hidden = up(functional.interpolate(hidden, scale_factor=2.0, mode="nearest"))
            if place == last:
                drawn = torch.cat([pictures[name] for name in self.heads], dim=1)
                seen = functional.adaptive_avg_pool2d(drawn, hidden.shape[-2:])
                hidden = hidden + self.seen(seen)
            hidden = block(hidden, None)
        hidden = functional.silu(hidden)
        return {name: pictures[name] + head(hidden) for name, head in self.heads.items()}


def correcting_head(channels: int, out_channels: int, patch: int) -> nn.Sequential:
    """conv-relu-conv, then `patch`-fold pixel shuffle; gives zeros before it is trained."""
    last = nn.Conv2d(channels // 2, out_channels * patch**2, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(cast(Tensor, last.bias))
    return nn.Sequential(
        nn.Conv2d(channels, channels // 2, 3, padding=1),
        nn.ReLU(),
        last,
        nn.PixelShuffle(patch),
    )
