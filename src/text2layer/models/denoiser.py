"""The denoiser: a stock diffusers network over [noisy latent, condition latent, given flags].

One network learns five jobs (text alone; background, foreground, the whole picture or a reference
given): the condition latent is the autoencoder's encoding of what is given, zero when nothing is,
and flag channels say what it is. A reference is a cut-out that shows what the object looks like;
nothing of it is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    PixArtTransformer2DModel,
    SchedulerMixin,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError
from text2layer.models.transformer import POOLED_FLOOR, LayerTransformer2DModel

if TYPE_CHECKING:
    from text2layer.models.autoencoder import CaT2IAutoencoder

# order of the flag channels; older networks know the first three
GIVEN = ("foreground", "background", "image", "reference")

_SD_SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
    "prediction_type": "epsilon",
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # for tests: base and paper at toy size
    "tiny": {"network": PixArtTransformer2DModel, "width": 32, "heads": 2, "layers": 2},
    "tiny-pooled": {"network": LayerTransformer2DModel, "width": 32, "heads": 2, "layers": 2},
    "tiny-paper": {"network": UNet2DConditionModel, "channels": (32, 64), "heads": 2},
    # for equal budgets in the benchmark (docs/benchmark.md)
    "bench": {"network": PixArtTransformer2DModel, "width": 192, "heads": 3, "layers": 6},
    # small, for machines on which the number of updates decides: a few CPU cores
    "small": {"network": LayerTransformer2DModel, "width": 256, "heads": 4, "layers": 8},
    "base": {"network": LayerTransformer2DModel, "width": 320, "heads": 5, "layers": 8},
    # as much as fits a file of 60 MB beside the autoencoder, for one GPU
    "large": {"network": LayerTransformer2DModel, "width": 384, "heads": 6, "layers": 8},
    "base-unet": {"network": UNet2DConditionModel, "channels": (96, 160, 224), "heads": 8},
    "paper": {"network": UNet2DConditionModel, "channels": (320, 640, 1280, 1280), "heads": 8},
}
EPSILON_PRESETS = ("tiny-paper", "paper")


def build_denoiser(
    preset: str, latent_channels: int, text_channels: int, sample_size: int = 16
) -> ModelMixin:
    """Build an untrained denoiser of PRESETS.

    Args:
        preset: a name of PRESETS.
        latent_channels: channels of the autoencoder's latent.
        text_channels: width of the text encoder's token states.
        sample_size: latent cells per side that positions are laid out for; other sizes are
            interpolated to the same range.
    """
    if preset not in PRESETS:
        raise InputError(
            f"No denoiser preset is called {preset!r}; choose one of {', '.join(PRESETS)}."
        )
    given = PRESETS[preset]
    in_channels = 2 * latent_channels + len(GIVEN)
    if issubclass(given["network"], PixArtTransformer2DModel):
        pooled = given["network"] is LayerTransformer2DModel
        return given["network"](
            num_attention_heads=given["heads"],
            attention_head_dim=given["width"] // given["heads"],
            in_channels=in_channels,
            out_channels=latent_channels,
            num_layers=given["layers"],
            cross_attention_dim=given["width"],
            caption_channels=text_channels,
            sample_size=sample_size,
            patch_size=2,
            interpolation_scale=1,
            **({} if pooled else {"use_additional_conditions": False}),
        )
    levels = len(given["channels"])
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=in_channels,
        out_channels=latent_channels,
        block_out_channels=given["channels"],
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        cross_attention_dim=text_channels,
        attention_head_dim=given["heads"],
    )


@torch.no_grad()
def initialise(
    network: ModelMixin, text_states: Tensor, pooled_states: Tensor | None = None
) -> None:
    """Start a transformer denoiser so that it hears its text from the first update.

    diffusers leaves torch's default initialisation, with which another caption changes a tenth of
    what the blocks of `base` give (0.10, against 0.42 after this function; docs/log.md). This is
    DiT's (arXiv 2212.09748, `initialize_weights`):
    Xavier-uniform matrices, small timestep layers, a silent last layer. The first layer of the
    caption projection also whitens: token states of a sentence encoder share a few strong
    directions that tell captions little apart, so their mean is subtracted and their covariance
    divided out, folded into that layer's weights. Other networks stay as they are.

    Args:
        network: untrained, changed in place.
        text_states: (tokens, D) states of the training captions' tokens, 1,000 or more.
        pooled_states: (captions, D) mean states of training captions, by which a network with
            pooled text standardises; None leaves them as they are.
    """
    if not isinstance(network, PixArtTransformer2DModel):
        return
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(network.pos_embed.proj.weight.flatten(1))
    for name, weight in network.adaln_single.named_parameters():
        if name.endswith("weight") and not name.startswith("pooled"):
            nn.init.normal_(weight, std=0.02)
    nn.init.zeros_(network.proj_out.weight)
    first = network.caption_projection.linear_1
    mean, whitening = whitening_of(text_states)
    first.weight.copy_(first.weight @ whitening)
    first.bias.copy_(-first.weight @ mean)
    if isinstance(network, LayerTransformer2DModel) and pooled_states is not None:
        norm = network.adaln_single
        norm.pooled_mean.copy_(pooled_states.mean(0))
        norm.pooled_deviation.copy_(pooled_states.std(0) + POOLED_FLOOR)


def whitening_of(states: Tensor, floor: float = 0.1) -> tuple[Tensor, Tensor]:
    """Mean (D,) and symmetric whitening matrix (D, D) of states (N, D).

    Args:
        states: samples in rows.
        floor: added to every variance, as a share of the mean variance, so that directions in
            which nothing happens are not blown up.
    """
    mean = states.mean(0)
    centred = states - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(states))
    values = values.clamp(min=0) + floor * values.mean().clamp(min=1e-8)
    return mean, (vectors * values.rsqrt()) @ vectors.T


def build_scheduler(preset: str, shift: float = 1.0) -> SchedulerMixin:
    """Stable Diffusion's epsilon/DDIM for the paper's presets, else rectified flow (Euler)."""
    if preset in EPSILON_PRESETS:
        return DDIMScheduler(**_SD_SCHEDULE)
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def is_flow(scheduler: SchedulerMixin) -> bool:
    """Tell rectified flow from diffusion schedulers."""
    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler)


def predicts_velocity(scheduler: SchedulerMixin) -> bool:
    """Whether a scheduler samples with a rectified flow's velocity; else it wants noise (epsilon).

    Euler and Heun of flow matching do, and DPM-Solver++, UniPC and others whose config says
    ``use_flow_sigmas=True, prediction_type="flow_prediction"``.
    """
    if scheduler.__class__.__name__.startswith("FlowMatch"):
        return True
    return getattr(scheduler.config, "prediction_type", None) == "flow_prediction"


def set_steps(
    scheduler: SchedulerMixin, steps: int, device: torch.device | str | None = None
) -> None:
    """Lay out the sampling steps: of a rectified flow at levels 1, ..., 1 / steps, then shifted.

    The scheduler's own layout ends at a level of .001 and so spends its last step on nothing, one
    of six where a picture takes six.
    """
    if is_flow(scheduler):
        scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)], device=device)
    else:
        scheduler.set_timesteps(steps, device=device)


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


def flag_tensor(given: list[str | None], like: Tensor) -> Tensor:
    """Return (N, 4) flags of what each sample is given (a name of GIVEN, or None)."""
    rows = [[float(name == kind) for kind in GIVEN] for name in given]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def flag_channels(network: ModelMixin, latent_channels: int) -> int:
    """How many flags a network takes: the first so many of GIVEN."""
    return int(network.config.in_channels) - 2 * latent_channels


def fill_flags(network: ModelMixin, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network that knew fewer flags, with zeros for the flags that it did not know.

    Args:
        network: that is to take the weights.
        weights: of a network alike in all else; returned unchanged where no flag is missing.
    """
    wanted = network.state_dict()
    for name in {"pos_embed.proj.weight", "conv_in.weight"} & weights.keys() & wanted.keys():
        missing = wanted[name].shape[1] - weights[name].shape[1]
        if 0 < missing < len(GIVEN):
            weights = {**weights, name: functional.pad(weights[name], (0, 0, 0, 0, 0, missing))}
    return weights


