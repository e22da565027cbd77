"""`dataset index`: the index of shards is written once, and found and checked by every reader."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from text2layer.data.index_builder import IndexBuilder, columns_of, temporary_files
from text2layer.data.index_file import AGAIN, FileState, ShardColumns, ShardIndex
from text2layer.data.shard_file import MARK
from text2layer.data.shard_index import scan_shard, several, shard_paths
from text2layer.data.shard_tools import no_usable_sample
from text2layer.errors import DataError, InputError
from text2layer.files import file_sha256, refusals

NAME = "shards.index"  # of the file in a folder of shards
SUFFIX = ".index"
NAMED = 3  # shards that a sentence about a stale index names
CHECKED = 2000  # shards whose size and time are compared at a start
AHEAD = 4  # shards for each process that wait to be taken in

Shards = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Indexed:
    """What `index_shards` did.

    Attributes:
        path: the index.
        samples: in it, with those that have opted out.
        shards: in it.
        read: shards that were read; the others are as an earlier index has them.
        skipped: how much was left out, by reason.
        messages: one sentence for each of the first few, and for all that damage took.
    """

    path: Path
    samples: int
    shards: int
    read: int
    skipped: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def index_shards(
    shards: Shards, out: str | Path | None = None, workers: int = 1, *, progress: bool = True
) -> Indexed:
    """Read shards once and write what readers need to know of them.

    Shards that an index at `out`, or in their own folder, knows by size and time are not read
    again: so folders that have an index each are joined in a moment.

    Args:
        shards: folders of tars, or tars.
        out: the file; `shards.index` in the folder if one folder is given.
        workers: processes.
        progress: show a progress bar on stderr.

    Raises:
        DataError: there is no shard, or one changed or vanished while it was read.
        InputError: several folders and no `out`, or `out` cannot be written.
        WriteError: the system refused, for example because the disk is full.
    """
    tars = [tar.absolute() for tar in shard_paths(shards)]  # first: a wrong path is named as such
    given = [Path(one) for one in several(shards)]
    if out is None and (len(given) > 1 or not given[0].is_dir()):
        raise InputError("An index of several folders, or of tars, needs a name: --out FILE.index.")
    path = Path(given[0] / NAME if out is None else out).absolute()
    if path.suffix != SUFFIX:
        raise InputError(f"'{path.name}' must end in {SUFFIX}: that is how a reader knows it.")
    if not path.parent.is_dir():
        raise InputError(f"The folder for {path} does not exist: make it first.")
    known = _known([path, *(folder.absolute() / NAME for folder in given if folder.is_dir())])
    reused = [(known.get(str(tar), (None, 0)), tar) for tar in tars]
    states = {id(index): index.states() for (index, _), _ in reused if index is not None}
    fresh = [tar for (index, number), tar in reused
             if index is None or not _fits(index, number, states[id(index)][number])]  # fmt: skip
    made = _scanned(fresh, workers)
    bar = tqdm(reused, desc="index shards", unit="shard", disable=not progress)
    left, samples = set(fresh), 0
    with refusals(path):
        builder = IndexBuilder(temporary_files(path.parent))
        for (index, number), tar in bar:
            columns = next(made) if index is None or tar in left else index.part(number)
            columns.name = Path(os.path.relpath(tar, path.parent)).as_posix()
            samples += len(columns.columns["kinds"])
            builder.add(columns)
        if not samples:
            raise no_usable_sample([str(one) for one in given], builder.skipped)
        folders = [Path(os.path.relpath(one.absolute(), path.parent)).as_posix()
                   for one in given if one.is_dir()]  # fmt: skip
        builder.write(path, ["" if folder == "." else folder for folder in folders])
    index = ShardIndex.open(path)
    return Indexed(path, samples, len(tars), len(fresh), index.counts, index.messages)


def open_index(shards: Shards) -> ShardIndex | None:
    """The index of a folder of shards, or the one that is named; None if there is none.

    Raises:
        DataError: it is damaged, or does not fit the shards that are there. A shard that changed
            and is not among those compared at the start is noticed when a sample is read.
    """
    if not isinstance(shards, str | Path):
        if len(shards) != 1:
            return None
        shards = shards[0]
    path = Path(shards)
    file = path / NAME if path.is_dir() else path
    if file.suffix != SUFFIX or not file.is_file():
        return None
    index = ShardIndex.open(file, at_random=True)
    wrong = _misfits(index)
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise DataError(
            f"The index '{file}' does not fit the shards: {', '.join(wrong[:NAMED])}{more}; {AGAIN}"
            " (only shards that changed are read)."
        )
    return index


def scanned_index(paths: Sequence[Path], *, progress: bool = True) -> ShardIndex:
    """The same in memory, from the tars themselves; captions and checksums are not read."""
    builder = IndexBuilder()
    for path in tqdm(paths, desc="index shards", unit="shard", disable=not progress):
        builder.add(columns_of(str(path.absolute()), FileState(), scan_shard(path)))
    return builder.in_memory(Path("/"))


def _misfits(index: ShardIndex) -> list[str]:
    """What of the shards is not as the index has it, in words.

    All names are compared, sizes and times of up to `CHECKED` shards, spread over all: asking a
    disk about each of 600,000 takes minutes. Every sample is compared when it is read.
    """
    wrong, seen = [], set[str]()
    listed = dict[str, set[str]]()
    names, states = index.names(), index.states()
    step = -(-len(names) // CHECKED)
    for number, name in enumerate(names):
        folder, _, last = name.rpartition("/")
        if folder not in listed:
            listed[folder] = _files(index.root / folder)
        seen.add(name)
        if last not in listed[folder]:
            wrong.append(f"'{name}' is not there")
        elif number % step == 0 and not _fits(index, number, states[number]):
            wrong.append(f"'{name}' has changed")
    for folder in index.folders:
        if (index.root / folder / MARK).is_file():
            wrong.append(f"'{index.root / folder}' holds {MARK}, so not all are written")
        inside = f"{folder}/" if folder else ""
        found = listed.get(folder) or _files(index.root / folder)
        wrong += [f"'{name}' is new" for name in sorted(found)
                  if name.endswith(".tar") and inside + name not in seen]  # fmt: skip
    return wrong


def _files(folder: Path) -> set[str]:
    """Names of what lies in a folder; nothing if it cannot be read."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _known(files: Sequence[Path]) -> dict[str, tuple[ShardIndex | None, int]]:
    """Shards by absolute path, and where earlier indexes have them; later ones count."""
    known: dict[str, tuple[ShardIndex | None, int]] = {}
    for file in dict.fromkeys(files):
        with suppress(DataError):  # none, or damaged: its shards are read
            index = ShardIndex.open(file)
            for number, name in enumerate(index.names()):
                known[os.path.normpath(index.root / name)] = index, number
    return known


def _fits(index: ShardIndex, number: int, state: tuple[int, int]) -> bool:
    """Whether a shard has the size and time that the index says."""
    try:
        return _state(os.stat(index.path(number))) == state
    except OSError:
        return False


def _scanned(paths: Sequence[Path], workers: int) -> Iterator[ShardColumns]:
    """The columns of shards, in order, read by so many processes."""
    if workers <= 1 or len(paths) < 2:
        yield from map(_scan, paths)
        return
    waiting = deque[Future[ShardColumns]]()
    with ProcessPoolExecutor(min(workers, len(paths)), get_context("spawn")) as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(_scan, path))
                if len(waiting) == AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _scan(path: Path) -> ShardColumns:
    """The columns of one shard, read whole."""
    try:
        before = path.stat()
        shard = scan_shard(path, whole=True)
        digest = file_sha256(path)
        after = path.stat()
    except OSError as error:
        raise DataError(f"The shard '{path}' cannot be read: {error.strerror}.") from None
    if _state(before) != _state(after):
        raise DataError(f"The shard '{path}' changed while it was read; index when all is written.")
    return columns_of("", FileState(*_state(after), digest), shard)
