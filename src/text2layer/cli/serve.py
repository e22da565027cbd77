"""`text2layer serve`: the studio in the browser, and the HTTP API behind it."""

import socket
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from text2layer.cli.generate import Dtype, Offload
from text2layer.cli.options import options_of, settings_of, takes
from text2layer.errors import InputError
from text2layer.options import require
from text2layer.server.settings import LEAST_TOKEN, LOOPBACK, ServeSettings, default_folder

MAX_CONNECTIONS = 1000  # at once; more are refused (503)


def serve(
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8766,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TEXT2LAYER_TOKEN",
            help=f"What clients must know, {LEAST_TOKEN} characters or more.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that the server is called by, such as studio.example; again."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where jobs and pictures are kept [the platform's data folder]."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a model [the released one].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    text_to_image: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Folder or hub id of a diffusers text-to-image pipeline, as of generate.",
        ),
    ] = None,
    dtype: Dtype = None,
    offload: Offload = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    **given: Any,
) -> None:
    """Start the studio: a page in the browser that draws, moves and downloads layers, and its API.

    Ends with Ctrl-C. Jobs that wait then, and everything that was made, are there again at the
    next start, as long as --keep-hours says.
    """
    uvicorn = require("uvicorn", "uvicorn", "The studio", extra="serve")
    require("fastapi", "FastAPI", "The studio", extra="serve")
    require("filelock", "filelock", "The studio", extra="serve")
    from text2layer.server.app import build_app
    from text2layer.server.drawing import Studio
    from text2layer.server.store import Store
    from text2layer.server.worker import Worker

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu or cuda, not {device!r}.")
    if (dtype or offload) and not text_to_image:
        raise InputError(f"--{'dtype' if dtype else 'offload'} goes with --text-to-image.")
    _check_token(host, token)
    if host in ("0.0.0.0", "::") and not allow_host:
        raise InputError(
            f"--host {host} listens on every address; say with --allow-host by which names or "
            "addresses clients will call the server."
        )
    settings = settings_of(ServeSettings, given)
    listening = _listen(host, port)
    where = folder or default_folder()
    store = Store(where, settings.keep_hours * 3600, settings.max_disk * 2**30)
    studio = Studio(
        model, device, text_to_image=text_to_image, dtype=dtype or "auto", offload=offload or "none"
    )
    worker = Worker(store, studio, settings.queue)
    app = build_app(worker, settings, (host, *(allow_host or ())), token)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    typer.echo(f"The studio is at {address}; end with Ctrl-C.", err=True)
    typer.echo(f"Jobs and pictures are kept in {where}.", err=True)
    if browser:
        webbrowser.open(f"{address}#token={token}" if token else address)
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS, timeout_graceful_shutdown=3,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


takes(serve, options_of(ServeSettings), beside=True)


def _check_token(host: str, token: str | None) -> None:
    """Raise InputError unless an address that others can reach has a token worth the name."""
    if token is None and host not in LOOPBACK:
        raise InputError(
            f"--host {host} can be reached by others; give a --token of {LEAST_TOKEN} characters "
            "or more that clients must know."
        )
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii()):
        raise InputError(f"The token must have {LEAST_TOKEN} ASCII characters or more.")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; InputError if the address cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        reason = (error.strerror or "it is refused").lower()
        raise InputError(
            f"{host} port {port} cannot be used ({reason}); give another --host or --port."
        ) from None
    return listening
