"""Turns random numbers into placements: which object, where, before which background."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from text2layer.canonical import FOOT, LONGEST
from text2layer.data.captions import may_be_flipped
from text2layer.data.library import BackgroundRecord, ForegroundRecord
from text2layer.data.source import Placement
from text2layer.data.world import World, pairings
from text2layer.errors import DataError

OBJECT_SCALE = (0.50, 0.85)  # longest side of the object / shorter side of the frame
BACKGROUND_SCALE = (0.6, 1.0)  # window / largest window of the frame's shape
CUT_PROBABILITY = 0.10  # objects that the border of the frame cuts
CUT_SHARE = (0.08, 0.35)  # how much of such an object lies outside
SHADOW_STYLES = ("3d render", "3d icon")
SHADOW_STRENGTH = (0.25, 0.60)
DRAWS = 14  # random numbers an object takes, see `Placer.place`
BACKGROUND_DRAWS = [1, 9, 10, 11, 12]  # those of them that the objects of a picture share

Box = tuple[float, float, float, float]  # left, top, width, height, relative to the frame


class Placer:
    """Places objects of some records before some backgrounds, in a world.

    Args:
        foregrounds: the objects.
        sizes: (width, height) of each, in any unit.
        backgrounds: what they stand before.
        shares: how often each object is drawn, relative to one another.
        world: how pictures are composed.
        shadow_probability: share of rendered objects that get a contact shadow.
        num_foregrounds: L, objects of a picture. They are smaller by the square root of L.
        held_out: draw the pairings that training leaves out, and no others.

    Raises:
        DataError: no drawing has a background that it may stand before.
    """

    def __init__(
        self,
        foregrounds: Sequence[ForegroundRecord],
        sizes: Sequence[tuple[int, int]],
        backgrounds: Sequence[BackgroundRecord],
        shares: Sequence[float],
        world: World,
        shadow_probability: float = 0.0,
        num_foregrounds: int = 1,
        held_out: bool = False,
    ) -> None:
        self.foregrounds, self.sizes, self.backgrounds = foregrounds, sizes, backgrounds
        self.shares, self.world = shares, world
        self.shadow_probability, self.num_foregrounds = shadow_probability, num_foregrounds
        self._may_flip = [may_be_flipped(record) for record in foregrounds]
        self._choose_pairings(held_out)

    def held_out_pairings(self) -> Placer:
        """The same objects before the backgrounds that training leaves out."""
        other = copy.copy(self)
        other._choose_pairings(held_out=True)
        return other

    def _choose_pairings(self, held_out: bool) -> None:
        """Decide which backgrounds a concept stands before, and so which drawings are drawn."""
        weights = self.world.scene_weights or {}
        self._weights = [weights.get(record.scene, 1.0) for record in self.backgrounds]
        self._grounds: dict[str, list[int]] = {}
        shares = list(self.shares)
        leaves_out = held_out or self.world.hold_out_pairings
        if leaves_out or weights:
            for concept in {record.concept for record in self.foregrounds}:
                grounds: Iterable[int] = range(len(self.backgrounds))
                if leaves_out:
                    grounds = pairings(concept, self.backgrounds, held_out)
                self._grounds[concept] = [ground for ground in grounds if self._weights[ground]]
            possible = [bool(self._grounds[record.concept]) for record in self.foregrounds]
            shares = [share * fits for share, fits in zip(shares, possible, strict=True)]
        total = sum(shares)
        if not total:
            raise DataError("No drawing has a background that it may stand before; add some.")
        self._cumulative = [value / total for value in accumulate(shares)]

    def _ground(self, concept: str, draw: float) -> int:
        """The background that a random number of 0 to 1 means for a concept."""
        if not self.world.scene_weights:
            grounds = self._grounds.get(concept)
            place = int(draw * len(self.backgrounds if grounds is None else grounds))
            return place if grounds is None else grounds[place]
        grounds = self._grounds[concept]
        shares = list(accumulate(self._weights[ground] for ground in grounds))
        return grounds[min(bisect_right(shares, draw * shares[-1]), len(grounds) - 1)]

    def box(self, placement: Placement, frame: tuple[int, int]) -> Box:
        """Where an object is on a frame of (width, height) pixels."""
        return self._box(placement.foreground, placement.scale, placement.centre_x,
                         placement.centre_y, frame)  # fmt: skip

    def _box(self, index: int, scale: float, x: float, y: float, frame: tuple[int, int]) -> Box:
        wide, high = self.sizes[index]
        longest = scale * min(frame) / max(wide, high)
        width, height = wide * longest / frame[0], high * longest / frame[1]
        return x - width / 2, y - height / 2, width, height

    def canonical(self, placement: Placement, frame: tuple[int, int]) -> Placement:
        """The object of a placement in the canonical place of a frame."""
        placement = replace(placement, scale=LONGEST / math.sqrt(self.num_foregrounds))
        height = self.box(placement, frame)[3]
        return replace(
            placement, centre_x=0.5, centre_y=FOOT - height / 2, flipped=False, shadow=0.0,
            canonical=True,
        )  # fmt: skip

    def place(self, draws: Sequence[float], frame: tuple[int, int]) -> Placement:
        """The placement that DRAWS random numbers of 0 to 1 mean on a frame (width, height)."""
        pick, back, size, across, down, cut, side, share, flip, crop, x, y, mirror, shadow = draws
        index = min(bisect_right(self._cumulative, pick), len(self.foregrounds) - 1)
        behind = self._ground(self.foregrounds[index].concept, back)
        scale = _between(OBJECT_SCALE, size) / math.sqrt(self.num_foregrounds)
        width, height = self._box(index, scale, 0, 0, frame)[2:]
        centre_x = width / 2 + (1 - width) * across
        centre_y = height / 2 + (1 - height) * math.sqrt(down)  # the lower half thrice as often
        if cut < CUT_PROBABILITY and not self.world.full_captions:
            outside = _between(CUT_SHARE, share)
            if side < 1 / 3:
                centre_x = width * (0.5 - outside)
            elif side < 2 / 3:
                centre_x = 1 - width * (0.5 - outside)
            else:
                centre_y = 1 - height * (0.5 - outside)
        standing = self.foregrounds[index].style in SHADOW_STYLES
        shaded = standing and shadow < self.shadow_probability
        strength = _between(SHADOW_STRENGTH, shadow / self.shadow_probability) if shaded else 0.0
        placement = Placement(
            foreground=index,
            background=behind,
            centre_x=centre_x,
            centre_y=centre_y,
            scale=scale,
            flipped=self._may_flip[index] and flip < 0.5,
            crop_x=x,
            crop_y=y,
            crop_scale=_between(BACKGROUND_SCALE, crop),
            background_flipped=mirror < 0.5,
            shadow=strength,
        )
        # the last digits of a draw whose first ones chose the object are as good as a new one
        return self._in_world(placement, pick * 2**24 % 1, frame)

    def _in_world(self, placement: Placement, draw: float, frame: tuple[int, int]) -> Placement:
        """The placement as the world has it; `draw` decides whether it is canonical."""
        if windows := self.world.background_crops:
            window = min(int(placement.crop_x * windows), windows - 1)
            placement = replace(
                placement, crop_x=window / (windows - 1) if windows > 1 else 0.5, crop_y=0.5,
                crop_scale=1.0, background_flipped=False,
            )  # fmt: skip
        if draw < self.world.canonical:
            return self.canonical(placement, frame)
        if self.world.full_captions:
            return replace(placement, flipped=False, shadow=0.0)
        return placement


def _between(limits: tuple[float, float], draw: float) -> float:
    low, high = limits
    return low + (high - low) * draw
