"""One chunk of a build: photos in, a shard and a journal out.

The journal's rename commits a chunk: it is written after the shard. A chunk that was cut off before
that is done again and gives the same shard, whoever does it: this process, one of a pool, or an
actor on another machine.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from typing import Any

from text2layer import __version__
from text2layer.data.places import Place, listed, place_of
from text2layer.data.schema import Sample, SampleMetadata, encode_sample
from text2layer.data.shard_file import ShardFile, writing_shard
from text2layer.data.statistics import measure_mask
from text2layer.errors import DataError, InputError
from text2layer.photos.examples import Examples
from text2layer.photos.folder import BuildFolder
from text2layer.photos.photo import WORKER, Photo, PhotoRef, Rejection, Stage, through_stages
from text2layer.photos.settings import BuildSettings

Entry = tuple[PhotoRef, Rejection | None]  # a photo, and why the index leaves it out
StagesFactory = Callable[[BuildSettings, int], Sequence[Stage]]
Looking = Callable[[Sequence[str]], AbstractContextManager[Any]]

DEFAULT_STAGES = "text2layer.photos.stages:make_stages"
FORMER_STAGES = "text2layer.data.build.stages:make_stages"  # what older records call the same
BATCH = 8  # photos that go through the stages together
NO_CAPTION = (
    "a photo"  # stands for a caption where the settings allow none: the schema asks for one
)
# of a journal's line, and of one about a photo that was left out
OF_EVERY_LINE = {"key", "kept", "caption", "license", "source", "scores", "seconds"}
OF_REJECTED = {"stage", "reason", "detail"}
WRITE = "write"  # named as the stage of photos that the schema cannot hold


@dataclass(frozen=True)
class ChunkResult:
    """What became of a chunk.

    Attributes:
        number: of the chunk.
        photos: looked at.
        kept: written to the shard.
        reasons: how many were left out, by (stage, reason).
        model_hashes: SHA-256 of the models that took part, by role.
        devices: where each network ran; see `placement.placements`.
    """

    number: int
    photos: int
    kept: int
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    model_hashes: dict[str, str] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A photo that is through all stages, or was rejected.

    Attributes:
        key: of the photo.
        line: of the journal.
        members: of its sample, by suffix; None if it was rejected.
    """

    key: str
    line: dict[str, Any]
    members: dict[str, bytes] | None = None


def load_stages(name: str, settings: BuildSettings, threads: int) -> list[Stage]:
    """The stages that `module:function` makes, called with the settings and a number of threads.

    Raises:
        InputError: there is no such function, or it cannot be called so.
    """
    module, colon, function = name.partition(":")
    try:
        if not colon:
            raise ImportError("it has no colon")
        factory: StagesFactory = getattr(import_module(module), function)
        signature(factory).bind(settings, threads)
    except Exception as error:  # what a module of another does when it is imported
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"The stages '{name}' cannot be loaded: {said}; give MODULE:FUNCTION, importable here, "
            "of a function that takes the settings and a number of threads."
        ) from None
    return list(factory(settings, threads))


def hashes_of(stages: Sequence[Stage]) -> dict[str, str]:
    """SHA-256 of every model of the stages, by role."""
    return {role: digest for stage in stages for role, digest in stage.model_hashes.items()}


def licences_of(stages: Sequence[Stage]) -> dict[str, str]:
    """The licence of every model of the stages that say it, by role."""
    found = (getattr(stage, "model_licences", {}) for stage in stages)
    return {role: licence for licences in found for role, licence in licences.items()}


