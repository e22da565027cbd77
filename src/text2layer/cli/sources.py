"""What commands share where data is opened: the device, the progress bar, what was left out."""

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


def open_source(
    data: str | Path,
    split: str,
    size: int,
    device: str,
    style_weights: Mapping[str, float] | None = None,
    num_foregrounds: int = 1,
    world: "World | None" = None,
) -> "SampleSource":
    """`data.known_samples.open_samples` for a command: what is left out is said on stderr."""
    from text2layer.data.known_samples import open_samples

    return open_samples(
        data, split, size, choose_device(device), style_weights=style_weights,
        num_foregrounds=num_foregrounds, world=world, progress=on_terminal(),
        report=report_skipped,
    )  # fmt: skip


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
