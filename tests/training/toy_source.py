"""Training samples without files: soft discs of one colour over backgrounds of another."""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Callable

import torch
from torch import Tensor

from text2layer.data.source import EVERY, Composition, Part, Placement
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

    def compose(
        self, batch_size: int, generator: torch.Generator | None = None, rows: slice = EVERY
    ) -> Composition:
        if self.on_compose is not None:
            self.on_compose(self.calls)
        self.calls += 1
        draws = torch.rand(batch_size, 5, generator=generator)[rows].tolist()
        palette = torch.tensor(list(COLOURS.values()))
        colours, grounds, masks, placements = [], [], [], []
        for first, second, x, y, radius in draws:
            colour, ground = int(first * len(COLOURS)), int(second * len(COLOURS))
            across, down, radius = 0.3 + 0.4 * x, 0.3 + 0.4 * y, 0.15 + 0.15 * radius
            masks.append(soft_disc(self.size, across, down, radius))
            colours.append(palette[colour][:, None, None].expand(3, self.size, self.size))
            grounds.append(shaded_sky(self.size, palette[ground]))
            placements.append(
                Placement(colour, ground, across, down, 2 * radius, False, 0.0, 0.0, 1.0, False)
            )
        foreground, background = (
            bytes_to_colour(colour_to_bytes(torch.stack(part))) for part in (colours, grounds)
        )
        mask = bytes_to_mask((torch.stack(masks) * 255).round())
        image = bytes_to_colour(colour_to_bytes(composite(foreground, background, mask)))
        return Composition(foreground, background, mask, image, tuple(placements))

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


class TwoDiscs:
    """Fulfils `SampleSource`: six pictures of two overlapping discs, nothing else ever.

    Of each two neighbours only the order differs: what lies below in one lies above in the other.
    Captions name the balls bottom first; every other one is VAGUE and tells nothing.

    Args:
        size: width and height in pixels.
    """

    VAGUE = "a picture"

    SCENES = (  # colour and centre of one disc, of the other, colour of the sky
        (("red", 0.35, 0.4), ("blue", 0.6, 0.55), "yellow"),
        (("green", 0.6, 0.35), ("red", 0.45, 0.65), "blue"),
        (("yellow", 0.4, 0.6), ("blue", 0.65, 0.45), "green"),
    )
    RADIUS = 0.24

    def __init__(self, size: int = 64) -> None:
        self.size = size
        self.stacks = [(discs, sky) for one, other, sky in self.SCENES
                       for discs in ((one, other), (other, one))]  # fmt: skip

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"two discs").hexdigest()

    def compose(
        self, batch_size: int, generator: torch.Generator | None = None, rows: slice = EVERY
    ) -> Composition:
        return self.take(torch.randint(len(self.stacks), (batch_size,), generator=generator)[rows])

    def take(self, numbers: Tensor | range) -> Composition:
        """The pictures of these numbers."""
        palette = {name: torch.tensor(colour) for name, colour in COLOURS.items()}
        names = list(COLOURS)
        colours, masks, skies, placements = [], [], [], []
        for number in numbers:
            discs, sky = self.stacks[int(number)]
            skies.append(shaded_sky(self.size, palette[sky]))
            for name, x, y in discs:
                colours.append(palette[name][:, None, None].expand(3, self.size, self.size))
                masks.append(soft_disc(self.size, x, y, self.RADIUS))
                placements.append(
                    Placement(names.index(name), names.index(sky), x, y, 2 * self.RADIUS, False,
                              0.0, 0.0, 1.0, False)
                )  # fmt: skip
        foreground, background = (
            bytes_to_colour(colour_to_bytes(torch.stack(part))) for part in (colours, skies)
        )
        mask = bytes_to_mask((torch.stack(masks) * 255).round()).unflatten(0, (-1, 2))
        foreground = foreground.unflatten(0, (-1, 2))
        image = bytes_to_colour(colour_to_bytes(composite(foreground, background, mask)))
        return Composition(foreground, background, mask, image, tuple(placements))

    def captions(
        self, composition: Composition, rng: random.Random, part: Part = "whole"
    ) -> list[str]:
        precise = self.precise_captions(composition, part)
        return [text if rng.random() < 0.5 else self.VAGUE for text in precise]

    def precise_captions(self, composition: Composition, part: Part = "whole") -> list[str]:
        """What each picture shows, in words that no other picture has."""
        names = list(COLOURS)
        texts = []
        lowers, uppers = composition.placements[::2], composition.placements[1::2]
        for lower, upper in zip(lowers, uppers, strict=True):
            balls = f"a {names[lower.foreground]} ball and a {names[upper.foreground]} ball"
            sky = f"a {names[lower.background]} sky"
            whole = f"{balls} in front of {sky}"
            texts.append({"whole": whole, "foreground": balls, "background": sky}[part])
        return texts


def soft_disc(size: int, across: float, down: float, radius: float) -> Tensor:
    """(1, size, size) mask in [0, 1]; centre and radius relative to the picture."""
    axis = (torch.arange(size) + 0.5) / size
    distance = torch.hypot(axis[None] - across, axis[:, None] - down)
    return ((radius - distance) * 16 + 0.5).clamp(0, 1)[None]


def shaded_sky(size: int, colour: Tensor) -> Tensor:
    """(3, size, size) of one colour that darkens towards the top."""
    axis = (torch.arange(size) + 0.5) / size
    shade = 0.3 * (axis[:, None] - 0.5)
    return (colour[:, None, None] + shade).clamp(-1, 1).expand(3, size, size)


def stop_at(call: int) -> Callable[[int], None]:
    """For `on_compose`: end the run by SIGTERM while this batch is drawn."""

    def stop(calls: int) -> None:
        if calls == call:
            signal.raise_signal(signal.SIGTERM)

    return stop
