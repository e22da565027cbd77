"""Protocol `prompt`: how far the prompt counts, by the denoiser's error with other captions.

No other network is needed, so it runs where no CLIP is at hand, and a trainer can watch it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from text2layer.data.known_samples import KnownSamples
from text2layer.errors import InputError
from text2layer.evaluation.collector import Collector
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Networks, Run
from text2layer.models.denoiser import denoise, is_flow
from text2layer.models.text_encoder import encode_prompts

if TYPE_CHECKING:
    from text2layer.parts import Parts
    from text2layer.pipelines.text2layer import Text2LayerPipeline

VERSION = 2
LEVELS = (0.5, 0.7, 0.85, 0.95)  # noise levels, 0 clean to 1 noise
CHOICES = 8


def follow_prompt(
    drawer: Drawer, known: KnownSamples, networks: Networks, run: Run, choices: int = CHOICES
) -> ProtocolResult:
    """Score how well the denoiser tells each picture's own caption from those of other samples.

    The other captions of a sample are those of the samples that follow it, the first after the
    last; its noise is seeded by its number. So no figure depends on the batches.

    Figures: mean squared error by noise level with the own, an empty and another caption; share of
    samples whose own caption has the lowest error among `choices` (chance is 1 / choices).

    Raises:
        InputError: there are fewer samples than `choices`, or fewer than 2 choices.
    """
    if len(known) < choices or choices < 2:
        raise InputError(
            f"{len(known)} samples cannot offer {choices} captions to choose from; use at least 2 "
            f"choices and as many samples."
        )
    result = ProtocolResult("prompt", VERSION, len(known))
    with Collector() as collector:
        for batch in run.batches(known, "prompt"):
            numbers = batch.numbers.tolist()
            parts = batch.to_float().to(drawer.pipeline.autoencoder.device)
            captions = [
                [known.caption((number + shift) % len(known)) for shift in range(choices)]
                for number in numbers
            ]
            collector.add(batch.numbers, prompt_rows(drawer.pipeline, parts, captions, numbers))
        result.add_means(collector.per_sample())
    result.about["choices"] = choices
    return run.finish(result, drawer, known, networks)


@torch.no_grad()
def prompt_rows(
    pipeline: Text2LayerPipeline,
    parts: Parts,
    captions: Sequence[Sequence[str]],
    seeds: Sequence[int],
) -> dict[str, Tensor]:
    """Scores (B,) of one batch.

    The choice among captions by lowest error is the diffusion classifier of Li et al., "Your
    Diffusion Model is Secretly a Zero-Shot Classifier" (arXiv 2303.16203), equation 5, with one
    noise per sample and level shared by all captions.

    Args:
        pipeline: a whole model.
        parts: known layers of B samples, float32.
        captions: B rows of captions to choose from, the own one first; all of one length.
        seeds: B seeds, of each sample's noise.

    Returns:
        `error_own_L`, `error_empty_L` and `error_other_L` for each noise level L (mean squared
        error), and `chosen_own`, 1 where the own caption has the lowest error summed over levels.
    """
    texts = list(dict.fromkeys(["", *(text for row in captions for text in row)]))
    states, mask = encode_prompts(
        pipeline.tokenizer, pipeline.text_encoder, texts, pipeline.config.max_prompt_tokens
    )
    chosen = torch.tensor([[texts.index(text) for text in row] for row in captions])  # (B, K)
    own = pipeline.autoencoder.dtype
    layers = (parts.foreground, parts.background, parts.mask)
    posterior = pipeline.autoencoder.encode(*(layer.to(own) for layer in layers))
    device = pipeline.denoiser.device
    latents = pipeline.autoencoder.scale_latents(posterior.mode()).to(device).float()
    noises = torch.stack(
        [
            torch.randn(
                len(LEVELS), *latents.shape[1:], generator=torch.Generator().manual_seed(seed)
            )
            for seed in seeds
        ]
    ).to(latents)  # (B, levels, C, h, w)
    totals = torch.zeros(chosen.shape[1], len(captions))
    rows: dict[str, Tensor] = {}
    for place, level in enumerate(LEVELS):

        def error(text: Tensor, place: int = place, level: float = level) -> Tensor:
            """(B,) with a text of each sample."""
            noise = noises[:, place]
            return _error(pipeline, latents, noise, level, states[text], mask[text]).cpu()

        errors = torch.stack([error(column) for column in chosen.T])
        totals += errors
        rows[f"error_own_{level:g}"] = errors[0]
        rows[f"error_empty_{level:g}"] = error(torch.zeros_like(chosen[:, 0]))
        rows[f"error_other_{level:g}"] = errors[1:].mean(0)
    rows["chosen_own"] = (totals.argmin(0) == 0).double()
    return rows


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
    noisy, states = (part.to(pipeline.denoiser.dtype) for part in (noisy, states))
    output = denoise(
        pipeline.denoiser, noisy, torch.zeros_like(noisy), noisy.new_zeros(count, 3), timestep,
        states, mask,
    )  # fmt: skip
    return (output.float() - target).square().mean((1, 2, 3))
