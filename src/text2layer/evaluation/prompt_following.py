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
from text2layer.evaluation.known_layers import as_components
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Networks, Run
from text2layer.models.denoiser import denoise, is_flow
from text2layer.models.text_encoder import encode_prompts

if TYPE_CHECKING:
    from text2layer.models.autoencoder import LayerComponents
    from text2layer.pipelines.text2layer import Text2LayerPipeline

VERSION = 1
LEVELS = (0.5, 0.7, 0.85, 0.95)  # noise levels, 0 clean to 1 noise
CHOICES = 8


def follow_prompt(
    drawer: Drawer, known: KnownSamples, networks: Networks, run: Run, choices: int = CHOICES
) -> ProtocolResult:
    """Score how well the denoiser tells each picture's own caption from others of its batch.

    Figures: mean squared error by noise level with the own, an empty and another caption; share of
    samples whose own caption has the lowest error among `choices` (chance is 1 / choices). Samples
    of a last batch that is too small for that are left out and counted.

    Raises:
        InputError: batches are smaller than `choices`.
    """
    if min(run.batch_size, len(known)) < choices or choices < 2:
        raise InputError(
            f"Batches of {min(run.batch_size, len(known))} captions cannot offer {choices} to "
            "choose from; use at least 2 choices and batches of that size."
        )
    result = ProtocolResult("prompt", VERSION, len(known))
    with Collector() as collector:
        for batch in run.batches(known, "prompt"):
            parts = as_components(batch, drawer.pipeline.autoencoder.device)
            captions = batch.captions["whole"]
            generator = torch.Generator().manual_seed(int(batch.numbers[0]))
            rows = prompt_rows(drawer.pipeline, parts, captions, choices, generator)
            collector.add(batch.numbers, rows)
        result.add_means(collector.per_sample())
    result.about["choices"] = choices
    return run.finish(result, drawer, known, networks)


@torch.no_grad()
def prompt_rows(
    pipeline: Text2LayerPipeline,
    parts: LayerComponents,
    captions: Sequence[str],
    choices: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Scores (B,) of one batch; NaN throughout if it has fewer captions than `choices`.

    The choice among captions by lowest error is the diffusion classifier of Li et al., "Your
    Diffusion Model is Secretly a Zero-Shot Classifier" (arXiv 2303.16203), equation 5, with one
    noise per level shared by all captions.

    Args:
        pipeline: a whole model.
        parts: known layers.
        captions: B texts; other captions come from the same batch.
        choices: captions to choose from, the own one included.
        generator: of the noise.

    Returns:
        `error_own_L`, `error_empty_L` and `error_other_L` for each noise level L (mean squared
        error), and `chosen_own`, 1 where the own caption has the lowest error summed over levels.
    """
    count = len(captions)
    names = [f"error_{kind}_{level:g}" for level in LEVELS for kind in ("own", "empty", "other")]
    if count < choices:
        return {name: torch.full((count,), torch.nan) for name in [*names, "chosen_own"]}
    states, mask = encode_prompts(
        pipeline.tokenizer, pipeline.text_encoder, [*captions, ""],
        pipeline.config.max_prompt_tokens,
    )  # fmt: skip
    posterior = pipeline.autoencoder.encode(parts.foreground, parts.background, parts.mask)
    device = pipeline.denoiser.device
    latents = pipeline.autoencoder.scale_latents(posterior.mode()).to(device)
    totals = torch.zeros(choices, count)
    rows: dict[str, Tensor] = {}
    for level in LEVELS:
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        place = torch.arange(count)
        errors = []
        for shift in range(choices):
            chosen = (place + shift) % count
            errors.append(
                _error(pipeline, latents, noise, level, states[chosen], mask[chosen]).cpu()
            )
        stacked = torch.stack(errors)
        totals += stacked
        empty = torch.full((count,), count)
        rows[f"error_own_{level:g}"] = stacked[0]
        rows[f"error_empty_{level:g}"] = _error(
            pipeline, latents, noise, level, states[empty], mask[empty]
        ).cpu()
        rows[f"error_other_{level:g}"] = stacked[1:].mean(0)
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
    output = denoise(
        pipeline.denoiser, noisy, torch.zeros_like(latents), latents.new_zeros(count, 3), timestep,
        states, mask,
    )  # fmt: skip
    return (output.float() - target).square().mean((1, 2, 3))
