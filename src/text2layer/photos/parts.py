"""The work on a chunk divided among kinds of workers, so that a GPU never waits for a JPEG.

Stages before the first that runs on a GPU belong to decode, those after the last to encode, and all
between to the networks. Photos pass from one to the next in the batches in which one worker would
look at them, so the same stages give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from text2layer.photos.chunk import Entry, Finished, batches, finish
from text2layer.photos.examples import Examples
from text2layer.photos.photo import WORKER, Photo, Stage, through_stages
from text2layer.photos.settings import BuildSettings

DECODE, NETWORKS, ENCODE = "decode", "networks", "encode"
GPU = "gpu"


@dataclass(frozen=True)
class Provenance:
    """What the worker with the networks knows, and the one that encodes needs.

    Attributes:
        hashes: SHA-256 of the models, by role.
        made_by: see `chunk.made_by`.
        devices: where each network runs; see `placement.placements`.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    made_by: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Photos of a chunk that pass from worker to worker together.

    Attributes:
        chunk: its number.
        number: of the part, from 0.
        count: of the chunk's parts.
        photos: in order; pictures of rejected ones are dropped. After encode they are `Finished`.
        provenance: known after the networks.
        error: name and text of a Text2LayerError that ends the build; there are no photos then.
    """

    chunk: int
    number: int = 0
    count: int = 1
    photos: Sequence[Any] = ()
    provenance: Provenance = field(default_factory=Provenance)
    error: tuple[str, str] | None = None


def parts_of(entries: Sequence[Entry]) -> list[list[Photo]]:
    """A chunk's photos by part: first those that the index rejected, then batch after batch."""
    rejected = [Photo(ref, rejected=reason) for ref, reason in entries if reason is not None]
    others = batches([ref for ref, reason in entries if reason is None])
    return [*([rejected] if rejected else []), *([Photo(ref) for ref in batch] for batch in others)]


def stages_of(kind: str, stages: Sequence[Stage]) -> list[Stage]:
    """The stages of one kind of worker: DECODE, NETWORKS or ENCODE.

    Without a stage that runs on a GPU, all belong to decode.
    """
    found = [number for number, stage in enumerate(stages) if on_gpu(stage)]
    first, end = (found[0], found[-1] + 1) if found else (len(stages), len(stages))
    divided = {DECODE: stages[:first], NETWORKS: stages[first:end], ENCODE: stages[end:]}
    return list(divided[kind])


def on_gpu(stage: Stage) -> bool:
    """Whether a cluster with GPUs runs the stage on one; see `Stage`."""
    device = getattr(stage, "device", None)
    return bool(stage.model_hashes) if device is None else device == GPU


def work_on_part(
    kind: str,
    photos: Sequence[Photo],
    stages: Sequence[Stage],
    settings: BuildSettings,
    examples: Examples,
    provenance: Provenance,
) -> list[Photo] | list[Finished]:
    """What one worker does with a part.

    Args:
        kind: of the worker.
        photos: of the part; those that were rejected before are only offered as examples.
        stages: see `stages_of`.
        settings: of the build.
        examples: where pictures of rejected photos and of kept ones are offered.
        provenance: for ENCODE.
    """
    photos = through_stages(photos, stages)
    finished = []
    for photo in photos:
        if kind == ENCODE:
            finished.append(finish(photo, provenance.hashes, provenance.made_by, settings))
        if photo.rejected is not None or kind == ENCODE:
            if photo.rejected is None or photo.rejected.stage != WORKER:
                examples.offer(photo)
            photo.drop_pictures()
    examples.write()
    return finished if kind == ENCODE else photos
