"""References: another drawing of the same thing, for the job that gives one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from text2layer.data.library import ForegroundRecord
from text2layer.data.source import Placement

if TYPE_CHECKING:
    from text2layer.data.composer import Composer

TURN = (40.0, 320.0)  # degrees that hues are turned by
# to luma and two chroma axes (NTSC's YIQ) and back: hues turn in the plane of the latter
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class Twins:
    """Which drawings show the same thing: indices into the records, by caption and by concept."""

    records: Sequence[ForegroundRecord]
    by_caption: Mapping[str, list[int]]
    by_concept: Mapping[str, list[int]]

    @classmethod
    def among(cls, records: Sequence[ForegroundRecord]) -> Twins:
        """Sort records, once for all references of a source."""
        by_caption: dict[str, list[int]] = {}
        by_concept: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            by_caption.setdefault(record.caption, []).append(index)
            by_concept.setdefault(record.concept, []).append(index)
        return cls(records, by_caption, by_concept)

    def of(self, own: int) -> list[int]:
        """Other drawings with the caption of one, or of its concept where there is none."""
        record = self.records[own]
        others = [index for index in self.by_caption[record.caption] if index != own]
        return others or [index for index in self.by_concept[record.concept] if index != own]


def choose_references(
    placements: Sequence[Placement], twins: Twins, generators: Sequence[torch.Generator]
) -> tuple[list[int], list[bool], list[float]]:
    """Which drawing each object is referred to by, whether mirrored, and by how far its hues turn.

    Half of the references are another drawing with the same caption, or of the same concept where
    there is none, as it is; the others, and objects of which there is no second drawing, are the
    drawing itself with its hues turned. Half of all are mirrored.

    Args:
        placements: B objects.
        twins: of all drawings, which `Placement.foreground` counts in.
        generators: B, one for each object.

    Returns:
        Indices into records, and degrees: 0 for another drawing.
    """
    chosen, mirrored, turns = [], [], []
    for placement, generator in zip(placements, generators, strict=True):
        own = placement.foreground
        kind, pick, mirror, turn = torch.rand(4, generator=generator).tolist()
        others = twins.of(own)
        itself = kind < 0.5 or not others
        chosen.append(own if itself else others[int(pick * len(others))])
        turns.append(TURN[0] + (TURN[1] - TURN[0]) * turn if itself else 0.0)
        mirrored.append(mirror < 0.5)
    return chosen, mirrored, turns


def render_references(
    composer: Composer, placements: Sequence[Placement], generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """References of a composer's objects, in the canonical place.

    Returns:
        Colour (B, 3, H, W) in [-1, 1] and masks (B, 1, H, W) in [0, 1].
    """
    chosen, mirrored, turns = choose_references(placements, composer.twins, generators)
    wanted = [
        replace(composer.canonical(replace(placement, foreground=index)), flipped=flip)
        for placement, index, flip in zip(placements, chosen, mirrored, strict=True)
    ]
    made = composer.compose_at(wanted)
    angles = torch.tensor(turns, device=made.foreground.device)
    return turn_hues(made.foreground, angles), made.mask


def turn_hues(colour: Tensor, degrees: Tensor) -> Tensor:
    """Turn the hues of pictures (B, 3, H, W) in [-1, 1] by (B,) degrees; luma stays.

    Colours that leave the cube are cut off at its faces.
    """
    radians = degrees * (math.pi / 180)
    cos, sin = torch.cos(radians), torch.sin(radians)
    turning = torch.zeros(len(degrees), 3, 3, device=colour.device)
    turning[:, 0, 0] = 1
    turning[:, 1, 1], turning[:, 1, 2] = cos, -sin
    turning[:, 2, 1], turning[:, 2, 2] = sin, cos
    there = TO_YIQ.to(colour.device)
    matrix = torch.linalg.inv(there) @ turning @ there
    turned = torch.einsum("bij,bjhw->bihw", matrix, (colour + 1) / 2) * 2 - 1
    return torch.where(degrees[:, None, None, None] == 0, colour, turned.clamp(-1, 1))
