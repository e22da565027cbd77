"""Many at once: the results' names in a folder, a bar, and failures that do not stop the rest."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from text2layer.errors import FormatError, InputError

SLUG_LENGTH = 40  # characters of a prompt that its file's name keeps
Item = TypeVar("Item")
To = Annotated[
    str | None,
    typer.Option("--to", metavar="SUFFIX", help="Of several: the format of the results, as .ora."),
]


def in_folder(folder: Path, stems: Iterable[str], suffix: str) -> list[Path]:
    """Make the folder of several results, and return a name in it for each.

    Raises:
        FormatError: the suffix names no format that can be written, or the folder is a file or a
            picture's.
        InputError: two results would have one name, or the folder cannot be made.
    """
    from text2layer import io
    from text2layer.cli.outputs import check_outputs, check_writable

    named_as_file = folder.suffix.lower() in io.FORMATS and not folder.is_dir()
    if folder.is_file() or named_as_file or (folder / "manifest.json").is_file():
        raise FormatError(f"{folder} is no folder for several results; give -o FOLDER/.")
    dotted = suffix if suffix.startswith(".") else f".{suffix}"
    paths = [folder / f"{stem}{dotted}" for stem in stems]
    twice = next((path for place, path in enumerate(paths) if path in paths[:place]), None)
    if twice:
        raise InputError(f"Two of the results would be {twice}; do them one after another.")
    if not folder.exists():
        check_writable(folder)
        folder.mkdir()
    check_outputs(paths)
    return paths


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

    from text2layer.cli.group import sentence
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
