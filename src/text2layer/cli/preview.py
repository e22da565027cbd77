"""A flat picture of a layered one: composite, foregrounds on a checkerboard, mask, background."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from text2layer.layers import LayeredImage


def write_preview(layered: "LayeredImage", path: Path) -> None:
    """Write the parts side by side over the prompt, as a PNG with how it was made as XMP."""
    import numpy as np

    from text2layer.data.contact_sheet import grid
    from text2layer.files import writing
    from text2layer.io import pictures, xmp

    alone = [layered.on_canvas(layer) for layer in layered.foregrounds]
    cutouts = [np.dstack(one) for one in alone or [(layered.foreground, layered.mask)]]
    parts = [layered.composite, *cutouts, layered.mask, layered.background]
    sheet = grid([parts], [str(layered.metadata.get("prompt", ""))])
    with writing(path) as file:
        pictures.write_png(file, np.asarray(sheet), xmp.write_packet(layered))
