"""Shards: plain tars of layered samples, as the `webdataset` library reads them."""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from text2layer.blend import composite_over, resize_colour, resize_colour_and_alpha
from text2layer.data.index_file import ShardIndex
from text2layer.data.indexing import open_index, scanned_index
from text2layer.data.places import Place, on_this_machine
from text2layer.data.schema import Sample, decode_sample, encode_sample
from text2layer.data.shard_file import ShardSeries
from text2layer.data.shard_index import (
    DAMAGE,
    index_shard,
    read_members,
    shard_paths,
    shard_places,
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

    With an index (`dataset index`) pictures of other splits are not decoded. One that does not fit
    the shards is set aside and counted.

    Args:
        shards: a folder of tars, one tar, or several, also at an address; or an index.
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
        self.split, self.shuffle_buffer, self.seed = split, shuffle_buffer, seed
        self._skip = Skipped(every=DAMAGE)
        self.skipped, self.messages = self._skip.counts, self._skip.messages
        self._index: ShardIndex | None = None
        try:
            self._index = open_index(shards)
        except DataError as error:
            if not isinstance(shards, str | Path) or not Path(shards).is_dir():
                raise  # the index itself was named
            self._skip("index set aside", str(error))
        self.paths: list[Place] = shard_places(shards) if self._index is None else [
            self._index.path(shard) for shard in range(self._index.shards)
        ]  # fmt: skip

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
        if self._index is not None:
            yield from self._indexed_samples(self._index)
            return
        for place in self.paths:
            with on_this_machine(place) as path:
                for key, places in index_shard(path, self._skip):
                    try:
                        sample = decode_sample(key, read_members(path, places))
                    except DataError as error:
                        self._skip("bad sample", f"{path.name}: {error}")
                        continue
                    if self.split is None or sample.metadata.split == self.split:
                        yield sample

    def _indexed_samples(self, index: ShardIndex) -> Iterator[Sample]:
        for shard in range(index.shards):
            for reason, message in index.left_out(shard):
                if reason in DAMAGE:
                    self._skip(reason, message)
            for number in index.of_split(shard, self.split):
                try:
                    yield decode_sample(index.key(number), index.read(number)[1])
                except (DataError, OSError) as error:
                    self._skip("bad sample", f"{index.path(shard).name}: {error}")


class ShardComposer:
    """Random access to the samples of shards; draws with replacement.

    A sample that cannot be read is counted once and named, on the log too (`logging`, level
    warning); its place is taken by the next one. Where more than `max_lost` of all are lost, the
    run stops: what is left may be another data set than was meant.

    With an index (`dataset index`) it is ready at once and all processes share the index's pages;
    else every process reads the headers of all shards first.

    Args:
        shards: a folder of tars, one tar, or several; or an index.
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
        DataError: no shard, no sample of that split, an index that does not fit, or too many are
            lost; the latter also while samples are drawn.
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
        self._index = index = open_index(shards) or scanned_index(
            shard_paths(shards), progress=progress
        )
        self._skip = Skipped(Counter(index.counts), list(index.messages), every=DAMAGE)
        self.skipped, self.messages = self._skip.counts, self._skip.messages
        self._pool = ThreadPoolExecutor(workers)
        self._ahead: tuple[list[int], list[Future[Sample]]] = [], []
        self._order = index.order(split)
        self._max_lost = max_lost
        self._unreadable: set[int] = set()
        self._lock = Lock()
        # how many more a damaged shard had is not known: as many as the others have
        damaged = index.damaged.astype(bool)
        found, lost = index.found.astype(int), index.lost.astype(int)
        usual = round(found[~damaged].sum() / max((~damaged).sum(), 1))
        unseen = np.maximum(np.where(lost > 0, 0, 1), usual - found)[damaged].sum()
        self._lost, self._total = int(lost.sum() + unseen), int(found.sum() + unseen)
        self._where = index.path(0).parent
        try:
            self._check_lost()
        except DataError:
            for message in self.messages:
                _log.warning("%s", message)
            raise
        if not len(self._order):
            raise DataError(f"No usable sample of split '{split}' in '{self._where}'.")

    @property
    def paths(self) -> list[Path]:
        """The shards in order."""
        return [self._index.path(shard) for shard in range(self._index.shards)]

    def _check_lost(self) -> None:
        """DataError if damage has taken more than `max_lost` of all samples."""
        if self._lost > self._max_lost * self._total:
            raise DataError(
                f"{self._lost} of {self._total} samples in '{self._where}' are lost to "
                f"damage, more than {self._max_lost:.0%}; get the shards again, or write what is "
                f"whole to new ones: text2layer dataset merge."
            )

    def __len__(self) -> int:
        """Number of samples to draw from."""
        return len(self._order)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the shards' content; an index has it."""
        return self._index.fingerprint

    def caption(self, index: int) -> str:
        """The caption of the sample at this index, 0 to `len` - 1; no picture is decoded."""
        number = int(self._order[index])
        return self._index.caption(number) or self.take([index]).texts[0]["whole"]

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
        return torch.randint(len(self._order), (batch_size,), generator=generator)[rows].tolist()

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
        for step in range(len(self._order)):
            place = (index + step) % len(self._order)
            number = int(self._order[place])
            try:
                return self._decoded(number)
            except (DataError, OSError) as error:
                self._lose(place, f"'{self._index.place(number)[0].name}': {error}")
        raise DataError(f"No sample of '{self._where}' can be decoded any more.")

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
        number = int(self._order[index])
        try:
            return self._decoded(number)
        except (DataError, OSError) as error:
            path, _ = self._index.place(number)
            raise DataError(
                f"Sample '{self._index.key(number)}' of '{path.name}' cannot be read ({error}); "
                "write the shards anew without it: text2layer dataset merge."
            ) from error

    def _decoded(self, number: int) -> Sample:
        """A sample by its number in the index, at the size of the frame."""
        _, members = self._index.read(number)
        sample = decode_sample(self._index.key(number), members)
        return resized_sample(sample, self.width, self.height)

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
