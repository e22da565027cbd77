"""A decoder that writes layers larger than those its latents were encoded from.

The paper's decoder mirrors its encoder. This one serves an encoder that is trained already and sees
pictures at half of their size: it has more channels where pictures are decided, fewer where they
are fine, and no part of it writes a patch of more than 2 x 2 pixels from one feature vector without
looking at its neighbours afterwards, so that no grid shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError

NORM_GROUPS = 16
REFINING_CHANNELS = 16  # at full size, where a channel costs most


class LayerDecoder(nn.Module):
    """Latents to pictures: residual blocks, doublings, a pixel shuffle and a last look.

    At the latents' resolution it has a mid block with self-attention (diffusers' `UNetMidBlock2D`);
    each further one of `channels` is a doubling (nearest neighbour, then a convolution) and
    residual blocks. A convolution and pixel shuffle give what is left of the factor, started as
    nearest neighbour (ICNR, arXiv 1707.02937), and a residual pair of convolutions at full size,
    zero at the start, mends what meets at the seams. Beside all this a convolution of the latents,
    enlarged (bilinear), gives the pictures' plain colours from the first updates on.

    Latents are standardised first, with statistics that `standardise` sets (buffers, saved with the
    weights): Adam moves all weights alike, so it is slow to hear channels of small deviation.

    Args:
        latent_channels: of the latents.
        channels: per resolution, coarsest first.
        layers_per_block: residual blocks per resolution; the finest has one.
        pictures: name and number of channels of each picture.
        factor: pixels per latent cell along each side, a multiple of 2 ** (len(channels) - 1).
    """

    def __init__(
        self,
        latent_channels: int,
        channels: Sequence[int],
        layers_per_block: int,
        pictures: Mapping[str, int],
        factor: int,
    ) -> None:
        super().__init__()
        doublings = len(channels) - 1
        if factor % 2**doublings:
            raise InputError(
                f"decoder_channels {tuple(channels)} double the latents {doublings} times, more "
                f"than their factor of {factor} allows; give fewer."
            )
        self.pictures, self.factor = dict(pictures), factor
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(latent_channels))
        self.register_buffer("scale", torch.ones(latent_channels))
        self.conv_in = nn.Conv2d(latent_channels, channels[0], 3, padding=1)
        self.mid = UNetMidBlock2D(
            channels[0], temb_channels=None, resnet_groups=NORM_GROUPS,
            attention_head_dim=channels[0],
        )  # fmt: skip
        self.ups = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(channels)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                ResnetBlock2D(in_channels=width, temb_channels=None, groups=NORM_GROUPS, eps=1e-6)
                for _ in range(layers_per_block if place < doublings else 1)
            )
            for place, width in enumerate(channels)
        )
        total = sum(self.pictures.values())
        self.plain = nn.Conv2d(latent_channels, total, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.plain.weight)
        patch = factor // 2**doublings
        self.norm = nn.GroupNorm(NORM_GROUPS, channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], total * patch**2, 3, padding=1)
        start_as_nearest(self.conv_out, patch)
        self.shuffle = nn.PixelShuffle(patch)
        last = nn.Conv2d(REFINING_CHANNELS, total, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        first = nn.Conv2d(total, REFINING_CHANNELS, 3, padding=1)
        self.refine = nn.Sequential(first, nn.SiLU(), last)

    def standardise(self, shift: Sequence[float], scale: Sequence[float]) -> None:
        """Set mean and 1 / standard deviation of each latent channel."""
        self.shift.copy_(torch.as_tensor(shift))
        self.scale.copy_(torch.as_tensor(scale))

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        """Decode unscaled latents.

        Args:
            latents: (N, latent_channels, h, w).

        Returns:
            (N, channels of the picture, h * factor, w * factor) of each name, unclamped.
        """
        latents = (latents - self.shift[:, None, None]) * self.scale[:, None, None]
        hidden = self.mid(self.conv_in(latents))
        for place, blocks in enumerate(cast("Sequence[nn.ModuleList]", self.blocks)):
            if place:
                larger = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
                hidden = self.ups[place - 1](larger)
            for block in blocks:
                hidden = block(hidden, None)
        drawn = self.shuffle(self.conv_out(functional.silu(self.norm(hidden))))
        plain = functional.interpolate(
            self.plain(latents), scale_factor=float(self.factor), mode="bilinear"
        )
        drawn = drawn + plain
        drawn = drawn + self.refine(drawn)
        parts = drawn.split(list(self.pictures.values()), dim=1)
        return dict(zip(self.pictures, parts, strict=True))


def start_as_nearest(conv: nn.Conv2d, patch: int) -> None:
    """Give all pixels of a patch the same weights before a pixel shuffle (ICNR)."""
    first = conv.weight.data[:: patch**2]
    conv.weight.data.copy_(first.repeat_interleave(patch**2, dim=0))
    if conv.bias is not None:
        conv.bias.data.copy_(conv.bias.data[:: patch**2].repeat_interleave(patch**2))
