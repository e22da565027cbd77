"""`text2layer train relevance`: the probe that says how well a picture fits its text."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from text2layer.cli.sources import on_terminal, open_source


def relevance(
    out: Annotated[Path, typer.Argument(help="Folder of the probe to write.", show_default=False)],
    data: Annotated[
        str, typer.Option(help="A picture library, or a folder of shards.", show_default=False)
    ],
    samples: Annotated[int, typer.Option(help="Pictures to train on.", min=1)] = 8000,
    held_out: Annotated[
        int, typer.Option(help="Pictures of the val split, and of the test split.", min=1)
    ] = 1000,
    size: Annotated[int, typer.Option(help="Their width and height in pixels.", min=8)] = 128,
    gallery: Annotated[
        int, typer.Option(help="Pairs to choose from where retrieval is measured.", min=2)
    ] = 100,
    steps: Annotated[int, typer.Option(help="Of the optimiser, at most.", min=1)] = 400,
    text_encoder: Annotated[
        str, typer.Option(help="Weights name or folder of a text encoder.")
    ] = "minilm",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the features for another run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of pictures, weights and batches.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train the probe of text relevance; print its retrieval figures on held-out pairs."""
    from text2layer.models.inception import NAME, InceptionFeatures
    from text2layer.training.relevance import RelevanceSettings, train_relevance

    settings = RelevanceSettings(
        samples=samples, held_out=held_out, size=size, gallery=gallery, steps=steps, seed=seed
    )
    train, val, test = (open_source(data, split, size, "cpu") for split in ("train", "val", "test"))
    report = train_relevance(
        (train, val, test),
        InceptionFeatures(),
        out,
        settings,
        extractor_name=NAME,
        text_encoder=text_encoder,
        cache=cache,
        progress=on_terminal(),
    )
    typer.echo(json.dumps(report, indent=2) if as_json else _table(report))


def _table(report: dict[str, Any]) -> str:
    figures = report["held_out"]
    lines = [f"{'held out':<18}{'R@1':>8}{'R@5':>8}"]
    for way in ("text_to_picture", "picture_to_text"):
        shares = figures[way]
        lines.append(f"{way.replace('_', ' '):<18}{shares['r1']:8.3f}{shares['r5']:8.3f}")
    lines.append(f"{'chance':<18}{figures['chance_r1']:8.3f}{figures['chance_r5']:8.3f}")
    lines.append(
        f"{figures['galleries']} galleries of {figures['gallery']} from {figures['pairs']} test "
        f"pairs, seed {figures['seed']}; step {report['step']} of {report['trained_on']['steps']}"
    )
    return "\n".join(lines)
