"""A picture decomposed by third-party networks: saliency, edge colours, inpainting.

    >>> take_apart = PhotoLayers(max_layers=4)
    >>> layered = take_apart(picture)        # (H, W, 3) uint8 -> LayeredImage

It is the data builder's way from photo to layers (LAION-L2I, Text2Layer section 3), for one picture
and without its filters; in the benchmark it is what a user would do to a flat picture.

    >>> labels = find_subjects(mask, max_subjects=4)    # (H, W): 1 is the largest subject
    >>> layers = lift_subjects(photo, mask, background, regions)           # doctest: +SKIP

A subject is a connected part of what the mask takes for foreground, or one of several in it that
hardly touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from text2layer.blend import composite_over, estimate_colours, extend_edge_colours, resize_colour
from text2layer.errors import InputError
from text2layer.io.xmp import INPAINTED, TRAINED_ALGORITHMIC_MEDIA, digital_source_type
from text2layer.layers import Layer, LayeredImage
from text2layer.models.hole import MASK_THRESHOLD, cut_hole, threshold_level
from text2layer.models.inpainting import Inpainter, load_inpainter
from text2layer.models.saliency import SaliencyModel, load_saliency

LEAST_SALIENCY = 0.5  # raw maximum below which nothing was found, as in a build
WORKING_SIDE = 2048  # pixels: holes of longer photos are cut and filled at this size


class PhotoLayers:
    """Picture in, background and foregrounds out.

    Args:
        saliency: network, or its name (`models.saliency.load_saliency`).
        inpainter: network, or its name (`models.inpainting.load_inpainter`).
        max_layers: None gives what the data builder makes of a photo: one foreground of the
            picture's size, its mask as the network found it. A number gives each subject a layer of
            its own, that many at most; see `find_subjects`.
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


def with_provenance(layered: LayeredImage, picture: LayeredImage) -> LayeredImage:
    """Layers with what the picture that was taken apart says of itself, and what made them of it.

    A picture that a model drew stays called so. Where a model took it apart too, the names of what
    it says are the same: they are under "taken_apart_by" then.

    Args:
        layered: the layers, with the metadata of what took the picture apart.
        picture: the picture, with its own metadata.
    """
    made = layered.metadata
    if digital_source_type(picture.metadata) != TRAINED_ALGORITHMIC_MEDIA:
        metadata = picture.metadata | made | {"digital_source_type": INPAINTED}
    else:
        added = {"taken_apart_by": made} if "model" in made else made
        metadata = picture.metadata | added | {"digital_source_type": TRAINED_ALGORITHMIC_MEDIA}
    return layered.replace(metadata=metadata)


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


SURE_LEVEL = 128  # mask level (0..255) from which a pixel is surely a subject's: .5
LEAST_SHARE = 0.002  # of the picture, in sure pixels: a smaller part is a speck and no subject
CORE_SHARE = 0.33  # of a part's largest core: as large a core is another subject that touches it
REACH = 0.03  # longest side: that far from what is sure a soft edge begins to fade
FADED = 2 * REACH  # and there it has ended
COARSE_SIDE = 1024  # pixels; edge colours of a longer layer are estimated at about this size
EIGHT = np.ones((3, 3), np.uint8)  # neighbours that count as connected


def nearness(mask: np.ndarray) -> np.ndarray:
    """How much of each pixel of a mask is a subject's, by its distance from what is sure.

    Soft pixels farther than `REACH` are no edge: the network was in doubt. They fade, so that fur
    and hair have no cut, and from `FADED` on nothing is left of them.

    Args:
        mask: (H, W) uint8.

    Returns:
        (H, W) float32 in 0..1; 1 below `MASK_THRESHOLD`, and everywhere if nothing is sure.
    """
    sure = mask >= SURE_LEVEL
    if not sure.any():
        return np.ones(mask.shape, np.float32)
    distance = ndimage.distance_transform_edt(~sure) / max(mask.shape)
    share = np.clip((FADED - distance) / (FADED - REACH), 0, 1)
    return np.where(mask >= threshold_level(MASK_THRESHOLD), share, 1).astype(np.float32)


