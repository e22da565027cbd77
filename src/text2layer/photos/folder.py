"""The folder that a build writes: names, lock, record of the settings, what is done."""

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from text2layer.errors import DataError, InputError
from text2layer.files import UNFINISHED, remove_unfinished, try_lock, writing
from text2layer.photos.photo import WORKER

LOCK = ".lock"


class BuildFolder:
    """Where the files of a build lie.

    Attributes:
        root: the folder; it holds shards, `build.json`, `index.sqlite`, `report.json`,
            `report.html` and the folders `journal` and `examples`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journals = root / "journal"
        self.examples = root / "examples"
        self.record = root / "build.json"
        self.index = root / "index.sqlite"

    def shard(self, number: int) -> Path:
        """The shard of a chunk; absent when none of its photos was kept."""
        return self.root / f"shard-{number:06d}.tar"

    def journal(self, number: int) -> Path:
        """The journal of a chunk; present when the chunk is done."""
        return self.journals / f"{number:06d}.jsonl"

    def prepare(self) -> None:
        """Make the folder, or check that it holds a build; InputError says what is wrong."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            ours = self.record.exists() or all(
                file.name == LOCK or file.match(UNFINISHED) for file in self.root.iterdir()
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
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; the lock of a process that has died is no obstacle.

        Raises:
            InputError: another build is at work here, or the folder cannot be written to.
        """
        file = self.root / LOCK
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
            remove_unfinished(folder)

    def read_record(self) -> dict[str, Any]:
        """What `build.json` says; empty for a new folder; DataError if it is damaged."""
        if not self.record.exists():
            return {}
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
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
        with writing(self.journal(number)) as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def read_aside(self, number: int) -> dict[str, str]:
        """Photos of a chunk in work that are set aside already: reason by key."""
        try:
            return dict(json.loads(self._aside(number).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # none; or damaged, and they are found again
            return {}

    def write_aside(self, number: int, reasons: Mapping[str, str]) -> None:
        """Remember them until the chunk's journal does, so that no later run tries them."""
        write_json(self._aside(number), reasons)

    def forget_aside(self, number: int) -> None:
        """The journal says it now, or they shall be tried again."""
        self._aside(number).unlink(missing_ok=True)

    def _aside(self, number: int) -> Path:
        return self.journals / f"{number:06d}.aside.json"

    def with_set_aside(self) -> set[int]:
        """Numbers of the chunks, done or not, that have set photos aside."""
        said = f'"stage": "{WORKER}"'
        journals = [path for path in self.journals.glob("*.jsonl") if path.stem.isdigit()]
        done = {int(path.stem) for path in journals if said in path.read_text(encoding="utf-8")}
        return done | {
            int(path.name.partition(".")[0]) for path in self.journals.glob("*.aside.json")
        }

    def undo(self, number: int) -> None:
        """Let a chunk be done again, all its photos tried."""
        self.journal(number).unlink(missing_ok=True)
        self.forget_aside(number)

    def done(self) -> set[int]:
        """Numbers of the chunks that are done.

        A chunk whose shard was deleted after it was written is not: its journal is deleted too.
        """
        shards = {path.name for path in self.root.glob("shard-*.tar")}
        numbers = {int(path.stem) for path in self.journals.glob("*.jsonl") if path.stem.isdigit()}
        lost = {
            number
            for number in numbers
            if self.shard(number).name not in shards and self._kept_any(number)
        }
        for number in lost:
            self.journal(number).unlink()
        return numbers - lost

    def _kept_any(self, number: int) -> bool:
        with self.journal(number).open(encoding="utf-8") as file:
            return any('"kept": true' in line for line in file)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs, whole or not at all."""
    with writing(path) as file:
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


def _not_writable(folder: Path, error: OSError) -> InputError:
    said = error.strerror or str(error)
    return InputError(f"'{folder}' cannot be written to ({said.lower()}); choose another folder.")
