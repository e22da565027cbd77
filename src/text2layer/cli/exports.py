"""`convert --to sprites` and `convert --to parallax`: files for games and films."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.outputs import (
    check_writable,
    each,
    echo_name,
    ends_as_folder,
    in_folder,
    is_named_as_file,
)
from text2layer.errors import FormatError, InputError

if TYPE_CHECKING:
    from text2layer.layers import LayeredImage

SUFFIXES = {"sprites": (".json",), "parallax": (".webp", ".gif", ".mp4")}  # the first by itself
OPTIONS = {
    "sprites": ("hidden", "max_atlas", "pivot"),
    "parallax": ("depths", "move", "seconds", "fps", "size"),
}
Hidden = Annotated[bool, typer.Option("--hidden", help="Sprites: of hidden layers as well.")]
MaxAtlas = Annotated[
    int | None, typer.Option(help="Sprites: largest side of an atlas in pixels [4096].")
]
Pivot = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y",
        help="Sprites: point about which one turns, 0,0 its top left, 1,1 its bottom right "
        "[0.5,0.5].",
    ),
]
Depths = Annotated[
    str | None,
    typer.Option(
        metavar="D,D,...",
        help="Parallax: how much each layer moves with the camera, background first [0.25 to 1].",
    ),
]
Move = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y",
        help="Parallax: how far the camera swings, in percent of width and height [3,1]; or a "
        'round trip through several points, "0,0 4,0 4,2".',
    ),
]
Seconds = Annotated[float | None, typer.Option(help="Parallax: length of the loop [4].")]
Fps = Annotated[float | None, typer.Option(help="Parallax: frames a second [25].")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH", help="Parallax: of the frames in pixels [the canvas, at most 1280 a side]."
    ),
]


def export(
    sources: Sequence[Path],
    given: str,
    to: str,
    options: dict[str, Any],
    read: Callable[[Path], LayeredImage],
) -> None:
    """Write each source as sprites or parallax: to a file of that kind, or into a folder.

    Args:
        sources: layered files.
        given: a file whose suffix belongs to `to`, or a folder.
        to: a key of `SUFFIXES`.
        options: what was given, see `export_options`.
        read: opens a source.
    """
    from text2layer import io
    from text2layer.io.parallax import save_parallax
    from text2layer.io.sprites import save_sprites

    target = Path(given)
    if io.is_standard(target):
        raise InputError(f"--to {to} writes files: give the name of a folder.")

    def one(source: Path, result: Path) -> None:
        layered = read(source)
        if to == "sprites":
            written = save_sprites(layered, result, **options)
        else:
            save_parallax(layered, result, **options)
            written = [result]
        for path in written:
            echo_name(path, path)

    is_folder = target.is_dir() or ends_as_folder(given)
    if target.suffix.lower() in SUFFIXES[to] and not is_folder:
        if len(sources) > 1:
            raise InputError(f"{target} is one file; give a folder for {len(sources)} sources.")
        check_writable(target)
        one(sources[0], target)
        return
    if is_named_as_file(given):
        raise FormatError(
            f"{target} cannot be written: --to {to} needs a folder, or a name in "
            f"{' or '.join(SUFFIXES[to])}."
        )
    stems = ("stdin" if io.is_standard(source) else source.stem for source in sources)
    results = in_folder(given, stems, SUFFIXES[to][0], check_writable)
    each(list(zip(sources, results, strict=True)), one)


def export_options(to: str | None, **given: Any) -> dict[str, Any]:
    """What was given of the options above, as the functions of `text2layer.io` take it.

    Raises:
        InputError: an option that belongs to another kind of export, or cannot be read.
    """
    given = {
        name: value for name, value in given.items() if value is not None and value is not False
    }
    for name in given:
        kind = next(kind for kind, names in OPTIONS.items() if name in names)
        if kind != to:
            raise InputError(f"--{name.replace('_', '-')} goes with --to {kind}.")
    if "pivot" in given:
        given["pivot"] = tuple(_numbers("pivot", given["pivot"], 2))
    if "depths" in given:
        given["depths"] = _numbers("depths", given["depths"])
    if "move" in given:
        given["move"] = [tuple(_numbers("move", point, 2)) for point in given["move"].split()]
    if "size" in given:
        sides = re.fullmatch(r"(\d{1,6})[x,](\d{1,6})", given["size"])
        if sides is None:
            raise InputError(f"--size is WIDTHxHEIGHT, as 640x360, not {given['size']!r}.")
        given["size"] = int(sides[1]), int(sides[2])
    return given


def _numbers(name: str, text: str, count: int | None = None) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if not values or count not in (None, len(values)):
        form = "X,Y" if count else "D,D,..."
        raise InputError(f"--{name} is {form} in numbers, not {text!r}.")
    return values
