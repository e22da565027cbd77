"""Writes composed samples into shards: what the command `dataset compose` does."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from text2layer.data.captions import background_caption, caption, foreground_caption
from text2layer.data.composer import Composer, check_split
from text2layer.data.library import BackgroundRecord, ForegroundRecord, Library
from text2layer.data.schema import Sample, SampleMetadata
from text2layer.data.shard_file import MARK, finished_shards, marked_unfinished
from text2layer.data.shards import ShardWriter
from text2layer.data.source import Placement
from text2layer.errors import DataError, InputError, Text2LayerError
from text2layer.files import remove_unfinished, try_lock, writing
from text2layer.tensors import tensor_to_colour, tensor_to_mask

BATCH = 16
LOCK = ".lock"  # in the folder while samples are composed


def compose_shards(
    library: Library | str | Path,
    out: str | Path,
    count: int | Mapping[str, int],
    seed: int = 0,
    size: int | tuple[int, int] = 256,
    samples_per_shard: int = 1000,
    *,
    split: str = "train",
    styles: Sequence[str] | None = None,
    style_weights: Mapping[str, float] | None = None,
    shadow_probability: float = 0.3,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Compose samples into shards, with a summary and the attributions.

    A run that was stopped goes on when it is called again with the same arguments: what lies in
    finished shards is drawn anew, not rendered, so that the result is the same in every byte.

    Args:
        library: the library or its folder.
        out: folder for the shards; it must be empty or new, or that of the stopped run.
        count: number of samples of `split`, or of several: {"train": 9000, "val": 200}.
        seed: the same seed and library give the same shards.
        size: frame as (width, height) in pixels, or one number for a square.
        samples_per_shard: most samples in one tar.
        split: "train", "val" or "test"; not looked at if `count` names the splits.
        styles: keep only foregrounds of these styles.
        style_weights: relative share of each style.
        shadow_probability: share of rendered objects that get a contact shadow.
        device: where the samples are rendered.
        progress: show progress bars on stderr.

    Returns:
        The summary that also lies in `out/summary.json`.

    Raises:
        DataError: the folder is not empty, or the library cannot be used.
        InputError: another process composes into the folder, or count or another setting is out of
            range.
    """
    folder = Path(out)
    counts = {split: count} if isinstance(count, int) else dict(count)
    if not counts or min(counts.values()) < 1:
        raise InputError(f"The number of samples is {count}; use 1 or more.")
    stopped = (folder / MARK).is_file()
    if folder.exists() and not stopped and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"'{folder}' is not empty; choose a new folder for the shards.")
    if not isinstance(library, Library):
        library = Library(library)
    made_by = {
        "tool": "dataset compose", "library": library.fingerprint, "samples": counts,
        "seed": seed, "size": size, "samples_per_shard": samples_per_shard, "styles": styles,
        "style_weights": style_weights, "shadow_probability": shadow_probability,
    }  # fmt: skip
    made_by = json.loads(json.dumps(made_by, default=list))  # tuples as lists, as in the file
    if stopped and _read_mark(folder) != made_by:
        raise DataError(
            f"'{folder}' holds the unfinished shards of other arguments or another library; give "
            "those again, or choose a new folder."
        )
    for split in counts:  # all of them before the first shard of one
        wanted = [r for r in library.foregrounds_of(split) if styles is None or r.style in styles]
        check_split(library, split, wanted, library.backgrounds_of(split), styles)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / LOCK)
    if lock is None:
        raise InputError(
            f"Another process composes into '{folder}'; wait for it, or choose another folder."
        )
    try:
        remove_unfinished(folder)
        with marked_unfinished(folder, made_by):
            summary = _compose(
                library, folder, counts, seed, size, samples_per_shard, styles=styles,
                style_weights=style_weights, shadow_probability=shadow_probability, device=device,
                progress=progress,
            )  # fmt: skip
    except Text2LayerError:
        if not stopped and not any(folder.glob("*.tar")):
            (folder / MARK).unlink(missing_ok=True)  # nothing was begun
        raise
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if new:
            with suppress(OSError):
                folder.rmdir()  # if it is empty
    return summary


