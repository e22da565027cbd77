"""Samples encoded once before training, kept in memory and in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from text2layer.data.composer import Composer
from text2layer.data.source import EVERY, SampleSource
from text2layer.data.world import read_drawings
from text2layer.errors import InputError
from text2layer.files import writing_path
from text2layer.models.denoiser import flag_tensor
from text2layer.models.frozen import parameter_hash
from text2layer.models.text_encoder import encode_prompts
from text2layer.training import processes
from text2layer.training.latents import (
    ENCODING_BATCH,
    LatentBatch,
    LatentsOnTheFly,
    draw_captions,
    draw_jobs,
)
from text2layer.training.settings import DenoiserSettings

TEXT_BATCH = 256
SAMPLE_BATCH = {"cpu": ENCODING_BATCH, "cuda": 256}
TEXT_MULTIPLE = 8  # a GPU's attention takes texts of one length, a multiple of this
# what decides the contents of a cache, besides the networks and the data
KEY_SETTINGS = (
    "cache_samples", "caption_variants", "size", "seed", "style_weights",
    "job_text", "job_background", "job_foreground", "job_image", "job_reference", "imperfect",
    "canonical", "even_concepts", "background_crops", "scene_weights", "full_captions",
    "hold_out_pairings",
)  # fmt: skip


class CachedLatents:
    """Draws batches from encoded samples, which are kept where batches are wanted.

    A sample keeps its job; its caption is one of `settings.caption_variants`, drawn each time.
    Where `settings.drawings` lists what is drawn, the cache holds each of them alike and the list's
    weights say how often it is drawn: they may change from run to run.

    Args:
        settings: caption dropout, list of drawings.
        device: where batches are wanted. On a GPU, and for `settings.graph`, all texts are padded
            to the longest of all, so that every batch has the same shapes.
        tensors: what `encode_samples` gives.

    Raises:
        InputError: the cache holds none of the listed drawings.
    """

    def __init__(
        self, settings: DenoiserSettings, device: torch.device, tensors: dict[str, Tensor]
    ) -> None:
        self.weights: Tensor | None = None
        self.cumulative: Tensor | None = None  # of the weights, on the device
        if settings.drawings and "drawings" in tensors:
            weights = list(read_drawings(settings.drawings).values())
            self.weights = torch.tensor(weights)[tensors["drawings"]]
            if not self.weights.any():
                raise InputError(f"No encoded sample shows a drawing of {settings.drawings}.")
            self.cumulative = cumulative(self.weights).to(device)
        self.settings, self.device = settings, device
        self.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.text_length: int | None = None
        if device.type != "cpu" or settings.graph:
            longest = int(tensors["text_lengths"].max())
            self.text_length = -(-longest // TEXT_MULTIPLE) * TEXT_MULTIPLE

    @classmethod
    def open(cls, path: Path, live: LatentsOnTheFly, generator: torch.Generator) -> CachedLatents:
        """Read the file when it holds exactly these samples; else encode them and write it.

        Of several processes the main one does so first and the others read what it wrote.
        """
        key = cache_key(live)
        with processes.main_first():
            tensors = _read(path, key)
            if tensors is None:
                tensors = encode_samples(live, generator)
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
                with writing_path(path) as file:
                    save_file(whole, file, metadata={"key": key})
        return cls(live.settings, live.device, tensors)

    def draw(self, batch_size: int, generator: torch.Generator, rows: slice = EVERY) -> LatentBatch:
        """Return `rows` of one batch, the same for the same generator state.

        The generator is of the CPU, or of the device itself, which then waits for nothing. The two
        draw other numbers.
        """
        held, size = self.tensors, (batch_size,)
        drawing: dict[str, Any] = {"generator": generator, "device": generator.device}
        if self.weights is None or self.cumulative is None:
            samples = torch.randint(len(held["latents"]), size, **drawing)
        elif generator.device.type == "cpu":
            samples = self.weights.multinomial(batch_size, replacement=True, generator=generator)
        else:
            samples = weighted(self.cumulative, batch_size, generator)
        variants = torch.randint(held["captions"].shape[1], size, **drawing)
        dropped = torch.rand(batch_size, **drawing) < self.settings.caption_dropout
        drawn = torch.stack([samples, variants, dropped.long()])[:, rows]
        samples, variants, dropped = drawn.to(self.device, non_blocking=True)
        captions = held["captions"][samples, variants] * (1 - dropped)  # 0: the empty caption
        states, mask = gather_text(held, captions, self.text_length)
        return LatentBatch(
            held["latents"][samples].float(),
            held["conditions"][held["condition_rows"][samples]].float(),
            held["flags"][samples],
            states,
            mask,
        )


def cumulative(weights: Tensor) -> Tensor:
    """Cumulative shares (N,) float64 of weights (N,), the last of them 1."""
    sums = weights.double().cumsum(0)
    return sums / sums[-1]


def weighted(shares: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` indices by their cumulative shares, with replacement, waiting for nothing."""
    numbers = torch.rand(count, generator=generator, device=shares.device, dtype=torch.float64)
    return torch.searchsorted(shares, numbers, right=True)


