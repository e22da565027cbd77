"""`text2layer convert` and `text2layer info`: layered files without a model, and models."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.blend_modes import NORMAL
from text2layer.cli import exports
from text2layer.cli.outputs import each, in_folder
from text2layer.cli.sources import MaxPixels, Merge, open_layered
from text2layer.errors import InputError, WeightsError

if TYPE_CHECKING:
    from text2layer.pipelines.loading import LearntThing


def convert(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...",
            help="A layered file, a folder, or a single picture; - is stdin; or several.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="Where to write; the suffix chooses the format; - is stdout (PNG; psd:- is PSD). "
            "FOLDER/ for several, with --to.",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="SUFFIX",
            help="Of several: the format of the results, as .ora. Or sprites (trimmed layers on an "
            "atlas, JSON) or parallax (a film: WebP, or OUT.gif, OUT.mp4); OUT is a folder then, "
            "or a file.",
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            help="What one picture shows: composite, foreground (with alpha), background or mask."
        ),
    ] = "composite",
    alpha: Annotated[
        str,
        typer.Option(
            help="Where PSD and TIFF hold alpha: transparency, or mask (beside the layer)."
        ),
    ] = "transparency",
    merge: Merge = False,
    max_pixels: MaxPixels = None,
    hidden: exports.Hidden = False,
    max_atlas: exports.MaxAtlas = None,
    pivot: exports.Pivot = None,
    depths: exports.Depths = None,
    move: exports.Move = None,
    seconds: exports.Seconds = None,
    fps: exports.Fps = None,
    size: exports.Size = None,
) -> None:
    """Rewrite layered files in another format; of several, those that fail are named in the end."""
    from text2layer import io
    from text2layer.cli.outputs import check_output, echo_name

    def one(source: Path, result: Path) -> None:
        if len(sources) > 1 and result.exists() and result.samefile(source):
            raise InputError(f"{result} is the file itself; choose another folder.")
        picture = open_layered(source, merge, max_pixels)
        io.save(picture, result, part=part, alpha=alpha)
        echo_name(result, result)

    options = exports.export_options(
        to, hidden=hidden, max_atlas=max_atlas, pivot=pivot, depths=depths, move=move,
        seconds=seconds, fps=fps, size=size,
    )  # fmt: skip
    if to in exports.SUFFIXES:
        if part != "composite" or alpha != "transparency":
            raise InputError(f"--part and --alpha do not go with --to {to}.")
        exports.export(
            sources, target, to, options, lambda path: open_layered(path, merge, max_pixels)
        )
        return
    if to is None:
        if len(sources) > 1:
            raise InputError("Several files need --to, as --to .ora, and a folder as OUT.")
        check_output(Path(target))
        one(sources[0], Path(target))
        return
    results = in_folder(target, (source.stem for source in sources), to)
    each(list(zip(sources, results, strict=True)), one)


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A layered file or folder; or a model: its folder, or 'base'."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Show what is inside a layered file, and how it was made; of a model, what it can draw."""
    if (model := _model_folder(file)) is not None:
        show_model(model, as_json)
        return
    from text2layer import io

    report = io.inspect(file, max_pixels=max_pixels or io.MAX_PIXELS)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    width, height = report["size"]
    typer.echo(f"{file}: {report['format']}, {width} x {height} pixels")
    typer.echo("layers, top first:")
    for layer in reversed(report["layers"]):
        typer.echo(f"  {_layer_line(layer)}")
        _echo_fields(layer["metadata"], indent=6)
    typer.echo(f"  {report['background']['name']}")
    _echo_fields(report["metadata"] | {"digital_source_type": report["digital_source_type"]}, 0)
    for note in report["notes"]:
        typer.echo(f"note: {note}")


def _model_folder(file: Path) -> Path | None:
    """The folder of the model that `file` names; None where it names something else."""
    if (file / "model_index.json").is_file():
        return file
    if str(file) != "base" or file.exists():
        return None
    from text2layer.pipelines import released_model

    return released_model()


def _layer_line(layer: dict[str, Any]) -> str:
    """`Foreground  120 x 80 at (10, -4), multiply, hidden`; only what is unusual is said."""
    (width, height), (x, y) = layer["size"], layer["offset"]
    line = f"{layer['name']}  {width} x {height} at ({x}, {y})"
    if layer["opacity"] < 1:
        line += f", opacity {layer['opacity']:.0%}"
    if layer["blend_mode"] != NORMAL:
        line += f", {layer['blend_mode']}"
    return line if layer["visible"] else f"{line}, hidden"


def _echo_fields(metadata: dict[str, Any], indent: int) -> None:
    """Print metadata a line each: `guidance scale: 3.0`; what is empty is left out."""
    for name, value in metadata.items():
        if value not in (None, "", [], {}):
            plain = isinstance(value, str) and value.isprintable()  # no line breaks, no escapes
            shown = value if plain else json.dumps(value)
            typer.echo(f"{' ' * indent}{name.replace('_', ' ')}: {shown}")


WIDTH = 100  # columns of the list


def show_model(folder: Path, as_json: bool) -> None:
    """Print a model folder for people or, as JSON, for programs.

    Raises:
        WeightsError: it is no model, or damaged.
    """
    from text2layer.pipelines.loading import (
        folder_beside,
        matting_folder,
        model_hash,
        read_index,
        read_learnt,
    )

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
