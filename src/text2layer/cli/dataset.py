"""`text2layer dataset`: look at training data and write it as shards."""

import typer

app = typer.Typer(help="Compose training data and look at it.", no_args_is_help=True)
