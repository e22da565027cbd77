"""`text2layer evaluate` and `text2layer compare`: the benchmark."""

import json
from pathlib import Path
from typing import Annotated

import typer

from text2layer.cli.sources import choose_device, first_process, on_terminal, report_skipped

# as in evaluation.benchmark, which loads torch
PROTOCOLS = (
    "generate", "reconstruct", "decompose", "given-background", "given-foreground", "prompt",
    "objects",
)  # fmt: skip


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a model or of an autoencoder; 'base' is the released one, 'networks' "
            "the usual networks that decompose pictures (decompose).",
            show_default=False,
        ),
    ],
    data: Annotated[str, typer.Option(help="A picture library or shards, with known layers.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json, table, plots and sheets.")
    ] = None,
    protocols: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(PROTOCOLS)}; or all but objects.")
    ] = "all",
    split: Annotated[
        str,
        typer.Option(
            help="train, val or test; pairings: known objects in pairs with scenes that "
            "training leaves out; drawings: held-out drawings of known things."
        ),
    ] = "test",
    samples: Annotated[int, typer.Option(help="How many samples.", min=2)] = 256,
    size: Annotated[
        int, typer.Option(help="Width and height in pixels; 0 is the model's own.", min=0)
    ] = 0,
    style_weights: Annotated[
        str, typer.Option(help="Share of each style of a library, like '3d icon=2,flat icon=1'.")
    ] = "",
    steps: Annotated[int, typer.Option(help="Sampling steps; 0 is the model's own.", min=0)] = 0,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale; by default the model's own.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="With the model's adapter for few steps.")
    ] = False,
    judge: Annotated[
        str, typer.Option(help="Saliency network that masks are compared with.")
    ] = "isnet",
    judge_samples: Annotated[
        int, typer.Option(help="How many samples the judge scores; 0 for all.", min=0)
    ] = 0,
    clip: Annotated[str, typer.Option(help="A CLIP for its score: folder or hub id.")] = "",
    probe: Annotated[str, typer.Option(help="A relevance probe of your own.")] = "",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the known samples' features for the next model."),
    ] = None,
    drawings: Annotated[
        Path | None,
        typer.Option(
            help="List of the cut-outs that the model learnt, an id a line, as the trainer takes "
            "it; other protocols then take samples of these alone, in the canonical place. "
            "Without it objects asks for all of the training split that can be named."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="objects: pictures of each object.", min=1)] = 3,
    things: Annotated[int, typer.Option(help="objects: number of objects; 0 for all.", min=0)] = 0,
    batch_size: Annotated[int, typer.Option(help="Samples at a time.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Which samples are taken.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Of a model's networks: float32 or bfloat16.")
    ] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure a model on samples with known layers: the benchmark (docs/benchmark.md).

    Prompts are the captions of the samples, seeds their numbers: the same command
    gives the same pictures.
    """
    from text2layer.cli.outputs import check_writable
    from text2layer.data.world import read_drawings, read_weights
    from text2layer.evaluation.benchmark import EvaluationSettings
    from text2layer.evaluation.benchmark import evaluate as run_evaluation
    from text2layer.evaluation.results import as_json as to_json
    from text2layer.evaluation.results import check_plots, table
    from text2layer.evaluation.run import check_judge

    check_judge(judge)
    if out is not None:
        check_plots()
        out.mkdir(parents=True, exist_ok=True)
        check_writable(out / "results.json")
    settings = EvaluationSettings(
        protocols=protocols,
        split=split,
        samples=samples,
        size=size,
        style_weights=read_weights(style_weights, "style_weights"),
        steps=steps,
        guidance=guidance,
        fast=fast,
        judge=judge,
        judge_samples=judge_samples,
        clip=clip,
        probe=probe,
        cache=cache,
        drawings=read_drawings(drawings) if drawings else None,
        seeds=seeds,
        things=things,
        batch_size=batch_size,
        seed=seed,
        device=choose_device(device),
        dtype=dtype,
        progress=on_terminal(),
    )
    done = run_evaluation(model, data, settings, report=report_skipped)
    if not first_process():
        return
    if out is not None:
        done.save(out)
        typer.echo(f"results: {out}", err=True)
    results = done.results
    typer.echo(json.dumps(to_json(results), indent=2) if as_json else table(results))


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of results.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Print two results side by side, with intervals over the choice of samples.

    Same data, samples, prompts and networks, or it refuses.
    """
    from dataclasses import asdict

    from text2layer.evaluation.compare import compare as compare_results
    from text2layer.evaluation.compare import comparison_table
    from text2layer.evaluation.results import finite_json, read_results

    compared = compare_results(read_results(first), read_results(second), seed)
    if as_json:
        plain = {
            protocol: {name: asdict(item) for name, item in metrics.items()}
            for protocol, metrics in compared.items()
        }
        typer.echo(json.dumps(finite_json(plain), indent=2))
        return
    typer.echo(comparison_table(compared, (str(first), str(second))))
