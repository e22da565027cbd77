"""Keeps a worker process at work: finds the photo that it dies on, and goes on without it.

A worker dies on a batch of photos. Each of them is then tried alone, and one that is alone at two
deaths is set aside: a worker that dies once may have been killed by chance. The chunk is done again
without what was set aside, so its shard has the same samples as if the photo were not there.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from text2layer.errors import DataError
from text2layer.photos.child import Child, Died
from text2layer.photos.chunk import ChunkResult, Entry, Finished
from text2layer.photos.folder import BuildFolder
from text2layer.photos.index import Look
from text2layer.photos.parts import Provenance
from text2layer.photos.photo import WORKER, Photo, PhotoRef, Rejection
from text2layer.photos.worker import WorkerSetup

SERVE = "text2layer.photos.worker:serve"
DEATHS = 2  # of workers with this photo alone, after which it is set aside
MOST_IN_A_ROW = 20  # photos set aside with none done between them: the cause is another
MOST_IDLE_DEATHS = 3  # in a row, of a worker that was looking at no photo


class Guard:
    """One worker process, and what is known about its deaths.

    Args:
        setup: of the build.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self._child = Child(SERVE, setup, setup.photo_seconds, setup.memory)
        self._deaths: Counter[str] = Counter()
        self._in_a_row = self._idle_deaths = 0

    def look(self, refs: Sequence[PhotoRef]) -> list[Look]:
        """What the index needs to know of each photo; see `index.look_at`.

        Raises:
            DataError: workers die, and it is not about a photo.
        """
        looks = self._of_each(
            {ref.key: ref for ref in refs}, lambda rest: self._child.call("look", rest)
        )
        found: dict[str, Look] = {
            key: (None, look) if isinstance(look, Rejection) else look
            for key, look in looks.items()
        }
        return [found[ref.key] for ref in refs]

    def part(
        self, kind: str, photos: Sequence[Photo], provenance: Provenance
    ) -> dict[str, Photo | Finished | Rejection]:
        """What becomes of photos of a part by key, or why one is set aside; see `Worker.part`.

        Raises:
            DataError: workers die, and it is not about a photo.
            Text2LayerError: what the worker met, such as a full disk.
        """
        return self._of_each(
            {photo.ref.key: photo for photo in photos},
            lambda rest: self._child.call("part", kind, rest, provenance),
        )

    def chunk(self, number: int, entries: Sequence[Entry]) -> ChunkResult:
        """Do a chunk, without the photos on which workers die; see `chunk.process_chunk`.

        Raises:
            DataError: workers die, and it is not about a photo.
            Text2LayerError: what the worker met, such as a full disk.
        """
        folder = BuildFolder(self.setup.out)
        aside = folder.read_aside(number)
        alone: set[str] = set()  # suspects: never again in a batch with others
        while True:
            given = [
                (ref, Rejection(WORKER, aside[ref.key]) if ref.key in aside else rejection)
                for ref, rejection in entries
            ]
            try:
                result: ChunkResult = self._child.call("chunk", number, given, alone)
            except Died as death:
                self._count(death)
                alone.update(death.keys)
                for ref, _ in entries:
                    if ref.key in death.keys and (reason := self._tried_alone(ref, death)):
                        aside[ref.key] = reason
                        folder.write_aside(number, aside)
                continue
            self._lives()
            folder.forget_aside(number)
            return result

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the models, by role."""
        hashes: dict[str, str] = self._asked("hashes")
        return hashes

    def provenance(self) -> Provenance:
        """What samples say of the models and the build."""
        provenance: Provenance = self._asked("provenance")
        return provenance

    def devices(self) -> str:
        """Which network runs where, in words; see `Worker.devices`."""
        said: str = self._asked("devices")
        return said

    def close(self) -> None:
        """End the process at once; a call at work in another thread raises `child.Closed`."""
        self._child.close()

    def _asked(self, task: str) -> Any:
        while True:
            try:
                return self._child.call(task)
            except Died as death:
                self._count(death)

    def _of_each(
        self, photos: Mapping[str, Any], call: Callable[[list[Any]], list[Any]]
    ) -> dict[str, Any]:
        """The answer about each photo by key, or the Rejection of one that was set aside."""
        found: dict[str, Any] = {}
        while rest := {key: photo for key, photo in photos.items() if key not in found}:
            try:
                answers = call(list(rest.values()))
            except Died as death:
                self._count(death)
                for key in death.keys:
                    found[key] = self._answer_alone(key, rest[key], death, call)
                continue
            self._lives()
            found |= zip(rest, answers, strict=True)
        return found

    def _answer_alone(
        self, key: str, photo: Any, death: Died, call: Callable[[list[Any]], list[Any]]
    ) -> Any:
        answers: list[Any] = []
        reason = self._alone(key, death, lambda: answers.extend(call([photo])))
        return Rejection(WORKER, reason) if reason else answers[0]

    def _tried_alone(self, ref: PhotoRef, death: Died) -> str:
        return self._alone(ref.key, death, lambda: self._child.call("attempt", ref))

    def _alone(self, key: str, death: Died, attempt: Callable[[], object]) -> str:
        """Try a photo alone until a worker survives, or why it is set aside."""
        if death.keys == (key,):
            self._deaths[key] += 1
        while self._deaths[key] < DEATHS:
            try:
                attempt()
            except Died as another:
                self._count(another)
                if another.keys:
                    death = another
                    self._deaths[key] += 1
                continue
            self._lives()
            return ""
        self._in_a_row += 1
        if self._in_a_row >= MOST_IN_A_ROW:
            raise DataError(
                f"{MOST_IN_A_ROW} photos one after the other were the end of their worker "
                f"(the last, '{key}', {death.reason}), so the cause is not a photo; look at the "
                "memory and the libraries of this machine, then the same command goes on."
            )
        return death.reason

    def _count(self, death: Died) -> None:
        """DataError if workers die again and again without looking at a photo."""
        self._idle_deaths = 0 if death.keys else self._idle_deaths + 1
        if self._idle_deaths >= MOST_IDLE_DEATHS:
            raise DataError(
                f"A worker process died {MOST_IDLE_DEATHS} times while it was looking at no photo "
                f"({death.reason}), perhaps for want of memory; run the same command again with "
                "fewer --workers, or more --worker-memory, to go on."
            )

    def _lives(self) -> None:
        self._in_a_row = self._idle_deaths = 0
