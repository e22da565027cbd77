"""The command line: `text2layer COMMAND`. Results go to stdout, progress and errors to stderr.

Commands import what they need when they run, so that `--help` answers at once. An error below ends
as one sentence on stderr and an exit code.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from text2layer import __version__
from text2layer.cli import (
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
from text2layer.cli.app import App
from text2layer.errors import Text2LayerError

DEBUG = "TEXT2LAYER_DEBUG"


class OneSentenceGroup(TyperGroup):
    """A command group that never shows a traceback, unless TEXT2LAYER_DEBUG is set.

    Exit codes: 0 done, 1 failed with a sentence, 2 wrong usage, 130 interrupted with Ctrl-C, 143
    ended by SIGTERM and 129 by SIGHUP, which remove unfinished files first.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            with stopped_by_signals():
                return super().invoke(ctx)
        except (TyperException, typer.Exit, typer.Abort, BrokenPipeError):
            raise  # typer knows what these mean
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            if os.environ.get(DEBUG):
                raise
            typer.echo(f"Error: {sentence(error)}", err=True)
            raise typer.Exit(1) from None


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as an exception, so that it cleans up behind itself.

    What the caller handles or ignores stays as it is, and so does a thread other than the first.
    """

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    changed = []
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, stop)
                changed.append(number)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def sentence(error: Exception) -> str:
    """Say in one sentence what an exception means for the person at the keyboard."""
    if isinstance(error, Text2LayerError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    # torch.OutOfMemoryError, known by name so that nothing here imports torch
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There is not enough memory; try a smaller --width and --height or --device cpu."
    what = " ".join(str(error).split()) or "no message"
    return (
        f"Unexpected {type(error).__name__}: {what} "
        f"(set {DEBUG}=1 to see the traceback, and please report it)."
    )


app = App(
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
app.command("add")(layers.add)
app.command("replace")(layers.replace)
app.command("remove")(layers.remove)
app.command("move")(layers.move)
app.command("scale")(layers.scale)
app.command("reorder")(layers.reorder)
app.command("blend")(layers.blend)
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
