"""The layered picture: one opaque background and any number of foreground layers, bottom first.

Straight (unassociated) alpha, sRGB, uint8. Colour is defined everywhere, also under alpha 0.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from numbers import Real
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from text2layer import blend
from text2layer.blend_modes import BLEND_MODES, NORMAL, blended
from text2layer.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_NAME_LENGTH = 255  # UTF-16 units, what a PSD's unicode layer name is known to carry
MAX_SIDE = 30_000  # pixels, what a PSD can hold; longer sides need PSB
MAX_OFFSET = 1_000_000  # pixels; beyond any canvas, within every format's integers
FAINT = 26  # alpha below it, a tenth, is hardly seen
NEUTRAL_GREY = 128  # colour of a foreground that is not there


@dataclass(frozen=True, eq=False)
class Layer:
    """One foreground: colour everywhere, soft alpha, and where and how it lies on the canvas.

    Attributes:
        colour: (h, w, 3) uint8 sRGB, straight, also defined where alpha is 0.
        alpha: (h, w) uint8, 0 transparent to 255 opaque.
        name: 1 to 255 characters without control characters.
        offset: (x, y) in pixels of the top-left corner on the canvas, may be negative.
        opacity: 0 to 1, rounded to the nearest 1/255.
        visible: a hidden layer takes no part in the composite.
        metadata: JSON values.
        blend_mode: one of `blend_modes.BLEND_MODES`: how the colour meets what is below it.

    Raises:
        InputError: a value of the wrong kind, shape or range.
    """

    colour: np.ndarray
    alpha: np.ndarray
    name: str = "Foreground"
    offset: tuple[int, int] = (0, 0)
    opacity: float = 1.0
    visible: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
    blend_mode: str = NORMAL

    def __post_init__(self) -> None:
        _check_pixels(self.colour, "layer's colour", 3)
        _check_pixels(self.alpha, "layer's alpha", 2)
        if self.colour.shape[:2] != self.alpha.shape:
            raise InputError(
                f"A layer's colour {self.colour.shape[:2]} and alpha {self.alpha.shape} must have "
                "the same height and width."
            )
        set_field = object.__setattr__  # the dataclass is frozen, these are its final values
        set_field(self, "name", _checked_name(self.name))
        set_field(self, "offset", _checked_offset(self.offset))
        set_field(self, "opacity", _checked_opacity(self.opacity))
        set_field(self, "visible", bool(self.visible))
        if self.blend_mode not in BLEND_MODES:
            raise InputError(
                f"A layer's blend mode is one of {', '.join(BLEND_MODES)}, not {self.blend_mode!r}."
            )
        set_field(self, "metadata", checked_metadata(self.metadata))

    @classmethod
    def from_rgba(cls, rgba: np.ndarray, **fields: Any) -> Self:
        """A layer of a cut-out (h, w, 4) uint8, edge colours continued under alpha 0."""
        if not isinstance(rgba, np.ndarray) or rgba.ndim != 3 or rgba.shape[2] != 4:
            raise InputError("A cut-out must be an (h, w, 4) uint8 array.")
        _check_pixels(rgba[..., 3], "layer's alpha", 2)
        alpha = np.ascontiguousarray(rgba[..., 3])
        return cls(blend.extend_edge_colours(rgba[..., :3], alpha), alpha, **fields)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.alpha.shape[1], self.alpha.shape[0]

    @property
    def opacity_byte(self) -> int:
        """Opacity as 0..255, as files hold it and as the composite uses it."""
        return round(self.opacity * 255)

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes changed, checked again."""
        return dataclasses.replace(self, **changes)

    def moved(self, dx: int, dy: int) -> Self:
        """A copy moved by whole pixels, right and down."""
        return self.replace(offset=(self.offset[0] + dx, self.offset[1] + dy))

    def resized(self, size: tuple[int, int]) -> Self:
        """A copy of (width, height), its colour and alpha resized apart; the offset stays."""
        colour, alpha = blend.resize_colour_and_alpha(self.colour, self.alpha, size)
        return self.replace(colour=colour, alpha=alpha)

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """(x, y, width, height) on the canvas of what is not fully transparent; None if empty."""
        return self._box(1)

    def trimmed(self, least: int = 1) -> Self:
        """A copy cut to the pixels with ``alpha >= least`` (1..255); without any it stays."""
        box = self._box(least)
        if box is None:
            return self
        x, y, width, height = box
        left, top = x - self.offset[0], y - self.offset[1]
        part = slice(top, top + height), slice(left, left + width)
        colour, alpha = self.colour[part].copy(), self.alpha[part].copy()
        return self.replace(colour=colour, alpha=alpha, offset=(x, y))

    def scaled(self, factor: float) -> Self:
        """A copy made larger or smaller about its middle, pixels resampled.

        Raises:
            InputError: the factor is not above 0, or a side would exceed `MAX_SIDE` pixels.
        """
        if not 0 < factor < np.inf:
            raise InputError(f"A layer is scaled by a number above 0, not {factor!r}.")
        width, height = (max(1, round(side * factor)) for side in self.size)
        if max(width, height) > MAX_SIDE:
            raise InputError(
                f"The layer would become {width} x {height} pixels; at most {MAX_SIDE} a side."
            )
        (x, y), (old_width, old_height) = self.offset, self.size
        offset = x + round((old_width - width) / 2), y + round((old_height - height) / 2)
        return self.resized((width, height)).replace(offset=offset)

    def fitted(self, box: tuple[int, int, int, int]) -> Self:
        """A copy whose `box` fits into another one, as large as its shape allows.

        It stands on the bottom of that box, in the middle of its width. An outline fainter than
        `FAINT` does not count and is cut off. An empty layer stays.
        """
        trimmed = self.trimmed(FAINT).trimmed()
        if trimmed.box is None:
            return trimmed
        x, y, width, height = box
        scale = min(width / trimmed.size[0], height / trimmed.size[1])
        wide, high = (max(1, round(side * scale)) for side in trimmed.size)
        offset = x + (width - wide) // 2, y + height - high
        return trimmed.resized((wide, high)).replace(offset=offset)

    def __eq__(self, other: object) -> bool:
        """Whether every pixel, also the hidden ones, and every attribute agree."""
        if not isinstance(other, Layer):
            return NotImplemented
        return (
            np.array_equal(self.colour, other.colour)
            and np.array_equal(self.alpha, other.alpha)
            and self._attributes() == other._attributes()
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def _box(self, least: int) -> tuple[int, int, int, int] | None:
        seen = self.alpha >= least
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if not len(rows):
            return None
        left, top = int(columns[0]), int(rows[0])
        x, y = self.offset
        return x + left, y + top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top

    def _attributes(self) -> tuple[Any, ...]:
        place = self.name, self.offset, self.opacity_byte, self.visible
        return *place, self.metadata, self.blend_mode


@dataclass(frozen=True, eq=False)
class LayeredImage:
    """An opaque background and foreground layers over it, bottom first.

    Attributes:
        background: (H, W, 3) uint8 sRGB; its size is the canvas.
        foregrounds: layers, bottom first, of any size and offset.
        background_name: the background's name in files.
        metadata: JSON values; how it was made (prompt, negative_prompt, seed, steps,
            guidance_scale, model, model_hash, generator).

    Raises:
        InputError: a value of the wrong kind or shape.
    """

    background: np.ndarray
    foregrounds: tuple[Layer, ...] = ()
    background_name: str = "Background"
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_pixels(self.background, "background", 3)
        foregrounds: Iterable[Any] = self.foregrounds
        if isinstance(foregrounds, Layer) or not isinstance(foregrounds, Iterable):
            raise InputError("The foregrounds must be a sequence of layers, bottom first.")
        foregrounds = tuple(foregrounds)
        for layer in foregrounds:
            if not isinstance(layer, Layer):
                raise InputError(f"A foreground must be a Layer, but {type(layer).__name__} came.")
        set_field = object.__setattr__
        set_field(self, "foregrounds", foregrounds)
        set_field(self, "background_name", _checked_name(self.background_name))
        set_field(self, "metadata", checked_metadata(self.metadata))

    @classmethod
    def from_parts(
        cls, foreground: np.ndarray, background: np.ndarray, mask: np.ndarray, **metadata: object
    ) -> Self:
        """Two layers of canvas size: foreground and background (H, W, 3), mask (H, W), uint8."""
        layer = Layer(foreground, mask)
        _check_pixels(background, "background", 3)
        if background.shape[:2] != mask.shape:
            raise InputError(
                f"The background {background.shape[:2]} and the mask {mask.shape} must have the "
                "same height and width."
            )
        return cls(background, (layer,), metadata=metadata)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the canvas in pixels."""
        return self.background.shape[1], self.background.shape[0]

    @property
    def composite(self) -> np.ndarray:
        """(H, W, 3) uint8: what the visible layers look like over the background."""
        return blend.blend(self.background, self.foregrounds)

    def to_pil(self) -> Image.Image:
        """The composite as a PIL picture."""
        from PIL import Image

        return Image.fromarray(self.composite)

    def save(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write to a file or folder; see `text2layer.io.save`."""
        from text2layer import io

        io.save(self, path, **options)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the composite."""
        stream = BytesIO()
        self.to_pil().save(stream, "PNG")
        return stream.getvalue()

    @property
    def foreground(self) -> np.ndarray:
        """(H, W, 3) uint8 colour of the two-layer view, defined everywhere; see `mask`.

        A layer of another blend mode than "normal" has the colour here that it shows on what is
        below it.
        """
        return self._two_layer_view()[0]

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8 alpha of the two-layer view, opacity and visibility folded in.

        With one foreground, foreground over background by this mask is the composite exactly.
        Several are merged over one another, which rounds once more (within 2/255).
        """
        return self._two_layer_view()[1]

    def on_canvas(self, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
        """One layer cut and continued to the canvas, its opacity and visibility in the mask.

        Returns:
            Colour (H, W, 3) and alpha (H, W), uint8.
        """
        target, source = blend.overlap(layer.offset, layer.size, self.size)
        covered, mask = (np.zeros(self.background.shape[:2], np.uint8) for _ in range(2))
        covered[target] = 255
        if layer.visible:
            mask[target] = blend.multiply_alpha(layer.alpha[source], layer.opacity_byte)
        colour = np.full_like(self.background, NEUTRAL_GREY)
        colour[target] = layer.colour[source]
        return blend.extend_edge_colours(colour, covered), mask

    def add(self, layer: Layer) -> Self:
        """A copy with one more layer on top."""
        return self.replace(foregrounds=(*self.foregrounds, layer))

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes changed, checked again."""
        return dataclasses.replace(self, **changes)

    def replace_layer(self, index: int, layer: Layer) -> Self:
        """A copy in which foreground `index` (0 is the bottom one) is another layer."""
        layers = list(self.foregrounds)
        layers[self._checked_index(index)] = layer
        return self.replace(foregrounds=tuple(layers))

    def remove_layer(self, index: int) -> Self:
        """A copy without foreground `index` (0 is the bottom one)."""
        layers = list(self.foregrounds)
        del layers[self._checked_index(index)]
        return self.replace(foregrounds=tuple(layers))

    def reorder_layer(self, index: int, place: int) -> Self:
        """A copy in which foreground `index` comes to be number `place` from the bottom, from 0."""
        layers = list(self.foregrounds)
        moved = layers.pop(self._checked_index(index))
        layers.insert(self._checked_index(place), moved)
        return self.replace(foregrounds=tuple(layers))

    def find_layer(self, name: str | int) -> int:
        """Index from 0 of the foreground of this name, of "#N" (N from 1, lowest first), or index.

        Raises:
            InputError: there is none, or several have the name.
        """
        if isinstance(name, int):
            return self._checked_index(name)
        found = [i for i, layer in enumerate(self.foregrounds) if layer.name == name]
        if len(found) == 1:
            return found[0]
        count = len(self.foregrounds)
        if found:
            numbers = ", ".join(f"#{index + 1}" for index in found)
            raise InputError(f"{len(found)} layers are called {name!r}; name one of {numbers}.")
        number = name[1:]
        if name.startswith("#") and number.isdecimal() and 1 <= int(number) <= count:
            return int(number) - 1
        known = ", ".join(repr(layer.name) for layer in self.foregrounds[:8])
        more = f" and {count - 8} more" if count > 8 else ""
        there = f"there are {known}{more}, or #1 to #{count}" if count else "it has none"
        raise InputError(f"There is no foreground layer {name!r}: {there}.")

    def resized(self, size: tuple[int, int]) -> Self:
        """A copy of (width, height); every layer's corners are scaled and rounded to pixels."""
        width, height = blend.checked_size(size)
        if (width, height) == self.size:
            return self
        across, down = width / self.size[0], height / self.size[1]
        layers = []
        for layer in self.foregrounds:
            (x, y), (w, h) = layer.offset, layer.size
            left, top = round(x * across), round(y * down)
            right, bottom = round((x + w) * across), round((y + h) * down)
            scaled = layer.resized((max(right - left, 1), max(bottom - top, 1)))
            layers.append(scaled.replace(offset=(left, top)))
        background = blend.resize_colour(self.background, (width, height))
        return self.replace(background=background, foregrounds=tuple(layers))

    def __eq__(self, other: object) -> bool:
        """Whether every pixel, layer and attribute agree."""
        if not isinstance(other, LayeredImage):
            return NotImplemented
        return (
            np.array_equal(self.background, other.background)
            and self.foregrounds == other.foregrounds
            and (self.background_name, self.metadata) == (other.background_name, other.metadata)
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def _checked_index(self, index: int) -> int:
        count = len(self.foregrounds)
        if not -count <= index < count:
            raise InputError(f"There is no foreground {index}: this picture has {count}.")
        return index % count

    def _two_layer_view(self) -> tuple[np.ndarray, np.ndarray]:
        """Colour (H, W, 3) and alpha (H, W) of all foregrounds as one layer of canvas size."""
        if not self.foregrounds:
            grey = np.full_like(self.background, NEUTRAL_GREY)
            return grey, np.zeros(self.background.shape[:2], np.uint8)
        below = self.background.copy()
        if len(self.foregrounds) == 1:
            return self._shown(self.foregrounds[0], below)
        colour = np.zeros(self.background.shape, np.float32)  # premultiplied, 0..255
        alpha = np.zeros((*self.background.shape[:2], 1), np.float32)  # 0..1
        for layer in self.foregrounds:
            pixels, mask = self._shown(layer, below)
            blend.lay_over(below, layer)
            share = mask[..., None].astype(np.float32) / 255
            colour = share * pixels + (1 - share) * colour
            alpha = share + (1 - share) * alpha
        straight = np.rint(np.clip(colour / np.maximum(alpha, 1e-6), 0, 255)).astype(np.uint8)
        merged = np.rint(alpha[..., 0] * 255).astype(np.uint8)
        return blend.extend_edge_colours(straight, merged), merged

    def _shown(self, layer: Layer, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`on_canvas`, in the colour that the layer's blend mode gives it over a picture."""
        colour, mask = self.on_canvas(layer)
        return blended(below, colour, layer.blend_mode), mask


def clean_name(name: str, fallback: str) -> str:
    """A foreign file's layer name made fit for a Layer: no control characters, not too long."""
    kept = "".join(c for c in name[: 2 * MAX_NAME_LENGTH] if _is_writable(c))
    while len(kept.encode("utf-16-le")) // 2 > MAX_NAME_LENGTH:
        kept = kept[:-1]
    return kept if kept.strip() else fallback


def checked_metadata(metadata: object) -> dict[str, Any]:
    """A copy made of plain JSON values (tuples become lists), or InputError."""
    if not isinstance(metadata, dict):
        raise InputError(f"Metadata must be a dict, but {type(metadata).__name__} was given.")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"Metadata must be made of JSON values: {error}.") from None
    return plain


def _check_pixels(pixels: object, what: str, ndim: int) -> None:
    shape = "(height, width, 3)" if ndim == 3 else "(height, width)"
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InputError(f"A {what} must be a uint8 array, but {kind} was given.")
    if pixels.ndim != ndim or pixels.size == 0 or (ndim == 3 and pixels.shape[2] != 3):
        raise InputError(f"A {what} must have the shape {shape}, but {pixels.shape} was given.")


def _is_writable(character: str) -> bool:
    """Whether XML 1.0 and every editor can hold the character: no controls, no surrogates."""
    return unicodedata.category(character) not in ("Cc", "Cs") and character not in "\ufffe\uffff"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or not all(map(_is_writable, name)):
        raise InputError(f"A layer's name must be text without control characters, not {name!r}.")
    if len(name.encode("utf-16-le")) // 2 > MAX_NAME_LENGTH:
        raise InputError(
            f"A layer's name may have {MAX_NAME_LENGTH} characters, but {name[:20]!r}... has "
            f"{len(name)}."
        )
    return name


def _checked_offset(offset: object) -> tuple[int, int]:
    try:
        x, y = (operator.index(position) for position in cast("Iterable[Any]", offset))
    except (TypeError, ValueError):
        raise InputError(f"A layer's offset is (x, y) in whole pixels, not {offset!r}.") from None
    if max(abs(x), abs(y)) > MAX_OFFSET:
        raise InputError(f"A layer's offset must stay within {MAX_OFFSET} pixels, not {(x, y)}.")
    return x, y


def _checked_opacity(opacity: object) -> float:
    if not isinstance(opacity, Real) or not 0 <= float(opacity) <= 1:  # also refuses NaN
        raise InputError(f"A layer's opacity is a number from 0 to 1, not {opacity!r}.")
    return round(float(opacity) * 255) / 255
