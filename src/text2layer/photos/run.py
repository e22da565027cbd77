"""`dataset build`: the index, then chunk after chunk, then the report; goes on where it stopped."""

import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from tqdm import tqdm

from text2layer import __version__
from text2layer.data.places import Place, place_of
from text2layer.errors import DataError, InputError
from text2layer.models.placement import in_words, merged
from text2layer.photos.chunk import DEFAULT_STAGES, FORMER_STAGES, ChunkResult, check_source
from text2layer.photos.folder import BuildFolder
from text2layer.photos.guard import Guard
from text2layer.photos.index import Look, PhotoIndex
from text2layer.photos.photo import PhotoRef
from text2layer.photos.pool import Stop, Task, run_in_pool, stopping_cleanly
from text2layer.photos.settings import BuildSettings
from text2layer.photos.sources import PhotoSource, open_photos
from text2layer.photos.worker import DEVICES, PHOTO_SECONDS, WorkerSetup

# packages whose version may change what a build gives
PACKAGES = ("numpy", "pillow", "onnxruntime", "opencv-python-headless", "scipy", "torch")
MOST_SECONDS = 1_000_000  # that a photo may take; a batch gets a multiple, which alarm() takes
SAVED = 300.0  # seconds between two copies of an unfinished index that an address gets
RUNS_KEPT = 50  # of the record; older ones are forgotten


@dataclass
class BuildSummary:
    """What one call of `build` did.

    Attributes:
        out: folder of the build, or its address.
        photos: in the index.
        done_before: photos of chunks that an earlier run had finished.
        processed: photos looked at in this run.
        kept: of those.
        reasons: how many of those were left out, by (stage, reason).
        seconds: that the chunks took in all.
        interrupted: it was asked to stop; the same call goes on.
        skipped: what the source could not give, by reason.
    """

    out: Place
    photos: int = 0
    done_before: int = 0
    processed: int = 0
    kept: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    interrupted: bool = False
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, result: ChunkResult) -> None:
        """Count a finished chunk."""
        self.processed += result.photos
        self.kept += result.kept
        self.reasons.update(result.reasons)

    def to_json(self) -> dict[str, Any]:
        """All fields; reasons by stage."""
        fields = vars(self) | {"out": str(self.out), "skipped": dict(self.skipped)}
        fields["reasons"] = by_stage(self.reasons)
        return fields


