"""What the denoiser trains on: latents, condition latents and text states, encoded on the fly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from text2layer.data.source import EVERY, Composition, GivesReferences
from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.denoiser import condition_latents, flag_tensor
from text2layer.models.text_encoder import encode_prompts
from text2layer.models.transformer import pooled_text
from text2layer.training.augmentation import make_imperfect
from text2layer.training.objective import fast_inference
from text2layer.training.settings import DenoiserSettings

if TYPE_CHECKING:
    from text2layer.data.source import Part, SampleSource

ENCODING_BATCH = 16


@dataclass(frozen=True)
class LatentBatch:
    """One batch for the denoiser, on its device.

    Attributes:
        latents: (B, C, h, w) clean latents in the denoiser's space.
        condition: (B, C, h, w), zero where nothing is given.
        flags: (B, 4), see `denoiser.flag_tensor`.
        text_states: (B, L, D).
        text_mask: (B, L) bool.
    """

    latents: Tensor
    condition: Tensor
    flags: Tensor
    text_states: Tensor
    text_mask: Tensor


class LatentsOnTheFly:
    """Composes and encodes every batch anew.

    Args:
        settings: job shares, caption dropout.
        source: samples with captions.
        autoencoder: trained, with measured latent statistics.
        tokenizer: of the text encoder.
        text_encoder: frozen.
        device: where batches are wanted.
    """

    def __init__(
        self,
        settings: DenoiserSettings,
        source: SampleSource,
        autoencoder: CaT2IAutoencoder,
        tokenizer: Any,
        text_encoder: Any,
        device: torch.device,
    ) -> None:
        self.settings, self.source, self.device = settings, source, device
        self.autoencoder = autoencoder.to(device).eval().requires_grad_(False)
        self.autoencoder.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        self.tokenizer, self.text_encoder = tokenizer, text_encoder.to(device)

    def draw(self, batch_size: int, generator: torch.Generator, rows: slice = EVERY) -> LatentBatch:
        """Return `rows` of one batch, the same for the same generator state.

        Each row has a seed of its own for its words and its damage, whoever works on the others.
        """
        batch = self.source.compose(batch_size, generator, rows)
        jobs = draw_jobs(self.settings, batch_size, generator, self.source)[rows]
        seeds = torch.randint(2**62, (batch_size,), generator=generator)[rows].tolist()
        dropped = torch.rand(batch_size, generator=generator)[rows] < self.settings.caption_dropout
        texts = [
            "" if drop else self._caption(batch.row(row), jobs[row], seeds[row])
            for row, drop in enumerate(dropped.tolist())
        ]
        states, mask = encode_prompts(self.tokenizer, self.text_encoder, texts, cut=True)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        latents, condition = self.encode(batch, jobs, generators)
        return LatentBatch(latents, condition, flag_tensor(jobs, latents), states, mask)

    def _caption(self, sample: Composition, job: str | None, seed: int) -> str:
        return draw_captions(self.source, sample, [job], random.Random(seed))[0]

    def caption_states(self, count: int) -> tuple[Tensor, Tensor]:
        """States of all tokens (tokens, D) and mean states (count, D) of training captions.

        Always of the same captions.
        """
        batch = self.source.compose(count, torch.Generator().manual_seed(0))
        captions = self.source.captions(batch, random.Random(0))
        states, mask = encode_prompts(self.tokenizer, self.text_encoder, captions, cut=True)
        return states[mask], pooled_text(states, mask)

    def _references(
        self, batch: Composition, rows: list[int], generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(self.source, GivesReferences)  # see `draw_jobs`
        chosen = tuple(batch.placements[row] for row in rows)
        return self.source.references(replace(batch, placements=chosen), generators)

    @torch.no_grad()
    def encode(
        self,
        batch: Composition,
        jobs: list[str | None],
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """Return scaled latents and condition latents (zero for jobs of None), float32.

        A share `settings.imperfect` of what is given is made imperfect first, each sample by its
        generator.
        """
        with fast_inference(self.device):
            posterior = self.autoencoder.encode(batch.foreground, batch.background, batch.mask)
        latents = self.autoencoder.scale_latents(posterior.mode().float())
        condition = torch.zeros_like(latents)
        for kind in sorted({job for job in jobs if job is not None}):
            rows = [row for row, job in enumerate(jobs) if job == kind]
            chosen = [generators[row] for row in rows]
            if kind == "reference":
                colour, mask = self._references(batch, rows, chosen)
                given = {"foreground": colour, "mask": mask}
            else:
                given = {kind: getattr(batch, kind)[rows]}
                if kind == "foreground":
                    given["mask"] = batch.mask[rows]
            given = make_imperfect(given, self.settings.imperfect, chosen)
            with fast_inference(self.device):
                encoded = condition_latents(self.autoencoder, **given)
            condition[rows] = encoded.float()
        return latents, condition


def draw_jobs(
    settings: DenoiserSettings, count: int, generator: torch.Generator, source: object
) -> list[str | None]:
    """Draw what is given to each sample: None, background, foreground, image or reference.

    Where the source has no other drawings (shards, pictures of several objects), those that would
    be given a reference are given nothing.
    """
    shares = torch.tensor(
        [settings.job_text, settings.job_background, settings.job_foreground, settings.job_image,
         settings.job_reference]
    )  # fmt: skip
    one_object = getattr(source, "num_foregrounds", 1) == 1
    reference = "reference" if one_object and isinstance(source, GivesReferences) else None
    kinds = (None, "background", "foreground", "image", reference)
    drawn = torch.multinomial(shares, count, replacement=True, generator=generator)
    return [kinds[int(i)] for i in drawn]


def draw_captions(
    source: SampleSource, batch: Composition, jobs: list[str | None], rng: random.Random
) -> list[str]:
    """Caption the batch; where a layer is given, half of the captions name only the other one."""
    captions = source.captions(batch, rng)
    missing: dict[str | None, Part] = {"background": "foreground", "foreground": "background"}
    for job, part in missing.items():
        if job in jobs:
            alone = source.captions(batch, rng, part)
            for row, given in enumerate(jobs):
                if given == job and rng.random() < 0.5:
                    captions[row] = alone[row]
    return captions


@torch.no_grad()
def measure_latent_statistics(
    autoencoder: CaT2IAutoencoder, source: SampleSource, samples: int = 1024, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Measure shift and scale per latent channel: mean and 1 / standard deviation.

    Args:
        autoencoder: trained.
        source: training samples.
        samples: how many pictures are encoded.
        seed: of the drawn samples.

    Raises:
        InputError: when a channel is constant, so that no scale exists.
    """
    generator = torch.Generator().manual_seed(seed)
    autoencoder.eval()
    total = squares = torch.zeros(autoencoder.config.latent_channels, dtype=torch.float64)
    count = 0
    for _ in range(max(1, samples // ENCODING_BATCH)):
        batch = source.compose(ENCODING_BATCH, generator)
        autoencoder.to(batch.mask.device)
        latents = autoencoder.encode(batch.foreground, batch.background, batch.mask).mode()
        values = latents.double().cpu().transpose(0, 1).flatten(1)  # (C, B h w)
        total = total + values.sum(1)
        squares = squares + (values**2).sum(1)
        count += values.shape[1]
    mean = total / count
    deviation = (squares / count - mean**2).clamp(min=0).sqrt()
    if bool((deviation < 1e-6).any()):
        raise InputError(
            f"Latent channel {int(deviation.argmin())} is constant over {samples} samples; train "
            "the autoencoder longer."
        )
    return mean.float(), (1 / deviation).float()
