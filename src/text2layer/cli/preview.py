"""A flat picture of a layered one: composite, foreground on a checkerboard, mask, background."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from text2layer.layers import LayeredImage

SQUARE = 8  # pixels a side of the checkerboard
LIGHT, DARK = 235, 195  # its two greys
GAP = 4  # white pixels between the parts


def parts_side_by_side(layered: "LayeredImage") -> "np.ndarray":
    """Return (H, 4 W + 3 GAP, 3) uint8: composite, foreground, mask, background."""
    import numpy as np

    from text2layer.blend import composite_over

    width, height = layered.size
    rows, columns = np.indices((height, width)) // SQUARE
    board = np.where((rows + columns) % 2, DARK, LIGHT).astype(np.uint8)[..., None].repeat(3, 2)
    mask = layered.mask
    parts = [
        layered.composite,
        composite_over(board, layered.foreground, mask),
        mask[..., None].repeat(3, 2),
        layered.background,
    ]
    sheet = np.full((height, 4 * width + 3 * GAP, 3), 255, np.uint8)
    for index, part in enumerate(parts):
        left = index * (width + GAP)
        sheet[:, left : left + width] = part
    return sheet


def write_preview(layered: "LayeredImage", path: Path) -> None:
    """Write the parts of a layered picture side by side as a PNG, with how it was made as XMP."""
    from text2layer.io import pictures, xmp
    from text2layer.io.atomic import writing

    with writing(path) as file:
        pictures.write_png(file, parts_side_by_side(layered), xmp.write_packet(layered))