def find_subjects(mask: np.ndarray, max_subjects: int) -> np.ndarray:
    """Tell the subjects of a mask apart.

    Parts are connected pixels (8 neighbours) above `MASK_THRESHOLD`, cores are connected sure ones.
    A part is foreground if enough of it is sure (`LEAST_SHARE`); if none is, the surest part is. In
    such a part the largest core is a subject, and so is each that is `CORE_SHARE` as large; its
    other pixels belong to the nearest of them. The largest `max_subjects` are kept, the others
    join the nearest of those. Where nothing is sure there is no subject.

    Args:
        mask: (H, W) uint8.
        max_subjects: at least 1.

    Returns:
        (H, W) int32: 1 on the largest subject, 2 on the next ..., 0 elsewhere.

    Raises:
        InputError: `max_subjects` is less than 1, or SciPy is not installed.
    """
    if max_subjects < 1:
        raise InputError(f"At least one layer must be allowed, not {max_subjects}.")
    cores, count = ndimage.label(mask >= SURE_LEVEL, EIGHT)
    parts, _ = ndimage.label(mask >= threshold_level(MASK_THRESHOLD), EIGHT)
    labels = np.zeros(mask.shape, np.int32)
    if not count:
        return labels
    subjects, foreground = _largest_cores(cores, parts)
    kept, others = subjects[:max_subjects], subjects[max_subjects:]
    label = np.zeros(count + 1, np.int32)  # of each core
    label[kept] = np.arange(1, len(kept) + 1)
    if len(others):
        nearest, distance = nearest_label(label[cores])
        places = ndimage.minimum_position(distance, cores, others)
        label[others] = [nearest[place] for place in places]
    boxes = ndimage.find_objects(parts)
    for number in foreground:
        box = boxes[number - 1]
        inside = parts[box] == number
        nearest, _ = nearest_label(np.where(inside, label[cores[box]], 0))
        labels[box][inside] = nearest[inside]
    return labels


def _largest_cores(cores: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the cores that are subjects, largest first, and of the parts they lie in."""
    least = LEAST_SHARE * cores.size
    sure = np.bincount(parts[cores > 0], minlength=parts.max() + 1)  # pixels of each part
    is_foreground = sure >= min(least, sure.max())
    areas = np.bincount(cores.ravel())[1:]
    part = ndimage.maximum(parts, cores, np.arange(1, len(areas) + 1)).astype(int)
    by_area = np.argsort(-areas, kind="stable")
    leaders = by_area[np.unique(part[by_area], return_index=True)[1]]  # each part's largest core
    largest = np.zeros(len(sure))
    largest[part[leaders]] = areas[leaders]
    is_subject = areas >= np.maximum(CORE_SHARE * largest[part], least)
    is_subject[leaders] = True
    is_subject &= is_foreground[part]
    return by_area[is_subject[by_area]] + 1, np.flatnonzero(is_foreground)


def nearest_label(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of (H, W) the nearest label above 0, and how far it is in pixels."""
    distance, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return labels[rows, columns], distance


def lift_subjects(photo: np.ndarray, mask: np.ndarray, regions: np.ndarray) -> tuple[Layer, ...]:
    """Cut the subjects out of their photo.

    Args:
        photo: (H, W, 3) uint8.
        mask: (H, W) uint8, of all subjects.
        regions: (H, W) int: 1 where the first subject, its soft edge and the rim that was filled
            around it lie, 2 for the next subject ..., 0 where nothing was filled.

    Returns:
        A layer for each subject, "Subject 1" first, cropped to its region. Its alpha is the mask
        inside the region and 0 outside.
    """
    boxes = ndimage.find_objects(regions)
    layers = []
    for number, box in enumerate(boxes, start=1):
        if box is not None:
            alpha = np.where(regions[box] == number, mask[box], 0).astype(np.uint8)
            colour = edge_colours(photo[box], alpha)
            rows, columns = box
            offset = (columns.start, rows.start)
            layers.append(Layer(colour, alpha, f"Subject {number}", offset))
    return tuple(layers)


def edge_colours(photo: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour of a layer that was cut out of a photo, without what shone through from behind.

    The photo where alpha is 255; elsewhere the colour that `blend.estimate_colours` finds, without
    a look at the fill, which is a guess. `recipes/edge_colours.py` compares it with others.

    Args:
        photo: (H, W, 3) uint8.
        alpha: (H, W) uint8.

    Returns:
        (H, W, 3) uint8.
    """
    opaque = (alpha == 255)[..., None]
    step = -(-max(alpha.shape) // COARSE_SIDE)
    if step == 1:
        return np.where(opaque, photo, estimate_colours(photo, alpha)[0])
    coarse = estimate_colours(photo[::step, ::step], alpha[::step, ::step])
    size = (alpha.shape[1], alpha.shape[0])
    colour, behind = (resize_colour(found, size) for found in coarse)
    soft = (alpha > 0) & (alpha < 255)
    colour[soft] = _nearest_mixture(photo[soft], alpha[soft], colour[soft], behind[soft])
    return np.where(opaque, photo, colour)


def _nearest_mixture(
    photo: np.ndarray, alpha: np.ndarray, colour: np.ndarray, behind: np.ndarray
) -> np.ndarray:
    """The F that is nearest to (N, 3) `colour`, B to `behind`, and makes the photo with B."""
    share = alpha[:, None].astype(np.float32) / 255
    missing = photo - (share * colour + (1 - share) * behind)
    moved = colour + missing * share / (share**2 + (1 - share) ** 2)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)
