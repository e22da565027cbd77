"""Where results go: names, checks before long work starts, writing, previews, many at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from mimetypes import MimeTypes
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from text2layer.errors import FormatError, InputError
from text2layer.files import check_local, refusals

if TYPE_CHECKING:
    from text2layer.layers import LayeredImage


def numbered(output: Path, count: int) -> list[Path]:
    """Return `count` names: FILE itself for one picture, FILE-1, FILE-2, ... for several."""
    from text2layer import io

    if count == 1:
        return [output]
    if io.is_standard(output):
        raise InputError(f"Standard output takes one picture, not {count}: give a file's name.")
    return [output.with_name(f"{output.stem}-{i}{output.suffix}") for i in range(1, count + 1)]


def check_outputs(paths: Iterable[Path]) -> None:
    """Raise FormatError or InputError for the first path that a layered picture cannot go to."""
    for path in paths:
        check_output(path)


def check_output(path: Path) -> None:
    """Check that the suffix names a format that can be written, and the place a layered file."""
    from text2layer import io
    from text2layer.io import tiff

    if io.is_standard(path):
        io.check_standard_output(path)
        return
    suffix = path.suffix.lower()
    if suffix and not path.is_dir() and not (suffix in io.FORMATS and io.FORMATS[suffix].writable):
        known = ", ".join(name for name, kind in io.FORMATS.items() if kind.writable)
        raise FormatError(f"{path} cannot be written: end the name in one of {known}.")
    if suffix in (".tif", ".tiff"):
        tiff.check_writable()
    if path.is_dir() and any(path.iterdir()) and not (path / "manifest.json").is_file():
        raise FormatError(f"{path} holds files of another kind; choose another folder.")
    check_writable(path)


def check_picture(path: Path) -> None:
    """Check that a flat picture, such as a preview, can be written to `path`."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise FormatError(f"{path} is not a name for a PNG picture: end it in .png.")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise InputError unless a file of this name can be made, or replaced."""
    check_local(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"The folder for {path} does not exist: make it first.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{path} cannot be written: permission is denied; choose another place.")


def deliver(layered: LayeredImage, output: Path, preview: Path | None = None) -> None:
    """Write a layered picture, and all its parts side by side if asked; print the names."""
    from text2layer import io

    io.save(layered, output)
    echo_name(output, output)
    if preview:
        show_preview(layered, preview, output)


def show_preview(layered: LayeredImage, path: Path, output: Path) -> None:
    """Write all parts side by side; print the name. `output` is where the picture went."""
    write_preview(layered, path)
    echo_name(path, output)


def echo_name(path: Path, output: Path) -> None:
    """Print the name of a file that was written; on stderr if stdout has got the picture itself."""
    from text2layer import io

    in_the_way = io.is_standard(output)
    if path != output or not in_the_way:
        typer.echo(path, err=in_the_way)


def write_preview(layered: LayeredImage, path: Path) -> None:
    """Write the parts side by side over the prompt, as a PNG with how it was made as XMP."""
    import numpy as np

    from text2layer.data.contact_sheet import grid
    from text2layer.files import writing
    from text2layer.io import pictures, xmp

    alone = [layered.on_canvas(layer) for layer in layered.foregrounds]
    cutouts = [np.dstack(one) for one in alone or [(layered.foreground, layered.mask)]]
    parts = [layered.composite, *cutouts, layered.mask, layered.background]
    sheet = grid([parts], [str(layered.metadata.get("prompt", ""))])
    with writing(path) as file:
        pictures.write_png(file, np.asarray(sheet), xmp.write_packet(layered))


SLUG_LENGTH = 40  # characters of a prompt that its file's name keeps
Item = TypeVar("Item")
To = Annotated[
    str | None,
    typer.Option("--to", metavar="SUFFIX", help="Of several: the format of the results, as .ora."),
]


# kinds of files for which a folder's name is taken by mistake; `lib.a` is none of them
FILE_KINDS = ("image/", "video/", "audio/", "text/html", "text/plain", "text/css", "text/csv",
              "application/json", "application/zip", "application/pdf")  # fmt: skip


def in_folder(
    given: str | Path,
    stems: Iterable[str],
    suffix: str,
    check: Callable[[Path], None] = check_output,
) -> list[Path]:
    """Make the folder of several results, and return a name in it for each.

    Args:
        given: the folder; it may exist. A name like that of a file, as `out.psd`, needs a slash at
            its end.
        stems: of the names.
        suffix: of all names.
        check: raises for a name that cannot be written.

    Raises:
        FormatError: the suffix names no format that can be written, or the folder is a file or a
            picture's.
        InputError: two results would have one name, or the folder cannot be made.
    """
    folder = Path(given)
    if is_named_as_file(given):
        raise FormatError(
            f"{folder} is no folder for several results; give the name of one, or with a slash at "
            f"its end: {folder.name}/."
            if not folder.exists()
            else f"{folder} is no folder for several results; give the name of one."
        )
    if (folder / "manifest.json").is_file():
        raise FormatError(
            f"{folder} is the folder of one layered picture, no folder for several results; give "
            "another."
        )
    dotted = suffix if suffix.startswith(".") else f".{suffix}"
    paths = [folder / f"{stem}{dotted}" for stem in stems]
    twice = next((path for place, path in enumerate(paths) if path in paths[:place]), None)
    if twice:
        raise InputError(f"Two of the results would be {twice}; do them one after another.")
    if not folder.exists():
        check_writable(folder)
        with refusals(folder):
            folder.mkdir()
    for path in paths:
        check(path)
    return paths


def is_named_as_file(given: str | Path) -> bool:
    """Whether a path is a file, or does not exist and has the suffix of one: `film.avi`.

    A slash at its end says that a folder is meant.
    """
    from text2layer import io

    path = Path(given)
    if path.exists():
        return not path.is_dir()
    if ends_as_folder(given):
        return False
    # of Python's own table alone, so that every computer has the same suffixes
    kind = MimeTypes(filenames=()).types_map[True].get(path.suffix.lower(), "")
    return path.suffix.lower() in io.FORMATS or kind.startswith(FILE_KINDS)


def ends_as_folder(given: str | Path) -> bool:
    """Whether a name was given with a slash at its end, which `Path` forgets."""
    return str(given).endswith(("/", os.sep))


def slug(number: int, prompt: str) -> str:
    """A file's name for the prompt of a line: `003-a-red-boat`."""
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].rstrip("-")
    return f"{number:03d}-{words}" if words else f"{number:03d}"


def each(items: Sequence[tuple[Item, Path]], work: Callable[[Item, Path], None]) -> None:
    """Do something for each item and its result's path; those that fail are named in the end.

    Raises:
        typer.Exit: with 1, if any failed.
    """
    from tqdm import tqdm

    from text2layer.cli import sentence
    from text2layer.cli.sources import on_terminal

    failed = []
    for item, path in tqdm(items, disable=not on_terminal()):
        try:
            work(item, path)
        except Exception as error:  # the rest goes on
            failed.append(f"{item}: {sentence(error)}")
    typer.echo(f"{len(items) - len(failed)} of {len(items)} done", err=True)
    for line in failed:
        typer.echo(f"Error: {line}", err=True)
    if failed:
        raise typer.Exit(1)
