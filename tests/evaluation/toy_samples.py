"""Known samples of the toy library, and small real networks in place of the large ones."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from text2layer.data.composer import Composer
from text2layer.data.known_samples import KnownSamples
from text2layer.data.library import Library
from text2layer.models.saliency import SaliencyModel, load_saliency


def known_samples(library: Path, count: int, size: int = 64, seed: int = 0) -> KnownSamples:
    composer = Composer(Library(library), "test", size, progress=False)
    return KnownSamples(composer, count, seed)


class ToyFeatures:
    """Random convolutions, the same every time: (N, 3, H, W) uint8 -> (N, 12)."""

    sha256 = hashlib.sha256(b"toy features").hexdigest()

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.network = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ).requires_grad_(False)

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.network(pictures.float() / 128 - 1)


def toy_judge(folder: Path) -> SaliencyModel:
    from tests import toy_onnx

    return load_saliency(str(toy_onnx.brightness_network(folder / "judge.onnx", (1, 3, 64, 64))), 1)
