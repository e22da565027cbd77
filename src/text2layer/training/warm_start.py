"""Start from Stable Diffusion 1.x: its VAE for the autoencoder, its UNet for the denoiser.

The folder is a pipeline as diffusers saves it, of which one part is read:

    FOLDER/vae/     config.json, diffusion_pytorch_model.safetensors
    FOLDER/unet/    the same two

What Stable Diffusion has no weights for starts so that the network does at first what Stable
Diffusion does:

- **Encoder input**, 3 -> 4 L + 3 channels. The picture m F + (1 - m) B is no linear map of its
  layers, so no kernel can show it to the encoder. Foregrounds and background each get the kernel
  divided by their number, masks zeros: the encoder sees the mean of the layers, both of them from
  the first update on, and codes layers that are all the same picture as the VAE codes that picture.
- **Heads** stay new: the VAE's last layer makes one picture, and batch norm stands in between.
- **UNet input**, 4 -> 2 C + 4 channels: noisy latent first, zeros for condition and flags, so that
  text alone gives what the UNet gives. Of C > 4 latent channels the first four get its weights, and
  the others start silent at both ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor

from text2layer.errors import InputError, WeightsError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.pipelines.loading import one_sentence


def warm_start(network: ModelMixin, folder: Path) -> None:
    """Load Stable Diffusion's weights into an autoencoder or a UNet of its shape, in place.

    Args:
        network: untrained, of the architecture `paper`.
        folder: Stable Diffusion 1.x in diffusers' layout, weights as safetensors.

    Raises:
        InputError: the network is of another kind.
        WeightsError: the folder lacks the part, or its shapes are others.
    """
    if isinstance(network, CaT2IAutoencoder):
        part = folder / "vae"
        weights = autoencoder_weights(_read(AutoencoderKL, part), network.config.num_foregrounds)
        weights |= {k: v for k, v in network.state_dict().items() if k.startswith("heads.")}
    elif isinstance(network, UNet2DConditionModel):
        part = folder / "unet"
        unet = _read(UNet2DConditionModel, part)
        _same_heads(part, unet, network)
        weights = denoiser_weights(unet, network.config.in_channels, network.config.out_channels)
    else:
        raise InputError(
            f"A {type(network).__name__} cannot start from Stable Diffusion, which has other "
            "networks; use preset paper-256 or paper-512."
        )
    _check_shapes(part, weights, network)
    network.load_state_dict(weights)


def autoencoder_weights(vae: AutoencoderKL, num_foregrounds: int = 1) -> dict[str, Tensor]:
    """Weights of encoder, decoder trunk and quant convolutions for L foregrounds."""
    weights: dict[str, Tensor] = vae.state_dict()
    for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
        del weights[name]
    kernel = weights["encoder.conv_in.weight"]  # (128, 3, 3, 3)
    pictures = num_foregrounds + 1
    masks = torch.zeros_like(kernel[:, :1]).repeat(1, num_foregrounds, 1, 1)
    weights["encoder.conv_in.weight"] = torch.cat([kernel / pictures] * pictures + [masks], dim=1)
    return weights


def denoiser_weights(
    unet: UNet2DConditionModel, in_channels: int, latent_channels: int
) -> dict[str, Tensor]:
    """Weights of a UNet over [noisy latent, condition latent, flags] that heeds the first alone."""
    weights: dict[str, Tensor] = unet.state_dict()
    noisy = _resized(weights["conv_in.weight"], latent_channels, dim=1)  # (320, C, 3, 3)
    weights["conv_in.weight"] = _resized(noisy, in_channels, dim=1)  # (320, 2C + 4, 3, 3)
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = _resized(weights[name], latent_channels, dim=0)
    return weights


def _resized(values: Tensor, size: int, dim: int) -> Tensor:
    """Cut one dimension off at `size`, or fill it up with zeros."""
    kept = values.narrow(dim, 0, min(size, values.shape[dim]))
    shape = list(kept.shape)
    shape[dim] = size - kept.shape[dim]
    return torch.cat([kept, kept.new_zeros(shape)], dim)


def _read(kind: Any, part: Path) -> Any:
    """Load a network of diffusers; it also knows the names that older files use."""
    for name in ("config.json", SAFETENSORS_WEIGHTS_NAME):
        if not (part / name).is_file():
            raise WeightsError(
                f"{part} holds no {name}; give a Stable Diffusion 1.x folder in diffusers' layout, "
                "with weights as safetensors."
            )
    with one_sentence(part):
        network, report = kind.from_pretrained(
            part, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    if report["missing_keys"]:
        raise WeightsError(f"{part} lacks weights ({report['missing_keys'][0]}); get a whole copy.")
    return network


def _check_shapes(part: Path, weights: dict[str, Tensor], network: ModelMixin) -> None:
    """Raise WeightsError for the first weight that has another shape or is missing on a side."""
    wanted = network.state_dict()
    for name in [*wanted, *weights]:
        there, here = (list(side[name].shape) if name in side else "none"
                       for side in (weights, wanted))  # fmt: skip
        if there != here:
            raise WeightsError(
                f"{part} does not fit this network: {name} is {there} there, {here} here; presets "
                "paper-256 and paper-512 fit Stable Diffusion 1.x."
            )


def _same_heads(part: Path, unet: Any, network: Any) -> None:
    """Raise WeightsError for other attention heads, which no shape tells."""
    there, here = (unet_.config.attention_head_dim for unet_ in (unet, network))
    if there != here:
        raise WeightsError(f"{part} has {there} attention heads, this network {here}.")
