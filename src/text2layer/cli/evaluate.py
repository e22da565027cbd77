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


@app.command("prompt")
def prompt(
    model: Annotated[Path, typer.Argument(help="Folder of a model.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="A picture library or shards.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    samples: Annotated[int, typer.Option(help="How many pictures.", min=8)] = 256,
    style_weights: Annotated[
        str, typer.Option(help="Share of each style of a library, like '3d icon=2,flat icon=1'.")
    ] = "",
    choices: Annotated[int, typer.Option(help="Captions to choose from.", min=2, max=64)] = 8,
    seed: Annotated[int, typer.Option(help="Of pictures, captions and noise.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """How far the prompt counts: the denoiser's error with the right and with other captions."""
    from text2layer.evaluation.prompt_following import evaluate_prompt_following
    from text2layer.pipelines import Text2LayerPipeline
    from text2layer.training.settings import read_style_weights

    pipeline = Text2LayerPipeline.from_pretrained(model).to(choose_device(device))
    size = pipeline.config.default_size
    source = open_source(data, split, size, device, read_style_weights(style_weights))
    batches = _captioned(source, samples, max(choices, 16), seed)
    scores = evaluate_prompt_following(pipeline, batches, choices, seed)
    asked = {"split": split, "size": size, "seed": seed, "data": source.fingerprint}
    if as_json:
        typer.echo(json.dumps({**scores, **asked}, indent=2))
        return
    typer.echo(f"{'noise level':<14}{'own':>9}{'empty':>9}{'other':>9}")
    for level, own in scores["error_own"].items():
        others = [scores[f"error_{kind}"][level] for kind in ("empty", "other")]
        typer.echo(f"{level:<14}" + "".join(f"{value:9.4f}" for value in (own, *others)))
    typer.echo(f"own caption chosen among {choices}: {scores['chosen_own']:.3f} "
               f"(chance {scores['chance']:.3f}), {scores['samples']} samples")  # fmt: skip


def _captioned(
    source: "SampleSource", samples: int, batch_size: int, seed: int
) -> "Iterator[tuple[LayerComponents, list[str]]]":
    """Batches of equal size with one caption a picture, the same for the same seed."""
    import random

    import torch
    from tqdm import tqdm

    from text2layer.models.autoencoder import LayerComponents

    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    for _ in tqdm(range(-(-samples // batch_size)), disable=None, unit="batch"):
        made = source.compose(batch_size, generator)
        parts = LayerComponents(made.foreground, made.background, made.mask, made.image)
        yield parts, source.captions(made, rng)


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
