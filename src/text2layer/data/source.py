"""What trainers draw layered pictures from: one interface for the library and for shards."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from text2layer.parts import Parts

Part = Literal["whole", "foreground", "background"]
EVERY = slice(None)  # rows of a batch


@dataclass(frozen=True)
class Placement:
    """An object, its place, and what is behind it. Coordinates are relative: any frame renders it.

    Attributes:
        foreground: index into `Composer.foregrounds`.
        background: index into `Composer.backgrounds`.
        centre_x: horizontal centre of the object / frame width.
        centre_y: vertical centre of the object / frame height.
        scale: longest side of the object / shorter side of the frame.
        flipped: the object is mirrored left to right.
        crop_x: left edge of the background window within its free room, 0 to 1.
        crop_y: top edge of the background window within its free room, 0 to 1.
        crop_scale: size of the window / largest window of the frame's shape.
        background_flipped: the background is mirrored left to right.
        shadow: darkness of the contact shadow in the background, 0 (none) to 1.
        canonical: the object stands in the canonical place, of which captions say nothing.
    """

    foreground: int
    background: int
    centre_x: float
    centre_y: float
    scale: float
    flipped: bool
    crop_x: float
    crop_y: float
    crop_scale: float
    background_flipped: bool
    shadow: float = 0.0
    canonical: bool = False


@dataclass(frozen=True)
class Composition(Parts):
    """A batch of layered pictures that a source gives: `Parts` in float32, and what they show.

    Attributes:
        image: from a library it is the 8-bit composite of the 8-bit layers, from shards of photos
            it is the photo.
        placements: what each sample shows (empty when the batch was read from shards): B of them,
            or L B, the L of one sample next to one another with the same background.
        texts: stored captions by part (only when the batch was read from shards).
    """

    image: Tensor = field()  # every sample has one
    placements: tuple[Placement, ...] = ()
    texts: tuple[Mapping[str, str], ...] = ()

    def row(self, index: int) -> "Composition":
        """One sample as a batch of its own."""
        one = slice(index, index + 1)
        layers = len(self.placements) // len(self)
        return Composition(
            self.foreground[one],
            self.background[one],
            self.mask[one],
            self.image[one],
            self.placements[index * layers : (index + 1) * layers],
            self.texts[one],
        )


class SampleSource(Protocol):
    """Anything a trainer can draw batches from: `Composer` and `ShardComposer`."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) that names the data by content."""
        ...

    def compose(
        self, batch_size: int, generator: torch.Generator | None = None, rows: slice = EVERY
    ) -> Composition:
        """Draw a batch; the same CPU generator state gives the same batch.

        Only `rows` of it are read or rendered and returned; the generator moves as for all.
        """
        ...

    def captions(
        self, composition: Composition, rng: random.Random, part: Part = "whole"
    ) -> list[str]:
        """One caption for each sample of the batch: of the whole picture or of one layer."""
        ...


@runtime_checkable
class GivesReferences(Protocol):
    """A source that has other drawings of what its samples show."""

    def references(
        self, composition: Composition, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Another drawing of each sample's object, in the canonical place.

        Of B samples foregrounds (B, 3, H, W) in [-1, 1] and masks (B, 1, H, W) in [0, 1].
        """
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A source that can read a batch while a GPU is busy with the one before: shards."""

    def prepare(self, batch_size: int, generator: torch.Generator, rows: slice = EVERY) -> None:
        """Begin to read what `compose` will give for these arguments."""
        ...