def process_chunk(
    number: int,
    entries: Sequence[Entry],
    stages: Sequence[Stage],
    settings: BuildSettings,
    out: str | Place,
    *,
    source: str | None = None,
    alone: Collection[str] = (),
    looking: Looking = lambda keys: nullcontext(),
) -> ChunkResult:
    """Lead a chunk's photos through the stages; write its shard, then its journal.

    Args:
        number: of the chunk; names shard and journal.
        entries: its photos in order; those that the index rejected are only noted.
        stages: see `run_stages`.
        settings: of the build; the same photos, stages and settings give the same shard.
        out: folder of the build, or its address.
        source: where the photos come from, if it must be there when the chunk is committed.
        alone: keys of photos that go through the stages without others.
        looking: called with the keys of photos; the context that it gives holds while they are
            looked at.

    Raises:
        InputError, WriteError: shard or journal cannot be written (disk full, ...).
        DataError: the source has vanished, and with it photos of the chunk.
    """
    folder = BuildFolder(out)
    examples = Examples(folder.examples)
    hashes, made = hashes_of(stages), made_by(stages, settings)

    def finished() -> Iterator[Finished]:
        for photo in _processed(entries, stages, alone, looking):
            yield finish(photo, hashes, made, settings)
            if photo.rejected is None or photo.rejected.stage != WORKER:
                examples.offer(photo)
        examples.write()

    return commit_chunk(number, entries, finished(), hashes, folder, source)


def commit_chunk(
    number: int,
    entries: Sequence[Entry],
    finished: Iterable[Finished],
    hashes: dict[str, str],
    folder: BuildFolder,
    source: str | None = None,
) -> ChunkResult:
    """Write a chunk's shard while its photos are finished, then its journal.

    Args:
        number: of the chunk; names shard and journal.
        entries: its photos in the order of the journal.
        finished: the same photos in the order of the shard.
        hashes: SHA-256 of the models that took part, by role.
        folder: of the build.
        source: where the photos come from, if it must be there when the chunk is committed.

    Raises:
        InputError, WriteError: shard or journal cannot be written (disk full, ...).
        DataError: the source has vanished, and with it photos of the chunk.
    """
    lines: dict[str, dict[str, Any]] = {}
    reasons: Counter[tuple[str, str]] = Counter()
    kept = 0
    with ExitStack() as stack:
        shard: ShardFile | None = None
        for photo in finished:
            if photo.members is not None:
                shard = shard or stack.enter_context(writing_shard(folder.shard(number)))
                shard.add(photo.key, photo.members)
                kept += 1
            else:
                reasons[photo.line["stage"], photo.line["reason"]] += 1
            lines[photo.key] = photo.line
        if source is not None and reasons:
            check_source(source)
    folder.write_journal(number, (lines[ref.key] for ref, _ in entries))
    return ChunkResult(number, len(entries), kept, reasons, hashes)


def made_by(stages: Sequence[Stage], settings: BuildSettings) -> dict[str, Any]:
    """What every sample says of the build that made it."""
    return {
        "text2layer": __version__,
        "stages": [stage.name for stage in stages],
        "settings": settings.fingerprint,
        "licences": licences_of(stages),
    }


def finish(
    photo: Photo, hashes: dict[str, str], made: dict[str, Any], settings: BuildSettings
) -> Finished:
    """What a chunk keeps of a photo; `hashes` and `made` are of the models and of the build."""
    members = encode(photo, hashes, made, settings)
    return Finished(photo.ref.key, journal_line(photo), members)


def journal_line(photo: Photo) -> dict[str, Any]:
    """What a journal says of a photo: verdict, measures and times, no pixels."""
    line: dict[str, Any] = {
        "key": photo.ref.key,
        "kept": photo.rejected is None,
        "caption": photo.ref.caption,
        "license": photo.ref.license,
        "source": photo.ref.source,
        "scores": _finite(photo.scores),
        "seconds": {name: round(value, 5) for name, value in photo.seconds.items()},
    }
    if photo.rejected is not None:
        reason = photo.rejected
        line |= {"stage": reason.stage, "reason": reason.reason, "detail": reason.detail}
    elif photo.mask is not None:
        line["statistics"] = measure_mask(photo.mask)
    return line


