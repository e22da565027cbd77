"""The relevance probe: how well a picture fits its text, for machines without a CLIP.

Two small towers over frozen features, a picture's (FID Inception and a coarse grid of colours) and
a sentence's (mean token state of MiniLM), trained contrastively on pictures composed from the
library (`text2layer train relevance`). It knows what the library shows and little else, so its
cosine is called relevance and never CLIP score, and it carries its own retrieval figures on
held-out pairs: how far it is to be trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text2layer.errors import InputError, WeightsError
from text2layer.judges.stored import SHIPPED, read_judge, write_judge
from text2layer.models.clip import check_pictures, check_texts
from text2layer.models.frozen import module_sha256, parameter_hash
from text2layer.models.text_encoder import encode_prompts, load_text_encoder

WEIGHTS_FILE = "probe.safetensors"

COLOUR_CELLS = 4  # a picture's colours are the means of 4 x 4 fields
COLOUR_WIDTH = 3 * COLOUR_CELLS**2
TEXT_BATCH = 256
MAX_TOKENS = 256  # of a sentence, as all-MiniLM-L6-v2 was published; the encoder may take fewer
RANKS = (1, 5)
WAYS = ("text_to_picture", "picture_to_text")
START_SCALE, MAX_SCALE = 1 / 0.07, 100.0  # CLIP (arXiv 2103.00020), section 2.5


class FeatureExtractor(Protocol):
    """A frozen network over pictures, `InceptionFeatures` for one.

    Attributes:
        sha256: of its weights.
    """

    @property
    def sha256(self) -> str: ...

    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, D) float32 features of (N, 3, H, W) uint8 pictures."""
        ...


@dataclass(frozen=True)
class RelevanceConfig:
    """What is stored beside the probe's weights.

    Attributes:
        extractor: name of the weights that give the picture features.
        extractor_sha256: of them.
        feature_width: D of `FeatureExtractor`; the colours come on top.
        text_encoder: name or folder of the text encoder.
        text_encoder_sha256: `parameter_hash` of it.
        text_width: of its token states.
        width: dimensions of the common sphere.
        hidden: width of each tower's hidden layer; 0 for one linear layer.
        trained_on: what the probe has seen: data by hash, pictures, size, seed.
        held_out: `retrieval_figures` on the test split.
    """

    extractor: str
    extractor_sha256: str
    feature_width: int
    text_encoder: str
    text_encoder_sha256: str
    text_width: int
    width: int = 128
    hidden: int = 0
    trained_on: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)


class SentenceEncoder:
    """A frozen text encoder whose mean token state stands for a sentence.

    Args:
        name: as `load_text_encoder` takes it.

    Attributes:
        sha256: `parameter_hash` of the encoder.
        width: of its states.
    """

    def __init__(self, name: str = "minilm") -> None:
        self.name = name
        self._tokenizer, self._encoder = load_text_encoder(name)
        self.sha256 = parameter_hash(self._encoder)
        config: Any = self._encoder.config
        self.width = int(config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Mean token states (N, width) float32 of N texts, start and end tokens included.

        Raises:
            InputError: there is no text, one is not text, or one is too long for the encoder.
        """
        check_texts(texts)
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        means = torch.empty(len(texts), self.width)
        for start in range(0, len(texts), TEXT_BATCH):
            rows = by_length[start : start + TEXT_BATCH]
            states, mask = encode_prompts(
                self._tokenizer, self._encoder, [texts[row] for row in rows], MAX_TOKENS
            )
            means[rows] = (states.sum(dim=1) / mask.sum(dim=1, keepdim=True)).cpu()
        return means


class Tower(nn.Module):
    """Frozen features (N, inputs) to unit vectors (N, width).

    `mean` and `deviation` are those of the training features, which enter standardised.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, width: int, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.dropout = nn.Dropout(dropout)
        self.layers = (
            nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, width))
            if hidden
            else nn.Sequential(nn.Linear(inputs, width))
        )

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from features (N, inputs)."""
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(features.std(dim=0, unbiased=False).clamp(min=1e-3))

    def forward(self, features: Tensor) -> Tensor:
        standard = (features - self.mean) / self.deviation
        return F.normalize(self.layers(self.dropout(standard)), dim=-1)


class RelevanceProbe(nn.Module):
    """Two towers into one sphere and the temperature they were trained with.

    Args:
        config: stored with the weights.
        sentences: the text encoder that the config names.
        dropout: of the towers' inputs, while training.
    """

    def __init__(
        self, config: RelevanceConfig, sentences: SentenceEncoder, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.config, self.sentences = config, sentences
        inputs = config.feature_width + COLOUR_WIDTH
        self.picture_tower = Tower(inputs, config.width, config.hidden, dropout)
        self.text_tower = Tower(config.text_width, config.width, config.hidden, dropout)
        self.log_scale = nn.Parameter(torch.tensor(START_SCALE).log())

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over the frozen networks' hashes and the probe's own."""
        frozen = self.config.extractor_sha256 + self.config.text_encoder_sha256
        return hashlib.sha256((frozen + module_sha256(self)).encode()).hexdigest()

    @property
    def scale(self) -> Tensor:
        """1 / temperature, at most 100 as in CLIP."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def embed_features(self, features: Tensor) -> Tensor:
        """Unit vectors (N, width) of picture features (N, D + 48) from `with_colours`.

        Raises:
            InputError: the features have another width.
        """
        inputs = self.config.feature_width + COLOUR_WIDTH
        if features.ndim != 2 or features.shape[1] != inputs:
            raise InputError(
                f"The probe takes features (N, {inputs}), those of '{self.config.extractor}' with "
                f"colours, got {tuple(features.shape)}."
            )
        embedded: Tensor = self.picture_tower(features)
        return embedded

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, width) of N texts."""
        embedded: Tensor = self.text_tower(self.sentences(texts))
        return embedded

    def check_extractor(self, extractor: FeatureExtractor) -> None:
        """Raise WeightsError unless this is the extractor that the probe was trained on."""
        if extractor.sha256 != self.config.extractor_sha256:
            raise WeightsError(
                f"The relevance probe was trained on features of '{self.config.extractor}' with "
                f"SHA-256 {self.config.extractor_sha256[:12]}..., not {extractor.sha256[:12]}...; "
                "train one on these: text2layer train relevance."
            )


