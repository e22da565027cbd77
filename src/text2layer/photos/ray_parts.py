"""A Ray cluster with GPUs: decode and encode on CPUs, the networks on GPUs, the driver commits.

A Ray Data pipeline. An actor of the first kind takes the number of a chunk and gives its photos,
decoded, part by part; one with a GPU leads each part through the networks; one of the third kind
gives finished samples. The driver writes shard and journal when it has all parts of a chunk. What
is lost with a machine Ray makes again from the number of its chunk, and a part that comes twice is
counted once. Pictures travel through Ray's object store, of which Ray Data lets a pipeline fill
half: if the driver does not keep up, encode waits, then the networks, then decode.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from text2layer import errors
from text2layer.errors import Text2LayerError
from text2layer.photos.chunk import ChunkResult, Entry, Finished, commit_chunk, finish
from text2layer.photos.folder import BuildFolder
from text2layer.photos.guard import Guard
from text2layer.photos.index import PhotoIndex
from text2layer.photos.parts import DECODE, ENCODE, NETWORKS, Part, Provenance, parts_of
from text2layer.photos.photo import WORKER, Photo, Rejection
from text2layer.photos.pool import Results
from text2layer.photos.worker import WorkerSetup, check_hashes

IN_FLIGHT = 2  # blocks of an actor: one at work, the next at hand
NETWORK_THREADS = 2  # of what networks do on the CPU


@dataclass(frozen=True)
class Actors:
    """How a cluster is divided among kinds of actors.

    Attributes:
        networks: actors with networks, at first.
        most_networks: at most; None sets no bound.
        gpus: of one of them.
        network_cores: of one of them.
        cores: of one that decodes or encodes; Ray makes as many as are needed and find room.
    """

    networks: int
    most_networks: int | None
    gpus: float
    network_cores: float
    cores: float


class PartActor:
    """Leads parts through the stages of one kind of worker.

    Args:
        kind: of the worker.
        setup: of the build.
    """

    def __init__(self, kind: str, setup: WorkerSetup) -> None:
        self._kind, self._setup = kind, setup
        self._guard = Guard(setup)
        self._provenance: Provenance | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """{"part": parts, pickled} -> the same, one kind of work further."""
        return {"part": [pickle.dumps(self.done(pickle.loads(data))) for data in batch["part"]]}

    def done(self, part: Part) -> Part:
        """The part after the stages of this worker, or an error that ends the build."""
        if part.error is not None:
            return part
        try:
            if self._kind == NETWORKS:
                self._provenance = self._provenance or self._guard.provenance()
                part = replace(part, provenance=self._provenance)
            return replace(part, photos=self._looked_at(part))
        except Exception as error:
            return Part(part.chunk, error=said_of(error, part.chunk))

    def _looked_at(self, part: Part) -> list[Photo] | list[Finished]:
        asked = [photo for photo in part.photos if not photo.rejected or self._kind == DECODE]
        answers = self._guard.part(self._kind, asked, part.provenance)
        photos = []
        for photo in part.photos:
            answer: Any = answers.get(photo.ref.key, photo)
            if isinstance(answer, Rejection):
                answer = Photo(photo.ref, rejected=answer)
            if self._kind == ENCODE and isinstance(answer, Photo):
                answer = finish(answer, {}, {}, self._setup.settings)  # a rejected one
            photos.append(answer)
        return photos


class DecodeActor(PartActor):
    """Begins chunks by number."""

    def __init__(self, setup: WorkerSetup) -> None:
        super().__init__(DECODE, setup)
        self._folder = BuildFolder(setup.out)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:  # type: ignore[override]
        """{"id": numbers of chunks} -> {"part": a part, pickled}, one after the other."""
        for number in batch["id"]:
            for part in self._parts(int(number)):
                yield {"part": [pickle.dumps(self.done(part))]}

    def _parts(self, number: int) -> Iterator[Part]:
        try:
            parts = parts_of(read_entries(self._folder, self._setup, number))
            aside = self._folder.read_aside(number)
        except Exception as error:
            yield Part(number, error=said_of(error, number))
            return
        for place, photos in enumerate(parts):
            for photo in photos:
                if photo.ref.key in aside:
                    photo.reject(WORKER, aside[photo.ref.key])
            yield Part(number, place, len(parts), photos)


def run_parts(setup: WorkerSetup, chunks: Any, actors: Actors) -> Results:
    """Do the chunks of a Ray Data set on the cluster at hand; results come as they are ready.

    Args:
        setup: of the build.
        chunks: a row {"id": number} for each.
        actors: how the cluster is divided.

    Raises:
        Text2LayerError: what an actor or the driver met, such as a full disk.
    """
    from ray import data

    def pool(first: int, most: int | None) -> Any:
        return data.ActorPoolStrategy(
            min_size=1, initial_size=first, max_size=most, max_tasks_in_flight_per_actor=IN_FLIGHT
        )

    context = data.DataContext.get_current()
    block_size, context.target_max_block_size = context.target_max_block_size, 1  # a part a block
    without = replace(setup, threads=1, device="cpu")
    cpu = {"batch_size": 1, "num_cpus": actors.cores, "compute": pool(1, None)}
    try:
        rows = (
            chunks.map_batches(DecodeActor, fn_constructor_args=(without,), **cpu)
            .map_batches(
                PartActor,
                fn_constructor_args=(NETWORKS, replace(setup, threads=NETWORK_THREADS)),
                batch_size=1,
                num_cpus=actors.network_cores,
                num_gpus=actors.gpus,
                compute=pool(actors.networks, actors.most_networks),
            )
            .map_batches(PartActor, fn_constructor_args=(ENCODE, without), **cpu)
        )
        yield from commit_parts((pickle.loads(row["part"]) for row in rows.iter_rows()), setup)
    finally:
        context.target_max_block_size = block_size


def commit_parts(parts: Iterator[Part], setup: WorkerSetup) -> Iterator[ChunkResult]:
    """Write shard and journal of each chunk of which all parts have come, in any order.

    Raises:
        Text2LayerError: an error that came instead of a part; what prevents the writing; models of
            a machine differ from those of another.
    """
    folder = BuildFolder(setup.out)
    waiting: dict[int, dict[int, Part]] = {}
    committed: set[int] = set()
    for part in parts:
        if part.error is not None:
            raise error_of(part.error)
        if part.chunk in committed:  # a machine was lost after it had done this one
            continue
        hashes = part.provenance.hashes
        check_hashes(hashes, setup)
        setup = replace(setup, model_hashes=hashes)
        there = waiting.setdefault(part.chunk, {})
        there[part.number] = part
        _remember_aside(folder, part)
        if len(there) == part.count:
            entries = read_entries(folder, setup, part.chunk)
            finished = (photo for place in sorted(there) for photo in there[place].photos)
            result = commit_chunk(part.chunk, entries, finished, hashes, folder, setup.source)
            yield replace(result, devices=part.provenance.devices)
            folder.forget_aside(part.chunk)
            committed.add(part.chunk)
            del waiting[part.chunk]


def _remember_aside(folder: BuildFolder, part: Part) -> None:
    """Keep what was set aside in a chunk in work, so that no later run tries it."""
    lines: Sequence[dict[str, Any]] = [photo.line for photo in part.photos]
    aside = {line["key"]: line["reason"] for line in lines if line.get("stage") == WORKER}
    if aside:
        folder.write_aside(part.chunk, folder.read_aside(part.chunk) | aside)


def read_entries(folder: BuildFolder, setup: WorkerSetup, number: int) -> list[Entry]:
    """The photos of a chunk, from the index of the build."""
    with closing(PhotoIndex(folder.index_here())) as index:
        index.chunks(setup.settings.photos_per_shard)
        return index.chunk(number)


def error_of(said: Sequence[str]) -> Text2LayerError:
    """The error that `said_of` gave name and text of."""
    name, text = said
    error: Text2LayerError = getattr(errors, name)(text)
    return error


def said_of(error: Exception, chunk: int) -> tuple[str, str]:
    """Name and text of the Text2LayerError that stands for an error; Ray would wrap it."""
    if isinstance(error, Text2LayerError):
        return type(error).__name__, str(error)
    said = f"Chunk {chunk} failed on Ray: {type(error).__name__}: {error}"
    return "DataError", " ".join(said.split())
