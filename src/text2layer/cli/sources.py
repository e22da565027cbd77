"""Opens what a person names as data: a picture library, or a folder of shards."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer.data.source import SampleSource
    from text2layer.data.world import World


def choose_device(device: str) -> str:
    """Return cpu or cuda; auto takes the GPU where there is one.

    Of several processes that torchrun starts on a machine each gets a GPU of its own.

    Raises:
        InputError: for another word, cuda where there is none, or more processes than GPUs.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu or cuda, not {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("This machine has no CUDA device; use --device cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and (own := os.environ.get("LOCAL_RANK")):
        if int(own) >= torch.cuda.device_count():
            raise InputError(
                f"Process {own} of this machine has no GPU of its own; start "
                f"{torch.cuda.device_count()} processes (torchrun --nproc-per-node)."
            )
        return f"cuda:{own}"
    return device


def first_process() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def is_library(data: str | Path) -> bool:
    """Whether a folder is a picture library rather than a folder of shards."""
    return (Path(data) / "foregrounds.jsonl").is_file()


def open_source(
    data: str | Path,
    split: str,
    size: int,
    device: str,
    style_weights: Mapping[str, float] | None = None,
    num_foregrounds: int = 1,
    world: "World | None" = None,
) -> "SampleSource":
    """Return the samples of one split at `size` pixels on `device`; what is left out is said.

    `style_weights` are the shares of a library's styles, `num_foregrounds` the objects of a picture
    that is composed from it, `world` how; shards are taken as they are.

    Raises:
        InputError: nothing was named, or several foregrounds are wanted of shards.
        DataError: it is neither a library nor a folder of shards, or has no sample of that split.
    """
    if not str(data):
        raise InputError("Name the data: --data LIBRARY, or a folder of shards.")
    device = choose_device(device)
    if is_library(data):
        from text2layer.data.composer import Composer
        from text2layer.data.library import Library
        from text2layer.data.world import World

        library = Library(data)
        source: SampleSource = Composer(
            library, split, size, device, style_weights=style_weights,
            num_foregrounds=num_foregrounds, progress=on_terminal(), world=world or World(),
        )  # fmt: skip
        report_skipped(library.skipped, library.messages)
    elif num_foregrounds > 1:
        raise InputError(
            f"Samples of {num_foregrounds} foregrounds are composed from a picture library; "
            f"'{data}' is none, and shards hold one foreground a sample."
        )
    else:
        from text2layer.data.shards import ShardComposer

        beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        workers = max(4, (os.cpu_count() or 1) // beside)
        shards = ShardComposer(data, split, size, device, workers=workers, progress=on_terminal())
        report_skipped(shards.skipped, shards.messages)
        source = shards
    return source


def on_terminal() -> bool:
    """Whether stderr is a terminal, where a progress bar is watched and not stored."""
    return sys.stderr.isatty() and first_process()


def report_skipped(skipped: Mapping[str, int], messages: Iterable[str]) -> None:
    """Say on stderr how many records were left out and why, with the first few cases."""
    if not first_process():
        return
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        typer.echo(f"left out: {reasons}", err=True)
    for message in messages:
        typer.echo(f"  {message}", err=True)
