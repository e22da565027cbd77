"""`text2layer dataset library`: sources in, a folder with a picture library out.

    foregrounds.jsonl, foregrounds/SOURCE/*.webp    cut-outs
    backgrounds.jsonl, backgrounds/*.jpg            backgrounds
    ATTRIBUTION.md                                  who made them, under which licence
    report.json, report.html                        what is in it, what was left out and why
    journal/SOURCE.jsonl                            what is done; the same command goes on
    packages/                                       what was downloaded; may be deleted

A picture that the journal has is not made again. The journal names it by all that it depends on, so
a picture, caption or licence that changed is made anew, and what is no longer asked for is removed.
The lists, the pictures and ATTRIBUTION.md have the same bytes when made again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from text2layer.errors import DataError, FormatError, InputError, WriteError
from text2layer.files import remove_unfinished, try_lock, writing
from text2layer.picture_library.licences import attribution, refusal
from text2layer.picture_library.offer import BACKGROUND, FOREGROUND, LISTS, LeftOut, Offer, Source
from text2layer.picture_library.picture import (
    MADE_BY,
    NoUse,
    cut_out,
    encode_cut_out,
    encode_place,
    main_colour,
    place,
)
from text2layer.picture_library.report import Built, write_report

CHUNK = 16  # pictures that a worker makes before it says so
LOCK = ".lock"
ORDER = (  # of a record's fields in its line; others follow
    "id", "file", "caption", "tags", "style", "source", "source_file", "license", "author",
    "concept", "color", "scene", "time", "seen", "has_subject", "group", "view", "width", "height",
    "split", "nameable", "held_out_drawing",
)  # fmt: skip


def build_library(
    out: Path,
    sources: Sequence[Source],
    *,
    required: bool = True,
    allow_share_alike: bool = False,
    limit: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Built:
    """Make, complete or renew a library.

    Args:
        out: new or empty folder, or one that this function made.
        sources: where pictures come from, in the order of the lists.
        required: a public source that cannot be had ends the run; else it is named in `missing`.
        allow_share_alike: let pictures with a share-alike licence in.
        limit: most pictures of a source, those that are left out not counted; for a trial.
        workers: processes; 1 works in this one.
        progress: bars on stderr.

    Raises:
        InputError: the folder is of another kind or in use, or an own folder has no picture.
        DataError: a source cannot be had or read, or no picture of a kind remains.
    """
    built = Built(out)
    with _held(out), _Workers(workers) as pool:
        for source in sources:
            try:
                offers = _admitted(source, built, allow_share_alike, limit)
            except (DataError, InputError) as error:
                if required or source.own:
                    raise
                built.missing[source.name] = str(error)
                continue
            _make(source, offers, built, pool, progress)
        _finish(built)
        write_report(built)
    return built


def _admitted(
    source: Source, built: Built, allow_share_alike: bool, limit: int | None
) -> list[Offer]:
    """The offers of a source whose licence lets them in."""
    packages = (built.out / "packages").resolve()  # clients work in folders of their own
    packages.mkdir(exist_ok=True)
    admitted: list[Offer] = []
    for offer in source.offers(packages):
        if isinstance(offer, LeftOut):
            built.left_out.append(offer)
            continue
        why = refusal(
            str(offer.record.get("license") or ""),
            allow_share_alike=allow_share_alike,
            own=source.own,
        )
        if why:
            named = str(offer.record.get("source_file") or offer.name)
            said = f"'{named}': {offer.record.get('license') or 'none is stated'}"
            built.left_out.append(LeftOut(offer.source, named, why, said))
        else:
            admitted.append(offer)
    if limit is not None and len(admitted) > limit:  # evenly spread, not the first of the alphabet
        admitted = [admitted[number * len(admitted) // limit] for number in range(limit)]
    built.notices |= source.notices
    return admitted


def _make(
    source: Source, offers: Sequence[Offer], built: Built, pool: _Workers, progress: bool
) -> None:
    """Make what the journal has not; take the rest from there."""
    folder = built.out / "journal"
    folder.mkdir(exist_ok=True)
    file = folder / f"{source.name}.jsonl"
    done = {line["key"]: line for line in _journal(file)}
    wanted = {offer.id: (offer.key(MADE_BY), offer) for offer in offers}
    todo = [
        offer for key, offer in wanted.values() if key not in done or _lost(done[key], built.out)
    ]
    with file.open("a", encoding="utf-8") as journal:
        started = time.monotonic()
        bar = tqdm(total=len(todo), desc=source.name, unit="pic", disable=not (progress and todo))
        for lines in pool.run(built.out, _chunks(todo)):
            _append(journal, lines)
            done |= {line["key"]: line for line in lines}
            built.made += len(lines)
            bar.update(len(lines))
        bar.close()
        built.seconds += time.monotonic() - started
    kept = []
    for key, offer in wanted.values():
        line = done[key]
        kept.append(line)
        if "record" in line:
            built.records[offer.kind].append(line["record"])
        else:
            built.left_out.append(
                LeftOut(offer.source, line["file"], line["left_out"], line["said"])
            )
    if len(kept) != len(done) or todo:  # drop lines of pictures that are asked for no longer
        with writing(file) as whole:
            whole.write("".join(_line(line) for line in kept).encode())


def make_picture(out: Path, offer: Offer) -> dict[str, Any]:
    """Make one picture and its record, as a line of the journal; a worker's task.

    Args:
        out: the library.
        offer: what to make.
    """
    name = str(offer.record["source_file"])
    line: dict[str, Any] = {"key": offer.key(MADE_BY), "file": name}
    try:
        colour, alpha = offer.read()
        record = {"id": offer.id, "tags": [], **offer.record}
        if offer.kind == FOREGROUND:
            colour, alpha = cut_out(colour, alpha, offer.may_be_opaque)
            record["color"] = record.get("color") or main_colour(colour, alpha)
            record["file"] = f"foregrounds/{offer.source}/{offer.name}.webp"
            record.setdefault("group", offer.id)
            record.setdefault("held_out_drawing", False)
            content = encode_cut_out(colour, alpha)
        else:
            if alpha is not None and (alpha < 255).any():
                raise NoUse("transparent background", "A background must be opaque.")
            colour = place(colour)
            del record["tags"]
            record["file"] = f"backgrounds/{offer.id}.jpg"
            record["height"], record["width"] = colour.shape[:2]
            record.setdefault("group", offer.id)
            content = encode_place(colour)
    except NoUse as error:
        return line | {"left_out": error.reason, "said": f"'{name}': {error.said}"}
    except (OSError, ValueError, FormatError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        return line | {"left_out": "unreadable", "said": f"'{name}': {said}"}
    _put(out / record["file"], content)
    places = {field: number for number, field in enumerate(ORDER)}
    ordered = sorted(record.items(), key=lambda item: places.get(item[0], len(places)))
    return line | {"record": dict(ordered), "bytes": len(content)}


def _put(path: Path, content: bytes) -> None:
    """Write a picture, whole or not at all; unlike `files.writing` it waits for no disk.

    The journal knows its length, so that one which a crash of the system lost is made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".text2layer-{path.name}.part"
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WriteError(f"{path} could not be written: {error.strerror or error}.") from None


