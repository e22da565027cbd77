"""`text2layer remove`, `move`, `scale` and `reorder`: layered files changed without a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from text2layer.cli.opening import open_layered
from text2layer.cli.outputs import check_output, deliver
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage

LayeredFile = Annotated[Path, typer.Argument(help="A layered file.", show_default=False)]
LayerName = Annotated[
    str,
    typer.Argument(help="Its name, or '#1' for the lowest foreground, '#2' ...",
                   show_default=False),
]  # fmt: skip
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Where to write; it may be the same file.",
                 show_default=False),
]  # fmt: skip


def remove(file: LayeredFile, layer: LayerName, output: Output) -> None:
    """Remove one layer from a layered file."""
    layered = _load(file, output)
    deliver(layered.remove_layer(layered.find_layer(layer)), output)


def move(
    file: LayeredFile,
    layer: LayerName,
    output: Output,
    by: Annotated[
        str | None, typer.Option(metavar="DX,DY", help="Pixels to the right and down.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="New position of the top left of its visible part."),
    ] = None,
) -> None:
    """Move one layer of a layered file; it may lie partly or wholly off the canvas."""
    if (by is None) == (to is None):
        raise InputError("Give one of --by DX,DY and --to X,Y.")
    layered = _load(file, output)
    index = layered.find_layer(layer)
    chosen = layered.foregrounds[index]
    x, y = _pair(by if by is not None else to or "")
    if to is not None:
        left, top = (chosen.box or (*chosen.offset, 0, 0))[:2]
        x, y = x - left, y - top
    deliver(layered.replace_layer(index, chosen.moved(x, y)), output)


def scale(
    file: LayeredFile,
    layer: LayerName,
    factor: Annotated[float, typer.Argument(help="2 is twice as wide and high, 0.5 half.")],
    output: Output,
) -> None:
    """Make one layer of a layered file larger or smaller about its middle."""
    layered = _load(file, output)
    index = layered.find_layer(layer)
    deliver(layered.replace_layer(index, layered.foregrounds[index].scaled(factor)), output)


def reorder(
    file: LayeredFile,
    layer: LayerName,
    place: Annotated[
        str, typer.Argument(help="up, down, top, bottom, or a number: 1 is the lowest foreground.")
    ],
    output: Output,
) -> None:
    """Put one layer of a layered file above or below others."""
    layered = _load(file, output)
    index, last = layered.find_layer(layer), len(layered.foregrounds) - 1
    words = {"up": min(index + 1, last), "down": max(index - 1, 0), "top": last, "bottom": 0}
    if place not in words and not (place.isdecimal() and 1 <= int(place) <= last + 1):
        raise InputError(
            f"{place!r} is no place among layers: say up, down, top, bottom, or 1 to {last + 1}."
        )
    target = words[place] if place in words else int(place) - 1
    deliver(layered.reorder_layer(index, target), output)


def _load(file: Path, output: Path) -> "LayeredImage":
    check_output(output)
    return open_layered(file)


def _pair(text: str) -> tuple[int, int]:
    try:
        x, y = (int(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is no pair of whole numbers; write it like 40,-10.") from None
    return x, y
