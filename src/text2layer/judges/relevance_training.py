"""Training of the relevance probe: two small towers on frozen features, by contrast.

Pictures are composed and looked at once; a step takes rows of the table, with one of each picture's
captions. The step that does best on the val split is kept, and the figures that are stored come
from the test split: other concepts before other backgrounds.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from text2layer.data.source import SampleSource
from text2layer.errors import DataError, InputError
from text2layer.files import writing
from text2layer.judges.relevance import (
    COLOUR_WIDTH,
    RANKS,
    WAYS,
    FeatureExtractor,
    RelevanceConfig,
    RelevanceProbe,
    SentenceEncoder,
    retrieval_figures,
    save_relevance,
    with_colours,
)
from text2layer.judges.settings import RelevanceSettings as RelevanceSettings
from text2layer.tensors import colour_to_bytes

COMPOSED_AT_ONCE = 50


@dataclass(frozen=True)
class Pairs:
    """Pictures and captions of one split as the probe sees them.

    Attributes:
        features: (N, D + 48) float32 of `with_colours`.
        captions: (N, V) rows of the captions of each picture in the two lists that follow.
        texts: T distinct captions.
        sentences: (T, E) float32, their mean token states.
    """

    features: Tensor
    captions: Tensor
    texts: tuple[str, ...]
    sentences: Tensor

    def first_captions(self) -> list[str]:
        """The one caption of each picture that is measured with."""
        return [self.texts[row] for row in self.captions[:, 0].tolist()]


def train_relevance(
    sources: tuple[SampleSource, SampleSource, SampleSource],
    extractor: FeatureExtractor,
    out: str | Path,
    settings: RelevanceSettings | None = None,
    *,
    extractor_name: str = "fid-inception",
    text_encoder: str = "minilm",
    cache: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the probe, measure it held out, and write it to a folder.

    Args:
        sources: samples of the train, val and test split.
        extractor: gives the picture features.
        out: folder that `load_relevance` reads.
        settings: see there.
        extractor_name: what `extractor` is called.
        text_encoder: as `load_text_encoder` takes it.
        cache: folder that keeps the features for another run on the same pictures.
        progress: draw bars on stderr.

    Returns:
        `held_out` (`retrieval_figures` on the test split), `validation` (on val, at the step that
        was kept), `step`, `trained_on`.

    Raises:
        DataError: a held-out split has too few distinct captions for a gallery.
        InputError, FormatError: a folder cannot be written.
    """
    settings = settings or RelevanceSettings()
    sentences = SentenceEncoder(text_encoder)
    train, val, test = (
        gather_pairs(source, extractor, sentences, settings, place, cache, progress=progress)
        for place, source in enumerate(sources)
    )
    for split, pairs in (("val", val), ("test", test)):
        distinct = len(set(pairs.first_captions()))
        if distinct < settings.gallery:
            raise DataError(
                f"{len(pairs.features)} pictures of the {split} split have {distinct} distinct "
                f"captions, and a gallery takes {settings.gallery}; compose more pictures or ask "
                "for smaller galleries."
            )
    torch.manual_seed(settings.seed)
    config = RelevanceConfig(
        extractor=extractor_name,
        extractor_sha256=extractor.sha256,
        feature_width=train.features.shape[1] - COLOUR_WIDTH,
        text_encoder=text_encoder,
        text_encoder_sha256=sentences.sha256,
        text_width=sentences.width,
        width=settings.width,
        hidden=settings.hidden,
        trained_on=_description(sources[0], settings),
    )
    probe, step = fit(RelevanceProbe(config, sentences, settings.dropout), train, val, settings,
                      progress=progress)  # fmt: skip
    probe.half().float()  # as it is stored
    report: dict[str, Any] = {
        "held_out": measure(probe, test, settings),
        "validation": measure(probe, val, settings),
        "step": step,
        "trained_on": config.trained_on,
    }
    probe.config = replace(config, held_out=report["held_out"])
    save_relevance(probe, out)
    return report


