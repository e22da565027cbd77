"""The apps of the command line: their commands refuse an address where a path is meant."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from text2layer.files import check_local


class Command(TyperCommand):
    """A command whose paths are paths of this machine; what takes addresses has text, not a path.

    As a path, "s3://bucket/fox.psd" would be a file in a folder "s3:" here.
    """

    def invoke(self, ctx: Any) -> Any:
        for value in ctx.params.values():
            for path in value if isinstance(value, Iterable) else (value,):
                if isinstance(path, Path):
                    check_local(path)
        return super().invoke(ctx)


class App(typer.Typer):
    """Commands of this class are `Command`s."""

    def command(self, name: str | None = None, **options: Any) -> Any:
        """As typer's."""
        return super().command(name, **{"cls": Command} | options)
