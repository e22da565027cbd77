"""The denoiser of `base`: PixArt's transformer with pooled text and a convolution in each MLP."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import ModelMixin as ModelMixin  # or diffusers refuses to load it from here
from diffusers import PixArtTransformer2DModel
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.activations import GELU
from diffusers.models.normalization import AdaLayerNormSingle
from torch import Tensor, nn

POOLED_FLOOR = 1e-3  # added to the deviations that pooled text is divided by


class LayerTransformer2DModel(PixArtTransformer2DModel):
    """`PixArtTransformer2DModel` with two additions; it saves and loads as diffusers does it.

    Pooled text: the mean of the caption's token states, standardised, goes through a two-layer MLP
    and is added to the timestep embedding, as pooled CLIP text is in SD3 (arXiv 2403.03206). A
    depth-wise 3 x 3 convolution over the grid of tokens follows each MLP's first activation
    (DiCo, arXiv 2505.11196), added to it and zero in an untrained network. docs/log.md has what
    each of them is worth.

    Args:
        num_attention_heads: heads.
        attention_head_dim: channels of a head.
        in_channels: of the stacked input, see `models.denoiser.denoise`.
        out_channels: of the latent.
        num_layers: transformer blocks.
        cross_attention_dim: channels of the projected text, those of the network.
        caption_channels: channels of the text encoder's token states.
        sample_size: latent cells a side that positions are laid out for.
        patch_size: cells a side of a token.
        interpolation_scale: of positions.
    """

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 4,
        attention_head_dim: int = 64,
        in_channels: int = 36,
        out_channels: int = 16,
        num_layers: int = 8,
        cross_attention_dim: int = 256,
        caption_channels: int = 384,
        sample_size: int = 16,
        patch_size: int = 2,
        interpolation_scale: int = 1,
    ) -> None:
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            cross_attention_dim=cross_attention_dim,
            caption_channels=caption_channels,
            sample_size=sample_size,
            patch_size=patch_size,
            interpolation_scale=interpolation_scale,
            use_additional_conditions=False,
        )
        width = num_attention_heads * attention_head_dim
        self.adaln_single = PooledTextNorm(width, caption_channels)
        for block in self.transformer_blocks:
            first = block.ff.net[0].proj
            block.ff.net[0] = LocalGELU(first.in_features, first.out_features)
        # of PixArt's settings only those above are free; loaders warn of others in a file
        own = inspect.signature(LayerTransformer2DModel.__init__).parameters
        free = {name: value for name, value in self.config.items() if name in own}
        self._internal_dict = FrozenDict(free)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Predict velocity or noise.

        Args:
            hidden_states: (N, in_channels, h, w), sides multiples of the patch size.
            encoder_hidden_states: (N, L, caption_channels) token states.
            timestep: (N,), 0 (clean) to 1000 (noise).
            encoder_attention_mask: (N, L), true for tokens that count; None for all.
            return_dict: give a `Transformer2DModelOutput`, else a tuple of one.

        Returns:
            (N, out_channels, h, w).
        """
        patch = self.config.patch_size
        grid = hidden_states.shape[-2] // patch, hidden_states.shape[-1] // patch
        for block in self.transformer_blocks:
            block.ff.net[0].grid = grid
        return super().forward(
            hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            timestep=timestep,
            added_cond_kwargs={"states": encoder_hidden_states, "mask": encoder_attention_mask},
            encoder_attention_mask=encoder_attention_mask,
            return_dict=return_dict,
        )


class PooledTextNorm(AdaLayerNormSingle):
    """adaLN-single whose timestep embedding has pooled text added to it."""

    def __init__(self, width: int, caption_channels: int) -> None:
        super().__init__(width, use_additional_conditions=False)
        self.pooled = nn.Sequential(
            nn.Linear(caption_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.register_buffer("pooled_mean", torch.zeros(caption_channels))
        self.register_buffer("pooled_deviation", torch.ones(caption_channels))

    def forward(
        self,
        timestep: Tensor,
        added_cond_kwargs: dict[str, Any] | None = None,
        batch_size: int | None = None,
        hidden_dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the blocks' modulation (N, 6 width) and the embedding (N, width)."""
        assert added_cond_kwargs is not None
        embedded = self.emb(
            timestep, resolution=None, aspect_ratio=None, batch_size=batch_size,
            hidden_dtype=hidden_dtype,
        )  # fmt: skip
        pooled = pooled_text(**added_cond_kwargs)
        standard = (pooled - self.pooled_mean) / self.pooled_deviation
        embedded = embedded + self.pooled(standard.to(embedded.dtype))
        return self.linear(self.silu(embedded)), embedded


class LocalGELU(GELU):
    """diffusers' projected GELU, and a depth-wise 3 x 3 convolution of it over the token grid."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__(dim_in, dim_out, approximate="tanh")
        self.local = nn.Conv2d(dim_out, dim_out, 3, padding=1, groups=dim_out)
        nn.init.zeros_(self.local.weight)
        if self.local.bias is not None:
            nn.init.zeros_(self.local.bias)
        self.grid = (0, 0)  # rows and columns of tokens; the network sets it in each pass

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(N, rows * columns, dim_in) to (N, rows * columns, dim_out)."""
        hidden = super().forward(hidden_states)
        picture = hidden.transpose(1, 2).unflatten(2, self.grid)
        return hidden + self.local(picture).flatten(2).transpose(1, 2)


def pooled_text(states: Tensor, mask: Tensor | None) -> Tensor:
    """Mean state (N, D) of the tokens (N, L, D) that the mask (N, L) counts."""
    if mask is None:
        return states.mean(1)
    counted = mask.to(states.dtype)[..., None]
    return (states * counted).sum(1) / counted.sum(1).clamp(min=1)
