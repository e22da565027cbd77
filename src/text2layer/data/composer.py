"""Composes training pictures from a library in batches, on the device that trains.

Every picture is decoded once into 8-bit tensors. A batch is placed by affine grid sampling of
straight colour and alpha, from the mip level nearest to the wanted scale. The layers are rounded to
8 bits and the composite is computed from those: image == over(background, foreground, mask).
Several foregrounds of a picture are drawn independently and laid over one another, bottom first.
"""

import copy
import math
import random
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from text2layer.data.captions import (
    background_caption,
    caption,
    foregrounds_caption,
)
from text2layer.data.decoding import BackgroundStore, ForegroundStore
from text2layer.data.full_captions import full_caption
from text2layer.data.library import DRAWINGS, PAIRINGS, BackgroundRecord, ForegroundRecord, Library
from text2layer.data.placing import BACKGROUND_DRAWS, DRAWS, Placer
from text2layer.data.references import Twins, render_references
from text2layer.data.source import EVERY, Composition, Part, Placement
from text2layer.data.world import World, pairings, usual_names
from text2layer.errors import DataError, InputError

__all__ = ["Composer", "Composition", "Placement", "over_255"]

DEFAULT_ELEVATION = 14.0  # degrees; for objects whose camera is unknown
WIDE = World()
CHUNK = {"cpu": 16, "cuda": 128}  # samples rendered at once: bounds the float copies

# where a split comes from, for those who have none
ADVICE = {
    "val": "; `dataset library --hold-out 0.1` puts that share of your concepts there.",
    "test": "; give some of its records the split 'test' (docs/data-format.md).",
    DRAWINGS: "; mark some of its records as held_out_drawing (docs/data-format.md).",
}


def check_split(
    library: Library,
    split: str | None,
    foregrounds: Sequence[ForegroundRecord],
    backgrounds: Sequence[BackgroundRecord],
    styles: Sequence[str] | None = None,
) -> None:
    """DataError if there is no foreground, or no background, to compose a split of."""
    for kind, records in (("foreground", foregrounds), ("background", backgrounds)):
        if not records:
            raise DataError(
                f"No {kind} of split '{split}'"
                + (f" and styles {list(styles)}" if styles else "")
                + f" can be used from '{library.root}' ({library.summary()})"
                + ADVICE.get(split or "", ".")
            )


