"""Shards: plain tars of layered samples, as the `webdataset` library reads them."""

import logging
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from text2layer.blend import composite_over, resize_colour, resize_colour_and_alpha
from text2layer.data.schema import (
    METADATA,
    Sample,
    check_members,
    decode_metadata,
    decode_sample,
    encode_sample,
)
from text2layer.data.shard_file import ShardSeries
from text2layer.data.shard_index import (
    DAMAGE,
    Places,
    hash_shards,
    index_shard,
    read_members,
    shard_paths,
)
from text2layer.data.source import EVERY, Composition, Part
from text2layer.errors import DataError, InputError, Skipped
from text2layer.tensors import bytes_to_colour, bytes_to_mask

MAX_LOST = 0.05  # share of samples that damage may take from a run before it stops

_log = logging.getLogger(__name__)


class ShardWriter:
    """Writes samples into numbered tars; a tar gets its name only when it is whole.

    The same samples give the same bytes: members carry no time and no owner. Use it as a context
    manager; when the block fails, the unfinished shard is dropped and the finished ones stay.

    Args:
        folder: where the shards go; made if it is missing.
        samples_per_shard: most samples in one shard.
        prefix: begin of the shards' names.
        lossless: store opaque parts without loss; False stores them as JPEG.
        finished: shards of an earlier run that this one goes on after.

    Raises:
        DataError: a shard of that name exists, a key was used twice, a sample breaks the schema.
    """

    def __init__(
        self,
        folder: str | Path,
        samples_per_shard: int = 1000,
        prefix: str = "shard",
        *,
        lossless: bool = True,
        finished: Sequence[Path] = (),
    ) -> None:
        if samples_per_shard < 1:
            raise DataError(f"samples_per_shard is {samples_per_shard}; use 1 or more.")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lossless = lossless
        self._keys: set[str] = set()
        self._series = ShardSeries(self.folder, prefix, samples_per_shard, finished)

    @property
    def paths(self) -> list[Path]:
        """Finished shards."""
        return self._series.paths

    @property
    def count(self) -> int:
        """Samples written."""
        return self._series.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._series.__exit__(kind, error, trace)

    def write(self, sample: Sample) -> None:
        """Append one sample."""
        members = encode_sample(sample, lossless=self.lossless)
        if sample.key in self._keys:
            raise DataError(f"The key '{sample.key}' was written before; keys must differ.")
        self._keys.add(sample.key)
        self._series.add(sample.key, members)

    def close(self) -> None:
        """Finish the shard that is being written, if any."""
        self._series.close()


