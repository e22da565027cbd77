"""What a worker process does: it looks at photos for the index, and works on chunks."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from text2layer.errors import InputError
from text2layer.models.frozen import TF32, VISIBLE, has_cuda
from text2layer.models.placement import in_words, placements, why_no_gpu
from text2layer.photos.child import Parent
from text2layer.photos.chunk import (
    ChunkResult,
    Entry,
    encode,
    hashes_of,
    load_stages,
    made_by,
    process_chunk,
)
from text2layer.photos.examples import Examples
from text2layer.photos.folder import BuildFolder
from text2layer.photos.index import Look, look_at_all
from text2layer.photos.parts import NETWORKS, Provenance, stages_of, work_on_part
from text2layer.photos.photo import Photo, PhotoRef, through_stages
from text2layer.photos.settings import BuildSettings

DEVICES = ("auto", "cpu", "cuda")
PHOTO_SECONDS = 120.0  # that a photo may take, the slowest stage on the slowest machine included


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to know, wherever it is.

    Attributes:
        stages: `module:function` that makes the stages.
        settings: of the build.
        out: folder of the build, or its address.
        source: folder, file or address that the photos come from.
        threads: that a worker may use.
        model_hashes: of the models that earlier chunks were made with; empty before the first.
        photo_seconds: that one photo may take; a batch of n may take n times as long.
        memory: bytes that a worker may hold; 0 sets no bound.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
    """

    stages: str
    settings: BuildSettings
    out: str
    source: str
    threads: int = 1
    model_hashes: Mapping[str, str] = field(default_factory=dict)
    photo_seconds: float = PHOTO_SECONDS
    memory: int = 0
    device: str = "auto"


class Worker:
    """Does the tasks of `guard.Guard`; makes the stages when the first chunk comes.

    Args:
        setup: of the build.
        parent: to which it says what it looks at.
    """

    def __init__(self, setup: WorkerSetup, parent: Parent) -> None:
        self._setup, self._parent = setup, parent
        self._made: list[Any] | None = None
        self._of_part: list[Any] | None = None

    def __call__(self, task: str, *arguments: Any) -> Any:
        """Do the task of this name."""
        return getattr(self, task)(*arguments)

    def look(self, refs: Sequence[PhotoRef]) -> list[Look]:
        """See `look_at_all`."""
        return look_at_all(refs, self._setup.settings, self._looking)

    def chunk(self, number: int, entries: Sequence[Entry], alone: Collection[str]) -> ChunkResult:
        """See `process_chunk`."""
        setup = self._setup
        result = process_chunk(
            number, entries, self._stages(), setup.settings, setup.out,
            source=setup.source, alone=alone, looking=self._looking,
        )  # fmt: skip
        return replace(result, devices=placements())

    def attempt(self, ref: PhotoRef) -> None:
        """All that a chunk does with a photo, for nothing but to see whether the process lives."""
        stages = self._stages()
        with self._looking([ref.key]):
            for photo in through_stages([Photo(ref)], stages):
                encode(photo, {}, {}, self._setup.settings)

    def part(self, kind: str, photos: Sequence[Photo], provenance: Provenance) -> list[Any]:
        """See `work_on_part`; a worker is of one kind from its start to its end.

        Only one with networks loads those that stages load when they are first used.
        """
        setup = self._setup
        if self._of_part is None:
            whole = (
                self._stages() if kind == NETWORKS
                else load_stages(setup.stages, setup.settings, setup.threads)
            )  # fmt: skip
            self._of_part = stages_of(kind, whole)
        with self._looking([photo.ref.key for photo in photos]):
            return list(
                work_on_part(
                    kind, photos, self._of_part, setup.settings, self._examples, provenance
                )
            )

    @cached_property
    def _examples(self) -> Examples:
        return Examples(BuildFolder(self._setup.out).examples)

    def provenance(self) -> Provenance:
        """What samples say of the models and the build."""
        hashes = self.hashes()  # loads what is loaded when first used
        return Provenance(hashes, made_by(self._stages(), self._setup.settings), placements())

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the models, by role."""
        return hashes_of(self._stages())

    def devices(self) -> str:
        """Which network runs where, and what to do if a GPU is not used, in words."""
        self.hashes()  # loads what is loaded when first used
        places = placements()
        return f"{in_words(places)} {why_no_gpu(places.values())}".strip()

    @contextmanager
    def _looking(self, keys: Sequence[str]) -> Iterator[None]:
        """While the block looks at these photos; a block that raises does not say that it ended."""
        self._parent.begin(tuple(keys), self._setup.photo_seconds * len(keys))
        yield
        self._parent.end(tuple(keys))

    def _stages(self) -> list[Any]:
        """The stages.

        Raises:
            InputError: they cannot be loaded, or their models are not those of earlier chunks, or
                there is no GPU and the setup asks for one.
        """
        if self._made is None:
            setup = self._setup
            if setup.device == "cuda" and not has_cuda():
                raise InputError(
                    "There is no CUDA device that torch or onnxruntime can use here; install their "
                    "CUDA builds, or leave out --device cuda."
                )
            made = load_stages(setup.stages, setup.settings, setup.threads)
            check_hashes(hashes_of(made), setup)
            self._made = made
        return self._made


def check_hashes(hashes: dict[str, str], setup: WorkerSetup) -> None:
    """InputError if the models are not those that earlier chunks were made with."""
    if setup.model_hashes and dict(setup.model_hashes) != hashes:
        roles = {*hashes, *setup.model_hashes}
        changed = sorted(r for r in roles if hashes.get(r) != setup.model_hashes.get(r))
        raise InputError(
            f"'{setup.out}' was begun with other models (not the same: {', '.join(changed)}); "
            "go on with those, or build into another folder."
        )


def serve() -> None:
    """What a worker process runs from its start to its end."""
    parent = Parent()
    os.environ.setdefault(TF32, "0")  # results of a GPU stay close to those of a CPU
    if parent.setup.device == "cpu":
        os.environ[VISIBLE] = ""  # before torch or onnxruntime look
    parent.serve(Worker(parent.setup, parent))
