"""How far the prompt counts: the denoiser's error with the right caption and with others.

No other network is needed, so it runs where no CLIP is at hand, and a trainer can watch it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from text2layer.errors import InputError
from text2layer.models.denoiser import denoise, is_flow
from text2layer.models.text_encoder import encode_prompts

if TYPE_CHECKING:
    from text2layer.models.autoencoder import LayerComponents
    from text2layer.pipelines.text2layer import Text2LayerPipeline

LEVELS = (0.5, 0.7, 0.85, 0.95)  # noise levels, 0 clean to 1 noise


@torch.no_grad()
def evaluate_prompt_following(
    pipeline: Text2LayerPipeline,
    batches: Iterable[tuple[LayerComponents, list[str]]],
    choices: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Score how well the denoiser tells a picture's own caption from other ones.

    The choice among captions by lowest error is the diffusion classifier of Li et al., "Your
    Diffusion Model is Secretly a Zero-Shot Classifier" (arXiv 2303.16203), equation 5, with one
    noise per level shared by all captions.

    Args:
        pipeline: a whole model.
        batches: known layers with one caption each; other captions come from the same batch, so
            a batch needs at least `choices` samples.
        choices: captions to choose from, the own one included; chance is 1 / choices.
        seed: of the noise.

    Returns:
        `error_own`, `error_empty`, `error_other` (mean squared error by noise level),
        `chosen_own` (share of samples whose own caption has the lowest error, summed over levels),
        `chance`, `samples`.

    Raises:
        InputError: when there is no batch, or a batch is smaller than `choices`.
    """
    generator = torch.Generator().manual_seed(seed)
    device = pipeline.denoiser.device
    sums = {kind: torch.zeros(len(LEVELS)) for kind in ("own", "empty", "other")}
    right = samples = 0
    for parts, captions in batches:
        count = len(captions)
        if count < choices or choices < 2:
            raise InputError(
                f"A batch of {count} captions cannot offer {choices} to choose from; use at least "
                "2 choices and batches of that size."
            )
        texts = [*captions, ""]
        states, mask = encode_prompts(
            pipeline.tokenizer, pipeline.text_encoder, texts, pipeline.config.max_prompt_tokens
        )
        posterior = pipeline.autoencoder.encode(parts.foreground, parts.background, parts.mask)
        latents = pipeline.autoencoder.scale_latents(posterior.mode()).to(device)
        totals = torch.zeros(choices, count)
        for place, level in enumerate(LEVELS):
            noise = torch.randn(latents.shape, generator=generator).to(latents)
            rows = torch.arange(count)
            for shift in range(choices):
                chosen = (rows + shift) % count
                error = _error(pipeline, latents, noise, level, states[chosen], mask[chosen]).cpu()
                totals[shift] += error
                kind = "own" if shift == 0 else "other"
                sums[kind][place] += error.sum() / (1 if shift == 0 else choices - 1)
            empty = torch.full((count,), count)
            error = _error(pipeline, latents, noise, level, states[empty], mask[empty])
            sums["empty"][place] += error.sum().cpu()
        right += int((totals.argmin(0) == 0).sum())
        samples += count
    if not samples:
        raise InputError("There is nothing to score: no batch was given.")
    by_level = {
        f"error_{kind}": {f"{level:g}": float(value) / samples
                          for level, value in zip(LEVELS, values, strict=True)}
        for kind, values in sums.items()
    }  # fmt: skip
    return {
        **by_level,
        "chosen_own": right / samples,
        "chance": 1 / choices,
        "samples": samples,
    }


def _error(
    pipeline: Text2LayerPipeline,
    latents: Tensor,
    noise: Tensor,
    level: float,
    states: Tensor,
    mask: Tensor,
) -> Tensor:
    """Mean squared error (N,) of the prediction for text alone, at one noise level."""
    count = latents.shape[0]
    if is_flow(pipeline.scheduler):
        noisy, target = torch.lerp(latents, noise, level), noise - latents
        timestep = torch.full((count,), level * 1000, device=latents.device)
    else:
        steps = pipeline.scheduler.config.num_train_timesteps
        timestep = torch.full((count,), int(level * steps), device=latents.device)
        noisy, target = pipeline.scheduler.add_noise(latents, noise, timestep), noise
    output = denoise(
        pipeline.denoiser, noisy, torch.zeros_like(latents), latents.new_zeros(count, 3), timestep,
        states, mask,
    )  # fmt: skip
    return (output.float() - target).square().mean((1, 2, 3))