class ShardReader:
    """Iterates the samples of shards; what cannot be read is counted, never fatal.

    Args:
        shards: a folder of tars, one tar, or several.
        split: keep one of "train", "val", "test"; None keeps all.
        shuffle_buffer: samples held back for shuffling; 0 keeps the order on disk.
        seed: of the shuffling.

    Attributes:
        skipped: how much was left out, by reason; filled while iterating.
        messages: one sentence for each; they name every sample that damage took.

    Raises:
        DataError: there is no shard.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        split: str | None = None,
        shuffle_buffer: int = 0,
        seed: int = 0,
    ) -> None:
        self.paths = shard_paths(shards)
        self.split, self.shuffle_buffer, self.seed = split, shuffle_buffer, seed
        self._skip = Skipped(every=DAMAGE)
        self.skipped, self.messages = self._skip.counts, self._skip.messages

    def __iter__(self) -> Iterator[Sample]:
        samples = self._samples()
        if self.shuffle_buffer <= 1:
            yield from samples
            return
        rng = random.Random(self.seed)
        buffer: list[Sample] = []
        for sample in samples:
            if len(buffer) < self.shuffle_buffer:
                buffer.append(sample)
                continue
            place = rng.randrange(len(buffer))
            buffer[place], sample = sample, buffer[place]
            yield sample
        rng.shuffle(buffer)
        yield from buffer

    def _samples(self) -> Iterator[Sample]:
        for path in self.paths:
            for key, places in index_shard(path, self._skip):
                try:
                    sample = decode_sample(key, read_members(path, places))
                except DataError as error:
                    self._skip("bad sample", f"{path.name}: {error}")
                    continue
                if self.split is None or sample.metadata.split == self.split:
                    yield sample


class ShardComposer:
    """Random access to the samples of shards; draws with replacement.

    A sample that cannot be read is counted once and named, on the log too (`logging`, level
    warning); its place is taken by the next one. Where more than `max_lost` of all are lost, the
    run stops: what is left may be another data set than was meant.

    Args:
        shards: a folder of tars, one tar, or several.
        split: "train", "val" or "test"; None takes all.
        size: frame as (width, height) in pixels, or one number for a square; samples of another
            size are resized, and stretched if their shape differs.
        device: where the batches go.
        workers: decoding threads.
        progress: show a progress bar on stderr while indexing.
        max_lost: share of samples that may be lost to damage, 0 to 1.

    Attributes:
        skipped: how much was left out, by reason; samples that opted out are among them.
        messages: one sentence for each; they name every sample that damage took.

    Raises:
        DataError: no shard, no sample of that split, or too many are lost; the latter also while
            samples are drawn.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        split: str | None = "train",
        size: int | tuple[int, int] = 256,
        device: str | torch.device = "cpu",
        *,
        workers: int = 4,
        progress: bool = True,
        max_lost: float = MAX_LOST,
    ) -> None:
        self.width, self.height = (size, size) if isinstance(size, int) else size
        self.device = torch.device(device)
        self.paths = shard_paths(shards)
        self._skip = Skipped(every=DAMAGE)
        self.skipped, self.messages = self._skip.counts, self._skip.messages
        self._pool = ThreadPoolExecutor(workers)
        self._ahead: tuple[list[int], list[Future[Sample]]] = [], []
        self._samples: list[tuple[Path, str, Places]] = []
        self._max_lost, self._total, self._lost = max_lost, 0, 0
        self._unreadable: set[int] = set()
        self._lock = Lock()
        whole = list[int]()  # samples of each whole shard
        damaged = list[tuple[int, int]]()  # samples of each damaged one, and of them those lost
        for path in tqdm(self.paths, desc="index shards", unit="shard", disable=not progress):
            total, lost, damage = self._total, self._lost, self._damaged_shards()
            self._index(path, split)
            if self._damaged_shards() == damage:
                whole.append(self._total - total)
            else:
                damaged.append((self._total - total, self._lost - lost))
        # how many more a damaged shard had is not known: as many as the others have
        usual = round(sum(whole) / max(len(whole), 1))
        unseen = sum(max(0 if lost else 1, usual - found) for found, lost in damaged)
        self._lost, self._total = self._lost + unseen, self._total + unseen
        try:
            self._check_lost()
        except DataError:
            for message in self.messages:
                _log.warning("%s", message)
            raise
        if not self._samples:
            raise DataError(f"No usable sample of split '{split}' in '{self.paths[0].parent}'.")

    def _index(self, path: Path, split: str | None) -> None:
        """Note where the samples of a shard lie, and which of them cannot be used."""
        for key, places in index_shard(path, self._skip):
            self._total += 1
            try:
                check_members(places)
                metadata = decode_metadata(read_members(path, places, only=METADATA))
            except DataError as error:
                self._lost += 1
                self._skip("bad sample", f"Sample '{key}' of '{path.name}': {error}.")
                continue
            if metadata.opt_out:
                self._skip("opted out", f"The owner of sample '{key}' has opted out.")
            elif split is None or metadata.split == split:
                self._samples.append((path, key, places))

    def _damaged_shards(self) -> int:
        return self.skipped["damaged shard"] + self.skipped["truncated shard"]

    def _check_lost(self) -> None:
        """DataError if damage has taken more than `max_lost` of all samples."""
        if self._lost > self._max_lost * self._total:
            raise DataError(
                f"{self._lost} of {self._total} samples in '{self.paths[0].parent}' are lost to "
                f"damage, more than {self._max_lost:.0%}; get the shards again, or write what is "
                f"whole to new ones: text2layer dataset merge."
            )

    def __len__(self) -> int:
        """Number of samples to draw from."""
        return len(self._samples)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the shards' content."""
        return hash_shards(self.paths)

    def compose(
        self, batch_size: int, generator: torch.Generator | None = None, rows: slice = EVERY
    ) -> Composition:
        """Draw a batch, of which `rows` are read; see `SampleSource.compose`."""
        if batch_size < 1:
            raise InputError(f"The batch size is {batch_size}; use 1 or more.")
        drawn = self._draw(batch_size, generator, rows)
        prepared, reading = self._ahead
        if drawn != prepared:
            reading = [self._pool.submit(self._read, index) for index in drawn]
        self._ahead = [], []
        return self._composition([sample.result() for sample in reading])

    def prepare(self, batch_size: int, generator: torch.Generator, rows: slice = EVERY) -> None:
        """Begin to read what `compose` will give for these arguments."""
        drawn = self._draw(batch_size, generator, rows)
        self._ahead = drawn, [self._pool.submit(self._read, index) for index in drawn]

    def _draw(self, batch_size: int, generator: torch.Generator | None, rows: slice) -> list[int]:
        return torch.randint(len(self._samples), (batch_size,), generator=generator)[rows].tolist()

    def take(self, indices: Sequence[int]) -> Composition:
        """The samples at these indices, 0 to `len` - 1, as a batch.

        Raises:
            DataError: one of them cannot be decoded; unlike a drawn one it is not replaced.
        """
        return self._composition(list(self._pool.map(self._read_exactly, indices)))

    def _composition(self, samples: Sequence[Sample]) -> Composition:
        texts = tuple({"whole": s.text} | dict(s.metadata.captions) for s in samples)
        return Composition(
            foreground=bytes_to_colour(self._batch([s.foreground for s in samples])),
            background=bytes_to_colour(self._batch([s.background for s in samples])),
            image=bytes_to_colour(self._batch([s.image for s in samples])),
            mask=bytes_to_mask(self._batch([s.mask[..., None] for s in samples])),
            texts=texts,
        )

    def captions(
        self, composition: Composition, rng: random.Random, part: Part = "whole"
    ) -> list[str]:
        """The stored captions; a layer without one of its own gets that of the whole."""
        return [texts.get(part) or texts["whole"] for texts in composition.texts]

    def _read(self, index: int) -> Sample:
        """The sample at `index`, or the next one that can be decoded."""
        for step in range(len(self._samples)):
            place = (index + step) % len(self._samples)
            path, key, places = self._samples[place]
            try:
                sample = decode_sample(key, read_members(path, places))
                return resized_sample(sample, self.width, self.height)
            except (DataError, OSError) as error:
                self._lose(place, f"'{path.name}': {error}")
        raise DataError(f"No sample of '{self.paths[0].parent}' can be decoded any more.")

    def _lose(self, place: int, message: str) -> None:
        """Count and name a sample that cannot be read, once however often it is drawn."""
        with self._lock:
            if place not in self._unreadable:
                self._unreadable.add(place)
                self._lost += 1
                self._skip("bad sample", message)
                _log.warning("%s Another sample takes its place.", message)
            self._check_lost()

    def _read_exactly(self, index: int) -> Sample:
        path, key, places = self._samples[index]
        try:
            return resized_sample(
                decode_sample(key, read_members(path, places)), self.width, self.height
            )
        except (DataError, OSError) as error:
            raise DataError(
                f"Sample '{key}' of '{path.name}' cannot be read ({error}); write the shards anew "
                "without it: text2layer dataset merge."
            ) from error

    def _batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        stacked = torch.from_numpy(np.stack(pictures)).to(self.device)
        return stacked.permute(0, 3, 1, 2).contiguous()


def resized_sample(sample: Sample, width: int, height: int) -> Sample:
    """A sample at another size; an image that is its layers' composite stays just that."""
    if sample.mask.shape == (height, width):
        return sample
    exact = composite_over(sample.background, sample.foreground, sample.mask)
    foreground, mask = resize_colour_and_alpha(sample.foreground, sample.mask, (width, height))
    background = resize_colour(sample.background, (width, height))
    if np.array_equal(exact, sample.image):
        image = composite_over(background, foreground, mask)
    else:
        image = resize_colour(sample.image, (width, height))
    return Sample(sample.key, foreground, mask, background, image, sample.text, sample.metadata)
