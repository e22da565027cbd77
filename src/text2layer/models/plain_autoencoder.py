"""A plain autoencoder of single pictures: what the baselines of the paper are built on.

Text2Layer (arXiv 2307.09781, section 5) compares with SD-AE-UNet, which codes foreground,
background and mask each on its own and lays the three latents side by side, and with flat
text-to-image, which codes the whole picture. Here both are one class that says which pictures it
codes (`parts`); the trainer, the pipeline and the benchmark take it like a `CaT2IAutoencoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError
from text2layer.models.autoencoder import PredictionHead, trunk
from text2layer.models.latent_statistics import LatentStatistics
from text2layer.parts import Parts
from text2layer.tensors import composite

PARTS = ("foreground", "background", "mask", "image")

PRESETS: dict[str, dict[str, Any]] = {
    # for tests
    "tiny-plain": {"latent_channels": 8, "block_out_channels": (32, 32), "layers_per_block": 1},
    # for equal budgets in the benchmark: the trunk of `bench`
    "bench-plain": {
        "latent_channels": 32,
        "block_out_channels": (64, 96),
        "layers_per_block": 1,
        "linear_shortcut": True,
    },
}


class PlainAutoencoder(LatentStatistics, ModelMixin, ConfigMixin):
    """One network for one picture of three channels, run over the parts of a layered picture.

    Args:
        parts: which pictures are coded, from `PARTS`; their latents lie side by side in this
            order. ("foreground", "background", "mask") is SD-AE-UNet's code, ("image",) the
            code of flat text-to-image; training takes all four.
        latent_channels: of all parts together, the same number for each.
        block_out_channels: channels per resolution of the trunk, finest first.
        layers_per_block: residual blocks per resolution.
        patch_size: pixel-unshuffle before the trunk.
        linear_shortcut: see `CaT2IAutoencoder`.
        latent_shift: mean of each latent channel of all parts.
        latent_scale: 1 / standard deviation of each, likewise.
        num_foregrounds: always 1; trainer and pipeline ask every autoencoder.

    A mask is coded as a grey picture. Without foreground, background and mask of its own (flat),
    what is decoded counts as one opaque layer: foreground and background are the picture and the
    mask is 1.

    Example:
        >>> autoencoder = PlainAutoencoder.from_preset("tiny-plain", parts=("image",))
        >>> picture, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
        >>> autoencoder.encode(picture, picture, mask).mode().shape
        torch.Size([1, 2, 4, 4])
    """

    _supports_gradient_checkpointing = True  # of the trunk

    @register_to_config
    def __init__(
        self,
        parts: Sequence[str] = PARTS,
        latent_channels: int = 32,
        block_out_channels: Sequence[int] = (64, 96),
        layers_per_block: int = 1,
        patch_size: int = 4,
        linear_shortcut: bool = False,
        latent_shift: Sequence[float] | None = None,
        latent_scale: Sequence[float] | None = None,
        num_foregrounds: int = 1,
    ) -> None:
        super().__init__()
        check_parts(parts)
        if num_foregrounds != 1 or latent_channels % len(parts):
            raise InputError(
                f"A plain autoencoder codes one foreground and shares its {latent_channels} latent "
                f"channels evenly among {len(parts)} parts; {num_foregrounds} foregrounds asked."
            )
        channels = tuple(block_out_channels)
        picture_channels = latent_channels // len(parts)
        self.encoder, self.decoder = trunk(
            3 * patch_size**2, picture_channels, channels, layers_per_block
        )
        self.quant_conv = nn.Conv2d(2 * picture_channels, 2 * picture_channels, 1)
        self.post_quant_conv = nn.Conv2d(picture_channels, picture_channels, 1)
        self.head = PredictionHead(channels[0], 3, patch_size)
        self.shortcuts = nn.ModuleDict()
        if linear_shortcut:
            cell = 3 * self.latent_factor**2
            self.shortcuts["encoder"] = nn.Conv2d(cell, picture_channels, 1)
            self.shortcuts["decoder"] = nn.Conv2d(picture_channels, cell, 1)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> PlainAutoencoder:
        """Build an untrained autoencoder of PRESETS; keyword arguments replace its settings.

        Given only `parts`, each keeps the channels that it has in the preset.
        """
        if name not in PRESETS:
            known = ", ".join(PRESETS)
            raise InputError(f"No plain autoencoder is called {name!r}; choose one of {known}.")
        settings = {**PRESETS[name], **overrides}
        if "latent_channels" not in overrides:
            each = settings["latent_channels"] // len(PARTS)
            settings["latent_channels"] = each * len(settings.get("parts", PARTS))
        return cls(**settings)

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell along each side."""
        return self.config.patch_size * 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def is_flat(self) -> bool:
        """Whether only the whole picture is coded, so that there are no layers."""
        return tuple(self.config.parts) == ("image",)

    def with_parts(self, parts: Sequence[str]) -> PlainAutoencoder:
        """The same weights for some of the parts; latent statistics are kept part by part."""
        check_parts(parts)
        missing = [part for part in parts if part not in self.config.parts]
        if missing:
            raise InputError(f"This autoencoder was not made for the part {missing[0]!r}.")
        channels = self.config.latent_channels // len(self.config.parts) * len(parts)
        other = type(self).from_config(self.config, parts=tuple(parts), latent_channels=channels)
        other.load_state_dict(self.state_dict())
        if self.config.latent_shift is not None:
            places = [list(self.config.parts).index(part) for part in parts]
            rows = [
                torch.tensor(values).view(len(self.config.parts), -1)[places].flatten()
                for values in (self.config.latent_shift, self.config.latent_scale)
            ]
            other.set_latent_statistics(*rows)
        return other.train(self.training)

    def encode(
        self, foreground: Tensor, background: Tensor, mask: Tensor
    ) -> DiagonalGaussianDistribution:
        """Encode layers, each part on its own; arguments and errors of `CaT2IAutoencoder.encode`.

        Returns:
            Distribution over (N, latent_channels, H / f, W / f).
        """
        height, width = background.shape[-2:]
        if foreground.shape != background.shape or mask.shape[-2:] != background.shape[-2:]:
            raise InputError(
                f"Foreground {tuple(foreground.shape)}, background {tuple(background.shape)} and "
                f"mask {tuple(mask.shape)} must agree in number, height and width."
            )
        if height % self.latent_factor or width % self.latent_factor:
            raise InputError(
                f"Width and height must be multiples of {self.latent_factor}, got {width}x{height}."
            )
        pictures = {
            "foreground": foreground,
            "background": background,
            "mask": (mask * 2 - 1).expand(-1, 3, -1, -1),
            "image": composite(foreground, background, mask),
        }
        count, parts = len(background), len(self.config.parts)
        stacked = torch.stack([pictures[part] for part in self.config.parts], 1).flatten(0, 1)
        hidden = functional.pixel_unshuffle(stacked, self.config.patch_size)
        moments = self.quant_conv(self.encoder(hidden))
        mean, log_variance = moments.chunk(2, dim=1)
        if "encoder" in self.shortcuts:
            cells = functional.pixel_unshuffle(stacked, self.latent_factor)
            mean = mean + self.shortcuts["encoder"](cells)
        joined = [half.unflatten(0, (count, parts)).flatten(1, 2) for half in (mean, log_variance)]
        return DiagonalGaussianDistribution(torch.cat(joined, dim=1))

    def decode(self, latents: Tensor, clamp: bool = True) -> Parts:
        """Decode unscaled latents (N, C, h, w), part by part; see `CaT2IAutoencoder.decode`."""
        parts = list(self.config.parts)
        alone = latents.unflatten(1, (len(parts), -1)).flatten(0, 1)
        pictures = self.head(self.decoder(self.post_quant_conv(alone)))
        if "decoder" in self.shortcuts:
            cells = self.shortcuts["decoder"](alone)
            pictures = pictures + functional.pixel_shuffle(cells, self.latent_factor)
        if clamp:
            pictures = pictures.clamp(-1, 1)
        rows = pictures.unflatten(0, (len(latents), len(parts)))  # (N, P, 3, H, W)
        out = {part: rows[:, place] for place, part in enumerate(parts)}
        if self.is_flat:
            image = out["image"]
            return Parts(image, image, torch.ones_like(image[:, :1]), image)
        mask = (out["mask"].mean(1, keepdim=True) + 1) / 2
        return Parts(out["foreground"], out["background"], mask, out.get("image"))

    def forward(self, foreground: Tensor, background: Tensor, mask: Tensor) -> Parts:
        """Encode to the posterior's mean and decode it: the reconstruction."""
        return self.decode(self.encode(foreground, background, mask).mode())


def check_parts(parts: Sequence[str]) -> None:
    """Raise InputError unless the parts are whole layers, with or without the picture, or it."""
    layers = PARTS[:3]
    if tuple(parts) not in (PARTS, layers, PARTS[3:]):
        raise InputError(
            f"A plain autoencoder codes {', '.join(layers)}, with or without image, or image "
            f"alone, in this order; not {', '.join(parts)}."
        )