def with_colours(features: Tensor, pictures: Tensor) -> Tensor:
    """What the probe sees of pictures: an extractor's features and the grid of mean colours.

    Inception tells things apart by shape and texture, and prompts ask for colours as well.

    Args:
        features: (N, D) float32 of `FeatureExtractor`.
        pictures: (N, 3, H, W) uint8, the same ones.

    Returns:
        (N, D + 48) float32; the colours are in [0, 1], red first, row by row.

    Raises:
        InputError: the numbers differ, or the pictures are not uint8 (N, 3, H, W).
    """
    check_pictures(pictures)
    if len(features) != len(pictures):
        raise InputError(f"{len(features)} rows of features came with {len(pictures)} pictures.")
    colours = F.adaptive_avg_pool2d(pictures.float() / 255, COLOUR_CELLS).flatten(1)  # (N, 48)
    return torch.cat([features.float(), colours.to(features.device)], dim=1)


def retrieval_figures(
    pictures: Tensor, texts: Tensor, captions: Sequence[str], gallery: int = 100,
    galleries: int = 20, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """How often a picture finds its own text among others, and a text its picture.

    Each gallery is a random draw of pairs whose captions all differ; in it every text ranks all
    pictures by cosine and every picture all texts. A tie counts against the own one.

    Args:
        pictures: (N, D) unit vectors.
        texts: (N, D) unit vectors, row by row those of the same pairs.
        captions: the N texts.
        gallery: pairs to choose from.
        galleries: draws that are averaged over.
        seed: of the draws.

    Returns:
        `text_to_picture` and `picture_to_text`, each with `r1` and `r5`, the share (0..1) whose
        own one is among the first 1 and 5; `chance_r1` and `chance_r5`; `pairs` (N), `gallery`,
        `galleries`, `seed`.

    Raises:
        InputError: the numbers differ, or there are fewer distinct captions than `gallery`.
    """
    if not len(pictures) == len(texts) == len(captions):
        raise InputError(
            f"{len(pictures)} pictures came with {len(texts)} texts and {len(captions)} captions."
        )
    distinct = len(set(captions))
    if gallery < 2 or galleries < 1 or distinct < gallery:
        raise InputError(
            f"{distinct} distinct captions make no {galleries} galleries of {gallery}; ask for at "
            "least one gallery of 2 or more pairs, and no larger than that."
        )
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(2, len(RANKS))
    for _ in range(galleries):
        order = torch.randperm(len(captions), generator=generator).tolist()
        rows = list({captions[row]: row for row in order}.values())[:gallery]
        cosines = texts[rows] @ pictures[rows].T  # (texts, pictures)
        for way, likeness in enumerate((cosines, cosines.T)):
            rank = (likeness >= likeness.diagonal()[:, None]).sum(dim=1)  # the own one counts 1
            found[way] += torch.stack([(rank <= limit).float().mean() for limit in RANKS])
    ways = {
        way: {f"r{limit}": round(float(share), 4) for limit, share in zip(RANKS, row, strict=True)}
        for way, row in zip(WAYS, found / galleries, strict=True)
    }
    chance = {f"chance_r{limit}": round(limit / gallery, 4) for limit in RANKS}
    asked = {"pairs": len(captions), "gallery": gallery, "galleries": galleries, "seed": seed}
    return {**ways, **chance, **asked}


def load_relevance(path: str | Path | None = None) -> RelevanceProbe:
    """Load the shipped probe, or the one that `text2layer train relevance` wrote to `path`.

    Raises:
        WeightsError: it is missing or damaged, or its text encoder is missing or another one.
    """
    folder = Path(path) if path is not None else SHIPPED / "relevance"
    remedy = "reinstall text2layer" if path is None else "name a folder of `train relevance`"
    try:
        fields, tensors = read_judge(folder, WEIGHTS_FILE)
        config = RelevanceConfig(**fields)
        sentences = SentenceEncoder(config.text_encoder)
        probe = RelevanceProbe(config, sentences)
        probe.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, WeightsError):  # of the text encoder, which says it better
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise WeightsError(
            f"The relevance probe cannot be loaded from {folder} ({reason}); {remedy}."
        ) from None
    if sentences.sha256 != config.text_encoder_sha256:
        raise WeightsError(
            f"The relevance probe in {folder} was trained with the text encoder "
            f"{config.text_encoder_sha256[:12]}..., and '{config.text_encoder}' is now "
            f"{sentences.sha256[:12]}...; train it again: text2layer train relevance."
        )
    return probe.eval().requires_grad_(False)


def save_relevance(probe: RelevanceProbe, folder: str | Path) -> None:
    """Write the towers (float16) and the config; the frozen networks stay names and hashes.

    Raises:
        InputError, FormatError: the folder cannot be written.
    """
    tensors = {name: value.half().contiguous() for name, value in probe.state_dict().items()}
    write_judge(Path(folder), asdict(probe.config), WEIGHTS_FILE, tensors)