def encode_samples(live: LatentsOnTheFly, generator: torch.Generator) -> dict[str, Tensor]:
    """Compose and encode `settings.cache_samples` samples with their captions.

    Returns:
        latents (N, C, h, w) and conditions (1 + given, C, h, w; row 0 is zero) in bfloat16,
        condition_rows (N,), flags (N, 4), captions (N, variants) into the text table, and the
        table itself: text_states (T, D) bfloat16, text_starts and text_lengths, row 0 the empty
        caption. Latents, conditions and text states stay on the networks' device. With a list of
        drawings also drawings (N,), which of them each sample shows, by its place in the list.
    """
    settings = live.settings
    source, places = _listed_alike(live.source, settings.drawings)
    latents, conditions, jobs, drawings = [], [], [], []
    captions: list[list[str]] = []
    bar = tqdm(total=settings.cache_samples, desc="encode samples", mininterval=2.0)
    while len(captions) < settings.cache_samples:
        count = min(SAMPLE_BATCH[live.device.type], settings.cache_samples - len(captions))
        batch = source.compose(count, generator)
        if places:  # of several objects the first counts
            shown = batch.placements[:: len(batch.placements) // count]
            drawings += [places[placement.foreground] for placement in shown]
        chosen = draw_jobs(settings, count, generator, source)
        encoded, condition = live.encode(batch, chosen, [generator] * count)
        latents.append(encoded.bfloat16())
        given = [row for row, job in enumerate(chosen) if job is not None]
        conditions.append(condition[given].bfloat16())
        jobs += chosen
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        variants = [
            draw_captions(source, batch, chosen, rng) for _ in range(settings.caption_variants)
        ]
        captions += [list(texts) for texts in zip(*variants, strict=True)]
        bar.update(count)
    bar.close()
    is_given = torch.tensor([job is not None for job in jobs])
    index, table = encode_texts(
        live.tokenizer, live.text_encoder, (text for texts in captions for text in texts)
    )
    return {
        "latents": torch.cat(latents),
        "conditions": torch.cat([torch.zeros_like(latents[0][:1]), *conditions]),
        "condition_rows": torch.where(is_given, torch.cumsum(is_given, 0), 0),
        "flags": flag_tensor(jobs, torch.empty(0)),
        "captions": torch.tensor([[index[text] for text in row] for row in captions]),
        **({"drawings": torch.tensor(drawings)} if places else {}),
        **table,
    }


def _listed_alike(source: SampleSource, listed: str) -> tuple[SampleSource, dict[int, int]]:
    """The source with every listed drawing alike, and places in the list by foreground index.

    Shards hold what they hold, and no place in a list.
    """
    if not listed or not isinstance(source, Composer):
        return source, {}
    place = {name: index for index, name in enumerate(read_drawings(listed))}
    drawn = [record.id for record in source.foregrounds]
    world = replace(source.world, drawings=dict.fromkeys(place, 1.0))
    return source.in_world(world), {i: place[name] for i, name in enumerate(drawn) if name in place}


def encode_texts(
    tokenizer: Any, encoder: Any, captions: Iterable[str]
) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Encode every distinct caption once; return its row by text, and the table."""
    index = {text: row for row, text in enumerate(dict.fromkeys(["", *captions]))}
    texts = list(index)
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    states, lengths = [], torch.zeros(len(texts), dtype=torch.long)
    for start in tqdm(range(0, len(texts), TEXT_BATCH), desc="encode captions", mininterval=2.0):
        chosen = by_length[start : start + TEXT_BATCH]
        encoded, mask = encode_prompts(tokenizer, encoder, [texts[row] for row in chosen], cut=True)
        states.append(encoded[mask].bfloat16())  # (tokens of the batch, D), text by text
        lengths[chosen] = mask.sum(1).cpu()
    order = torch.tensor(by_length)
    starts = torch.empty_like(lengths)
    starts[order] = torch.cumsum(lengths[order], 0) - lengths[order]
    return index, {
        "text_states": torch.cat(states),
        "text_lengths": lengths,
        "text_starts": starts,
    }


def gather_text(
    table: dict[str, Tensor], rows: Tensor, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return states (B, L, D) float32, zero behind a caption's end, and mask (B, L) bool.

    L is `length`, or as long as the longest of these captions.
    """
    lengths = table["text_lengths"][rows]
    steps = torch.arange(int(lengths.max()) if length is None else length, device=rows.device)
    mask = steps[None] < lengths[:, None]
    positions = table["text_starts"][rows][:, None] + steps[None]
    states = table["text_states"][positions.clamp(max=len(table["text_states"]) - 1)]
    return states.float() * mask[..., None], mask


def cache_key(live: LatentsOnTheFly) -> str:
    """Hash of everything that decides a cache: networks, data and the settings that matter."""
    parts = {name: getattr(live.settings, name) for name in KEY_SETTINGS}
    if live.settings.drawings:
        parts["drawings"] = list(read_drawings(live.settings.drawings))
    parts["autoencoder"] = parameter_hash(live.autoencoder)
    parts["statistics"] = [live.autoencoder.config.latent_shift]
    parts["statistics"] += [live.autoencoder.config.latent_scale]
    parts["text_encoder"] = parameter_hash(live.text_encoder)
    parts["data"] = live.source.fingerprint
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """Return the tensors of a cache file, or None when it is absent, damaged or another one."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None
