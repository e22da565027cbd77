"""The command line: `text2layer COMMAND`. Results go to stdout, progress and errors to stderr.

Commands import what they need when they run, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from text2layer import __version__
from text2layer.cli import (
    add,
    dataset,
    decompose,
    evaluate,
    files,
    generate,
    layers,
    serve,
    train,
    weights,
)
from text2layer.cli.group import OneSentenceGroup

app = typer.Typer(
    name="text2layer",
    cls=OneSentenceGroup,
    help="Text to layers: foreground, background and soft mask in one diffusion pass.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("decompose")(decompose.decompose)
app.command("add")(add.add)
app.command("replace")(add.replace)
app.command("remove")(layers.remove)
app.command("move")(layers.move)
app.command("scale")(layers.scale)
app.command("reorder")(layers.reorder)
app.command("convert")(files.convert)
app.command("info")(files.info)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(evaluate.compare)
app.command("serve")(serve.serve)
app.add_typer(train.app, name="train")
app.add_typer(dataset.app, name="dataset")
app.add_typer(weights.app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"text2layer {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Text to layers: foreground, background and soft mask in one diffusion pass."""


def main() -> None:
    """Run the command line; the entry point of the `text2layer` program."""
    app()
