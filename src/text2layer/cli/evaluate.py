"""`text2layer evaluate` and `text2layer compare`: the benchmark."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from text2layer.cli.sources import (
    choose_device,
    is_library,
    on_terminal,
    open_source,
    report_skipped,
)
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer.data.known_samples import KnownSamples
    from text2layer.data.named_things import AskedThings
    from text2layer.evaluation.results import ProtocolResult

PROTOCOLS = (
    "generate", "reconstruct", "decompose", "given-background", "given-foreground", "prompt",
    "objects",
)  # fmt: skip
FLAT = ("generate", "reconstruct", "decompose", "prompt")
OBJECTS = "objects"  # asked for by name: it draws every thing of a library, which takes long
AUTOENCODER_ONLY = ("reconstruct",)
PHOTO_LAYERS = "networks"  # in place of a model: pictures taken apart by networks of others


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a model or of an autoencoder; 'base' is the released one, 'networks' "
            "the usual networks that take pictures apart (decompose).",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(help="A picture library or shards, with known layers.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json, table, plots and sheets.")
    ] = None,
    protocols: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(PROTOCOLS)}; or all but objects.")
    ] = "all",
    split: Annotated[
        str,
        typer.Option(
            help="train, val or test; pairings: known things before grounds that training leaves "
            "out; drawings: held-out drawings of known things."
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
        int, typer.Option(help="How many samples the judge looks at; 0 for all.", min=0)
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
    seeds: Annotated[int, typer.Option(help="objects: how often each thing is drawn.", min=1)] = 3,
    things: Annotated[
        int, typer.Option(help="objects: how many things are drawn; 0 for all.", min=0)
    ] = 0,
    batch_size: Annotated[int, typer.Option(help="Samples at a time.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Which samples are taken.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure a model on samples with known layers: the benchmark (docs/benchmark.md).

    Prompts are the captions of the samples, seeds their numbers: the same command asks the same.
    """
    from text2layer.cli.outputs import check_writable
    from text2layer.data.known_samples import KnownSamples
    from text2layer.data.named_things import AskedThings, open_things
    from text2layer.data.world import learnt_world, read_drawings, read_weights
    from text2layer.evaluation.collector import is_first_process
    from text2layer.evaluation.features import References
    from text2layer.evaluation.results import check_plots
    from text2layer.evaluation.run import Networks, Run, check_judge

    check_judge(judge)
    if out is not None:
        check_plots()
        out.mkdir(parents=True, exist_ok=True)
        check_writable(out / "results.json")
    learnt = read_drawings(drawings) if drawings else None
    if OBJECTS in protocols and not is_library(data):
        raise InputError(f"Things have names in a picture library; '{data}' is none.")
    device = choose_device(device)
    subject = _Subject(model, device, size, steps, guidance, fast)
    chosen = _chosen(protocols, subject.possible)
    asked: dict[str, KnownSamples] = {}
    if OBJECTS in chosen:
        every = open_things(data, learnt, subject.size, device, on_terminal())
        report_skipped(every.library.skipped, every.library.messages)
        asked[OBJECTS] = AskedThings(every, seeds, things, seed)
    if chosen != [OBJECTS]:
        source = open_source(
            data, split, subject.size, device, read_weights(style_weights, "style_weights"),
            world=learnt_world(learnt) if learnt else None,
        )  # fmt: skip
        known = KnownSamples(source, samples, seed)  # type: ignore[arg-type]
        asked = dict.fromkeys(chosen, known) | asked
    networks = Networks(judge, clip, probe, device)
    about = {"split": split, "size": subject.size}
    if style_weights:
        about["style_weights"] = style_weights
    if drawings is not None and learnt is not None:
        about["drawings"] = sha256(repr(sorted(learnt.items())).encode()).hexdigest()
    run = Run(batch_size, on_terminal(), judge_samples, References(cache), about)
    results = [subject.protocol(name)(asked[name], networks, run) for name in chosen]
    if not is_first_process():
        return
    if out is not None:
        _write(results, run, out)
    from text2layer.evaluation.results import as_json as to_json
    from text2layer.evaluation.results import table

    typer.echo(json.dumps(to_json(results), indent=2) if as_json else table(results))


