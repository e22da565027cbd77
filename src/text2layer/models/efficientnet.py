"""EfficientNet-lite0, a small ImageNet network whose frozen features judge masks and fills.

EfficientNet (Tan & Le, arXiv 1905.11946) as its authors simplified it for phones: no squeeze and
excitation, ReLU6 for swish, stem and head of fixed width. Layers and padding are TensorFlow's, so
that the published weights (`efficientnet-lite0`) give the published labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pickle import UnpicklingError

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from text2layer.errors import InputError, WeightsError
from text2layer.pretrained import resolve

WEIGHTS_NAME = "efficientnet-lite0"
SIZE = 224  # pixels; the published input size
CHANNELS = 1280  # of the pooled features
CLASSES = 1000
EPSILON = 1e-3  # of the batch normalisation, as in TensorFlow's model

# (expansion, kernel, stride, channels, repeats) of each row of blocks: table 1 of the paper
ROWS = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM = 32  # channels

# names in the published file -> ours; "_bn0" names two things, so blocks are renamed first
_BLOCK_NAMES = {
    "_expand_conv": "expand.convolution",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.convolution",
    "_bn2": "project.norm",
}
_OUTER_NAMES = {
    "_conv_stem": "stem.convolution",
    "_bn0": "stem.norm",
    "_conv_head": "head.convolution",
    "_bn1": "head.norm",
    "_fc": "classifier",
}


class ConvolutionNorm(nn.Module):
    """Convolution padded as TensorFlow's "SAME", batch norm, and ReLU6 if `activate`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1,
        activate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.kernel, self.stride, self.activate = kernel, stride, activate

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel > 1:
            bottom, right = (_missing(length, self.kernel, self.stride) for length in x.shape[-2:])
            # an odd pixel goes to the right and bottom
            x = F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        x = self.norm(self.convolution(x))
        return F.relu6(x) if self.activate else x


class InvertedResidual(nn.Module):
    """Widen, convolve each channel alone, narrow; added to its input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = ConvolutionNorm(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvolutionNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvolutionNorm(wide, outputs, 1, activate=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The network, frozen and in evaluation mode.

    Args:
        pretrained: load the published weights; else they are random.

    Raises:
        WeightsError: the weights are not on this machine and cannot be fetched.
    """

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self.stem = ConvolutionNorm(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        self.row_ends: list[int] = []  # index of the last block of each row
        inputs = STEM
        for expansion, kernel, stride, outputs, repeats in ROWS:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                self.blocks.append(InvertedResidual(inputs, outputs, expansion, kernel, step))
                inputs = outputs
            self.row_ends.append(len(self.blocks) - 1)
        self.head = ConvolutionNorm(inputs, CHANNELS, 1)
        self.classifier = nn.Linear(CHANNELS, CLASSES)
        if pretrained:
            self.load_published(_read_published())
        self.eval().requires_grad_(False)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps (N, C, h, w) after each row of blocks and after the head, shallow first.

        Args:
            x: (N, 3, H, W) float32 from `network_input`.
        """
        found = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.row_ends:
                found.append(x)
        found.append(self.head(x))  # (N, 1280, H / 32, W / 32)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (N, 1280) of pictures (N, 3, H, W) from `network_input`."""
        return self.maps(x)[-1].mean(dim=(2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """ImageNet logits (N, 1000); softmax gives the published probabilities."""
        logits: Tensor = self.classifier(self(x))
        return logits

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy weights that carry the published names.

        Raises:
            WeightsError: a tensor is missing, unknown or of another shape.
        """
        try:
            self.load_state_dict({_renamed(name): value for name, value in tensors.items()})
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(
                f"The weights '{WEIGHTS_NAME}' are not those of this network ({reason}); "
                f"run `text2layer weights fetch {WEIGHTS_NAME}`."
            ) from None


def network_input(pictures: Sequence[np.ndarray], size: int = SIZE) -> Tensor:
    """(N, 3, size, size) float32, ``(x - 127) / 128``, of uint8 pictures (H, W, 3) of any sizes.

    Pictures are stretched to the square, as the published preprocessing crops them to one.

    Raises:
        InputError: a picture is not (H, W, 3) uint8.
    """
    squares = []
    for picture in pictures:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(f"A picture must be (H, W, 3) uint8, got {picture.shape}.")
        if picture.shape[:2] != (size, size):
            resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
            picture = np.asarray(resized)
        squares.append(picture)
    stacked = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    return (stacked.float() - 127.0) / 128.0


def _missing(length: int, kernel: int, stride: int) -> int:
    """Pixels that "SAME" padding adds to an edge of `length`, so that ceil(length / stride) fit."""
    return max((-(-length // stride) - 1) * stride + kernel - length, 0)


def _renamed(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "_blocks":
        return ".".join(["blocks", parts[1], _BLOCK_NAMES[parts[2]], *parts[3:]])
    return ".".join([_OUTER_NAMES[parts[0]], *parts[1:]])


def _read_published() -> dict[str, Tensor]:
    path = resolve(WEIGHTS_NAME)
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise WeightsError(f"The weights {path} cannot be read: {error}.") from None
    return tensors
