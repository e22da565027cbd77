"""References for `text2layer generate`: a cut-out from a file, or the nearest of a library."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from text2layer import Layer, LayeredImage
    from text2layer.data.library import ForegroundRecord, Library


def open_reference(path: Path) -> "LayeredImage":
    """Open a cut-out, named after its file.

    Raises:
        InputError: it has no transparency.
    """
    from text2layer.cli.opening import open_layered
    from text2layer.errors import InputError
    from text2layer.layers import clean_name

    layered = open_layered(path)
    if not layered.foregrounds:
        raise InputError(f"{path} has no transparency; give a cut-out with an alpha channel.")
    if len(layered.foregrounds) == 1:
        named = layered.foregrounds[0].replace(name=clean_name(path.name, "Reference"))
        return layered.replace_layer(0, named)
    return layered


def reference_from(library: "Library", prompt: str, pipe: Any) -> "Layer":
    """Return the cut-out of a library that is nearest to the prompt; say on stderr which it is."""
    from functools import partial

    from text2layer.data.cutout_search import caption_vectors, find_cutout

    embed = partial(caption_vectors, pipe.tokenizer, pipe.text_encoder)
    record, _ = find_cutout(library.foregrounds, prompt, embed)
    typer.echo(f"reference {describe(record)}", err=True)
    layer = open_reference(library.path(record)).foregrounds[0]
    said = {name: getattr(record, name) for name in ("caption", "source", "author", "license")}
    return layer.replace(name=record.id, metadata={k: v for k, v in said.items() if v})


def describe(record: "ForegroundRecord") -> str:
    """`fox-3: a fox (3d icon), from PACKAGE, by AUTHOR, LICENCE`."""
    author = f", by {record.author}" if record.author else ""
    return (
        f"{record.id}: {record.caption} ({record.style}), from {record.source}{author}, "
        f"{record.license}"
    )
