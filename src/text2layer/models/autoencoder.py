"""CaT2I-AE: the Composition-Aware Two-Layer Autoencoder (Text2Layer, arXiv 2307.09781, section 4).

One latent holds foreground F, background B and mask m, or L foregrounds with their masks. The
trunk is Stable Diffusion's KL autoencoder (diffusers' `Encoder` and `Decoder`); its last layer is
replaced by prediction heads, each conv-bn-relu-conv, for F, B, m (one head for all foregrounds, one
for all masks) and, as supervision, for the whole picture I.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder, DiagonalGaussianDistribution, Encoder
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError
from text2layer.models.latent_statistics import LatentStatistics
from text2layer.models.layer_decoder import LayerDecoder
from text2layer.parts import Parts

LayerComponents = Parts  # its former name

# no convolution at full resolution, 16 channels for three pictures' worth of content
BASE = {
    "latent_channels": 16,
    "block_out_channels": (128, 192),
    "layers_per_block": 2,
    "linear_shortcut": True,
}
PRESETS: dict[str, dict[str, Any]] = {
    # for tests: a few thousand weights
    "tiny": {"latent_channels": 4, "block_out_channels": (32, 32), "layers_per_block": 1},
    # for equal budgets in the benchmark (docs/benchmark.md)
    "bench": {
        "latent_channels": 16,
        "block_out_channels": (64, 96),
        "layers_per_block": 1,
        "linear_shortcut": True,
    },
    "base": BASE,
    # the encoder of `base`, which sees half of the size, and a decoder for the whole of it
    "base-256": {
        **BASE,
        "doublings": 1,
        "auxiliary_head": False,
        "decoder_channels": (320, 192, 64, 32),
    },
    # the paper to the letter: SD's kl-f8 encoder and decoder, 4 latent channels
    "paper": {
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "patch_size": 1,
    },
}


def trunk(
    in_channels: int, latent_channels: int, channels: Sequence[int], layers_per_block: int
) -> tuple[Encoder, Decoder]:
    """Stable Diffusion's encoder, and its decoder without the last layer: heads follow it.

    Args:
        in_channels: of what is encoded.
        latent_channels: of the latent; the encoder gives mean and log variance of each.
        channels: per resolution, finest first.
        layers_per_block: residual blocks per resolution.
    """
    shared = {"block_out_channels": tuple(channels), "layers_per_block": layers_per_block}
    encoder = Encoder(
        in_channels=in_channels,
        out_channels=latent_channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        double_z=True,
        **shared,
    )
    decoder = Decoder(
        in_channels=latent_channels,
        out_channels=3,
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        **shared,
    )
    decoder.conv_out = nn.Identity()
    return encoder, decoder


class PredictionHead(nn.Sequential):
    """conv-bn-relu-conv (Text2Layer, section 4.1), then `patch_size`-fold pixel shuffle."""

    def __init__(self, channels: int, out_channels: int, patch_size: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, out_channels * patch_size**2, 3, padding=1),
            nn.PixelShuffle(patch_size),
        )


class LastBlock(nn.Module):
    """The decoder's last residual block and norm, taken from it so that there can be two.

    Takes and gives (N, channels, H / patch_size, W / patch_size).
    """

    _gradient_checkpointing_func: Callable[..., Tensor]  # `enable_gradient_checkpointing` sets it

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.block = deepcopy(decoder.up_blocks[-1].resnets[-1])
        self.norm = deepcopy(decoder.conv_norm_out)
        self.gradient_checkpointing = False

    def forward(self, hidden: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            hidden = self._gradient_checkpointing_func(self.block, hidden, None)
        else:
            hidden = self.block(hidden, None)
        return functional.silu(self.norm(hidden))


class CaT2IAutoencoder(LatentStatistics, ModelMixin, ConfigMixin):
    """Autoencoder of (foreground, background, mask) triplets, or of L foregrounds with L masks.

    Args:
        num_foregrounds: L, the number of foreground layers, bottom first: 4 L + 3 input channels.
        latent_channels: channels of the latent.
        block_out_channels: channels per resolution of the trunk, finest first.
        layers_per_block: residual blocks per resolution.
        patch_size: pixel-unshuffle before the trunk (1 = none), so that no convolution runs at
            full resolution.
        linear_shortcut: add to encoder and decoder a linear map between the pixels of a latent
            cell and its channels, so that the networks learn what a linear code leaves out (the
            residual autoencoding of DC-AE, arXiv 2410.10733, section 3.2, with learned weights).
        auxiliary_head: also predict the whole picture I ("composition-aware"); False is the
            paper's variant no-sup.
        mask_block: the mask head reads a last residual block of its own, so that the pictures'
            losses do not shape the features it is read from (docs/log.md, 2026-11-26).
        doublings: d, how often layers are averaged down by two before they are encoded, and what
            the heads give is enlarged by two (bilinear): a trained encoder then serves pictures
            2^d times as large as those it was made for.
        decoder_channels: channels of a `LayerDecoder`, coarsest first, which takes the place of the
            trunk's decoder, the heads and all that follows them; none for the paper's decoder.
        latent_shift: mean of each latent channel, measured on training data.
        latent_scale: 1 / standard deviation of each latent channel, measured likewise.

    The latent factor is `patch_size * 2 ** (len(block_out_channels) - 1 + doublings)`; heights and
    widths are multiples of it.

    Example:
        >>> autoencoder = CaT2IAutoencoder.from_preset("tiny")
        >>> picture, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
        >>> autoencoder.encode(picture, picture, mask).mode().shape
        torch.Size([1, 4, 4, 4])
    """

    _supports_gradient_checkpointing = True  # of the trunk; heads count their batches once

    @register_to_config
    def __init__(
        self,
        num_foregrounds: int = 1,
        latent_channels: int = 16,
        block_out_channels: Sequence[int] = (128, 192),
        layers_per_block: int = 2,
        patch_size: int = 4,
        linear_shortcut: bool = False,
        auxiliary_head: bool = True,
        mask_block: bool = False,
        doublings: int = 0,
        detail_channels: Sequence[int] = (),  # of the sixth weights, refused by a sentence
        decoder_channels: Sequence[int] = (),
        latent_shift: Sequence[float] | None = None,
        latent_scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        channels = tuple(block_out_channels)
        if doublings < 0:
            raise InputError(f"doublings must be 0 or more, got {doublings}.")
        self.encoder, self.decoder = trunk(
            (4 * num_foregrounds + 3) * patch_size**2, latent_channels, channels, layers_per_block
        )
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.shortcuts = nn.ModuleDict()
        if linear_shortcut:
            in_channels = (4 * num_foregrounds + 3) * self._cell**2
            self.shortcuts["encoder"] = nn.Conv2d(in_channels, latent_channels, 1)
        if detail_channels:
            raise InputError(
                "This autoencoder has a detail branch (detail_channels), which was replaced by "
                "decoder_channels; use newer weights, or train the decoder anew (preset base-256)."
            )
        if decoder_channels:
            if mask_block:
                raise InputError("mask_block and decoder_channels exclude each other; choose one.")
            names = ["foreground", "background", "mask"] + ["image"] * auxiliary_head
            self.decoder = LayerDecoder(
                latent_channels,
                decoder_channels,
                layers_per_block,
                {name: self._channels_of(name) for name in names},
                self.latent_factor,
            )
            return
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.heads = nn.ModuleDict(
            {
                "foreground": PredictionHead(channels[0], 3 * num_foregrounds, patch_size),
                "background": PredictionHead(channels[0], 3, patch_size),
                "mask": PredictionHead(channels[0], num_foregrounds, patch_size),
            }
        )
        if auxiliary_head:
            self.heads["image"] = PredictionHead(channels[0], 3, patch_size)
        if mask_block:
            self.last_blocks = nn.ModuleDict(
                {"mask": LastBlock(self.decoder), "pictures": LastBlock(self.decoder)}
            )
            del self.decoder.up_blocks[-1].resnets[-1]
            self.decoder.conv_norm_out = self.decoder.conv_act = nn.Identity()
        if linear_shortcut:
            for name in self.heads:
                pixels = self._channels_of(name) * self._cell**2
                self.shortcuts[name] = nn.Conv2d(latent_channels, pixels, 1)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> CaT2IAutoencoder:
        """Build an untrained autoencoder of PRESETS; keyword arguments replace its settings."""
        if name not in PRESETS:
            known = ", ".join(PRESETS)
            raise InputError(f"No autoencoder preset is called {name!r}; choose one of {known}.")
        return cls(**{**PRESETS[name], **overrides})

    def _channels_of(self, head: str) -> int:
        layers = self.config.num_foregrounds
        return {"foreground": 3 * layers, "mask": layers}.get(head, 3)

    @property
    def _cell(self) -> int:
        """Side of a latent cell in what the trunk sees and the heads give."""
        return self.config.patch_size * 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell along each side."""
        return self._cell * 2**self.config.doublings

    def encode(
        self, foreground: Tensor, background: Tensor, mask: Tensor
    ) -> DiagonalGaussianDistribution:
        """Encode layers into the posterior of their latent (unscaled).

        Args:
            foreground: (N, 3, H, W) in [-1, 1], or (N, L, 3, H, W).
            background: (N, 3, H, W) in [-1, 1].
            mask: (N, 1, H, W) in [0, 1], or (N, L, 1, H, W).

        Returns:
            Distribution over (N, latent_channels, H / f, W / f).

        Raises:
            InputError: when a size is not a multiple of the latent factor or shapes disagree.
        """
        for name, part in (("foreground", foreground), ("mask", mask)):
            if (part.shape[0], *part.shape[-2:]) != (background.shape[0], *background.shape[-2:]):
                raise InputError(
                    f"The {name} {tuple(part.shape)} and the background {tuple(background.shape)} "
                    "must agree in number, height and width."
                )
        parts = torch.cat([foreground.flatten(1, -3), background, mask.flatten(1, -3) * 2 - 1], 1)
        height, width = parts.shape[-2:]
        expected = 4 * self.config.num_foregrounds + 3
        if parts.shape[1] != expected:
            raise InputError(
                f"The autoencoder takes {expected} channels (foregrounds, background, masks), "
                f"got {parts.shape[1]}."
            )
        if height % self.latent_factor or width % self.latent_factor:
            raise InputError(
                f"Width and height must be multiples of {self.latent_factor}, got {width}x{height}."
            )
        if self.config.doublings:
            parts = functional.avg_pool2d(parts, 2**self.config.doublings)
        hidden = functional.pixel_unshuffle(parts, self.config.patch_size)
        moments = self.quant_conv(self.encoder(hidden))
        if "encoder" in self.shortcuts:
            mean, log_variance = moments.chunk(2, dim=1)
            cells = functional.pixel_unshuffle(parts, self._cell)
            moments = torch.cat([mean + self.shortcuts["encoder"](cells), log_variance], dim=1)
        return DiagonalGaussianDistribution(moments)

    def decode(self, latents: Tensor, clamp: bool = True) -> Parts:
        """Decode unscaled latents (N, C, h, w) into layers of h * f by w * f pixels.

        Args:
            latents: what `encode(...).sample()` or `unscale_latents` gives.
            clamp: hold colour in [-1, 1] and the mask in [0, 1]; training leaves them free.
        """
        decode = self.decoder if self.config.decoder_channels else self._decode_by_heads
        out = decode(latents)
        if clamp:
            out = {k: v.clamp(0.0 if k == "mask" else -1.0, 1.0) for k, v in out.items()}
        layers = self.config.num_foregrounds
        if layers > 1:
            out["foreground"] = out["foreground"].unflatten(1, (layers, 3))
            out["mask"] = out["mask"].unflatten(1, (layers, 1))
        return Parts(
            foreground=out["foreground"],
            background=out["background"],
            mask=out["mask"],
            image=out.get("image"),
        )

    def _decode_by_heads(self, latents: Tensor) -> dict[str, Tensor]:
        """The paper's decoder: trunk and heads."""
        trunk = self.decoder(self.post_quant_conv(latents))
        if self.config.mask_block:
            last = {name: block(trunk) for name, block in self.last_blocks.items()}
        else:
            last = {"mask": trunk, "pictures": trunk}
        out = {
            name: head(last["mask" if name == "mask" else "pictures"])
            for name, head in self.heads.items()
        }
        for name in out:
            if name in self.shortcuts:
                cells = self.shortcuts[name](latents)
                out[name] = out[name] + functional.pixel_shuffle(cells, self._cell)
        if self.config.doublings:
            larger = {"scale_factor": 2.0**self.config.doublings, "mode": "bilinear"}
            out = {name: functional.interpolate(part, **larger) for name, part in out.items()}
        return out

    def forward(self, foreground: Tensor, background: Tensor, mask: Tensor) -> Parts:
        """Encode to the posterior's mean and decode it: the reconstruction."""
        return self.decode(self.encode(foreground, background, mask).mode())
