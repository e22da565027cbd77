"""The matting network: the mask of a picture, at the picture's own resolution.

A U-Net (arXiv 1505.04597) of residual blocks that also sees, at every resolution, the frozen
features of an ImageNet network: what things look like need not be learnt from a small library.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError
from text2layer.models.efficientnet import ROWS, WEIGHTS_NAME, EfficientNetLite0
from text2layer.models.frozen import Held
from text2layer.tensors import padded

LAST_CHANNELS = 16  # at full resolution, beside the picture

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"block_out_channels": (8, 8, 16), "middle_blocks": 1},  # for tests
    "base": {  # released
        "block_out_channels": (32, 64, 128, 192, 256),
        "middle_blocks": 2,
        "backbone": WEIGHTS_NAME,
    },
}
BACKBONE_ROWS = (0, 1, 2, 4, 6)  # of EfficientNet-lite0's maps: the last of each resolution
BACKBONE_CHANNELS = tuple(ROWS[row][3] for row in BACKBONE_ROWS)


class MattingNetwork(ModelMixin, ConfigMixin):
    """Gives pictures their masks.

    Args:
        block_out_channels: per resolution, from half the picture's on; each next one halves it.
        middle_blocks: residual blocks at the coarsest resolution.
        backbone: "efficientnet-lite0" to look through its frozen features too, or "". Its weights
            are not among this network's; they are fetched when it looks at its first picture.

    Example:
        >>> matting = MattingNetwork(block_out_channels=(8, 8, 8)).eval()
        >>> matting(torch.zeros(1, 3, 40, 64)).shape
        torch.Size([1, 1, 40, 64])
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (32, 64, 128, 192, 256),
        middle_blocks: int = 2,
        backbone: str = "",
    ) -> None:
        super().__init__()
        channels = tuple(block_out_channels)
        if backbone and (backbone != WEIGHTS_NAME or len(channels) > len(BACKBONE_CHANNELS)):
            raise InputError(
                f"A matting network looks through {WEIGHTS_NAME} at {len(BACKBONE_CHANNELS)} "
                f"resolutions or fewer, not through {backbone!r} at {len(channels)}."
            )
        self.frozen: Held[EfficientNetLite0] | None = None
        self.looks = nn.ModuleList()
        if backbone:
            self.looks.extend(
                nn.Conv2d(given, width, 1)
                for given, width in zip(BACKBONE_CHANNELS, channels, strict=False)
            )
        for look in self.looks.parameters():
            nn.init.zeros_(look)
        self.stem = nn.Conv2d(3 * 4, channels[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(width, width) for width in channels[:-1])
        self.shrink = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, stride=2, padding=1) for wide, narrow in pairwise(channels)
        )
        self.middle = nn.Sequential(
            *(ResidualBlock(channels[-1], channels[-1]) for _ in range(middle_blocks))
        )
        self.grow = nn.ModuleList(nn.Conv2d(narrow, wide, 1) for wide, narrow in pairwise(channels))
        self.up = nn.ModuleList(ResidualBlock(2 * width, width) for width in channels[:-1])
        self.unfold = nn.Conv2d(channels[0], LAST_CHANNELS * 4, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(LAST_CHANNELS + 3, LAST_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(LAST_CHANNELS, 1, 3, padding=1),
        )

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> MattingNetwork:
        """Build an untrained network of PRESETS; keyword arguments replace its settings."""
        if name not in PRESETS:
            known = ", ".join(PRESETS)
            raise InputError(f"No matting preset is called {name!r}; choose one of {known}.")
        return cls(**{**PRESETS[name], **overrides})

    def forward(self, picture: Tensor) -> Tensor:
        """Mask (N, 1, H, W) in [0, 1] of pictures (N, 3, H, W) in [-1, 1]."""
        return torch.sigmoid(self.logits(picture))

    def logits(self, picture: Tensor) -> Tensor:
        """The mask before its sigmoid, (N, 1, H, W), of pictures (N, 3, H, W) in [-1, 1]."""
        height, width = picture.shape[-2:]
        picture = padded(picture, 2 ** len(self.config.block_out_channels))
        seen = self.look(picture)
        hidden = self.stem(functional.pixel_unshuffle(picture, 2))
        kept = []
        for level, block in enumerate((*self.down, self.middle)):
            if seen:
                hidden = hidden + seen[level]
            hidden = block(hidden)
            if level < len(self.shrink):
                kept.append(hidden)
                hidden = self.shrink[level](hidden)
        for grow, block in zip(reversed(self.grow), reversed(self.up), strict=True):
            larger = functional.interpolate(grow(hidden), scale_factor=2, mode="nearest")
            hidden = block(torch.cat([larger, kept.pop()], 1))
        fine = functional.pixel_shuffle(self.unfold(hidden), 2)
        return self.head(torch.cat([fine, picture], 1))[..., :height, :width]

    def look(self, picture: Tensor) -> list[Tensor]:
        """What the backbone sees in pictures (N, 3, H, W), a map per resolution; [] without one.

        Raises:
            WeightsError: its weights are not on this machine and cannot be fetched.
        """
        if not self.looks:
            return []
        if self.frozen is None:
            network = EfficientNetLite0()
            self.frozen = Held(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        backbone = self.frozen.network.to(picture)  # where the picture is, and as precise
        with torch.no_grad():
            maps = backbone.maps((picture * 127.5 + 0.5) / 128)  # (level - 127) / 128
        chosen = (maps[row] for row in BACKBONE_ROWS)
        return [look(one) for look, one in zip(self.looks, chosen, strict=False)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU (arXiv 1512.03385), and a way past them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        same = in_channels == out_channels
        self.past = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(hidden)))
        inner = self.second_norm(self.second(inner))
        return functional.relu(inner + self.past(hidden))
