"""From the pictures found in a file to a LayeredImage; shared by every reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from text2layer import blend
from text2layer.blend_modes import NORMAL
from text2layer.io.xmp import Packet
from text2layer.layers import Layer, LayeredImage

WHITE = 255
_AS_OVER_WHITE = (NORMAL, "multiply")  # over nothing these look as they do over white
VISIBLE = 16  # levels between a preview and a composite that are not rounding
TOLERATED = 0.001  # share of the pixels that may be so: edges of other programs' resampling


@dataclass(frozen=True)
class Loaded:
    """A file's content: the layers, its merged preview (H, W, 3) if any, and its provenance."""

    layered: LayeredImage
    preview: np.ndarray | None
    packet: Packet
    found: tuple[str, ...] = ()  # what this reading left out or changed

    @property
    def preview_difference(self) -> float | None:
        """Share of the pixels where preview and composite are more than `VISIBLE` levels apart.

        Profiles, roundings and other programs' arithmetic move a pixel by a few levels; content
        that one of the two lacks moves it by more. None without a preview; one that
        is all black or white, as writers put it there that store none, counts as none.
        """
        if self.preview is None or self.preview.shape != self.layered.background.shape:
            return None
        far = 0
        for ours, theirs in zip(self.layered.composite, self.preview, strict=True):
            far += int((np.abs(ours.astype(np.int16) - theirs) > VISIBLE).any(-1).sum())
        if far and is_blank(self.preview):
            return None
        return far / (self.preview.shape[0] * self.preview.shape[1])

    @property
    def notes(self) -> list[str]:
        """Sentences on what the file has and the layers have not, for a person."""
        found = list(self.found)
        share = self.preview_difference or 0.0
        if share > TOLERATED:
            found.append(
                f"the preview stored in the file differs visibly from its layers ({share:.1%} of "
                "the pixels)"
            )
        return found


def assemble(
    size: tuple[int, int],
    layers: Sequence[Layer],
    packet: Packet,
    preview: np.ndarray | None = None,
    notes: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> Loaded:
    """Make the bottom layer the background if it is opaque and covers the canvas, else add white.

    Args:
        size: (width, height) of the canvas.
        layers: bottom first, as found in the file.
        packet: provenance found in the file.
        preview: merged picture found in the file.
        notes: what was found but not loaded; kept as metadata ``not_loaded``.
        changes: what was converted or merged; kept as metadata ``changed``.
    """
    width, height = size
    metadata = dict(packet.metadata)
    if notes:
        metadata["not_loaded"] = list(notes)
    if changes:
        metadata["changed"] = list(changes)
    bottom = background_of(layers[0], size) if layers else None
    if bottom is None:
        metadata["background_added"] = True
        background, name = np.full((height, width, 3), WHITE, np.uint8), "Background"
        foregrounds = list(layers)
    else:
        background, name, foregrounds = bottom, layers[0].name, list(layers[1:])
    for index, layer in enumerate(foregrounds):
        colour = layer.colour
        if not packet.ours:
            colour = _continued(colour, layer.alpha)
        details = packet.layer_metadata(index, layer.name)
        foregrounds[index] = layer.replace(colour=colour, metadata=details)
    found = (*(f"not loaded: {note}" for note in notes), *changes)
    layered = LayeredImage(background, tuple(foregrounds), name, metadata)
    return Loaded(layered, preview, packet, found)


def settle_blend_modes(
    layers: Sequence[Layer], size: tuple[int, int]
) -> tuple[list[Layer], str | None]:
    """Make blend modes right over the white that `assemble` adds where a file has nothing.

    Over nothing, a layer shows its own colour whatever its mode is. White below does the same under
    multiply; for other modes such a layer becomes a normal one. One that lies over both, nothing
    and something, cannot be kept.

    Args:
        layers: bottom first, as found in the file.
        size: (width, height) of the canvas.

    Returns:
        The layers, and the beginning of a sentence on the first that cannot be kept, or None.
    """
    settled = list(layers)
    if all(layer.blend_mode in _AS_OVER_WHITE for layer in layers):
        return settled, None
    covered = np.zeros(size[::-1], np.uint8)  # alpha of all layers below
    for index, layer in enumerate(layers):
        if not (layer.visible and layer.opacity_byte):
            continue
        target, source = blend.overlap(layer.offset, layer.size, size)
        alpha = blend.multiply_alpha(layer.alpha[source], layer.opacity_byte)
        if layer.blend_mode not in _AS_OVER_WHITE:
            below = covered[target][alpha > 0]
            if below.size and not below.any():
                settled[index] = layer.replace(blend_mode=NORMAL)
            elif below.size and below.min() < 255:
                what = f'Layer "{layer.name}" is blended with {layer.blend_mode}'
                return settled, f"{what} where there is nothing opaque below it"
        covered[target] = 255 - blend.multiply_alpha(255 - covered[target], 255 - alpha)
    return settled, None


def is_blank(picture: np.ndarray) -> bool:
    """Whether a picture (H, W, 3) is all black or all white."""
    value = picture[0, 0, 0]
    return value in (0, 255) and all(bool((row == value).all()) for row in picture)


def background_of(layer: Layer, size: tuple[int, int]) -> np.ndarray | None:
    """Colour (H, W, 3) of a layer cut to the canvas if it hides all of it, else None.

    Its blend mode does not matter: there is nothing below.
    """
    width, height = size
    target, source = blend.overlap(layer.offset, layer.size, size)
    covers = target == (slice(0, height), slice(0, width))
    if not (covers and layer.visible and layer.opacity_byte == 255):
        return None
    return layer.colour[source].copy() if (layer.alpha[source] == 255).all() else None


def _continued(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Edge colours continued if the file has thrown the hidden ones away (all are the same)."""
    hidden = alpha == 0
    if not hidden.any():
        return colour
    first = colour.reshape(-1, 3)[int(hidden.argmax())]
    for row, covered in zip(colour, hidden, strict=True):  # by row: no copy of the picture
        if (row[covered] != first).any():
            return colour
    return blend.extend_edge_colours(colour, alpha)
