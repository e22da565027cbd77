"""The things that a library can ask a model for by name, each before backgrounds of its own.

A thing is what a caption names, without its article: "red apple". The prompt names the style where
a name alone means another drawing (`world.usual_names`), so a fox in three styles is asked for
three times.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from text2layer.canonical import LONGEST
from text2layer.data.captions import with_article
from text2layer.data.composer import Composer
from text2layer.data.full_captions import described
from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.data.library import ForegroundRecord, Library
from text2layer.data.source import Composition, Part, Placement
from text2layer.data.world import pairings, usual_names
from text2layer.errors import DataError, InputError

WINDOWS = 3  # of a background, side by side, each of its full height
ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Thing:
    """One thing in one style.

    Attributes:
        name: without article.
        caption: with it.
        style: of its drawings.
        concept: head noun.
        phrase: how a prompt asks for it; the style is said where the name means another.
        drawings: indices into `Composer.foregrounds`.
    """

    name: str
    caption: str
    style: str
    concept: str
    phrase: str
    drawings: tuple[int, ...]


def name_of(caption: str) -> str:
    """What a caption names, without its article.

    Example:
        >>> name_of("An old violin")
        'old violin'
    """
    name = caption.strip().lower()
    article = next((word for word in ARTICLES if name.startswith(word)), "")
    return name.removeprefix(article)


def things_of(records: Sequence[ForegroundRecord]) -> list[Thing]:
    """Every pair of name and style once, in the order of the records."""
    usual = usual_names(records)
    styles = {record.id: record.style for record in records}
    found: dict[tuple[str, str], list[int]] = {}
    for index, record in enumerate(records):
        found.setdefault((name_of(record.caption), record.style), []).append(index)
    things = []
    for (name, style), drawings in found.items():
        record = records[drawings[0]]
        caption = record.caption.strip()
        means_this = styles[usual[record.caption]] == style
        phrase = caption if means_this else f"{with_article(style)} of {caption}"
        things.append(Thing(name, caption, style, record.concept, phrase, tuple(drawings)))
    return things


def open_things(
    data: str | Path,
    drawings: Mapping[str, float] | None,
    size: int,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Composer:
    """The drawings of a library's training split that a model learns its names from.

    Args:
        data: folder of the library.
        drawings: weights by id; those above 0 are taken. None takes all that can be named.
        size: pixels of the frame.
        device: where pictures are held.
        progress: show progress bars on stderr.

    Raises:
        DataError: it is no library, or has none of them.
    """
    library = Library(data)
    library.foregrounds = [
        record
        for record in library.foregrounds_of("train")
        if (drawings.get(record.id, 0) > 0 if drawings is not None else record.nameable)
    ]
    if not library.foregrounds:
        raise DataError(
            f"The training split of '{library.root}' has none of the drawings that were asked for."
        )
    return Composer(library, "train", size, device, shadow_probability=0, progress=progress)


class AskedThings(KnownSamples):
    """Prompts for things, each before as many backgrounds as it is asked for.

    Sample number n is thing n // seeds for the (n % seeds)-th time. Its background, its drawing and
    the seed of its picture are decided by `seed`, the thing and the number of the time alone, so
    that other things, asked for or not, do not change them. The background is one that training
    with `hold_out_pairings` never shows the concept before, where there is one.

    Args:
        composer: of all drawings that the model learnt; see `open_things`.
        seeds: how often each thing is asked for.
        limit: how many things are asked for, chosen by `seed`; 0 for all.
        seed: which backgrounds, and which things under a limit.

    Attributes:
        things: what is asked for.
        names: every name of the composer's drawings, asked for or not.
        owners: (G,) index into names of each drawing.

    Raises:
        InputError: a number is out of range, or the composer knows fewer than two names.
    """

    def __init__(self, composer: Composer, seeds: int = 3, limit: int = 0, seed: int = 0) -> None:
        if seeds < 1 or limit < 0:
            raise InputError(f"{seeds} pictures of {limit} things cannot be asked for.")
        every = things_of(composer.foregrounds)
        chosen = sorted(every, key=lambda thing: _digest(seed, thing))[: limit or None]
        self.things = [thing for thing in every if thing in chosen]
        self.names = list(dict.fromkeys(thing.name for thing in every))
        if len(self.names) < 2:
            raise InputError(
                f"Things are told apart by their names, and the drawings have one: {self.names[0]}."
            )
        super().__init__(composer, len(self.things) * seeds, seed)
        self.composer, self.seeds = composer, seeds
        place = {name: index for index, name in enumerate(self.names)}
        self.owners = torch.tensor([place[name_of(r.caption)] for r in composer.foregrounds])
        self._place = place

    def thing(self, number: int) -> Thing:
        """What sample `number` shows."""
        return self.things[number // self.seeds]

    def answer(self, numbers: Sequence[int]) -> Tensor:
        """(B,) index into names of the things of samples."""
        return torch.tensor([self._place[self.thing(number).name] for number in numbers])

    def picture_seed(self, number: int) -> int:
        """The seed that sample `number` is drawn from, below 2^32."""
        return int(self._hash(number)[:8], 16)

    def placement(self, number: int) -> Placement:
        """One of the thing's drawings in the canonical place, before the sample's background."""
        thing, rng = self.thing(number), random.Random(self._hash(number))
        backgrounds = self.composer.backgrounds
        grounds = pairings(thing.concept, backgrounds, held_out=True) or range(len(backgrounds))
        ground, window = rng.choice(grounds), rng.randrange(WINDOWS)
        return self._standing(thing.drawings[number % self.seeds % len(thing.drawings)], ground,
                              window / (WINDOWS - 1))  # fmt: skip

    def prompt(self, number: int) -> str:
        """What sample `number` is asked for with: "a fox in front of a forest at night"."""
        ground = self.composer.backgrounds[self.placement(number).background]
        return f"{self.thing(number).phrase} in front of {described(ground)}"

    def batch(self, numbers: Sequence[int]) -> KnownBatch:
        """Real drawings of the things of samples, and their prompts."""
        placements = [self.placement(number) for number in numbers]
        made = [self.composer.compose_at([placement]) for placement in placements]
        grounds = [self.composer.backgrounds[placement.background] for placement in placements]
        captions: dict[Part, list[str]] = {
            "whole": [self.prompt(number) for number in numbers],
            "foreground": [self.thing(number).phrase for number in numbers],
            "background": [described(ground) for ground in grounds],
        }
        return KnownBatch.of(made, numbers, captions)

    def gallery(self, batch_size: int) -> Iterator[Composition]:
        """Every drawing in the canonical place, all before the same background."""
        for start in range(0, len(self.composer.foregrounds), batch_size):
            last = min(start + batch_size, len(self.composer.foregrounds))
            yield self.composer.compose_at([self._standing(n, 0) for n in range(start, last)])

    def _standing(self, drawing: int, ground: int, across: float = 0.0) -> Placement:
        return self.composer.canonical(
            Placement(drawing, ground, 0.5, 0.5, LONGEST, False, across, 0.5, 1.0, False)
        )

    def _hash(self, number: int) -> str:
        return _digest(self.seed, self.thing(number), number % self.seeds)


def _digest(*parts: object) -> str:
    words = [f"{p.name}|{p.style}" if isinstance(p, Thing) else str(p) for p in parts]
    return hashlib.sha256("|".join(words).encode()).hexdigest()
