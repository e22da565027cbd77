"""Text relevance by the probe of `models.relevance`: for machines without a CLIP, never its score.

What the probe sees of a picture are an extractor's features with the colours added, so that a
benchmark that has the features for FID need not compute them again:

    >>> features = with_colours(inception(pictures), pictures)
    >>> relevance(probe, features, captions).mean()
    >>> retrieval(probe, features, captions)["text_to_picture"]["r1"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from text2layer.errors import InputError
from text2layer.models.relevance import RelevanceProbe, retrieval_figures

__all__ = ["cosine", "embed_pairs", "relevance", "retrieval"]


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
