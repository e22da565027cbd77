"""How well a picture fits its text: by the relevance probe, and by the CLIP that was named.

The probe of `judges.relevance` is for machines without a CLIP; its cosine is never called CLIP
score. It sees an extractor's features of a picture with the colours added, so that a benchmark that
has the features for FID need not compute them again:

    >>> features = with_colours(inception(pictures), pictures)
    >>> relevance(probe, features, captions).mean()
    >>> retrieval(probe, features, captions)["text_to_picture"]["r1"]

CLIP has two forms in use, each given under its own name:

    clip_cosine   cos(picture, text), -1..1; the paper's (section 6: .251 with ViT-L/14)
    clip_score    100 max(cos, 0), 0..100; torchmetrics' form of CLIPScore. Hessel et al.
                  (arXiv 2104.08718, equation 1) have w max(cos, 0) with w = 2.5 and read the text
                  after "A photo depicts"; ours, as torchmetrics', reads it as it is.

Only figures of the same probe or CLIP can be compared: store `sha256` beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from text2layer.errors import InputError
from text2layer.judges.relevance import RelevanceProbe, retrieval_figures
from text2layer.models.clip import Clip


@torch.no_grad()
def relevance(probe: RelevanceProbe, features: Tensor, texts: Sequence[str]) -> Tensor:
    """Cosine between each picture and its text on the probe's sphere.

    Args:
        probe: of `load_relevance`.
        features: (N, D + 48) float32 of `with_colours`.
        texts: N texts, one for each picture.

    Returns:
        (N,) float32 in [-1, 1]. Only values of the same probe (`probe.sha256`) can be compared.

    Raises:
        InputError: features and texts differ in number, or are not what they should be.
    """
    return cosine(*embed_pairs(probe, features, texts))


@torch.no_grad()
def embed_pairs(
    probe: RelevanceProbe, features: Tensor, texts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Unit vectors (N, width) of pictures and of their texts; see `relevance`."""
    if len(features) != len(texts):
        raise InputError(f"{len(features)} rows of features came with {len(texts)} texts.")
    return probe.embed_features(features), probe.embed_texts(texts)


def cosine(pictures: Tensor, texts: Tensor) -> Tensor:
    """Cosine (N,) of unit vectors (N, width), row by row."""
    return (pictures * texts).sum(dim=1)


@torch.no_grad()
def retrieval(
    probe: RelevanceProbe, features: Tensor, texts: Sequence[str], gallery: int = 100,
    galleries: int = 20, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """How often pictures and texts find each other among others: R@1 and R@5, both ways.

    On pictures made from the texts this says how well a model follows its prompts; the probe's
    own figures on real pairs (`probe.config.held_out`) are the most that can be expected.

    Args:
        probe: of `load_relevance`.
        features: (N, D + 48) float32 of `with_colours`.
        texts: N texts, one for each picture.
        gallery: pairs with distinct texts to choose from.
        galleries: random draws that are averaged over.
        seed: of the draws.

    Returns:
        See `retrieval_figures`.

    Raises:
        InputError: the numbers differ, or there are fewer distinct texts than `gallery`.
    """
    pictures, embedded = probe.embed_features(features), probe.embed_texts(texts)
    return retrieval_figures(pictures, embedded, texts, gallery, galleries, seed)


def clip_cosine(clip: Clip, pictures: Tensor, texts: Sequence[str]) -> Tensor:
    """Cosine of each picture with its text: the paper's CLIP score before the mean is taken.

    Args:
        clip: of `load_clip`.
        pictures: (N, 3, H, W) uint8.
        texts: N texts, one for each picture.

    Returns:
        (N,) float32 in [-1, 1].

    Raises:
        InputError: pictures and texts differ in number, or are not what they should be.

    Example:
        >>> clip = load_clip("openai/clip-vit-large-patch14")
        >>> clip_cosine(clip, pictures, captions).mean()
    """
    if len(pictures) != len(texts):
        raise InputError(f"{len(pictures)} pictures came with {len(texts)} texts.")
    cosine: Tensor = (clip.embed_pictures(pictures) * clip.embed_texts(texts)).sum(dim=1)
    return cosine


def clip_score(clip: Clip, pictures: Tensor, texts: Sequence[str]) -> Tensor:
    """``100 max(cos, 0)`` of each picture with its text; arguments as for `clip_cosine`.

    Returns:
        (N,) float32 in [0, 100].
    """
    return 100 * clip_cosine(clip, pictures, texts).clamp(min=0)