def denoise(
    network: ModelMixin,
    noisy: Tensor,
    condition: Tensor,
    flags: Tensor,
    timestep: Tensor,
    text_states: Tensor,
    text_mask: Tensor,
) -> Tensor:
    """One call of the network: velocity (rectified flow) or epsilon (paper).

    Args:
        noisy: (N, C, h, w) noisy latents in the denoiser's space.
        condition: (N, C, h, w) latents of what is given, zero where nothing is.
        flags: (N, K), see `flag_tensor`; the network gets as many as it has channels for, zeros
            where `flags` has fewer.
        timestep: (N,) or scalar, 0 (clean) to 1000 (noise).
        text_states: (N, L, D) token states of the text encoder.
        text_mask: (N, L), true for tokens that count.

    Returns:
        (N, C, h, w).
    """
    wanted = flag_channels(network, noisy.shape[1])
    flags = functional.pad(flags[:, :wanted], (0, max(0, wanted - flags.shape[1])))
    maps = flags[:, :, None, None].expand(-1, -1, *noisy.shape[-2:])
    stacked = torch.cat([noisy, condition, maps.to(noisy.dtype)], dim=1)  # (N, 2C + K, h, w)
    return network(
        stacked,
        encoder_hidden_states=text_states.to(noisy.dtype),
        timestep=timestep.expand(noisy.shape[0]),
        encoder_attention_mask=text_mask,
        return_dict=False,
    )[0]


def patch_size(network: ModelMixin) -> int:
    """Latent sides must be a multiple of this for the network to take them."""
    if isinstance(network, UNet2DConditionModel):
        return 2 ** (len(network.config.block_out_channels) - 1)
    return int(network.config.patch_size)
