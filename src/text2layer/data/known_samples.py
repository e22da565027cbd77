"""Opens what a person names as data; samples with known layers in a fixed order, for scores.

Sample number i depends on the data, the split, the size, the seed and i alone, so neither the batch
size nor the number of processes changes a figure.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.data.shards import ShardComposer
from text2layer.data.source import Composition, Part
from text2layer.data.world import World
from text2layer.errors import InputError
from text2layer.parts import Parts, joined

MIX = 1_000_003  # keeps the seeds of neighbouring numbers apart

Report: TypeAlias = Callable[[Mapping[str, int], Iterable[str]], None]


def is_library(data: str | Path) -> bool:
    """Whether a folder is a picture library rather than a folder of shards."""
    return (Path(data) / "foregrounds.jsonl").is_file()


def open_samples(
    data: str | Path,
    split: str,
    size: int,
    device: str | torch.device = "cpu",
    *,
    style_weights: Mapping[str, float] | None = None,
    num_foregrounds: int = 1,
    world: World | None = None,
    progress: bool = False,
    report: Report | None = None,
) -> Composer | ShardComposer:
    """The samples of one split.

    Args:
        data: folder of a library or of shards.
        split: see `Composer`.
        size: pixels, width and height.
        device: where pictures are held.
        style_weights: shares of a library's styles; shards are taken as they are.
        num_foregrounds: objects of a picture that is composed from a library.
        world: how a library's pictures are composed; by default widely.
        progress: show progress bars on stderr.
        report: is told how many records were left out by reason, and the first few cases.

    Raises:
        InputError: nothing was named, or several foregrounds are wanted of shards.
        DataError: it is neither a library nor a folder of shards, or has no sample of that split.
    """
    if not str(data):
        raise InputError("Name the data: --data LIBRARY, or a folder of shards.")
    if is_library(data):
        library = Library(data)
        composer = Composer(
            library, split, size, device, style_weights=style_weights,
            num_foregrounds=num_foregrounds, progress=progress, world=world or World(),
        )  # fmt: skip
        if report is not None:
            report(library.skipped, library.messages)
        return composer
    if num_foregrounds > 1:
        raise InputError(
            f"Samples of {num_foregrounds} foregrounds are composed from a picture library; "
            f"'{data}' is none, and shards hold one foreground a sample."
        )
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    workers = max(4, (os.cpu_count() or 1) // beside)
    shards = ShardComposer(data, split, size, device, workers=workers, progress=progress)
    if report is not None:
        report(shards.skipped, shards.messages)
    return shards


@dataclass(frozen=True)
class KnownBatch(Parts):
    """Some of the samples: `Parts` in uint8.

    Attributes:
        numbers: (B,) which samples these are.
        captions: B texts each, by part: "whole", "foreground", "background".
    """

    image: Tensor = field()  # every sample has one
    numbers: Tensor
    captions: dict[Part, list[str]]

    @classmethod
    def of(
        cls,
        made: Sequence[Composition],
        numbers: Sequence[int],
        captions: dict[Part, list[str]],
    ) -> KnownBatch:
        """Composed batches, one after the other, rounded to 8 bits."""
        parts = joined(made).to_bytes()
        assert parts.image is not None  # of every composition
        return cls(
            parts.foreground, parts.background, parts.mask, parts.image,
            torch.tensor(list(numbers)), captions,
        )  # fmt: skip


class KnownSamples:
    """A number of samples of a picture library or of shards.

    Args:
        source: of one split and size. Shards give each sample at most once, in an order that the
            seed decides; a library composes as many as are asked for.
        count: how many samples.
        seed: which ones.

    Raises:
        InputError: fewer than one is asked for, or more than the shards hold; or the source
            composes several foregrounds.
    """

    def __init__(self, source: Composer | ShardComposer, count: int, seed: int = 0) -> None:
        if count < 1:
            raise InputError(f"At least one sample is needed, {count} were asked for.")
        if isinstance(source, Composer) and source.num_foregrounds > 1:
            raise InputError(
                "Scores are defined for one foreground per picture; this source composes "
                f"{source.num_foregrounds}."
            )
        self.source, self.count, self.seed = source, count, seed
        self._order: Tensor | None = None
        self._captions: dict[int, str] = {}  # of the whole, of samples seen so far
        if isinstance(source, ShardComposer):
            if count > len(source):
                raise InputError(
                    f"The shards hold {len(source)} samples of this split and {count} were asked "
                    "for; ask for fewer."
                )
            generator = torch.Generator().manual_seed(seed)
            self._order = torch.randperm(len(source), generator=generator)

    def __len__(self) -> int:
        return self.count

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) that names the data by content."""
        return self.source.fingerprint

    def batches(
        self, batch_size: int, process: int = 0, processes: int = 1
    ) -> Iterator[KnownBatch]:
        """Every sample once; with several processes each takes every `processes`-th batch."""
        for place, start in enumerate(range(0, self.count, batch_size)):
            if place % processes == process:
                yield self.batch(range(start, min(start + batch_size, self.count)))

    def batch(self, numbers: Sequence[int]) -> KnownBatch:
        """The samples of these numbers."""
        made = [self._compose(number) for number in numbers]
        parts: tuple[Part, ...] = ("whole", "foreground", "background")
        captions: dict[Part, list[str]] = {part: [] for part in parts}
        for number, composition in zip(numbers, made, strict=True):
            for part in parts:
                rng = random.Random(self.seed * MIX + number)
                captions[part] += self.source.captions(composition, rng, part)
            self._captions[number] = captions["whole"][-1]

        return KnownBatch.of(made, numbers, captions)

    def caption(self, number: int) -> str:
        """What the whole of a sample shows; it is composed unless it was, or an index says it."""
        if number not in self._captions and self._order is not None:
            assert isinstance(self.source, ShardComposer)
            self._captions[number] = self.source.caption(int(self._order[number]))
        elif number not in self._captions:
            self.batch([number])
        return self._captions[number]

    def _compose(self, number: int) -> Composition:
        if isinstance(self.source, ShardComposer):
            assert self._order is not None
            return self.source.take([int(self._order[number])])
        generator = torch.Generator().manual_seed(self.seed * MIX + number)
        return self.source.compose(1, generator)
