"""`text2layer train quality`: the classifiers that judge masks and fills of a build."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.sources import on_terminal
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer.data.build.cases import Case

HELD_OUT_SHARE = 3  # one held-out composed picture for so many to train on, in val and in test


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
    objects: Annotated[int, typer.Option(help="Objects of the library to draw from.", min=1)] = 800,
    seed: Annotated[int, typer.Option(help="Of the composed cases.", min=0)] = 0,
    saliency: Annotated[
        str, typer.Option(help="Network that gives a third of the composed masks; '' for none.")
    ] = "u2netp",
    inpainter: Annotated[
        str, typer.Option(help="Network that gives the composed fills; '' for none.")
    ] = "migan",
    backbone: Annotated[
        str, typer.Option(help="Or the hub id of a transformers EfficientNet.")
    ] = "efficientnet-lite0",
    precision: Annotated[
        float, typer.Option(help="That the stored thresholds reach, held out.", min=0.01, max=1)
    ] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train the mask and the fill classifier on labels; print how they do on held-out ones."""
    from text2layer.training.quality import QualitySettings, train_quality

    if photos is None and library is None:
        raise InputError("Name what to learn from: --photos BUILD, --library LIBRARY, or both.")
    settings = QualitySettings(precision=precision, backbone=backbone)

    def cases() -> Iterator["Case"]:
        if photos is not None:
            yield from _labelled(photos, labels)
        if library is not None:
            yield from _composed(library, pictures, objects, seed, saliency, inpainter)

    report = train_quality(cases(), out, settings, progress=on_terminal())
    typer.echo(json.dumps(report, indent=2) if as_json else _table(report))


def _labelled(photos: Path, labels: Path | None) -> Iterator["Case"]:
    from text2layer.cli.label import LABELS
    from text2layer.data.build.cases import photo_cases
    from text2layer.data.build.labels import read_labels

    file = labels or photos / LABELS
    found = read_labels(file)
    if not found:
        raise InputError(f"There are no labels in {file}; make some: text2layer dataset label.")
    yield from photo_cases(photos, found)


def _composed(
    library: Path, pictures: int, objects: int, seed: int, saliency: str, inpainter: str
) -> Iterator["Case"]:
    from text2layer.data.build.cases import composed_cases, composer_of
    from text2layer.models.inpainting import load_inpainter
    from text2layer.models.saliency import load_saliency

    fill = load_inpainter(inpainter).fill if inpainter else None
    network = load_saliency(saliency) if saliency else None
    find = (lambda picture: network.predict([picture])[0].mask) if network else None
    held_out = max(1, pictures // HELD_OUT_SHARE)
    for split, count in (("train", pictures), ("val", held_out), ("test", held_out)):
        composer = composer_of(library, split, objects, seed)
        yield from composed_cases(composer, count, seed, inpaint=fill, saliency=find)


def _table(report: dict[str, Any]) -> str:
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