def _make_chunk(out: Path, offers: Sequence[Offer]) -> list[dict[str, Any]]:
    return [make_picture(out, offer) for offer in offers]


class _Workers:
    """Makes chunks in this process, or in a pool with a few chunks for each process in flight."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def run(self, out: Path, chunks: Iterable[Sequence[Offer]]) -> Iterator[list[dict[str, Any]]]:
        """Journal lines of the chunks, as they are done."""
        if self.workers < 2:
            for chunk in chunks:
                yield _make_chunk(out, chunk)
            return
        if self.pool is None:
            spawn = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.workers, mp_context=spawn)
        flying: set[Future[list[dict[str, Any]]]] = set()
        for chunk in chunks:
            flying.add(self.pool.submit(_make_chunk, out, chunk))
            if len(flying) >= 3 * self.workers:
                landed, flying = wait(flying, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in landed)
        while flying:
            landed, flying = wait(flying, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in landed)


def _finish(built: Built) -> None:
    """Write the lists and the attribution; remove pictures that are in no list."""
    for kind, records in built.records.items():
        if not records:
            raise DataError(_nothing(kind, built))
    for kind, name in LISTS.items():
        with writing(built.out / f"{name}.jsonl") as file:
            file.write("".join(_line(record) for record in built.records[kind]).encode())
    everything = [record for records in built.records.values() for record in records]
    with writing(built.out / "ATTRIBUTION.md") as file:
        file.write(attribution(everything, built.notices).encode())
    listed = {built.out / record["file"] for record in everything}
    for name in LISTS.values():
        for path in (built.out / name).rglob("*"):
            if path.is_file() and path not in listed:
                path.unlink()


def _nothing(kind: str, built: Built) -> str:
    """Why there is no picture of a kind, and what to do."""
    reasons = Counter(item.reason for item in built.left_out)
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    option = "--backgrounds" if kind == BACKGROUND else "--cutouts"
    advice = f"name a folder of them with {option}"
    if reasons["no licence"]:
        advice = "say the licence of your pictures with --license, such as 'my own work'"
    missing = "".join(f" {name}: {said}" for name, said in built.missing.items())
    return f"No {kind} can be used (left out: {counted or 'nothing'}); {advice}.{missing}"


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Make the folder and hold it alone; InputError if it is of another kind or in use."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in out.iterdir()} - {LOCK}
        if names and "journal" not in names:
            raise InputError(f"'{out}' holds files of another kind; choose a new or empty folder.")
        (out / "journal").mkdir(exist_ok=True)
        lock = try_lock(out / LOCK)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"'{out}' is a file: give the name of a folder.") from None
    except OSError as error:
        raise InputError(
            f"'{out}' cannot be written to ({(error.strerror or str(error)).lower()}); choose "
            "another folder."
        ) from None
    if lock is None:
        raise InputError(f"Another run is writing into '{out}'; wait until it has ended.")
    try:
        for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
            remove_unfinished(folder)
        yield
    finally:
        lock.release()


def _journal(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal; one that a killed run tore is passed over."""
    if not file.is_file():
        return
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "key" in line and ("record" in line or "left_out" in line):
            yield line


def _lost(line: dict[str, Any], out: Path) -> bool:
    """Whether the picture of a line has gone since, or was cut short by a crash of the system."""
    if "record" not in line:
        return False
    file = out / line["record"]["file"]
    return not file.is_file() or file.stat().st_size != line["bytes"]


def _append(journal: TextIO, lines: Iterable[dict[str, Any]]) -> None:
    if journal.tell() and not _ends_line(Path(journal.name)):
        journal.write("\n")
    journal.write("".join(_line(line) for line in lines))
    journal.flush()
    os.fsync(journal.fileno())


def _ends_line(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _chunks(offers: Sequence[Offer]) -> Iterator[Sequence[Offer]]:
    return (offers[start : start + CHUNK] for start in range(0, len(offers), CHUNK))
