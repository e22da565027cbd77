"""Parts of a foreign PSD that cannot be kept as layers, drawn by psd-tools' compositor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from text2layer.blend import composite_over
from text2layer.io.assembly import settle_blend_modes
from text2layer.io.psd_obstacles import (
    BLEND_MODES,
    blends_with_below,
    depends_on_what_is_below,
    group_obstacle,
    obstacle,
    undrawn,
)
from text2layer.layers import Layer, clean_name

if TYPE_CHECKING:
    from PIL import Image
    from psd_tools import PSDImage
    from psd_tools.api.layers import Layer as PsdLayer

CLOSE = 2  # levels that a composite may differ from psd-tools' without more being merged


@dataclass(frozen=True)
class Unit:
    """A layer or group of the document's top level, and those that are clipped to it.

    Attributes:
        members: the layer or group first.
        obstacles: (name, reason) of everything visible in it that cannot be kept.
        depends: whether one of them takes its look from the layers below the unit.
        undrawn: (name, what) of everything that psd-tools' compositor passes over.
    """

    members: tuple[PsdLayer, ...]
    obstacles: tuple[tuple[str, str], ...]
    depends: bool
    undrawn: tuple[tuple[str, str], ...]

    @property
    def blend_mode(self) -> str:
        """That of the layer it is merged into."""
        return BLEND_MODES.get(self.members[0].blend_mode.name, "normal")

    @property
    def name(self) -> str:
        return clean_name(self.members[0].name, "Layer")


def units(psd: PSDImage) -> list[Unit]:
    """The document's top level, bottom first."""
    runs: list[list[PsdLayer]] = []
    for layer in psd:
        if layer.clipping and runs:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return [_unit(run) for run in runs]


def read_merged(
    psd: PSDImage, read_plain: Callable[[Sequence[PsdLayer], int], list[Layer]]
) -> tuple[list[Layer], list[str]]:
    """Layers of a document, bottom first, with what cannot be kept merged; and what was merged.

    As little as possible is merged: a unit alone if its look is its own, else all that is below it
    too. The result is compared with psd-tools' composite of the whole; where they differ, all up
    to the topmost obstacle is merged, then all up to the topmost layer with a blend mode.

    Args:
        psd: the document, in RGB or grey.
        read_plain: reads units without obstacles; takes layers and the number of the first one.
    """
    stack = units(psd)
    blocked = [index for index, unit in enumerate(stack) if unit.obstacles]
    below = max((index for index in blocked if stack[index].depends), default=-1)
    blends = [i for i, unit in enumerate(stack) if any(map(blends_with_below, unit.members))]
    expected = None
    layers: list[Layer] = []
    notes: list[str] = []
    topmost = (max(found, default=-1) for found in (blocked, [*blocked, *blends]))
    for floor in dict.fromkeys((below, *topmost, len(stack) - 1)):
        layers, notes = _merge_up_to(psd, stack, floor, read_plain)
        layers, unkept = settle_blend_modes(layers, psd.size)
        if unkept:
            continue
        if expected is None:
            expected = over_white(_composite(psd, lambda layer: bool(layer.is_visible())))
        if _close(layers, expected):
            break
    return layers, notes


def over_white(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a picture with or without alpha, over white."""
    rgba = np.array(image.convert("RGBA"))
    return np.asarray(composite_over(np.uint8(255), rgba[..., :3], rgba[..., 3]))


def obstacles_of(members: Sequence[PsdLayer]) -> Iterator[tuple[PsdLayer, str]]:
    """Every visible layer and group, at any depth, that cannot be kept, with the reason."""
    for layer in members:
        if not layer.visible:
            continue
        reason = group_obstacle(layer) if layer.is_group() else obstacle(layer)
        if reason:
            yield layer, reason
        if layer.is_group():
            yield from obstacles_of(list(layer))  # type: ignore[call-overload]


def _unit(run: Sequence[PsdLayer]) -> Unit:
    found = list(obstacles_of(run))
    depends = any(depends_on_what_is_below(reason) for layer, reason in found
                  if layer in run[:1] or not layer.clipping)  # fmt: skip
    through = run[0].is_group() and run[0].blend_mode.name == "PASS_THROUGH"
    depends |= through and bool(found) and blends_with_below(run[0])
    named = tuple((clean_name(layer.name, "Layer"), reason) for layer, reason in found)
    lost = tuple(
        (clean_name(layer.name, "Layer"), what) for layer, _ in found for what in undrawn(layer)
    )
    return Unit(tuple(run), named, depends, lost)


def _merge_up_to(
    psd: PSDImage,
    stack: Sequence[Unit],
    floor: int,
    read_plain: Callable[[Sequence[PsdLayer], int], list[Layer]],
) -> tuple[list[Layer], list[str]]:
    layers: list[Layer] = []
    notes: list[str] = []
    if floor >= 0:
        layers += _drawn(psd, stack[: floor + 1], stack[floor].name, "normal")
        notes += _notes(stack[: floor + 1], stack[floor].name)
    for unit in stack[floor + 1 :]:
        if unit.obstacles:
            layers += _drawn(psd, [unit], unit.name, unit.blend_mode)
            notes += _notes([unit], unit.name)
        else:
            layers += read_plain(unit.members, len(layers) + 1)
    return layers, notes


def _notes(merged: Sequence[Unit], name: str) -> Iterator[str]:
    """`"Glow" has layer effects: merged into "Glow"`, and what psd-tools did not draw of it."""
    reasons = "; ".join(f'"{who}" {why}' for unit in merged for who, why in unit.obstacles)
    below = f" with {len(merged) - 1} below it" if len(merged) > 1 else ""
    yield f'{reasons or "blending"}: merged into the layer "{name}"{below}'
    lost = [f'{what} of "{who}"' for unit in merged for who, what in unit.undrawn]
    if lost:
        yield f"left out, as psd-tools does not draw it: {', '.join(lost)}"


def _drawn(psd: PSDImage, merged: Sequence[Unit], name: str, blend_mode: str) -> list[Layer]:
    """The units as one layer of what they cover; nothing where they show nothing."""
    chosen = {id(layer._record) for unit in merged for layer in unit.members}

    def shown(layer: Any) -> bool:
        top = layer
        while top.parent is not None and top.parent is not psd:
            top = top.parent
        return id(top._record) in chosen and bool(layer.is_visible())

    rgba = np.array(_composite(psd, shown).convert("RGBA"))
    alpha = rgba[..., 3]
    if not alpha.any():
        return []
    colour = np.ascontiguousarray(rgba[..., :3])
    return [Layer(colour, np.ascontiguousarray(alpha), name, blend_mode=blend_mode).trimmed()]


def _composite(psd: PSDImage, shown: Callable[[Any], bool]) -> Image.Image:
    return psd.composite(ignore_preview=True, layer_filter=shown)


def _close(layers: Sequence[Layer], expected: np.ndarray) -> bool:
    from text2layer.blend import blend

    ours = blend(np.full_like(expected, 255), layers)
    return bool((np.abs(ours.astype(np.int16) - expected) <= CLOSE).all())
