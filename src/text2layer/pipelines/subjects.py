"""The subjects under one mask, each lifted off its photo as a layer of its own.

    >>> labels = find_subjects(mask, max_subjects=4)    # (H, W): 1 is the largest subject
    >>> layers = lift_subjects(photo, mask, background, regions)           # doctest: +SKIP

A subject is a connected part of what the mask takes for foreground, or one of several in it that
hardly touch.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from text2layer.blend import estimate_colours, resize_colour
from text2layer.errors import InputError
from text2layer.layers import Layer
from text2layer.models.hole import MASK_THRESHOLD, threshold_level

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