def fit(
    probe: RelevanceProbe, train: Pairs, val: Pairs, settings: RelevanceSettings, *,
    progress: bool = True,
) -> tuple[RelevanceProbe, int]:  # fmt: skip
    """Train in place with AdamW; return the probe as it was at its best on `val`, and that step.

    Best is the mean of R@1 and R@5 both ways.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    probe.picture_tower.standardise(train.features)
    probe.text_tower.standardise(train.sentences)
    optimizer = torch.optim.AdamW(_groups(probe, settings), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    count = min(settings.batch_size, len(train.features))
    best, best_step, kept = -1.0, 0, copy.deepcopy(probe.state_dict())
    for step in tqdm(range(1, settings.steps + 1), desc="probe", disable=not progress):
        probe.train()
        rows = torch.randperm(len(train.features), generator=generator)[:count]
        variants = torch.randint(train.captions.shape[1], (count,), generator=generator)
        captions = train.captions[rows, variants]
        loss = contrastive_loss(
            probe.picture_tower(train.features[rows]),
            probe.text_tower(train.sentences[captions]),
            probe.scale,
            captions,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % settings.validate_every == 0 or step == settings.steps:
            found = _goodness(measure(probe, val, settings))
            if found > best:
                best, best_step, kept = found, step, copy.deepcopy(probe.state_dict())
    probe.load_state_dict(kept)
    return probe.eval().requires_grad_(False), best_step


def contrastive_loss(pictures: Tensor, texts: Tensor, scale: Tensor, captions: Tensor) -> Tensor:
    """Symmetric cross-entropy over the cosines of a batch: CLIP (arXiv 2103.00020), figure 3.

    A pair with the same caption as another is no wrong answer for it: such pairs are left out of
    each other's denominator.

    Args:
        pictures: (B, D) unit vectors.
        texts: (B, D) unit vectors of the same pairs.
        scale: 1 / temperature.
        captions: (B,) numbers that are equal where the captions are.
    """
    logits = scale * pictures @ texts.T  # (B, B)
    own = torch.eye(len(captions), dtype=torch.bool, device=captions.device)
    alike = (captions[:, None] == captions[None]) & ~own
    logits = logits.masked_fill(alike, float("-inf"))
    target = torch.arange(len(captions), device=captions.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def measure(probe: RelevanceProbe, pairs: Pairs, settings: RelevanceSettings) -> dict[str, Any]:
    """`retrieval_figures` of pairs with each picture's first caption."""
    probe.eval()
    return retrieval_figures(
        probe.embed_features(pairs.features),
        probe.text_tower(pairs.sentences[pairs.captions[:, 0]]),
        pairs.first_captions(),
        settings.gallery,
        settings.galleries,
        settings.seed,
    )


def gather_pairs(
    source: SampleSource,
    extractor: FeatureExtractor,
    sentences: SentenceEncoder,
    settings: RelevanceSettings,
    place: int,
    cache: str | Path | None = None,
    *,
    progress: bool = True,
) -> Pairs:
    """Compose the pictures of one split and look at them, or read that from the cache.

    Args:
        source: of that split.
        extractor: gives the picture features.
        sentences: gives the sentence embeddings.
        settings: how many pictures and captions, of what size and seed.
        place: 0 train, 1 val, 2 test.
        cache: folder of the cache.
        progress: draw a bar on stderr.
    """
    split = ("train", "val", "test")[place]
    count = settings.held_out if place else settings.samples
    key = hashlib.sha256(json.dumps([
        source.fingerprint, split, count, settings.captions, settings.size, settings.seed,
        extractor.sha256,
    ]).encode()).hexdigest()  # fmt: skip
    file = Path(cache) / f"{split}.safetensors" if cache is not None else None
    held = _read(file, key) if file is not None else None
    if held is None:
        held = _look(source, extractor, count, settings, place, progress)
        if file is not None:
            _write(file, key, *held)
    features, captions, texts = held
    return Pairs(features, captions, texts, sentences(texts))


def _look(
    source: SampleSource,
    extractor: FeatureExtractor,
    count: int,
    settings: RelevanceSettings,
    place: int,
    progress: bool,
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Compose `count` pictures; return their features, their captions' rows, and the texts."""
    generator = torch.Generator().manual_seed(3 * settings.seed + place)
    rng = random.Random(3 * settings.seed + place)
    features: list[Tensor] = []
    captions: list[list[int]] = []
    index: dict[str, int] = {}
    with tqdm(total=count, desc="pictures", disable=not progress) as bar:
        while len(captions) < count:
            batch = source.compose(min(COMPOSED_AT_ONCE, count - len(captions)), generator)
            pictures = colour_to_bytes(batch.image).cpu()
            features.append(with_colours(extractor(pictures), pictures))
            variants = [source.captions(batch, rng) for _ in range(settings.captions)]
            for texts in zip(*variants, strict=True):
                captions.append([index.setdefault(text, len(index)) for text in texts])
            bar.update(len(pictures))
    return torch.cat(features), torch.tensor(captions), tuple(index)


def _read(file: Path, key: str) -> tuple[Tensor, Tensor, tuple[str, ...]] | None:
    """What a cache file holds, or None when it is absent, damaged or of other pictures."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as held:
            metadata = held.metadata() or {}
            if metadata.get("key") != key:
                return None
            texts = tuple(json.loads(metadata["texts"]))
            return held.get_tensor("features"), held.get_tensor("captions"), texts
    except (SafetensorError, OSError, ValueError, KeyError):
        return None


def _write(file: Path, key: str, features: Tensor, captions: Tensor, texts: Sequence[str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{file.parent} cannot be made: {error.strerror}.") from None
    tensors = {"features": features.contiguous(), "captions": captions.contiguous()}
    with writing(file) as stream:
        stream.write(save(tensors, {"key": key, "texts": json.dumps(texts)}))


def _groups(probe: RelevanceProbe, settings: RelevanceSettings) -> list[dict[str, Any]]:
    """Matrices decay; biases and the temperature do not."""
    matrices = [value for value in probe.parameters() if value.ndim > 1]
    others = [value for value in probe.parameters() if value.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _goodness(figures: dict[str, Any]) -> float:
    return sum(figures[way][f"r{limit}"] for way in WAYS for limit in RANKS) / 4


def _description(source: SampleSource, settings: RelevanceSettings) -> dict[str, Any]:
    return {"data": source.fingerprint, **asdict(settings)}
