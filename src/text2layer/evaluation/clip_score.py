"""CLIP score: the cosine between a picture's and its text's embedding, by the CLIP that was named.

Two forms are in use and each is given under its own name:

    clip_cosine   cos(picture, text), -1..1; the paper's (PAPER.md, section 6: .251 with ViT-L/14)
    clip_score    100 max(cos, 0), 0..100; torchmetrics' form of CLIPScore. Hessel et al.
                  (arXiv 2104.08718, equation 1) have w max(cos, 0) with w = 2.5 and read the text
                  after "A photo depicts"; ours, as torchmetrics', reads it as it is.

Only figures of the same CLIP can be compared: store its `name` and `sha256` beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from text2layer.errors import InputError
from text2layer.models.clip import Clip


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
