"""A picture taken apart by networks of others: saliency, edge colours, inpainting.

    >>> take_apart = PhotoLayers()
    >>> layered = take_apart(picture)        # (H, W, 3) uint8 -> LayeredImage

It is the data builder's way from photo to layers (LAION-L2I, Text2Layer section 3), for one picture
and without its filters; in the benchmark it is what a user would do to a flat picture.
"""

from __future__ import annotations

import numpy as np

from text2layer.blend import extend_edge_colours
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.models.hole import MASK_THRESHOLD, cut_hole, threshold_level
from text2layer.models.inpainting import Inpainter, load_inpainter
from text2layer.models.saliency import SaliencyModel, load_saliency

LEAST_SALIENCY = 0.5  # raw maximum below which nothing was found, as in a build


class PhotoLayers:
    """Picture in, background and at most one foreground out.

    Args:
        saliency: network, or its name (`models.saliency.load_saliency`).
        inpainter: network, or its name (`models.inpainting.load_inpainter`).

    Raises:
        InputError: a name is not known, or an optional package is missing.
        WeightsError: weights are missing or damaged.
    """

    def __init__(
        self, saliency: SaliencyModel | str = "u2net", inpainter: Inpainter | str = "migan"
    ) -> None:
        self.saliency = load_saliency(saliency) if isinstance(saliency, str) else saliency
        self.inpainter = load_inpainter(inpainter) if isinstance(inpainter, str) else inpainter

    def __call__(self, picture: np.ndarray) -> LayeredImage:
        """Find the salient object, cut it out, fill the background behind it.

        Args:
            picture: (H, W, 3) uint8.

        Returns:
            One foreground over a background of the same size. Where nothing is found, or the object
            fills the picture, the foreground is empty and the background is the picture.

        Raises:
            InputError: it is no such picture.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise InputError(
                f"A picture to take apart must be (H, W, 3) uint8, got {picture.shape} "
                f"{picture.dtype}."
            )
        found = self.saliency.predict([picture])[0]
        mask = found.mask
        hole = cut_hole(mask)
        if found.maximum < LEAST_SALIENCY or hole.all() or not hole.any():
            empty = Layer(picture.copy(), np.zeros_like(mask))
            return LayeredImage(picture.copy(), (empty,))
        colour = extend_edge_colours(picture, mask, threshold_level(MASK_THRESHOLD))
        return LayeredImage(self.inpainter.fill(picture, hole), (Layer(colour, mask),))