def _processed(
    entries: Sequence[Entry], stages: Sequence[Stage], alone: Collection[str], looking: Looking
) -> Iterator[Photo]:
    """The photos after all stages, batch by batch, so that few pictures are in memory at once.

    What the caller does with a photo of a batch belongs to the time that the batch is looked at.
    """
    for ref, rejection in entries:
        if rejection is not None:
            with looking([ref.key]):
                yield Photo(ref, rejected=rejection)
    for batch in batches([ref for ref, rejection in entries if rejection is None], alone):
        with looking([ref.key for ref in batch]):
            yield from through_stages([Photo(ref) for ref in batch], stages)


def batches(refs: Sequence[PhotoRef], alone: Collection[str] = ()) -> Iterator[list[PhotoRef]]:
    """The photos in order, `BATCH` at a time, but one by one those that go alone."""
    waiting: list[PhotoRef] = []
    for ref in refs:
        if ref.key in alone:
            if waiting:
                yield waiting
            yield [ref]
            waiting = []
            continue
        waiting.append(ref)
        if len(waiting) == BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def check_source(source: str) -> None:
    """DataError if the folder or file of the photos is gone: none of them is to blame for that.

    A folder that was mounted is empty when it is not.
    """
    place = place_of(source)
    try:
        there = bool(listed(place)) if place.is_dir() else place.exists()
    except OSError:
        there = False
    if not there:
        raise DataError(
            f"The photos in '{source}' have vanished; bring them back, then the same command "
            "goes on."
        )


def encode(
    photo: Photo, hashes: dict[str, str], made_by: dict[str, Any], settings: BuildSettings
) -> dict[str, bytes] | None:
    """The members of a kept photo; None for a rejected one, or if the schema cannot hold it."""
    if photo.rejected is not None:
        return None
    if (
        photo.image is None or photo.mask is None
        or photo.foreground is None or photo.background is None
    ):  # fmt: skip
        photo.reject(
            WRITE, "incomplete", "the stages made no image, mask, foreground or background"
        )
        return None
    ref = photo.ref
    metadata = SampleMetadata(
        source=ref.source,
        license=ref.license,
        author=ref.author,
        split=settings.split,
        opt_out=ref.opt_out,
        model_hashes=hashes,
        scores=_finite(photo.scores),
        extra={"build": made_by},
    )
    text = ref.caption.strip() or NO_CAPTION
    parts = (photo.foreground, photo.mask, photo.background, photo.image)
    try:
        return encode_sample(Sample(ref.key, *parts, text, metadata), lossless=not settings.jpeg)
    except DataError as error:
        photo.reject(WRITE, "breaks the schema", str(error))
        return None


def _finite(scores: dict[str, float]) -> dict[str, float]:
    """Plain numbers: JSON knows no NaN, and NumPy's floats are not its numbers."""
    return {name: round(float(value), 6) for name, value in scores.items() if math.isfinite(value)}


def journal_result(number: int, folder: BuildFolder, hashes: dict[str, str]) -> ChunkResult:
    """The result of a chunk that is done, from its journal and the hashes of the models."""
    reasons: Counter[tuple[str, str]] = Counter()
    photos = kept = 0
    for line in read_journal(folder.journal(number)):
        photos += 1
        if line["kept"]:
            kept += 1
        else:
            reasons[line["stage"], line["reason"]] += 1
    return ChunkResult(number, photos, kept, reasons, hashes)


def read_journal(path: Place) -> Iterator[dict[str, Any]]:
    """The lines of a journal; DataError if it was damaged after it was written."""
    try:
        for text in path.read_bytes().splitlines():
            line = json.loads(text)
            if not isinstance(line, dict) or not line.keys() >= OF_EVERY_LINE:
                raise ValueError(text)
            if not line["kept"] and not line.keys() >= OF_REJECTED:
                raise ValueError(text)
            yield line
    except (OSError, ValueError, RecursionError):
        raise DataError(
            f"The journal '{path}' is damaged; delete it and build again to repeat its photos."
        ) from None
