"""`text2layer weights`: list and fetch third-party weights; verify them and our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from text2layer.cli.app import App
from text2layer.errors import Text2LayerError

RELEASED = ("base", "base-fast", "base-matting")  # folders of ours that ship with the package

app = App(
    name="weights",
    help="List, fetch and verify weights, identified by their SHA-256.",
    no_args_is_help=True,
)


@app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show every set of weights: state on this machine, size, licence and purpose."""
    from text2layer.pretrained import list_weights

    states = list_weights()
    if as_json:
        rows = [
            {
                "name": state.entry.name,
                "state": state.state,
                "path": str(state.path) if state.path else None,
                "file": state.entry.file,
                "size": state.entry.size,
                "sha256": state.entry.sha256,
                "licence": state.entry.licence,
                "origin": state.entry.origin,
                "purpose": state.entry.purpose,
                "environment_variable": state.entry.environment_variable,
            }
            for state in states
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for state in states:
        entry = state.entry
        typer.echo(
            f"{entry.name:<20}{state.state:<11}{entry.size / 1e6:>6.1f} MB  "
            f"{entry.licence:<14}{entry.purpose}"
        )


@app.command("fetch")
def fetch_command(
    names: Annotated[list[str] | None, typer.Argument(help="Names from `weights list`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all of them.")] = False,
) -> None:
    """Fetch weights into the cache; print the path of each."""
    from text2layer.pretrained import WEIGHTS, fetch

    if everything == bool(names):
        raise typer.BadParameter("Give names or --all.", param_hint="NAMES")
    chosen = list(WEIGHTS) if everything else list(names or [])
    failed = False
    for number, name in enumerate(chosen, start=1):
        typer.echo(f"[{number}/{len(chosen)}] {name}", err=True)
        try:
            typer.echo(str(fetch(name)))
        except Text2LayerError as error:
            typer.echo(f"Error: {error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(1)


@app.command("verify")
def verify_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of the list, `base`, `base-fast` and `base-matting` (what is released) or "
            "folders of exported models; without any, those three and all on this machine."
        ),
    ] = None,
) -> None:
    """Compute the SHA-256 of weights and compare it with the one that was published."""
    from text2layer.pretrained import list_weights

    if not names:
        names = [*RELEASED, *(s.entry.name for s in list_weights() if s.state != "missing")]
    failed = False
    for name in names:
        try:
            typer.echo(f"{name:<20}ok  {_verified(name)}")
        except Text2LayerError as error:
            typer.echo(f"Error: {error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(1)


def _verified(name: str) -> Path:
    """Verify one set of weights; return where it lies."""
    from text2layer.files import verify_checksums
    from text2layer.pipelines import released_model
    from text2layer.pretrained import verify

    folder = released_model().with_name(name) if name in RELEASED else Path(name)
    if name not in RELEASED and not folder.is_dir():
        return verify(name)
    verify_checksums(folder)
    return folder