def _read_mark(folder: Path) -> Any:
    try:
        return json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _compose(
    library: Library,
    folder: Path,
    counts: Mapping[str, int],
    seed: int,
    size: int | tuple[int, int],
    samples_per_shard: int,
    *,
    styles: Sequence[str] | None,
    style_weights: Mapping[str, float] | None,
    shadow_probability: float,
    device: str | torch.device,
    progress: bool,
) -> dict[str, Any]:
    """Write what is not there yet of the shards, then attributions and summary."""
    used: dict[str, ForegroundRecord | BackgroundRecord] = {}  # by file
    shards: list[str] = []
    for number, (name, wanted) in enumerate(counts.items()):
        composer = Composer(
            library, name, size, device, styles=styles, style_weights=style_weights,
            shadow_probability=shadow_probability, progress=progress,
        )  # fmt: skip
        finished = finished_shards(folder, name)
        done = min(wanted, len(finished) * samples_per_shard)
        samples = _samples(composer, wanted, name, seed + number, done)
        with ShardWriter(folder, samples_per_shard, prefix=name, finished=finished) as writer:
            for sample, records in tqdm(
                samples, f"compose {name}", wanted, unit="sample", disable=not progress
            ):
                if sample is not None:
                    writer.write(sample)
                used |= {record.file: record for record in records}
        shards += [path.name for path in writer.paths]
    summary = {
        "samples": dict(counts),
        "size": [composer.width, composer.height],
        "seed": seed,
        "shards": shards,
        "library": library.fingerprint,
        "skipped": dict(library.skipped),
        "messages": library.messages,
        "licenses": dict(sorted(Counter(record.license for record in used.values()).items())),
    }
    with writing(folder / "ATTRIBUTION.md") as file:
        file.write(attribution(used.values()).encode())
    with writing(folder / "summary.json") as file:
        file.write((json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode())
    return summary


def attribution(records: Iterable[ForegroundRecord | BackgroundRecord]) -> str:
    """A Markdown list of everybody whose pictures were used, with licence and source."""
    pictures = Counter(
        (record.author or "unknown author", record.source, record.license) for record in records
    )
    lines = [
        f"- {author}, {source}, {license_}: {count} picture{'s' if count > 1 else ''}"
        for (author, source, license_), count in sorted(pictures.items())
    ]
    return "# Makers of the pictures in these shards\n\n" + "\n".join(lines) + "\n"


def _samples(
    composer: Composer, count: int, split: str, seed: int, done: int = 0
) -> Iterator[tuple[Sample | None, tuple[ForegroundRecord, BackgroundRecord]]]:
    """Compose `count` samples, each with the records it was made from.

    The first `done` are there already: None stands for them, and all but the last few are not
    rendered.
    """
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    for first in range(0, count, BATCH):
        placements = composer.draw(min(BATCH, count - first), generator)
        if first + len(placements) <= done:
            for placement in placements:
                records = (
                    composer.foregrounds[placement.foreground],
                    composer.backgrounds[placement.background],
                )
                _metadata(placement, *records, split, rng)  # draws its captions
                yield None, records
            continue
        batch = composer.compose_at(placements)
        foregrounds = tensor_to_colour(batch.foreground)
        backgrounds, images = tensor_to_colour(batch.background), tensor_to_colour(batch.image)
        masks = tensor_to_mask(batch.mask)
        for index, placement in enumerate(batch.placements):
            foreground = composer.foregrounds[placement.foreground]
            background = composer.backgrounds[placement.background]
            metadata = _metadata(placement, foreground, background, split, rng)
            sample = Sample(
                key=f"{split}-{first + index:09d}",
                foreground=foregrounds[index],
                mask=masks[index],
                background=backgrounds[index],
                image=images[index],
                text=metadata.captions["whole"],
                metadata=metadata,
            )
            yield sample if first + index >= done else None, (foreground, background)


def _metadata(
    placement: Placement,
    foreground: ForegroundRecord,
    background: BackgroundRecord,
    split: str,
    rng: random.Random,
) -> SampleMetadata:
    parts = {
        name: {key: getattr(record, key) for key in ("id", "source", "license", "author")}
        for name, record in (("foreground", foreground), ("background", background))
    }
    authors = dict.fromkeys(filter(None, (foreground.author, background.author)))
    return SampleMetadata(
        source=" + ".join(dict.fromkeys((foreground.source, background.source))),
        license=" AND ".join(dict.fromkeys((foreground.license, background.license))),
        author="; ".join(authors),
        split=split,
        captions={
            "whole": caption(placement, foreground, background, rng),
            "foreground": foreground_caption(foreground, rng),
            "background": background_caption(background, rng),
        },
        extra={"parts": parts, "placement": asdict(placement)},
    )
