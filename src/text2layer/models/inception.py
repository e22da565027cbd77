"""The frozen Inception whose features FID, KID, precision and recall are measured in.

    >>> network = InceptionFeatures()
    >>> network(torch.zeros(2, 3, 512, 512, dtype=torch.uint8)).shape
    torch.Size([2, 2048])

The network is TensorFlow's of 2015-12-05, which published scores use (Heusel et al., arXiv
1706.08500), with its own average pooling and without its classes, as TorchScript. Pictures are
shrunk as in Clean-FID (Parmar et al., arXiv 2104.11222).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from text2layer.errors import InputError, WeightsError
from text2layer.pretrained import WEIGHTS, resolve

NAME = "fid-inception"
SIDE = 299  # pixels that the network was trained with
DIMENSION = 2048  # of the last average pooling, "pool3"
MIDDLE = 128.0  # the network's input is (level - 128) / 128


class InceptionFeatures:
    """Pictures in, features of the last average pooling out.

    The file is a TorchScript archive, code and weights together. Torch's loader runs no Python
    from it, and `resolve` hands out nothing but the file of the known SHA-256.

    Args:
        path: The user's own copy of the file; it must have the same hash.
        device: Where the network runs.
        batch_size: Pictures that go through it at once; what is returned does not depend on it.

    Attributes:
        sha256: Of the file; features of other hashes must not be compared.

    Raises:
        WeightsError: the weights are missing, cannot be fetched, or are not what they should be.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"Inception needs batches of at least one picture, not {batch_size}.")
        file = resolve(NAME, path=path)
        self.sha256 = WEIGHTS[NAME].sha256
        self.device = torch.device(device)
        self.batch_size = batch_size
        try:
            network = torch.jit.load(str(file), map_location=self.device).eval()  # has no resize
        except RuntimeError as error:
            raise WeightsError(
                f"Torch {torch.__version__} cannot open the TorchScript file {file}."
            ) from error
        self._network = network

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Features of each picture.

        Args:
            pictures: (N, 3, H, W) uint8, RGB, any size.

        Returns:
            (N, 2048) float32 on the CPU, all at least 0.

        Raises:
            InputError: the tensor is not of that shape and kind, or the pictures are empty.
        """
        _check(pictures)
        rows = [torch.empty(0, DIMENSION)]
        for batch in pictures.split(self.batch_size):
            levels = resize_clean(batch).to(self.device)  # (b, 3, 299, 299)
            rows.append(self._network((levels - MIDDLE) / MIDDLE).float().cpu())  # (b, 2048)
        return torch.cat(rows)


def resize_clean(pictures: Tensor) -> Tensor:
    """Resize to 299x299 as Clean-FID's "clean" mode does (clean-fid 0.1.35, `build_resizer`).

    Each channel becomes a float32 picture (Pillow's mode "F") and is resized with Pillow's bicubic
    filter, whose support grows with the shrinking factor, so nothing aliases. Levels are cut to
    0..255 but not rounded to whole ones. Pictures of 299x299 are left as they are.

    Args:
        pictures: (N, 3, H, W) uint8.

    Returns:
        (N, 3, 299, 299) float32, levels 0..255, on the CPU.

    Raises:
        InputError: the tensor is not of that shape and kind, or the pictures are empty.
    """
    _check(pictures)
    resized = np.empty((len(pictures), 3, SIDE, SIDE), np.float32)
    for place, picture in enumerate(pictures.cpu().numpy().astype(np.float32)):
        for channel in range(3):
            plane = Image.fromarray(picture[channel])
            plane = plane.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            resized[place, channel] = np.asarray(plane)
    return torch.from_numpy(resized.clip(0, 255))


def _check(pictures: Tensor) -> None:
    fits = pictures.ndim == 4 and pictures.shape[1] == 3 and min(pictures.shape[2:], default=0) > 0
    if not fits or pictures.dtype != torch.uint8:
        raise InputError(
            "Inception needs pictures (N, 3, H, W) of uint8, "
            f"got {tuple(pictures.shape)} of {str(pictures.dtype).removeprefix('torch.')}."
        )
