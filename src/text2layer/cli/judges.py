"""`text2layer dataset label`, `train quality` and `train relevance`: labels and the two judges."""

import getpass
import json
import socket
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.options import options_of, settings_of, takes
from text2layer.cli.sources import on_terminal, open_source
from text2layer.errors import InputError
from text2layer.judges.settings import QualitySettings, RelevanceSettings
from text2layer.options import require

if TYPE_CHECKING:
    from text2layer.judges.cases import Case
    from text2layer.judges.pair import Layers

HOST = "127.0.0.1"
LABELS = "labels.jsonl"
HELD_OUT_SHARE = 3  # one held-out composed picture for so many to train on, in val and in test


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
    by: Annotated[
        str | None, typer.Option(help="Name of the labeller. [default: your user name]")
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Mark masks and fills as good or bad in the browser; every key is stored at once."""
    from text2layer.judges.label_page import build_label_app
    from text2layer.judges.labels import LabelQueue

    file = labels or data / LABELS
    if labels is not None and not labels.parent.is_dir():
        raise InputError(f"The folder for {file} does not exist: make it first.")
    queue = LabelQueue(data, file, by or _user(), count, seed)
    app = build_label_app(queue)
    uvicorn = require("uvicorn", "uvicorn", "The label page")
    listening = _listen(port)
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    typer.echo(f"{len(queue.keys)} samples at {address}", err=True)
    for reason, number in queue.skipped.items():
        typer.echo(f"left out: {number} {reason}", err=True)
    typer.echo(f"Verdicts go to {file}; end with Ctrl-C.", err=True)
    if browser:
        webbrowser.open(address)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def quality(
    out: Annotated[
        Path, typer.Argument(help="Folder of the classifiers to write.", show_default=False)
    ],
    photos: Annotated[
        Path | None, typer.Option(help="A build whose samples were labelled.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The labels. [default: PHOTOS/labels.jsonl]")
    ] = None,
    library: Annotated[
        Path | None, typer.Option(help="A picture library, for cases whose truth is known.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="To compose for training.", min=1)] = 600,
    objects: Annotated[
        int, typer.Option(help="Objects of the library to sample from.", min=1)
    ] = 800,
    seed: Annotated[int, typer.Option(help="Of the composed cases.", min=0)] = 0,
    saliency: Annotated[
        str, typer.Option(help="Network that gives a third of the composed masks; '' for none.")
    ] = "u2netp",
    inpainter: Annotated[
        str, typer.Option(help="Network that gives the composed fills; '' for none.")
    ] = "migan",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    **given: Any,
) -> None:
    """Train the classifiers of mask, fill and pair on labels; print their held-out scores."""
    from text2layer.judges.quality_training import train_quality

    if photos is None and library is None:
        raise InputError("Name what to learn from: --photos BUILD, --library LIBRARY, or both.")
    settings = settings_of(QualitySettings, given)

    def cases() -> Iterator["Case"]:
        if photos is not None:
            yield from _labelled(photos, labels)
        if library is not None:
            yield from _composed(library, pictures, objects, seed, saliency, inpainter)

    pairs = _labelled_pairs(photos, labels) if photos is not None else ()
    report = train_quality(cases(), out, settings, pairs=pairs, progress=on_terminal())
    typer.echo(json.dumps(report, indent=2) if as_json else _quality_table(report))


def relevance(
    out: Annotated[Path, typer.Argument(help="Folder of the probe to write.", show_default=False)],
    data: Annotated[
        str, typer.Option(help="A picture library, or a folder of shards.", show_default=False)
    ],
    text_encoder: Annotated[
        str, typer.Option(help="Weights name or folder of a text encoder.")
    ] = "minilm",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the features for another run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    **given: Any,
) -> None:
    """Train the probe of text relevance; print its retrieval figures on held-out pairs."""
    from text2layer.judges.relevance_training import train_relevance
    from text2layer.models.inception import NAME, InceptionFeatures

    settings = settings_of(RelevanceSettings, given)
    splits = ("train", "val", "test")
    train, val, test = (open_source(data, split, settings.size, "cpu") for split in splits)
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
    typer.echo(json.dumps(report, indent=2) if as_json else _relevance_table(report))


takes(quality, options_of(QualitySettings, only=("backbone", "precision")), beside=True)
takes(
    relevance,
    options_of(RelevanceSettings, only=("samples", "held_out", "size", "gallery", "steps", "seed")),
    beside=True,
)


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


def _labelled(photos: Path, labels: Path | None) -> Iterator["Case"]:
    from text2layer.judges.cases import photo_cases
    from text2layer.judges.labels import read_labels

    file = labels or photos / LABELS
    found = read_labels(file)
    if not found:
        raise InputError(f"There are no labels in {file}; make some: text2layer dataset label.")
    yield from photo_cases(photos, found)


def _labelled_pairs(photos: Path, labels: Path | None) -> Iterator[tuple[str, bool, "Layers"]]:
    from text2layer.judges.cases import photo_pairs
    from text2layer.judges.labels import read_labels

    yield from photo_pairs(photos, read_labels(labels or photos / LABELS))


def _composed(
    library: Path, pictures: int, objects: int, seed: int, saliency: str, inpainter: str
) -> Iterator["Case"]:
    from text2layer.judges.cases import composed_cases, composer_of
    from text2layer.models.inpainting import load_inpainter
    from text2layer.models.saliency import load_saliency

    fill = load_inpainter(inpainter).fill if inpainter else None
    network = load_saliency(saliency) if saliency else None
    find = (lambda picture: network.predict([picture])[0].mask) if network else None
    held_out = max(1, pictures // HELD_OUT_SHARE)
    for split, count in (("train", pictures), ("val", held_out), ("test", held_out)):
        composer = composer_of(library, split, objects, seed)
        yield from composed_cases(composer, count, seed, inpaint=fill, saliency=find)


def _quality_table(report: dict[str, Any]) -> str:
    lines = [f"{number:6d} {name}" for name, number in report["labels"].items()]
    for kind, sources in report["held_out"].items():
        for source, figures in sources.items():
            wanted = figures["wanted_precision"]
            lines.append(
                f"{kind}, {source}, held out: {figures['count']} cases ({figures['good']} good), "
                f"ROC AUC {_shown(figures['roc_auc'])}; at .5 precision "
                f"{_shown(figures['precision'])} recall {_shown(figures['recall'])}; precision "
                f"{wanted:g} from {_shown(figures['threshold'])} on, recall there "
                f"{_shown(figures['recall_there'])}"
            )
    thresholds = (f"{kind} {value:.3f}" for kind, value in report["thresholds"].items())
    return "\n".join([*lines, f"thresholds stored: {', '.join(thresholds)}"])


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _relevance_table(report: dict[str, Any]) -> str:
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
