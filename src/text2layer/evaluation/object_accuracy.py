"""Object accuracy: is what was drawn nearest to the thing that was asked for?

A drawn foreground is cut to its mask's bounding box, laid on mid grey in a square, and looked at
through EfficientNet-lite0 (pooled features, 1280 numbers, cosine). Its neighbours are all drawings
that the model learnt, seen at the same size in the same way; several of one thing count once, by
the nearest. They are compared as the model's own autoencoder decodes them, which is the best that
the model could draw, and also as they are: see `evaluation.objects`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from text2layer.errors import InputError
from text2layer.evaluation.collector import NEUTRAL, on_neutral
from text2layer.models.efficientnet import network_input

INSIDE = 0.5  # mask above which a pixel belongs to the object's bounding box


def cut_to_object(
    picture: np.ndarray, mask: np.ndarray, ground: int = NEUTRAL
) -> np.ndarray | None:
    """The part of a picture that its object fills, in the middle of a square.

    Args:
        picture: (H, W, 3) or (H, W) uint8, the object on its ground.
        mask: (H, W) in [0, 1].
        ground: level of the ground, which the square is filled up with.

    Returns:
        (S, S[, 3]) uint8, S the longer side of the bounding box; None where the mask is nowhere
        above .5.
    """
    rows, columns = np.nonzero(mask > INSIDE)
    if not len(rows):
        return None
    part = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = part.shape[:2]
    side = max(height, width)
    square = np.full((side, side, *picture.shape[2:]), ground, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = part
    return square


@torch.no_grad()
def object_features(network: Any, foreground: Tensor, mask: Tensor) -> Tensor:
    """Features of objects, of unit length.

    Args:
        network: `EfficientNetLite0`, or another that maps `network_input` to features (N, D).
        foreground: (N, 3, H, W) uint8, straight colour.
        mask: (N, 1, H, W) in [0, 1].

    Returns:
        (N, D) float32 on the CPU; NaN where the mask is empty.

    Raises:
        InputError: foreground and mask do not fit one another.
    """
    if foreground.shape[0] != mask.shape[0] or foreground.shape[2:] != mask.shape[2:]:
        raise InputError(
            f"A mask of shape {tuple(mask.shape)} does not fit a foreground of shape "
            f"{tuple(foreground.shape)}."
        )
    mask = mask.float().cpu()
    pictures = on_neutral(foreground.cpu(), mask).permute(0, 2, 3, 1).numpy()
    squares = [cut_to_object(*pair) for pair in zip(pictures, mask[:, 0].numpy(), strict=True)]
    seen = [place for place, square in enumerate(squares) if square is not None]
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    found = [square for square in squares if square is not None]
    rows = network(network_input(found or [np.zeros((8, 8, 3), np.uint8)]).to(device)).cpu().float()
    features = torch.full((len(squares), rows.shape[1]), torch.nan)
    features[seen] = F.normalize(rows[: len(seen)], dim=1)
    return features


@dataclass(frozen=True)
class Gallery:
    """What drawn objects are compared with.

    Attributes:
        names: of the T things.
        owners: (G,) which thing each drawing shows, 0 to T - 1; every thing has one.
        features: (G, D) of unit length.
    """

    names: list[str]
    owners: Tensor
    features: Tensor

    def similarity(self, features: Tensor) -> Tensor:
        """Cosine (N, T) of objects with the nearest drawing of each thing; NaN for NaN.

        Args:
            features: (N, D) of unit length, or NaN.
        """
        cosines = features @ self.features.T  # (N, G)
        best = torch.full((len(features), len(self.names)), -torch.inf)
        return best.scatter_reduce(1, self.owners.expand_as(cosines), cosines, "amax")


def ranks(similarity: Tensor, asked: Tensor) -> Tensor:
    """How many things are nearer than the asked one: 0 is right, below 5 is among the five nearest.

    Args:
        similarity: (N, T), see `Gallery.similarity`; a row of NaN is a missing object.
        asked: (N,) indices of things.

    Returns:
        (N,) float64, infinite for a missing object. Things as near as the asked one count as
        nearer, so that features which tell nothing apart score nothing.

    Example:
        >>> ranks(torch.tensor([[0.9, 0.2, 0.5]]), torch.tensor([2])).item()
        1.0
    """
    own = similarity.gather(1, asked[:, None])
    nearer = (similarity >= own).sum(1) - 1
    missing = similarity.isnan().any(1)
    return nearer.double().masked_fill(missing, torch.inf)
