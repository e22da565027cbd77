"""The benchmark as one call: open a model and data with known layers, run protocols, keep results.

    >>> from text2layer.evaluation import EvaluationSettings, evaluate
    >>> done = evaluate("base", "library", EvaluationSettings("reconstruct", samples=64))
    >>> done.results[0].metrics["psnr_composite"].value
    >>> done.save(Path("scores"))

The command `text2layer evaluate` is this call (docs/benchmark.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias, cast

import torch
from PIL import Image

from text2layer.data.known_samples import KnownSamples, Report, is_library, open_samples
from text2layer.data.named_things import AskedThings, open_things
from text2layer.data.world import learnt_world
from text2layer.errors import InputError
from text2layer.evaluation.collector import is_first_process
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.features import References
from text2layer.evaluation.generate import generate, given
from text2layer.evaluation.known_layers import decompose, reconstruct
from text2layer.evaluation.objects import objects
from text2layer.evaluation.prompt_following import follow_prompt
from text2layer.evaluation.results import ProtocolResult, plot_scores, write_results
from text2layer.evaluation.run import JUDGE, Networks, Run, check_judge
from text2layer.files import writing
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.pipelines import Text2LayerPipeline, released_model
from text2layer.pipelines.loading import load_autoencoder
from text2layer.pipelines.photo_layers import PhotoLayers

PROTOCOLS = (
    "generate", "reconstruct", "decompose", "given-background", "given-foreground", "prompt",
    "objects",
)  # fmt: skip
FLAT = ("generate", "reconstruct", "decompose", "prompt")
OBJECTS = "objects"  # asked for by name: it draws every thing of a library, which takes long
RELEASED, PHOTO_LAYERS = "base", "networks"  # names of models in place of a folder

Autoencoder: TypeAlias = CaT2IAutoencoder | PlainAutoencoder
Model: TypeAlias = Text2LayerPipeline | Autoencoder | PhotoLayers
Protocol: TypeAlias = Callable[[KnownSamples, Networks, Run], ProtocolResult]

FLOAT32 = "float32"
DTYPES = {FLOAT32: torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, and on which samples.

    Attributes:
        protocols: names of PROTOCOLS, or one text with commas; "all" is all but objects.
        split: train, val or test; pairings: known objects in pairs with scenes that training
            leaves out; drawings: held-out drawings of known things.
        samples: how many, at least 2.
        size: width and height in pixels; 0 is the model's own.
        style_weights: share of each style of a library; None takes all alike.
        steps: sampling steps; 0 is the model's own.
        guidance: guidance scale; None is the model's own.
        fast: with the model's adapter for few steps.
        judge: saliency network that masks are compared with.
        judge_samples: how many of the first samples the judge scores; 0 for all.
        clip: folder or hub id of a CLIP for its score; "" for none.
        probe: folder of a relevance probe; "" for the shipped one.
        cache: folder that keeps the known samples' features for the next model.
        drawings: weights by id of the cut-outs that the model learnt: other protocols then take
            samples of these alone; None lets objects ask for all that can be named.
        seeds: objects: pictures of each object.
        things: objects: number of objects; 0 for all.
        batch_size: samples at a time; changes no figure.
        seed: which samples are taken.
        device: where models run.
        dtype: of a whole model's networks, one of DTYPES; scores are computed in float32 anyway.
        progress: show progress bars on stderr.
    """

    protocols: str | Sequence[str] = "all"
    split: str = "test"
    samples: int = 256
    size: int = 0
    style_weights: Mapping[str, float] | None = None
    steps: int = 0
    guidance: float | None = None
    fast: bool = False
    judge: str = JUDGE
    judge_samples: int = 0
    clip: str = ""
    probe: str = ""
    cache: Path | None = None
    drawings: Mapping[str, float] | None = None
    seeds: int = 3
    things: int = 0
    batch_size: int = 16
    seed: int = 0
    device: str = "cpu"
    dtype: str = FLOAT32
    progress: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` gives.

    Attributes:
        results: of each protocol. Of several processes only the first has figures of whole sets.
        sheets: the first samples of each protocol, uncurated.
    """

    results: list[ProtocolResult]
    sheets: dict[str, Image.Image] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write results, table, sheets and plots; see `evaluation.results` for the names.

        Raises:
            InputError: matplotlib is not installed.
        """
        write_results(self.results, folder)
        for protocol, sheet in self.sheets.items():
            with writing(folder / f"sheet-{protocol}.png") as file:
                sheet.save(file, "PNG")
        with writing(folder / "plots.png") as file:
            file.write(plot_scores(self.results))


def evaluate(
    model: str | Path | Model,
    data: str | Path,
    settings: EvaluationSettings | None = None,
    networks: Networks | None = None,
    report: Report | None = None,
) -> Evaluation:
    """Measure a model on samples with known layers.

    Prompts are the captions of the samples, seeds their numbers: the same call asks the same. Under
    torchrun the processes share the samples; neither their number nor the batch size changes a
    figure beyond the rounding of floating-point sums.

    Args:
        model: folder of a model or of an autoencoder, "base" (the released one), "networks" (the
            usual networks that decompose pictures), or one that is loaded.
        data: folder of a picture library or of shards.
        settings: see `EvaluationSettings`.
        networks: that scores need; by default those that the settings name.
        report: is told which records of the data were left out, and why.

    Raises:
        InputError: a setting is out of range, or a protocol is not known or not possible.
        DataError: the data cannot be used.
        WeightsError: the model cannot be used.
    """
    asked = settings or EvaluationSettings()
    check_judge(asked.judge)
    if OBJECTS in _names(asked.protocols) and not is_library(data):
        raise InputError(f"Things have names in a picture library; '{data}' is none.")
    protocols, size = open_model(model, asked)
    chosen = choose(asked.protocols, tuple(protocols))
    known = _open_data(data, chosen, size, asked, report)
    about: dict[str, object] = {"split": asked.split, "size": size}
    if asked.dtype != FLOAT32:
        about["dtype"] = asked.dtype
    if asked.style_weights:
        pairs = (f"{name}={share:g}" for name, share in asked.style_weights.items())
        about["style_weights"] = ",".join(pairs)
    if asked.drawings is not None:
        about["drawings"] = sha256(repr(sorted(asked.drawings.items())).encode()).hexdigest()
    run = Run(asked.batch_size, asked.progress, asked.judge_samples, References(asked.cache), about)
    if networks is None:
        networks = Networks(asked.judge, asked.clip, asked.probe, asked.device)
    results = [protocols[name](known[name], networks, run) for name in chosen]
    return Evaluation(results, run.sheets if is_first_process() else {})


def open_model(
    model: str | Path | Model, settings: EvaluationSettings
) -> tuple[dict[str, Protocol], int]:
    """The protocols that a model can be measured by, and the size that it is measured at.

    Raises:
        InputError: the adapter for few steps, or another dtype, is wanted of what is no whole
            model; or there is no such dtype.
        WeightsError: the model cannot be loaded.
    """
    if settings.dtype not in DTYPES:
        raise InputError(f"The dtype must be {' or '.join(DTYPES)}, not {settings.dtype!r}.")
    opened = _loaded(model, settings) if isinstance(model, str | Path) else model
    for option, wanted in (("fast", settings.fast), ("dtype", settings.dtype != FLOAT32)):
        if wanted and not (isinstance(opened, Text2LayerPipeline) and opened is not model):
            raise InputError(f"--{option} needs the folder of a whole model, and {model} is none.")
    if isinstance(opened, PhotoLayers):
        return {"decompose": partial(decompose, opened)}, settings.size or 256
    if not isinstance(opened, Text2LayerPipeline):
        opened.to(settings.device)
        return {"reconstruct": partial(reconstruct, opened)}, settings.size or 128
    opened.to(settings.device)
    flat = bool(getattr(opened.autoencoder, "is_flat", False))
    drawer = Drawer(
        opened, settings.size, settings.steps, settings.guidance, PhotoLayers() if flat else None
    )
    protocols: dict[str, Protocol] = {
        "generate": partial(generate, drawer),
        "reconstruct": partial(reconstruct, opened.autoencoder, drawer=drawer),
        "decompose": partial(decompose, drawer),
        "given-background": partial(given, "background", drawer),
        "given-foreground": partial(given, "foreground", drawer),
        "prompt": partial(follow_prompt, drawer),
        OBJECTS: lambda asked, networks, run: objects(
            drawer, cast(AskedThings, asked), networks, run
        ),
    }
    possible = FLAT if flat else PROTOCOLS
    return {name: protocols[name] for name in possible}, drawer.size


def choose(protocols: str | Sequence[str], possible: Sequence[str]) -> list[str]:
    """The protocols asked for, in the order of PROTOCOLS.

    Raises:
        InputError: none is named, one is not known, or not possible for this model.
    """
    asked = _names(protocols)
    if asked == ["all"]:
        return [name for name in possible if name != OBJECTS]
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


def _names(protocols: str | Sequence[str]) -> list[str]:
    words = protocols.split(",") if isinstance(protocols, str) else protocols
    return [word.strip() for word in words if word.strip()]


def _loaded(model: str | Path, settings: EvaluationSettings) -> Model:
    folder = Path(model)
    if model == PHOTO_LAYERS:
        return PhotoLayers()
    if (folder / "config.json").is_file() and not (folder / "model_index.json").is_file():
        return load_autoencoder(folder)
    folder = released_model() if model == RELEASED else folder
    other = {} if settings.dtype == FLOAT32 else {"torch_dtype": DTYPES[settings.dtype]}
    pipeline: Text2LayerPipeline = Text2LayerPipeline.from_pretrained(
        folder, fast=settings.fast, **other
    )
    return pipeline


def _open_data(
    data: str | Path,
    chosen: Sequence[str],
    size: int,
    settings: EvaluationSettings,
    report: Report | None,
) -> dict[str, KnownSamples]:
    """The samples of each protocol."""
    known: dict[str, KnownSamples] = {}
    if OBJECTS in chosen:
        every = open_things(data, settings.drawings, size, settings.device, settings.progress)
        if report is not None:
            report(every.library.skipped, every.library.messages)
        known[OBJECTS] = AskedThings(every, settings.seeds, settings.things, settings.seed)
    if set(chosen) != {OBJECTS}:
        source = open_samples(
            data, settings.split, size, settings.device, style_weights=settings.style_weights,
            world=learnt_world(settings.drawings) if settings.drawings else None,
            progress=settings.progress, report=report,
        )  # fmt: skip
        samples = KnownSamples(source, settings.samples, settings.seed)
        known = dict.fromkeys(chosen, samples) | known
    return known