class Composer:
    """Draws and renders layered pictures from a library.

    Args:
        library: where the pictures come from; pictures that cannot be decoded are counted in
            `library.skipped`.
        split: "train", "val" or "test"; "drawings" and "pairings" are what a model of the training
            split has not seen of what it knows (see `data.library`); None takes all.
        size: frame as (width, height) in pixels, or one number for a square.
        device: where pictures are held and rendered.
        styles: keep only foregrounds of these styles.
        style_weights: relative share of each style (styles that are not named get 0); without it
            every foreground is equally likely.
        shadow_probability: share of rendered objects that get a contact shadow.
        num_foregrounds: L, objects of a picture. They are smaller by the square root of L, so that
            the upper ones leave something of the lower ones to be seen.
        max_decoded_size: longest side in pixels that cut-outs are kept at, a power of two; None
            chooses the smallest that serves `size`, at most 256.
        workers: decoding threads.
        progress: show progress bars on stderr.
        world: how pictures are composed; by default widely.

    Raises:
        DataError: nothing remains to draw from.
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        library: Library,
        split: str | None = "train",
        size: int | tuple[int, int] = 256,
        device: str | torch.device = "cpu",
        *,
        styles: Sequence[str] | None = None,
        style_weights: Mapping[str, float] | None = None,
        shadow_probability: float = 0.3,
        num_foregrounds: int = 1,
        max_decoded_size: int | None = None,
        workers: int = 4,
        progress: bool = True,
        world: World = WIDE,
    ) -> None:
        self.width, self.height = (size, size) if isinstance(size, int) else size
        if min(self.height, self.width) < 8:
            raise InputError(f"The frame {self.width}x{self.height} is too small; use 8 or more.")
        if not 0 <= shadow_probability <= 1:
            raise InputError(f"shadow_probability is {shadow_probability}; use 0 to 1.")
        if num_foregrounds < 1:
            raise InputError(f"num_foregrounds is {num_foregrounds}; use 1 or more.")
        side = max_decoded_size or _decoded_size(max(self.height, self.width))
        if side < 16 or side & (side - 1):
            raise InputError(f"max_decoded_size is {side}; use a power of two of 16 or more.")
        self.library, self.split = library, split
        self.device = torch.device(device)
        self.shadow_probability = shadow_probability
        self.num_foregrounds = num_foregrounds
        wanted = library.foregrounds_of(split)
        if styles is not None:
            wanted = [record for record in wanted if record.style in styles]
        self._foreground_store = ForegroundStore(
            library, wanted, side, self.device, workers, progress
        )
        self._background_store = BackgroundStore(
            library, library.backgrounds_of(split), side * 3 // 2, self.device, workers, progress
        )
        self.foregrounds: list[ForegroundRecord] = self._foreground_store.records
        self.backgrounds: list[BackgroundRecord] = self._background_store.records
        check_split(library, split, self.foregrounds, self.backgrounds, styles)
        self._style_shares = _shares(self.foregrounds, style_weights)
        self._enter(world)

    def _enter(self, world: World) -> None:
        shares = self._style_shares
        if self.split != DRAWINGS:  # those are in no list of what is learnt
            shares = world.shares(self.foregrounds, shares)
        drawn = [r for r, share in zip(self.foregrounds, shares, strict=True) if share]
        self.world, self._usual = world, usual_names(drawn)
        self._placer = Placer(
            self.foregrounds, self._foreground_store.sizes, self.backgrounds, shares, world,
            self.shadow_probability, self.num_foregrounds, held_out=self.split == PAIRINGS,
        )  # fmt: skip

    def in_world(self, world: World) -> "Composer":
        """The same decoded pictures in another world."""
        other = copy.copy(self)
        other._enter(world)
        return other

    def at_size(self, size: int | tuple[int, int]) -> "Composer":
        """The same decoded pictures on frames of another size."""
        other = copy.copy(self)
        other.width, other.height = (size, size) if isinstance(size, int) else size
        return other

    def references(
        self, composition: Composition, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Another drawing of each sample's object; see `data.references`.

        Raises:
            InputError: pictures have several objects.
        """
        if self.num_foregrounds > 1:
            raise InputError("References are of pictures of one object; this source has several.")
        return render_references(self, composition.placements, generators)

    @cached_property
    def twins(self) -> Twins:
        """Which drawings show the same thing."""
        return Twins.among(self.foregrounds)

    def held_out_pairings(self) -> "Composer | None":
        """The same decoded pictures in the pairings that training leaves out; None: no pairing."""
        concepts = {record.concept for record in self.foregrounds}
        if not any(pairings(concept, self.backgrounds, held_out=True) for concept in concepts):
            return None
        other = copy.copy(self)
        other._placer = self._placer.held_out_pairings()
        return other

    @property
    def fingerprint(self) -> str:
        """Names the data by content: the library's hash."""
        return self.library.fingerprint

    def compose(
        self, batch_size: int, generator: torch.Generator | None = None, rows: slice = EVERY
    ) -> Composition:
        """Draw a batch, of which `rows` are rendered; see `SampleSource.compose`."""
        return self.compose_at(self.draw(batch_size, generator, rows))

    def captions(
        self, composition: Composition, rng: random.Random, part: Part = "whole"
    ) -> list[str]:
        """One fresh caption for each sample of a batch from this composer.

        Of the whole picture, of its foregrounds (all of them, bottom first) or its background.
        """
        texts = []
        placements = composition.placements
        for start in range(0, len(placements), self.num_foregrounds):
            stack = placements[start : start + self.num_foregrounds]
            foregrounds = [self.foregrounds[placement.foreground] for placement in stack]
            background = self.backgrounds[stack[0].background]
            if self.world.full_captions:
                texts.append(full_caption(stack, foregrounds, background, self._usual, rng, part))
            elif part == "foreground":
                texts.append(foregrounds_caption(foregrounds, rng))
            elif part == "background":
                texts.append(background_caption(background, rng))
            else:
                texts.append(caption(stack[0], foregrounds[0], background, rng, foregrounds[1:]))
        return texts

    def draw(
        self, batch_size: int, generator: torch.Generator | None = None, rows: slice = EVERY
    ) -> list[Placement]:
        """Draw placements without rendering them; see `Composition.placements` for their order."""
        if batch_size < 1:
            raise InputError(f"The batch size is {batch_size}; use 1 or more.")
        if generator is not None and generator.device.type != "cpu":
            raise InputError("The composer draws on the CPU; give a generator made for the CPU.")
        shape = (batch_size, self.num_foregrounds, DRAWS)
        draws = torch.rand(shape, generator=generator, dtype=torch.float64)
        draws[..., BACKGROUND_DRAWS] = draws[:, :1, BACKGROUND_DRAWS]
        frame = self.width, self.height
        return [self._placer.place(row, frame) for row in draws[rows].flatten(0, 1).tolist()]

    def compose_at(self, placements: Sequence[Placement]) -> Composition:
        """Render given placements, in bounded chunks.

        Raises:
            InputError: their number is no multiple of `num_foregrounds`.
        """
        layers, shape = self.num_foregrounds, (self.height, self.width)
        count, rest = divmod(len(placements), layers)
        if rest:
            raise InputError(
                f"{len(placements)} placements do not make pictures of {layers} foregrounds."
            )
        foreground = torch.empty(count, layers, 3, *shape, device=self.device)
        background = torch.empty(count, 3, *shape, device=self.device)
        image = torch.empty(count, 3, *shape, device=self.device)
        mask = torch.empty(count, layers, 1, *shape, device=self.device)
        step = CHUNK.get(self.device.type, 32)
        for start in range(0, count, step):
            part = slice(start, start + step)
            stacks = placements[start * layers : (start + step) * layers]
            self._render(stacks, foreground[part], background[part], image[part], mask[part])
        if layers == 1:
            foreground, mask = foreground[:, 0], mask[:, 0]
        return Composition(foreground, background, mask, image, tuple(placements))

    def box(self, placement: Placement) -> tuple[float, float, float, float]:
        """(left, top, width, height) of the object, relative to the frame."""
        return self._placer.box(placement, (self.width, self.height))

    def canonical(self, placement: Placement) -> Placement:
        """The object of a placement in the canonical place."""
        return self._placer.canonical(placement, (self.width, self.height))

    def _render(
        self,
        placements: Sequence[Placement],
        foreground: Tensor,
        background: Tensor,
        image: Tensor,
        mask: Tensor,
    ) -> None:
        """Fill (n, L, 3, H, W), (n, 3, H, W) twice and (n, L, 1, H, W) from L n placements."""
        layers = self.num_foregrounds
        boxes = [self.box(placement) for placement in placements]
        objects = self._foreground_store.sample(
            [placement.foreground for placement in placements],
            boxes,
            [placement.flipped for placement in placements],
            (self.width, self.height),
        )
        behind = self._background_store.sample(
            [placement.background for placement in placements[::layers]],
            [(place.crop_x, place.crop_y, place.crop_scale) for place in placements[::layers]],
            [placement.background_flipped for placement in placements[::layers]],
            (self.width, self.height),
        )
        for layer in range(layers):
            self._paint_shadows(behind, placements[layer::layers], boxes[layer::layers])
        objects = objects.round_().unflatten(0, (-1, layers))
        behind.round_()
        colour, alpha = objects[:, :, :3], objects[:, :, 3:]
        composite = behind
        for layer in range(layers):
            composite = over_255(composite, colour[:, layer], alpha[:, layer])
        torch.sub(colour.div_(127.5), 1.0, out=foreground)
        torch.sub(behind.div_(127.5), 1.0, out=background)
        torch.sub(composite.div_(127.5), 1.0, out=image)
        torch.div(alpha, 255.0, out=mask)

    def _paint_shadows(
        self,
        background: Tensor,
        placements: Sequence[Placement],
        boxes: Sequence[tuple[float, float, float, float]],
    ) -> None:
        """Darken the background under objects by a soft ellipse where they touch the ground."""
        shaded = [index for index, place in enumerate(placements) if place.shadow > 0]
        if not shaded:
            return
        ellipses = []
        for index in shaded:
            left, top, width, height = boxes[index]
            view = self.foregrounds[placements[index].foreground].view or {}
            tilt = math.sin(math.radians(min(max(view.get("elevation", DEFAULT_ELEVATION), 5), 45)))
            radius_x = 0.5 * width
            radius_y = min(tilt * radius_x * self.width / self.height, 0.3 * height)
            ellipses.append((left + width / 2, top + height - 0.8 * radius_y, 1.1 * radius_x,
                             1.35 * radius_y, placements[index].shadow))  # fmt: skip
        table = torch.tensor(ellipses, device=self.device)[:, :, None]
        middle_x, middle_y, extent_x, extent_y, strength = table.unbind(1)
        columns = (torch.arange(self.width, device=self.device) + 0.5) / self.width
        rows = (torch.arange(self.height, device=self.device) + 0.5) / self.height
        across = ((columns - middle_x) / extent_x).square()[:, None, None, :]
        down = ((rows - middle_y) / extent_y).square()[:, None, :, None]
        light = 1 - strength[:, :, None, None] * (1 - across - down).clamp_(min=0)
        chosen = torch.tensor(shaded, device=self.device)
        background[chosen] = background[chosen] * light


def over_255(background: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    """Straight "over" on whole numbers 0-255 held as float32: (a F + (255 - a) B + 127) // 255.

    Every product is below 2^24 and a quotient that is not whole lies 1/255 or more off the next
    whole number, so float32 gives the integer formula of `blend.composite_over` exactly.
    """
    result = torch.addcmul(background * 255.0 + 127.0, alpha, colour - background)
    return result.div_(255.0).floor_()


def _decoded_size(frame: int) -> int:
    return min(max(1 << (frame - 1).bit_length(), 32), 256)


def _shares(
    records: Sequence[ForegroundRecord], weights: Mapping[str, float] | None
) -> list[float]:
    """How often each record is drawn; a style's weight is divided among its records."""
    if weights is None:
        return [1.0] * len(records)
    counts: dict[str, int] = {}
    for record in records:
        counts[record.style] = counts.get(record.style, 0) + 1
    shares = [max(weights.get(record.style, 0.0), 0.0) / counts[record.style] for record in records]
    if sum(shares) <= 0:
        raise InputError(f"style_weights {dict(weights)} leave no style of {sorted(counts)}.")
    return shares
