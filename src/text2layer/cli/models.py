"""What `text2layer info` shows of a model: its size, its settings, and the things it can draw."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from text2layer.errors import WeightsError

if TYPE_CHECKING:
    from text2layer.pipelines.learnt import LearntThing

WIDTH = 100  # columns of the list


def show_model(folder: Path, as_json: bool) -> None:
    """Print a model folder for people or, as JSON, for programs.

    Raises:
        WeightsError: it is no model, or damaged.
    """
    from text2layer.pipelines.learnt import read_learnt
    from text2layer.pipelines.loading import folder_beside, matting_folder, model_hash, read_index

    index, things = read_index(folder), read_learnt(folder)
    try:
        report = {
            "model": folder.resolve().name,
            "folder": str(folder),
            "model_hash": model_hash(folder),
            "size": index["default_size"],
            "steps": index["default_steps"],
            "guidance_scale": index["default_guidance_scale"],
            "text_encoder": index["text_encoder_name"],
            "fast": folder_beside(folder, "fast").is_dir(),
            "matting": matting_folder(folder) is not None,
        }
    except KeyError as error:
        raise WeightsError(
            f"{str(folder)!r} does not say its {error.args[0]}; the copy is damaged."
        ) from None
    if as_json:
        from dataclasses import asdict

        listed = {} if things is None else {"things": [asdict(thing) for thing in things]}
        typer.echo(json.dumps(report | listed, indent=2, ensure_ascii=False))
        return
    size = report["size"]
    typer.echo(f"{report['model']}: a text2layer model, {size} x {size} pixels")
    for name in ("folder", "model_hash", "steps", "guidance_scale", "text_encoder"):
        typer.echo(f"{name.replace('_', ' ')}: {report[name]}")
    for name, what in (("fast", "few steps (--fast)"), ("matting", "masks of pictures")):
        typer.echo(f"{what}: {'yes' if report[name] else 'no'}")
    if things is None:
        return
    learnt = [thing for thing in things if thing.is_learnt]
    less = [thing for thing in things if not thing.is_learnt]
    typer.echo(f"objects that it has learnt: {len(learnt)}")
    _list(learnt)
    if less:
        typer.echo(f"trained objects below the threshold: {len(less)}")
        _list(less)


def _list(things: list[LearntThing]) -> None:
    """Print names by style."""
    for style in dict.fromkeys(thing.style for thing in things):
        names = [thing.name for thing in things if thing.style == style]
        typer.echo(f"  {style} ({len(names)}):")
        text = textwrap.fill(
            ", ".join(names), WIDTH, initial_indent="    ", subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        typer.echo(text)