class _Subject:
    """What is measured: a whole model, an autoencoder alone, or networks of others."""

    def __init__(
        self, model: str, device: str, size: int, steps: int, guidance: float | None, fast: bool
    ) -> None:
        self.drawer: Any = None
        self.autoencoder: Any = None
        folder = Path(model)
        if model == PHOTO_LAYERS:
            from text2layer.pipelines.photo_layers import PhotoLayers

            self.drawer, self.size = PhotoLayers(), size or 256
            self.possible: tuple[str, ...] = ("decompose",)
        elif (folder / "config.json").is_file() and not (folder / "model_index.json").is_file():
            from text2layer.training.checkpoints import load_autoencoder

            self.autoencoder = load_autoencoder(folder).to(device)
            self.size, self.possible = size or 128, AUTOENCODER_ONLY
        else:
            self._open_pipeline(model, device, size, steps, guidance, fast)
        if fast and (self.drawer is None or model == PHOTO_LAYERS):
            raise InputError(f"--fast needs a whole model, and {model} is none.")

    def _open_pipeline(
        self, model: str, device: str, size: int, steps: int, guidance: float | None, fast: bool
    ) -> None:
        from text2layer.evaluation.drawing import Drawer
        from text2layer.pipelines import Text2LayerPipeline, released_model
        from text2layer.pipelines.photo_layers import PhotoLayers

        folder = released_model() if model == "base" else Path(model)
        pipeline = Text2LayerPipeline.from_pretrained(folder, fast=fast).to(device)
        flat = bool(getattr(pipeline.autoencoder, "is_flat", False))
        apart = PhotoLayers() if flat else None
        self.drawer = Drawer(pipeline, size, steps, guidance, apart)
        self.autoencoder, self.size = pipeline.autoencoder, self.drawer.size
        self.possible = FLAT if flat else PROTOCOLS

    def protocol(self, name: str) -> "Callable[[KnownSamples, Any, Any], ProtocolResult]":
        """The protocol as a function of samples, networks and run."""
        from text2layer.evaluation.generate import generate, given
        from text2layer.evaluation.known_layers import decompose, reconstruct
        from text2layer.evaluation.objects import objects
        from text2layer.evaluation.prompt_following import follow_prompt

        drawer = self.drawer
        if name == "reconstruct":
            return lambda known, networks, run: reconstruct(
                self.autoencoder, known, networks, run, drawer
            )
        if name == "decompose":
            return lambda known, networks, run: decompose(drawer, known, networks, run)
        if name == "generate":
            return lambda known, networks, run: generate(drawer, known, networks, run)
        if name == OBJECTS:
            return lambda asked, networks, run: objects(
                drawer, cast("AskedThings", asked), networks, run
            )
        if name == "prompt":
            return lambda known, networks, run: follow_prompt(drawer, known, networks, run)
        part: Any = name.removeprefix("given-")
        return lambda known, networks, run: given(part, drawer, known, networks, run)


def _chosen(protocols: str, possible: tuple[str, ...]) -> list[str]:
    """The protocols asked for, in the order of PROTOCOLS.

    Raises:
        InputError: one is not known, or not possible for this model.
    """
    if protocols == "all":
        return [name for name in possible if name != OBJECTS]
    asked = [name.strip() for name in protocols.split(",") if name.strip()]
    for name in asked:
        if name not in PROTOCOLS:
            raise InputError(f"No protocol is called {name!r}; choose of {', '.join(PROTOCOLS)}.")
        if name not in possible:
            raise InputError(
                f"The protocol {name} is not possible for this model; it can be measured by "
                f"{', '.join(possible)}."
            )
    if not asked:
        raise InputError(f"Name a protocol: {', '.join(PROTOCOLS)}.")
    return [name for name in PROTOCOLS if name in asked]


def _write(results: "list[ProtocolResult]", run: Any, out: Path) -> None:
    from text2layer.evaluation.results import plot_scores, write_results
    from text2layer.io.atomic import writing

    write_results(results, out)
    for protocol, sheet in run.sheets.items():
        with writing(out / f"sheet-{protocol}.png") as file:
            sheet.save(file, "PNG")
    with writing(out / "plots.png") as file:
        file.write(plot_scores(results))
    typer.echo(f"results: {out}", err=True)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of results.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Print two results side by side, with what the choice of samples could explain.

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
