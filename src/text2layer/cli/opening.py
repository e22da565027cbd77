"""Layered files that come in: options for reading them, and what is said about them on stderr."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from text2layer import LayeredImage

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


def open_layered(path: Path, merge: bool = False, max_pixels: int | None = None) -> "LayeredImage":
    """Read a layered file; say on stderr what of it the layers do not have."""
    from text2layer import io

    loaded = io.read(path, merge=merge, max_pixels=max_pixels or io.MAX_PIXELS)
    for note in loaded.notes:
        typer.echo(f"note: {path}: {note}", err=True)
    return loaded.layered
