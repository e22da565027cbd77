"""What commands share where something comes in: device, progress bar, samples, references."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer import Layer, LayeredImage
    from text2layer.data.library import ForegroundRecord, Library
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
    world: World | None = None,
) -> SampleSource:
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


def open_reference(path: Path) -> LayeredImage:
    """Open a cut-out, named after its file.

    Raises:
        InputError: it has no transparency.
    """
    from text2layer.errors import InputError
    from text2layer.layers import clean_name

    layered = open_layered(path)
    if not layered.foregrounds:
        raise InputError(f"{path} has no transparency; give a cut-out with an alpha channel.")
    if len(layered.foregrounds) == 1:
        named = layered.foregrounds[0].replace(name=clean_name(path.name, "Reference"))
        return layered.replace_layer(0, named)
    return layered


def reference_from(library: Library, prompt: str, pipe: Any) -> Layer:
    """Return the cut-out of a library that is nearest to the prompt; say on stderr which it is."""
    from functools import partial

    from text2layer.data.cutout_search import caption_vectors, find_cutout

    embed = partial(caption_vectors, pipe.tokenizer, pipe.text_encoder)
    record, _ = find_cutout(library.foregrounds, prompt, embed)
    typer.echo(f"reference {describe(record)}", err=True)
    layer = open_reference(library.path(record)).foregrounds[0]
    said = {name: getattr(record, name) for name in ("caption", "source", "author", "license")}
    return layer.replace(name=record.id, metadata={k: v for k, v in said.items() if v})


def describe(record: ForegroundRecord) -> str:
    """`fox-3: a fox (3d icon), from PACKAGE, by AUTHOR, LICENCE`."""
    author = f", by {record.author}" if record.author else ""
    return (
        f"{record.id}: {record.caption} ({record.style}), from {record.source}{author}, "
        f"{record.license}"
    )


Merge = Annotated[
    bool,
    typer.Option(
        "--merge",
        help="Merge what cannot be kept as a layer (effects, adjustments, ...) and say what.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1, help="Limit for each picture of a file; all together may have 4 times as many."
    ),
]


def open_layered(path: Path, merge: bool = False, max_pixels: int | None = None) -> LayeredImage:
    """Read a layered file; say on stderr what of it the layers do not have."""
    from text2layer import io

    loaded = io.read(path, merge=merge, max_pixels=max_pixels or io.MAX_PIXELS)
    for note in loaded.notes:
        typer.echo(f"note: {path}: {note}", err=True)
    return loaded.layered
