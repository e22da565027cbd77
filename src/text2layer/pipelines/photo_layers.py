"""A picture taken apart by networks of others: saliency, edge colours, inpainting.

    >>> take_apart = PhotoLayers(max_layers=4)
    >>> layered = take_apart(picture)        # (H, W, 3) uint8 -> LayeredImage

It is the data builder's way from photo to layers (LAION-L2I, Text2Layer section 3), for one picture
and without its filters; in the benchmark it is what a user would do to a flat picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from text2layer.blend import composite_over, extend_edge_colours, resize_colour
from text2layer.errors import InputError
from text2layer.io.xmp import INPAINTED
from text2layer.layers import Layer, LayeredImage
from text2layer.models.hole import MASK_THRESHOLD, cut_hole, threshold_level
from text2layer.models.inpainting import Inpainter, load_inpainter
from text2layer.models.saliency import SaliencyModel, load_saliency
from text2layer.pipelines.subjects import find_subjects, lift_subjects, nearest_label, nearness

LEAST_SALIENCY = 0.5  # raw maximum below which nothing was found, as in a build
WORKING_SIDE = 2048  # pixels: holes of longer photos are cut and filled at this size


class PhotoLayers:
    """Picture in, background and foregrounds out.

    Args:
        saliency: network, or its name (`models.saliency.load_saliency`).
        inpainter: network, or its name (`models.inpainting.load_inpainter`).
        max_layers: None gives what the data builder makes of a photo: one foreground of the
            picture's size, its mask as the network found it. A number gives each subject a layer of
            its own, that many at most; see `pipelines.subjects`.
        progress: show a bar on stderr.

    Raises:
        InputError: a name is not known, an optional package is missing, or `max_layers` is less
            than 1.
        WeightsError: weights are missing or damaged.
    """

    def __init__(
        self,
        saliency: SaliencyModel | str = "u2net",
        inpainter: Inpainter | str = "migan",
        max_layers: int | None = None,
        progress: bool = False,
    ) -> None:
        if max_layers is not None and max_layers < 1:
            raise InputError(f"At least one layer must be allowed, not {max_layers}.")
        self.saliency = load_saliency(saliency) if isinstance(saliency, str) else saliency
        self.inpainter = load_inpainter(inpainter) if isinstance(inpainter, str) else inpainter
        self.max_layers = max_layers
        self.progress = progress

    def __call__(self, picture: np.ndarray) -> LayeredImage:
        """Find what is salient, cut it out, fill the background behind it.

        Args:
            picture: (H, W, 3) uint8.

        Returns:
            With `max_layers`: "Subject 1" (the largest, at the bottom), "Subject 2", ..., cropped,
            over a background of the picture's size. The composite is the picture exactly outside of
            the holes that were filled and where a layer is opaque. No layer where nothing is found,
            or the hole is the whole picture.

            Without: one foreground of the picture's size, empty in those two cases.

        Raises:
            InputError: it is no such picture.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise InputError(
                f"A picture to take apart must be (H, W, 3) uint8, got {picture.shape} "
                f"{picture.dtype}."
            )
        if self.max_layers is not None:
            return self._take_apart(picture, self.max_layers)
        found = self.saliency.predict([picture])[0]
        mask = found.mask
        hole = cut_hole(mask)
        if found.maximum < LEAST_SALIENCY or hole.all() or not hole.any():
            empty = Layer(picture.copy(), np.zeros_like(mask))
            return LayeredImage(picture.copy(), (empty,))
        colour = extend_edge_colours(picture, mask, threshold_level(MASK_THRESHOLD))
        return LayeredImage(self.inpainter.fill(picture, hole), (Layer(colour, mask),))

    def _take_apart(self, photo: np.ndarray, max_layers: int) -> LayeredImage:
        metadata = self._metadata()
        with tqdm(total=3, disable=not self.progress) as bar:
            bar.set_description("find subjects")
            found = self.saliency.predict([photo])[0]
            small, mask = shrunk(photo, found.mask)
            near = nearness(mask)
            faded = np.rint(mask * near).astype(np.uint8)
            subjects = find_subjects(faded, max_layers)
            hole = cut_hole(np.where(subjects, faded, 0).astype(np.uint8)) & (near > 0)
            if found.maximum < LEAST_SALIENCY or not subjects.any() or hole.all():
                return LayeredImage(photo.copy(), metadata=metadata)
            bar.update()
            bar.set_description("fill background")
            fill = mixed(small, self.inpainter.fill(small, hole), near)
            regions = np.where(hole, nearest_label(subjects)[0], 0)
            bar.update()
            bar.set_description("lift subjects")
            height, width = photo.shape[:2]
            if regions.shape != (height, width):
                nearest = Image.fromarray(regions).resize((width, height), Image.Resampling.NEAREST)
                regions, fill = np.asarray(nearest), resize_colour(fill, (width, height))
                near = np.asarray(Image.fromarray(near).resize((width, height)))
                faded = np.rint(found.mask * near.clip(0, 1)).astype(np.uint8)
            background = np.where(regions[..., None] > 0, fill, photo)
            layers = lift_subjects(photo, faded, regions)
            bar.update()
        return LayeredImage(background, layers, metadata=metadata)

    def _metadata(self) -> dict[str, Any]:
        from text2layer import __version__

        return {
            "saliency": self.saliency.name,
            "saliency_sha256": self.saliency.sha256,
            "inpainter": self.inpainter.name,
            "inpainter_sha256": self.inpainter.sha256,
            "generator": f"text2layer {__version__}",
            "digital_source_type": INPAINTED,
        }


def mixed(photo: np.ndarray, fill: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: of the fill as much as `share` (H, W) says, 0..1, of the photo the rest."""
    weight = np.rint(share * 255).astype(np.uint8)
    return composite_over(photo, fill, weight)


def shrunk(photo: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Photo (H, W, 3) and mask (H, W) with no side above `WORKING_SIDE`; themselves if they fit."""
    scale = WORKING_SIDE / max(mask.shape)
    if scale >= 1:
        return photo, mask
    height, width = (max(round(side * scale), 1) for side in mask.shape)
    small = Image.fromarray(mask).resize((width, height), Image.Resampling.BOX)
    return resize_colour(photo, (width, height)), np.asarray(small)
