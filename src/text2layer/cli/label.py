"""`text2layer dataset label`: a local page to mark masks and fills as good or bad."""

import getpass
import socket
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from text2layer.errors import InputError

HOST = "127.0.0.1"
LABELS = "labels.jsonl"


def label(
    data: Annotated[
        Path, typer.Argument(help="A folder that `dataset build` wrote.", show_default=False)
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Where the verdicts go. [default: DATA/labels.jsonl]")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Judge a random sample of this many; else all.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random sample.", min=0)] = 0,
    by: Annotated[str | None, typer.Option(help="Who judges. [default: your user name]")] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Mark masks and fills as good or bad in the browser; every key is stored at once."""
    from text2layer.data.build.label_queue import LabelQueue
    from text2layer.server.label_page import build_label_app

    file = labels or data / LABELS
    if labels is not None and not labels.parent.is_dir():
        raise InputError(f"The folder for {file} does not exist: make it first.")
    queue = LabelQueue(data, file, by or _user(), count, seed)
    app = build_label_app(queue)
    try:
        import uvicorn
    except ImportError:
        raise InputError("The label page needs uvicorn: pip install 'text2layer[build]'.") from None
    listening = _listen(port)
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    typer.echo(f"{len(queue.keys)} samples at {address}", err=True)
    for reason, number in queue.skipped.items():
        typer.echo(f"left out: {number} {reason}", err=True)
    typer.echo(f"Verdicts go to {file}; end with Ctrl-C.", err=True)
    if browser:
        webbrowser.open(address)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    """A socket on this machine alone; InputError if the port is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        reason = (error.strerror or "it is refused").lower()
        raise InputError(f"Port {port} cannot be used ({reason}); give another --port.") from None
    return listening


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id
        return ""
