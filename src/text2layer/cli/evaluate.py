"""`text2layer evaluate`: measure a model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from text2layer.cli.sources import choose_device, open_source

if TYPE_CHECKING:
    from text2layer.data.source import SampleSource
    from text2layer.models.autoencoder import LayerComponents

app = typer.Typer(help="Measure a model.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure a model."""


@app.command("autoencoder")
def autoencoder(
    model: Annotated[Path, typer.Argument(help="Folder of an autoencoder.", show_default=False)],
    library: Annotated[Path, typer.Argument(help="A picture library.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    samples: Annotated[int, typer.Option(help="How many composed pictures.", min=1)] = 256,
    size: Annotated[int, typer.Option(help="Their width and height in pixels.", min=8)] = 256,
    batch_size: Annotated[int, typer.Option(help="Pictures at a time.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Which pictures are composed.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Encode and decode composed pictures; PSNR of each part, soft IoU of the mask."""
    from text2layer.evaluation.reconstruction import evaluate_reconstruction
    from text2layer.training.checkpoints import load_autoencoder

    network = load_autoencoder(model).to(choose_device(device))
    source = open_source(library, split, size, device)
    scores = evaluate_reconstruction(network, _batches(source, samples, batch_size, seed))
    asked = {"split": split, "size": size, "seed": seed, "data": source.fingerprint}
    if as_json:
        typer.echo(json.dumps({**scores, **asked}, indent=2))
        return
    for name, value in {**scores, **asked}.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        typer.echo(f"{name.replace('_', ' '):<40}{shown}")


def _batches(
    source: "SampleSource", samples: int, batch_size: int, seed: int
) -> "Iterator[LayerComponents]":
    """Compose `samples` pictures, the same for the same seed, with a bar on a terminal."""
    import torch
    from tqdm import tqdm

    from text2layer.models.autoencoder import LayerComponents

    generator = torch.Generator().manual_seed(seed)
    sizes = [min(batch_size, samples - start) for start in range(0, samples, batch_size)]
    for count in tqdm(sizes, disable=None, unit="batch"):
        made = source.compose(count, generator)
        yield LayerComponents(made.foreground, made.background, made.mask, made.image)
