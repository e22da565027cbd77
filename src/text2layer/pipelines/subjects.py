"""The subjects under one mask, each lifted off its photo as a layer of its own.

    >>> labels = find_subjects(mask, max_subjects=4)    # (H, W): 1 is the largest subject
    >>> layers = lift_subjects(photo, mask, background, regions)           # doctest: +SKIP

A subject is a connected part of what the mask takes for foreground, or one of several in it that
hardly touch.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from text2layer.blend import extend_edge_colours, resize_colour, solve_colour
from text2layer.errors import InputError
from text2layer.layers import Layer
from text2layer.models.hole import MASK_THRESHOLD, threshold_level

SURE_LEVEL = 128  # mask level (0..255) from which a pixel is surely a subject's: .5
LEAST_SHARE = 0.002  # of the picture, in sure pixels: a smaller part is a speck and no subject
CORE_SHARE = 0.33  # of a part's largest core: as large a core is another subject that touches it
REACH = 0.03  # longest side: a soft edge ends that far from what is sure
SOLVED_LEVEL = 64  # alpha from which an edge's colour is solved: an error grows to its 4-fold
COARSE_SIDE = 2048  # pixels; hidden colour of a longer layer is continued at about this size
EIGHT = np.ones((3, 3), np.uint8)  # neighbours that count as connected


def faint_parts(mask: np.ndarray) -> np.ndarray:
    """Pixels above `MASK_THRESHOLD`, but farther than `REACH` from any sure one.

    They are no soft edge: the network was in doubt. (H, W) uint8 -> (H, W) bool.
    """
    doubtful: np.ndarray = mask >= threshold_level(MASK_THRESHOLD)
    sure = mask >= SURE_LEVEL
    if sure.any():
        distance = ndimage.distance_transform_edt(~sure)
        doubtful &= distance > REACH * max(mask.shape)
    return doubtful


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


def lift_subjects(
    photo: np.ndarray, mask: np.ndarray, background: np.ndarray, regions: np.ndarray
) -> tuple[Layer, ...]:
    """Cut the subjects out of their photo.

    Args:
        photo: (H, W, 3) uint8.
        mask: (H, W) uint8, of all subjects.
        background: (H, W, 3) uint8, what is behind them.
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
            colour = edge_colours(photo[box], background[box], alpha)
            rows, columns = box
            offset = (columns.start, rows.start)
            layers.append(Layer(colour, alpha, f"Subject {number}", offset))
    return tuple(layers)


def edge_colours(photo: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour of a layer that was cut out of a photo, without what shone through from behind.

    The photo where alpha is 255; from `SOLVED_LEVEL` on the F that makes the photo I over the
    background B, F = (I - (1 - a) B) / a, clipped; below it the colour is continued outward.

    Args:
        photo: (H, W, 3) uint8.
        background: (H, W, 3) uint8.
        alpha: (H, W) uint8.

    Returns:
        (H, W, 3) uint8; over the background it gives the photo exactly wherever alpha is at least
        `SOLVED_LEVEL` and F was not clipped.
    """
    colour = photo.copy()
    soft = (alpha >= SOLVED_LEVEL) & (alpha < 255)
    colour[soft] = solve_colour(photo[soft], background[soft], alpha[soft])
    step = -(-max(alpha.shape) // COARSE_SIDE)
    if step == 1:
        return extend_edge_colours(colour, alpha, SOLVED_LEVEL)
    coarse = extend_edge_colours(colour[::step, ::step], alpha[::step, ::step], SOLVED_LEVEL)
    continued = resize_colour(coarse, (alpha.shape[1], alpha.shape[0]))
    return np.where((alpha >= SOLVED_LEVEL)[..., None], colour, continued)
