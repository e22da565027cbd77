"""The four pictures of a batch of layered pictures: F, B, m and I, in this order everywhere.

`LayeredImage` is one picture with any layers, as files and people have it; `Parts` is a batch of
tensors, as networks and scores have it. `Parts.from_layered` and `Parts.layered` convert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text2layer.blend import composite_over
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.tensors import (
    bytes_to_colour,
    bytes_to_mask,
    colour_to_bytes,
    composite,
    mask_to_bytes,
)


@dataclass(frozen=True)
class Parts:
    """N layered pictures of one size: all float32, or all uint8 (0..255).

    Attributes:
        foreground: (N, 3, H, W) straight colour in [-1, 1], defined everywhere; (N, L, 3, H, W)
            when there are L > 1, bottom first.
        background: (N, 3, H, W) colour in [-1, 1].
        mask: (N, 1, H, W) in [0, 1]; (N, L, 1, H, W) when there are L > 1.
        image: (N, 3, H, W) colour in [-1, 1], the picture as a whole: a photo, which need not equal
            the composite of its layers, or what a decoder's auxiliary head predicts. None where
            there is none beside the composite.
    """

    foreground: Tensor
    background: Tensor
    mask: Tensor
    image: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mask)

    @classmethod
    def from_layered(
        cls, pictures: Sequence[LayeredImage], images: Sequence[np.ndarray] = ()
    ) -> Parts:
        """The two-layer views of pictures of one size, uint8.

        Args:
            pictures: N of them; see `LayeredImage.foreground` for several layers.
            images: none, or the whole picture (H, W, 3) uint8 of each.

        Raises:
            InputError: no picture, or their sizes differ.
        """
        sizes = sorted({picture.size for picture in pictures})
        if len(sizes) != 1:
            raise InputError(
                f"A batch needs pictures of one size, got {sizes or 'none'}; resize them first."
            )
        return Parts(
            _channels_first([picture.foreground for picture in pictures]),
            _channels_first([picture.background for picture in pictures]),
            _channels_first([picture.mask[..., None] for picture in pictures]),
            _channels_first(images) if len(images) else None,
        )

    @classmethod
    def from_arrays(
        cls,
        foreground: np.ndarray,
        background: np.ndarray,
        mask: np.ndarray,
        image: np.ndarray | None = None,
    ) -> Parts:
        """A batch of one picture, uint8: colours (H, W, 3), mask (H, W)."""
        return Parts(
            _channels_first([foreground]),
            _channels_first([background]),
            _channels_first([mask[..., None]]),
            None if image is None else _channels_first([image]),
        )

    def layered(self) -> list[LayeredImage]:
        """The batch as N pictures of one or L layers."""
        parts = self.to_bytes()
        both = (pictures_of(t.flatten(0, -4)) for t in (parts.foreground, parts.mask))
        layers = [Layer(*pair) for pair in zip(*both, strict=True)]
        count = len(layers) // len(self)
        return [
            LayeredImage(background, tuple(layers[row * count : (row + 1) * count]))
            for row, background in enumerate(pictures_of(parts.background))
        ]

    @property
    def composite(self) -> Tensor:
        """(N, 3, H, W), the layers laid over one another; of the same type as the parts."""
        if self.mask.dtype != torch.uint8:
            return composite(self.foreground, self.background, self.mask)
        picture = self.background
        for colour, mask in zip(*(_by_layer(t) for t in (self.foreground, self.mask)), strict=True):
            picture = composite_over(picture, colour, mask)
        return picture

    @property
    def predicted_image(self) -> Tensor | None:
        """Former name of `image` in what a decoder gives."""
        return self.image

    @property
    def soft_mask(self) -> Tensor:
        """The mask as float32 in [0, 1], whatever the type of the parts."""
        return bytes_to_mask(self.mask) if self.mask.dtype == torch.uint8 else self.mask.float()

    def tensors(self) -> dict[str, Tensor]:
        """The pictures that there are, by their names."""
        tensors = {"foreground": self.foreground, "background": self.background, "mask": self.mask}
        return tensors if self.image is None else tensors | {"image": self.image}

    def rows(self, index: Any) -> Parts:
        """Some of the pictures, chosen by a slice or a tensor of indices."""
        return self.each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Parts:
        """The same on a device."""
        return self.each(lambda tensor: tensor.to(device))

    def to_bytes(self) -> Parts:
        """Rounded to uint8, values outside clipped; itself if it is uint8."""
        if self.mask.dtype == torch.uint8:
            return self
        return self.each(colour_to_bytes, mask_to_bytes)

    def to_float(self) -> Parts:
        """As float32; itself if it is float."""
        if self.mask.dtype != torch.uint8:
            return self
        return self.each(bytes_to_colour, bytes_to_mask)

    def each(
        self,
        of_colour: Callable[[Tensor], Tensor],
        of_mask: Callable[[Tensor], Tensor] | None = None,
    ) -> Parts:
        """The same function of every tensor, or another one of the masks."""
        return Parts(
            of_colour(self.foreground),
            of_colour(self.background),
            (of_mask or of_colour)(self.mask),
            None if self.image is None else of_colour(self.image),
        )


def joined(batches: Sequence[Parts]) -> Parts:
    """Batches one after the other; the whole pictures too where every batch has them."""
    images = [batch.image for batch in batches if batch.image is not None]
    return Parts(
        torch.cat([batch.foreground for batch in batches]),
        torch.cat([batch.background for batch in batches]),
        torch.cat([batch.mask for batch in batches]),
        torch.cat(images) if len(images) == len(batches) else None,
    )


def pictures_of(batch: Tensor) -> list[np.ndarray]:
    """(N, 3, H, W) uint8 as N pictures (H, W, 3), (N, 1, H, W) as N masks (H, W)."""
    last = batch[:, 0] if batch.shape[1] == 1 else batch.permute(0, 2, 3, 1)
    return list(last.contiguous().cpu().numpy())


def _channels_first(pictures: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _by_layer(tensor: Tensor) -> tuple[Tensor, ...]:
    """(N, L, C, H, W) as L tensors (N, C, H, W); (N, C, H, W) as one."""
    return tensor.unbind(1) if tensor.ndim == 5 else (tensor,)
