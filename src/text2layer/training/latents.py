"""What the denoiser trains on: latents, condition latents and text states, encoded or cached."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from text2layer.data.source import Composition
from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.conditioning import condition_latents
from text2layer.models.denoiser import flag_tensor
from text2layer.models.text_encoder import encode_prompts
from text2layer.training.settings import DenoiserSettings

if TYPE_CHECKING:
    from text2layer.data.source import Part, SampleSource

ENCODING_BATCH = 16
TEXT_BATCH = 256


@dataclass(frozen=True)
class LatentBatch:
    """One batch for the denoiser, on its device.

    Attributes:
        latents: (B, C, h, w) clean latents in the denoiser's space.
        condition: (B, C, h, w), zero where nothing is given.
        flags: (B, 3), see `denoiser.flag_tensor`.
        text_states: (B, L, D).
        text_mask: (B, L) bool.
    """

    latents: Tensor
    condition: Tensor
    flags: Tensor
    text_states: Tensor
    text_mask: Tensor


class TextTable:
    """Token states of every distinct caption, encoded once and gathered by index."""

    def __init__(self, tokenizer: Any, encoder: Any, captions: Iterable[str]) -> None:
        self.index = {text: i for i, text in enumerate(dict.fromkeys(["", *captions]))}
        texts = list(self.index)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        states: list[Tensor] = [torch.empty(0)] * len(texts)
        bar = tqdm(range(0, len(texts), TEXT_BATCH), desc="encode captions", mininterval=2.0)
        for start in bar:
            chosen = by_length[start : start + TEXT_BATCH]
            encoded, mask = encode_prompts(tokenizer, encoder, [texts[i] for i in chosen])
            for row, i in enumerate(chosen):
                states[i] = encoded[row, mask[row]].bfloat16().cpu()
        self.lengths = torch.tensor([s.shape[0] for s in states])
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.states = torch.cat(states)  # (sum of lengths, D)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return states (B, L, D) float32 and mask (B, L) of the captions with these indices."""
        lengths = self.lengths[rows]
        steps = torch.arange(int(lengths.max()))
        mask = steps[None] < lengths[:, None]
        positions = (self.starts[rows][:, None] + steps[None]).clamp(max=len(self.states) - 1)
        return self.states[positions].float() * mask[..., None], mask


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
        self.tokenizer, self.text_encoder = tokenizer, text_encoder.to(device)

    def draw(self, batch_size: int, generator: torch.Generator) -> LatentBatch:
        """Return one batch, the same for the same generator state."""
        batch = self.source.compose(batch_size, generator)
        jobs = draw_jobs(self.settings, batch_size, generator)
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        captions = draw_captions(self.source, batch, jobs, rng)
        dropped = torch.rand(batch_size, generator=generator) < self.settings.caption_dropout
        texts = ["" if drop else text for text, drop in zip(captions, dropped, strict=True)]
        states, mask = encode_prompts(self.tokenizer, self.text_encoder, texts)
        latents, condition = self.encode(batch, jobs)
        return LatentBatch(latents, condition, flag_tensor(jobs, latents), states, mask)

    @torch.no_grad()
    def encode(self, batch: Composition, jobs: list[str | None]) -> tuple[Tensor, Tensor]:
        """Return scaled latents and condition latents (zero for jobs of None), float32."""
        with torch.autocast(self.device.type, torch.bfloat16):
            posterior = self.autoencoder.encode(batch.foreground, batch.background, batch.mask)
        latents = self.autoencoder.scale_latents(posterior.mode().float())
        condition = torch.zeros_like(latents)
        for kind in {job for job in jobs if job is not None}:
            rows = [row for row, job in enumerate(jobs) if job == kind]
            given = {kind: getattr(batch, kind)[rows]}
            if kind == "foreground":
                given["mask"] = batch.mask[rows]
            with torch.autocast(self.device.type, torch.bfloat16):
                encoded = condition_latents(self.autoencoder, **given)
            condition[rows] = encoded.float()
        return latents, condition


class CachedLatents:
    """Encodes `settings.cache_samples` once and draws batches from them.

    A sample keeps its job; its caption is one of `settings.caption_variants`, drawn each time.
    """

    def __init__(self, live: LatentsOnTheFly, generator: torch.Generator) -> None:
        settings = live.settings
        self.settings, self.device = settings, live.device
        latents, conditions, jobs = [], [], []
        captions: list[list[str]] = []
        bar = tqdm(total=settings.cache_samples, desc="encode samples", mininterval=2.0)
        while len(captions) < settings.cache_samples:
            count = min(ENCODING_BATCH, settings.cache_samples - len(captions))
            batch = live.source.compose(count, generator)
            chosen = draw_jobs(settings, count, generator)
            encoded, condition = live.encode(batch, chosen)
            latents.append(encoded.bfloat16())
            given = [row for row, job in enumerate(chosen) if job is not None]
            conditions.append(condition[given].bfloat16())
            jobs += chosen
            rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
            variants = [
                draw_captions(live.source, batch, chosen, rng)
                for _ in range(settings.caption_variants)
            ]
            captions += [list(texts) for texts in zip(*variants, strict=True)]
            bar.update(count)
        bar.close()
        self.latents = torch.cat(latents)
        blank = torch.zeros_like(self.latents[:1])
        self.conditions = torch.cat([blank, *conditions])
        is_given = torch.tensor([job is not None for job in jobs])
        self.condition_rows = torch.where(is_given, torch.cumsum(is_given, 0), 0)
        self.flags = flag_tensor(jobs, torch.empty(0))
        self.text = TextTable(
            live.tokenizer, live.text_encoder, (text for texts in captions for text in texts)
        )
        self.caption_rows = torch.tensor([[self.text.index[t] for t in row] for row in captions])

    def draw(self, batch_size: int, generator: torch.Generator) -> LatentBatch:
        """Return one batch, the same for the same generator state."""
        rows = torch.randint(len(self.latents), (batch_size,), generator=generator)
        variants = torch.randint(self.caption_rows.shape[1], (batch_size,), generator=generator)
        captions = self.caption_rows[rows, variants]
        dropped = torch.rand(batch_size, generator=generator) < self.settings.caption_dropout
        states, mask = self.text.gather(torch.where(dropped, 0, captions))  # row 0: empty caption
        return LatentBatch(
            self.latents[rows].float().to(self.device),
            self.conditions[self.condition_rows[rows]].float().to(self.device),
            self.flags[rows].to(self.device),
            states.to(self.device),
            mask.to(self.device),
        )


def draw_jobs(
    settings: DenoiserSettings, count: int, generator: torch.Generator
) -> list[str | None]:
    """Draw what is given to each sample: None, background, foreground or image."""
    shares = torch.tensor(
        [settings.job_text, settings.job_background, settings.job_foreground, settings.job_image]
    )
    kinds = (None, "background", "foreground", "image")
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
