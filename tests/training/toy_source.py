"""Training samples without files: soft discs of one colour over backgrounds of another."""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Callable

import torch

from text2layer.data.source import Composition, Part, Placement
from text2layer.tensors import bytes_to_colour, bytes_to_mask, colour_to_bytes, composite

COLOURS = {
    "red": (0.8, -0.7, -0.7),
    "green": (-0.7, 0.6, -0.6),
    "blue": (-0.8, -0.5, 0.8),
    "yellow": (0.8, 0.7, -0.7),
}


class DiscSource:
    """Fulfils `SampleSource`; `placements` tell the colours, so captions are true.

    Args:
        size: width and height in pixels.
        name: decides the fingerprint, as other data would.
        on_compose: called with the number of earlier calls, before each batch.
    """

    def __init__(
        self, size: int = 32, name: str = "discs", on_compose: Callable[[int], None] | None = None
    ) -> None:
        self.size, self.name, self.on_compose = size, name, on_compose
        self.calls = 0

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def compose(self, batch_size: int, generator: torch.Generator | None = None) -> Composition:
        if self.on_compose is not None:
            self.on_compose(self.calls)
        self.calls += 1
        draws = torch.rand(batch_size, 5, generator=generator).tolist()
        palette = torch.tensor(list(COLOURS.values()))
        axis = (torch.arange(self.size) + 0.5) / self.size
        shade = 0.3 * (axis[:, None] - 0.5)  # backgrounds darken towards the top
        colours, grounds, masks, placements = [], [], [], []
        for first, second, x, y, radius in draws:
            colour, ground = int(first * len(COLOURS)), int(second * len(COLOURS))
            across, down, radius = 0.3 + 0.4 * x, 0.3 + 0.4 * y, 0.15 + 0.15 * radius
            distance = torch.hypot(axis[None] - across, axis[:, None] - down)
            masks.append(((radius - distance) * 16 + 0.5).clamp(0, 1)[None])
            colours.append(palette[colour][:, None, None].expand(3, self.size, self.size))
            grounds.append((palette[ground][:, None, None] + shade).clamp(-1, 1)
                           .expand(3, self.size, self.size))  # fmt: skip
            placements.append(
                Placement(colour, ground, across, down, 2 * radius, False, 0.0, 0.0, 1.0, False)
            )
        foreground, background = (
            bytes_to_colour(colour_to_bytes(torch.stack(part))) for part in (colours, grounds)
        )
        mask = bytes_to_mask((torch.stack(masks) * 255).round())
        image = bytes_to_colour(colour_to_bytes(composite(foreground, background, mask)))
        return Composition(foreground, background, image, mask, tuple(placements))

    def captions(
        self, composition: Composition, rng: random.Random, part: Part = "whole"
    ) -> list[str]:
        names = list(COLOURS)
        texts = []
        for placement in composition.placements:
            ball = f"{rng.choice(['a', 'the'])} {names[placement.foreground]} ball"
            sky = f"{names[placement.background]} sky"
            whole = f"{ball} in front of a {sky}"
            texts.append({"whole": whole, "foreground": ball, "background": f"a {sky}"}[part])
        return texts


def stop_at(call: int) -> Callable[[int], None]:
    """For `on_compose`: end the run by SIGTERM while this batch is drawn."""

    def stop(calls: int) -> None:
        if calls == call:
            signal.raise_signal(signal.SIGTERM)

    return stop
