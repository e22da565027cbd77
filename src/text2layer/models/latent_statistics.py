"""The step between an autoencoder's latents and the denoiser's space, measured per channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from text2layer.errors import InputError


class LatentStatistics:
    """Mixin of autoencoders whose config holds `latent_shift` and `latent_scale`."""

    config: Any
    _internal_dict: Any
    register_to_config: Any

    def set_latent_statistics(
        self, shift: Tensor | Sequence[float], scale: Tensor | Sequence[float]
    ) -> None:
        """Store measured per-channel mean and 1 / standard deviation in the config."""
        # diffusers drops what it notes here as an unchanged default when a config is copied
        defaults = self._internal_dict.get("_use_default_values", [])
        kept = [name for name in defaults if name not in ("latent_shift", "latent_scale")]
        self.register_to_config(
            _use_default_values=kept,
            latent_shift=[float(value) for value in shift],
            latent_scale=[float(value) for value in scale],
        )

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Map encoder latents to the denoiser's space: zero mean, unit deviation per channel."""
        shift, scale = self._latent_statistics(latents)
        return (latents - shift) * scale

    def unscale_latents(self, latents: Tensor) -> Tensor:
        """Map the denoiser's latents back to what `decode` takes."""
        shift, scale = self._latent_statistics(latents)
        return latents / scale + shift

    def _latent_statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.latent_shift is None or self.config.latent_scale is None:
            raise InputError(
                "The autoencoder's config holds no latent_shift and latent_scale; measure them "
                "with text2layer.training.latents.measure_latent_statistics."
            )
        shift = like.new_tensor(self.config.latent_shift)[:, None, None]
        scale = like.new_tensor(self.config.latent_scale)[:, None, None]
        return shift, scale
