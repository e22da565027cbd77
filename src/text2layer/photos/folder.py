"""The folder that a build writes: names, lock, record of the settings, what is done.

It is a folder of this machine, or an address. There the index, an SQLite file, is worked on as a
copy on this machine, and the folder is held as `photos/hold.py` says.
"""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from text2layer.data.places import (
    Address,
    Listed,
    Place,
    is_address,
    named,
    place_of,
    writing_to,
)
from text2layer.errors import DataError, InputError
from text2layer.files import UNFINISHED, remove_unfinished, try_lock
from text2layer.photos.hold import held
from text2layer.photos.photo import WORKER

LOCK = ".lock"


class BuildFolder:
    """Where the files of a build lie.

    Args:
        root: the folder, or its address.

    Attributes:
        root: it holds shards, `build.json`, `index.sqlite`, `report.json`, `report.html` and the
            folders `journal` and `examples`.
    """

    def __init__(self, root: str | Place) -> None:
        self.root: Place = (
            Path(root) if isinstance(root, str | Path) and not is_address(root) else place_of(root)
        )
        self.journals = self.root / "journal"
        self.examples = self.root / "examples"
        self.record = self.root / "build.json"
        self.index = self.root / "index.sqlite"
        self._unfinished = self.root / "index.unfinished.sqlite"  # at an address, while it is made
        self._work: tempfile.TemporaryDirectory[str] | None = None  # with a copy of the index

    def __str__(self) -> str:
        """The folder as another process can be told of it, wherever it works."""
        return str(self.root.absolute() if isinstance(self.root, Path) else self.root)

    def shard(self, number: int) -> Place:
        """The shard of a chunk; absent when none of its photos was kept."""
        return self.root / f"shard-{number:06d}.tar"

    def journal(self, number: int) -> Place:
        """The journal of a chunk; present when the chunk is done."""
        return self.journals / f"{number:06d}.jsonl"

    def prepare(self) -> None:
        """Make the folder, or check that it holds a build; InputError says what is wrong."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if self.root.is_file():
                raise FileExistsError
            names = {entry.name for entry in named(self.root)}
            ours = self.record.name in names or all(
                name == LOCK or fnmatch(name, UNFINISHED) for name in names
            )
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"'{self.root}' is a file: give the name of a folder.") from None
        except OSError as error:
            raise _not_writable(self.root, error) from None
        if not ours:
            raise InputError(
                f"'{self.root}' holds files of another kind; choose a new or empty folder."
            )

    @contextmanager
    def locked(self) -> Iterator[Callable[[], bool]]:
        """Hold the folder alone; the lock of a process that has died is no obstacle.

        Gives a function that says whether another build has taken it over, which happens at an
        address alone.

        Raises:
            InputError: another build is at work here, or the folder cannot be written to.
        """
        file = self.root / LOCK
        if isinstance(file, Path):
            with self._locked(file):
                yield lambda: False
            return
        with held(file) as lost:
            self.remove_unfinished()
            try:
                yield lost
            finally:
                if self._work is not None:
                    self._work.cleanup()
                    self._work = None

    @contextmanager
    def _locked(self, file: Path) -> Iterator[None]:
        try:
            lock = try_lock(file)
        except OSError as error:
            raise _not_writable(self.root, error) from None
        if lock is None:
            raise InputError(
                f"Another build ({_owner(file)}) is writing into '{self.root}'; wait until it has "
                "ended, or choose another folder."
            )
        try:
            with suppress(OSError):  # for the other build's sentence alone
                file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
            self.remove_unfinished()
            try:
                yield
            finally:
                self.remove_unfinished()
        finally:
            lock.release()

    def remove_unfinished(self) -> None:
        """Delete temporary files that a killed build has left."""
        for folder in (self.root, self.journals, self.examples):
            if isinstance(folder, Path):
                remove_unfinished(folder)
                continue
            for entry in named(folder, UNFINISHED):
                (folder / entry.name).unlink(missing_ok=True)

    def index_here(self) -> Path:
        """The index as a file of this machine; of an address it is a copy, fetched once."""
        if isinstance(self.index, Path):
            return self.index
        if self._work is None:
            self._work = tempfile.TemporaryDirectory(prefix="text2layer-")
            for place in (self.index, self._unfinished):
                try:
                    assert isinstance(place, Address)
                    place.fetch(self._copy)
                    break
                except FileNotFoundError:
                    self._copy.unlink(missing_ok=True)
        return self._copy

    @property
    def _copy(self) -> Path:
        assert self._work is not None
        return Path(self._work.name) / self.index.name

    def save_index(self, *, finished: bool = True) -> None:
        """Bring the copy of the index to its address; on disk there is none.

        An unfinished one has a name of its own: what a build that was taken over still writes
        must not replace a finished one.
        """
        if isinstance(self.index, Path):
            return
        place = self.index if finished else self._unfinished
        assert isinstance(place, Address)
        place.put(self._copy)
        if finished:
            self._unfinished.unlink(missing_ok=True)

    def read_record(self) -> dict[str, Any]:
        """What `build.json` says; empty for a new folder; DataError if it is damaged."""
        try:
            record = json.loads(self.record.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not _has_shape(record):
            raise DataError(f"'{self.record}' is damaged; build into another folder.")
        return record

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace `build.json` in one step; with it the folder is one of a build."""
        write_json(self.record, record)

    def write_journal(self, number: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """Commit a chunk."""
        with writing_to(self.journal(number)) as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def read_aside(self, number: int) -> dict[str, str]:
        """Photos of a chunk in work that are set aside already: reason by key."""
        try:
            return dict(json.loads(self._aside(number).read_bytes()))
        except (OSError, ValueError, TypeError):  # none; or damaged, and they are found again
            return {}

    def write_aside(self, number: int, reasons: Mapping[str, str]) -> None:
        """Remember them until the chunk's journal does, so that no later run tries them."""
        write_json(self._aside(number), reasons)

    def forget_aside(self, number: int) -> None:
        """The journal says it now, or they shall be tried again."""
        self._aside(number).unlink(missing_ok=True)

    def _aside(self, number: int) -> Place:
        return self.journals / f"{number:06d}.aside.json"

    def with_set_aside(self) -> set[int]:
        """Numbers of the chunks, done or not, that have set photos aside."""
        said = f'"stage": "{WORKER}"'.encode()
        done = {n for n in self.with_journal() if said in self.journal(n).read_bytes()}
        return done | {
            int(entry.name.partition(".")[0]) for entry in named(self.journals, "*.aside.json")
        }

    def undo(self, number: int) -> None:
        """Let a chunk be done again, all its photos tried."""
        self.journal(number).unlink(missing_ok=True)
        self.forget_aside(number)

    def done(self) -> set[int]:
        """Numbers of the chunks that are done.

        A chunk whose shard was deleted after it was written is not: its journal is deleted too.
        """
        shards = {entry.name for entry in self.shards()}
        numbers = self.with_journal()
        lost = {
            number
            for number in numbers
            if self.shard(number).name not in shards and self._kept_any(number)
        }
        for number in lost:
            self.journal(number).unlink()
        return numbers - lost

    def shards(self) -> list[Listed]:
        """The shards that are there, by name."""
        return named(self.root, "shard-*.tar")

    def with_journal(self) -> set[int]:
        """Numbers of the chunks that have a journal."""
        names = [Path(entry.name).stem for entry in named(self.journals, "*.jsonl")]
        return {int(name) for name in names if name.isdigit()}

    def _kept_any(self, number: int) -> bool:
        return b'"kept": true' in self.journal(number).read_bytes()


def write_json(path: Place, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs, whole or not at all."""
    with writing_to(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _has_shape(record: Mapping[str, Any]) -> bool:
    """Whether a record is built as `run.build` writes it; parts that come later may be missing."""
    index = record.get("index", {"photos": 0, "fingerprint": "", "skipped": {}})
    return (
        isinstance(record.get("settings"), dict)
        and isinstance(record.get("runs", []), list)
        and isinstance(index, dict)
        and isinstance(index.get("photos"), int)
        and isinstance(index.get("fingerprint"), str)
        and isinstance(index.get("skipped"), dict)
    )


def _owner(lock: Path) -> str:
    try:
        return lock.read_text(errors="replace").strip() or "unknown"
    except OSError:  # a locked file cannot be read on every system
        return "unknown"


def _not_writable(folder: Place, error: OSError) -> InputError:
    said = error.strerror or str(error)
    return InputError(f"'{folder}' cannot be written to ({said.lower()}); choose another folder.")
