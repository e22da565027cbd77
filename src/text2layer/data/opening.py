"""Opens what a person names as data: a picture library, or a folder of shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch

from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.data.shards import ShardComposer
from text2layer.data.world import World
from text2layer.errors import InputError

Report: TypeAlias = Callable[[Mapping[str, int], Iterable[str]], None]


def is_library(data: str | Path) -> bool:
    """Whether a folder is a picture library rather than a folder of shards."""
    return (Path(data) / "foregrounds.jsonl").is_file()


def open_samples(
    data: str | Path,
    split: str,
    size: int,
    device: str | torch.device = "cpu",
    *,
    style_weights: Mapping[str, float] | None = None,
    num_foregrounds: int = 1,
    world: World | None = None,
    progress: bool = False,
    report: Report | None = None,
) -> Composer | ShardComposer:
    """The samples of one split.

    Args:
        data: folder of a library or of shards.
        split: see `Composer`.
        size: pixels, width and height.
        device: where pictures are held.
        style_weights: shares of a library's styles; shards are taken as they are.
        num_foregrounds: objects of a picture that is composed from a library.
        world: how a library's pictures are composed; by default widely.
        progress: show progress bars on stderr.
        report: is told how many records were left out by reason, and the first few cases.

    Raises:
        InputError: nothing was named, or several foregrounds are wanted of shards.
        DataError: it is neither a library nor a folder of shards, or has no sample of that split.
    """
    if not str(data):
        raise InputError("Name the data: --data LIBRARY, or a folder of shards.")
    if is_library(data):
        library = Library(data)
        composer = Composer(
            library, split, size, device, style_weights=style_weights,
            num_foregrounds=num_foregrounds, progress=progress, world=world or World(),
        )  # fmt: skip
        if report is not None:
            report(library.skipped, library.messages)
        return composer
    if num_foregrounds > 1:
        raise InputError(
            f"Samples of {num_foregrounds} foregrounds are composed from a picture library; "
            f"'{data}' is none, and shards hold one foreground a sample."
        )
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    workers = max(4, (os.cpu_count() or 1) // beside)
    shards = ShardComposer(data, split, size, device, workers=workers, progress=progress)
    if report is not None:
        report(shards.skipped, shards.messages)
    return shards