def build(
    photos: str | Path,
    out: str | Path,
    settings: BuildSettings | None = None,
    *,
    captions: str | Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    stages: str = DEFAULT_STAGES,
    photo_timeout: float = PHOTO_SECONDS,
    worker_memory: float | None = None,
    retry_set_aside: bool = False,
    device: str = "auto",
    report: bool = True,
    progress: bool = True,
) -> BuildSummary:
    """Make a filtered layered data set from photos, or go on with one that was stopped.

    Killed at any moment and called again with the same arguments, it gives the same shards as if
    it had not been stopped. All photos are looked at in worker processes; one on which workers die,
    or which takes too long, is set aside with its reason, and the build goes on.

    Args:
        photos: a folder of pictures, shards, tables; or an address of them (see `open_photos`).
        out: a new or empty folder, or one that such a build has begun; or an address of one.
        settings: what decides about the photos.
        captions: a CSV or TSV with captions for a folder of pictures.
        workers: processes; half of this machine's cores by default. On Ray: actors; as many as
            the cluster holds by default.
        ray: address of a Ray cluster, or "auto"; None runs on this machine.
        stages: `module:function` that makes the stages from (settings, threads).
        photo_timeout: seconds that one photo may take; a batch of n may take n times as long.
        worker_memory: gigabytes (10^9 bytes) that a worker process may hold; None sets no bound.
        retry_set_aside: try the photos again that an earlier run has set aside.
        device: "cpu", "cuda" for GPUs alone, "auto" for GPUs where there are any.
        report: write `report.json` and `report.html` in the end.
        progress: show progress bars on stderr.

    Raises:
        InputError: no such photos; `out` is used by another build, holds other files, was begun
            with other settings or cannot be written to; stages that cannot be loaded.
        DataError: no photo is there, none has the caption or licence that the settings ask for, or
            the photos vanished, or workers die again and again.
        WriteError: a file could not be written, for example because the disk is full.
        WeightsError: weights of a stage are missing or damaged.
    """
    settings = settings or BuildSettings()
    stages = DEFAULT_STAGES if stages == FORMER_STAGES else stages
    cores = available_cores()
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}.")
    if not 0 < photo_timeout <= MOST_SECONDS:
        raise InputError(
            f"photo_timeout must lie above 0 and at most at {MOST_SECONDS:,} seconds, "
            f"got {photo_timeout:g}."
        )
    if worker_memory is not None and not (worker_memory > 0 and math.isfinite(worker_memory)):
        raise InputError(
            f"worker_memory must be above 0 GB and finite, got {worker_memory:g}; leave it out for "
            "no bound."
        )
    if device not in DEVICES:
        raise InputError(f"There is no device '{device}'; give {', '.join(DEVICES)}.")
    if str(out).startswith("memory:"):
        raise InputError(f"What is at '{out}' ends with this process; choose another place.")
    photos = str(place_of(photos))  # resumed from elsewhere, or read by actors, it is the same
    source = open_photos(photos, captions)
    folder = BuildFolder(out)
    if not folder.record.exists():
        _check_texts(source, photos, settings)
    summary = BuildSummary(folder.root)
    folder.prepare()
    with folder.locked() as lost, stopping_cleanly() as asked:

        def stop() -> bool:
            return lost() or asked()

        record = _begun_record(folder, settings, photos, captions, stages)
        count = workers or max(1, cores // 2)
        setup = WorkerSetup(
            stages, settings, str(folder), photos, max(1, cores // count),
            record.get("models", {}), photo_timeout, int((worker_memory or 0) * 1e9), device,
        )  # fmt: skip
        with ExitStack() as stack:
            guards = [stack.enter_context(closing(Guard(setup))) for _ in range(count)]
            index = _filled_index(folder, record, source, guards[0], progress, stop)
            if index is None:
                summary.interrupted = True
                return summary
            stack.enter_context(closing(index))
            if retry_set_aside:
                _forgive(folder, index, settings.photos_per_shard)
            summary.photos = len(index)
            summary.skipped.update(record["index"]["skipped"])
            _run_chunks(folder, record, index, guards, summary, workers, ray, progress, stop)
        if report:
            from text2layer.photos.report import write_report

            write_report(folder.root, progress=progress)
    return summary


def _check_texts(source: PhotoSource, photos: str, settings: BuildSettings) -> None:
    """Raise DataError if no photo of the source has a text without which all would be left out."""
    for asked, what, advice in (
        (settings.require_caption, "caption",
         "put a .txt beside each, give a table with --captions, or take them without captions "
         "(--no-require-caption)"),
        (settings.require_license, "license",
         "say it in a .json beside each, or leave out --require-license"),
    ):  # fmt: skip
        if asked and not any(getattr(ref, what).strip() for ref in source) and any(source):
            word = "licence" if what == "license" else what
            raise DataError(f"No photo in '{photos}' has a {word}: {advice}.")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def by_stage(reasons: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts of (stage, reason) as a count by reason for each stage."""
    grouped: dict[str, dict[str, int]] = {}
    for (stage, reason), count in sorted(reasons.items()):
        grouped.setdefault(stage, {})[reason] = count
    return grouped


def _begun_record(
    folder: BuildFolder,
    settings: BuildSettings,
    photos: str,
    captions: str | Path | None,
    stages: str,
) -> dict[str, Any]:
    """The build's record: that of an earlier run, which must agree, or a new one."""
    fresh = {
        "source": photos,
        "captions": str(place_of(captions)) if captions else "",
        "stages": stages,
        "text2layer": __version__,
        "settings": asdict(settings),
    }
    record = folder.read_record()
    if record.get("stages") == FORMER_STAGES:
        record["stages"] = DEFAULT_STAGES
    if not record:
        record = fresh | {
            "fingerprint": settings.fingerprint,
            "python": platform.python_version(),
            "packages": {name: found for name in PACKAGES if (found := _version(name))},
            "runs": [],
        }
        folder.write_record(record)
        return record
    differences = [
        f"{name} was {_said(record.get(name))}, is {_said(value)}"
        for name, value in fresh.items()
        if name != "settings" and record.get(name) != value
    ]
    before = record.get("settings", {})
    differences += [
        f"{name} was {_said(before.get(name))}, is {_said(value)}"
        for name, value in fresh["settings"].items()  # type: ignore[attr-defined]
        if before.get(name) != value
    ]
    if differences:
        raise InputError(
            f"'{folder.root}' was begun differently ({'; '.join(differences)}); "
            "go on with the same, or build into another folder."
        )
    return record


def _filled_index(
    folder: BuildFolder,
    record: dict[str, Any],
    source: PhotoSource,
    guard: Guard,
    progress: bool,
    stop: Stop,
) -> PhotoIndex | None:
    """The index of all photos; made by the first run and never changed after, or chunks would move.

    None when it was asked to stop before the index was complete.
    """
    index = PhotoIndex(folder.index_here())
    saved = monotonic()

    def look(refs: Sequence[PhotoRef]) -> list[Look]:
        looks = guard.look(refs)
        if any(rejection and rejection.reason == "unreadable" for _, rejection in looks):
            check_source(guard.setup.source)
        return looks

    def stop_or_save() -> bool:
        nonlocal saved
        if monotonic() - saved > SAVED:
            folder.save_index(finished=False)
            saved = monotonic()
        return stop()

    known, given = record.get("index"), 0
    # of a known index some are missing if it was deleted; the same photos give the same again
    if known is None or len(index) < known["photos"]:
        given = index.fill(
            source, guard.setup.settings, look=look, progress=progress, stop=stop_or_save
        )
        if stop():
            folder.save_index(finished=False)
            return None
    if known is not None:
        if index.fingerprint() != known["fingerprint"]:
            raise DataError(
                f"'{folder.index}' is not the index that this build was begun with; "
                "build into another folder."
            )
        if not folder.index.exists():
            folder.save_index()
        return index

    if given > len(index):  # a list does so, of whose lines the first counts
        source.skipped["named twice"] = given - len(index)
    if not len(index):
        index.close()
        folder.index.unlink(missing_ok=True)
        folder.record.unlink()
        left_out = ", ".join(f"{n} {reason}" for reason, n in source.skipped.items())
        raise DataError(
            f"No photo was found in '{record['source']}'"
            + (f" (left out: {left_out}). {source.messages[0]}" if left_out
               else "; name a folder of pictures, .tar shards or Parquet, or a list of files.")
        )  # fmt: skip
    check_source(guard.setup.source)  # it may have vanished between two folders
    folder.save_index()
    record["index"] = {
        "photos": len(index),
        "fingerprint": index.fingerprint(),
        "skipped": dict(source.skipped),
        "messages": list(source.messages),
    }
    folder.write_record(record)
    return index


def _forgive(folder: BuildFolder, index: PhotoIndex, size: int) -> None:
    """Undo the chunks of photos that were set aside, so that those are tried again."""
    photos = index.set_aside()
    for number in {photo // size for photo in photos} | folder.with_set_aside():
        folder.undo(number)
    index.let_in(photos)  # last: until then the same command does it again
    folder.save_index()


def _run_chunks(
    folder: BuildFolder,
    record: dict[str, Any],
    index: PhotoIndex,
    guards: Sequence[Guard],
    summary: BuildSummary,
    actors: int | None,
    ray: str | None,
    progress: bool,
    stop: Stop,
) -> None:
    """Do all chunks that are not done; keep the record and the summary up to date."""
    setup = guards[0].setup
    size = setup.settings.photos_per_shard
    chunks = index.chunks(size)
    folder.journals.mkdir(exist_ok=True)
    done = {number for number in folder.done() if number < chunks}
    todo = [number for number in range(chunks) if number not in done]
    summary.done_before = sum(min(size, len(index) - number * size) for number in done)
    if not todo:
        return
    if ray is not None:
        from text2layer.photos.ray import run_on_ray

        for guard in guards:
            guard.close()
        results = run_on_ray(setup, todo, ray, actors, stop)
    else:
        if said := guards[0].devices():
            print(said, file=sys.stderr, flush=True)
        results = run_in_pool(guards[: len(todo)], _tasks(index, todo), stop)
    begun, devices = perf_counter(), dict[str, str]()
    bar = tqdm(
        total=len(index), initial=summary.done_before, desc="build", unit="photo",
        disable=not progress, smoothing=0.1,
    )  # fmt: skip
    try:
        with bar, closing(results):
            for result in results:
                before, devices = devices, merged(devices, result.devices)
                if ray is not None and devices != before:
                    print(in_words(result.devices), file=sys.stderr, flush=True)
                if "models" not in record:
                    record["models"] = result.model_hashes
                    folder.write_record(record)
                summary.add(result)
                bar.set_postfix(kept=summary.kept, refresh=False)
                bar.update(result.photos)
    finally:
        summary.seconds = perf_counter() - begun
        summary.interrupted = summary.done_before + summary.processed < len(index)
        if summary.processed:
            run = {"photos": summary.processed, "seconds": round(summary.seconds, 3),
                   "workers": actors or len(guards), "ray": ray is not None,
                   "peak_memory_mb": peak_memory_mb(), "devices": devices}  # fmt: skip
            record["devices"] = merged(record.get("devices", {}), devices)
            record["runs"] = [*record.get("runs", []), run][-RUNS_KEPT:]
            folder.write_record(record)


def peak_memory_mb() -> int | None:
    """Most memory that this process or one of its ended children held, in MB; None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return most // (1024 if platform.system() == "Linux" else 2**20)


def _tasks(index: PhotoIndex, numbers: list[int]) -> Iterator[Task]:
    for number in numbers:
        yield number, index.chunk(number)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _said(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)
