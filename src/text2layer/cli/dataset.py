"""`text2layer dataset`: make training data from cut-outs or photos; view, count and split it."""

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.app import App
from text2layer.cli.judges import label
from text2layer.cli.options import Described, options_of, settings_of, takes
from text2layer.cli.outputs import check_picture
from text2layer.cli.sources import choose_device, on_terminal, report_skipped
from text2layer.errors import DataError, InputError
from text2layer.photos.settings import BuildSettings

if TYPE_CHECKING:
    from text2layer.data.shard_tools import Written
    from text2layer.parts import Parts
    from text2layer.photos.run import BuildSummary

STRICTEST = ("pair quality", "poor pair")  # stage and reason of the last judge of a build

app = App(help="Make and view training data.", no_args_is_help=True)
app.command("label")(label)

Size = Annotated[int, typer.Option(help="Width and height in pixels.", min=8)]
Seed = Annotated[int, typer.Option(help="Same seed and library, same samples.", min=0)]


@app.command("compose")
def compose(
    library: Annotated[Path, typer.Argument(help="A picture library.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.", show_default=False)],
    count: Annotated[int, typer.Option(help="Samples of split train.", min=0)] = 1000,
    val_count: Annotated[int, typer.Option(help="Samples of split val.", min=0)] = 0,
    test_count: Annotated[int, typer.Option(help="Samples of split test.", min=0)] = 0,
    size: Size = 256,
    seed: Seed = 0,
    style: Annotated[
        list[str] | None, typer.Option(help="Only foregrounds of this style; may be repeated.")
    ] = None,
    samples_per_shard: Annotated[int, typer.Option(help="Most samples in one tar.", min=1)] = 1000,
    shadows: Annotated[
        float, typer.Option(help="Share of rendered objects with a contact shadow.", min=0, max=1)
    ] = 0.3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compose samples with exact ground truth from a library into WebDataset shards."""
    from text2layer.data.compose import compose_shards

    asked = {"train": count, "val": val_count, "test": test_count}
    counts = {split: number for split, number in asked.items() if number}
    if not counts:
        raise InputError("No sample was asked for; give --count, --val-count or --test-count.")
    summary = compose_shards(
        library, out, counts, seed, size,
        samples_per_shard, styles=style, shadow_probability=shadows, device=choose_device(device),
        progress=on_terminal(),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    report_skipped(summary["skipped"], summary["messages"])
    for name in summary["shards"]:
        typer.echo(out / name)


@app.command("library")
def library(
    out: Annotated[
        Path, typer.Argument(help="A new folder, or one that this has made.", show_default=False)
    ],
    source: Annotated[
        list[str] | None,
        typer.Option(help="A public source, or all; all unless you give cut-outs of your own."),
    ] = None,
    packs: Annotated[
        list[Path] | None,
        typer.Option("--with", help="A pack of 3D models that you downloaded: zip or folder."),
    ] = None,
    cutouts: Annotated[
        list[Path] | None, typer.Option(help="A folder with cut-outs of your own.")
    ] = None,
    backgrounds: Annotated[
        list[Path] | None, typer.Option(help="A folder with backgrounds of your own.")
    ] = None,
    license_: Annotated[
        str, typer.Option("--license", help="Licence of your pictures that name none.")
    ] = "",
    author: Annotated[str, typer.Option(help="Author of your pictures that name none.")] = "",
    style: Annotated[str, typer.Option(help="Style of your cut-outs.")] = "photo cut-out",
    hold_out: Annotated[
        float, typer.Option(help="Share of your concepts for split val.", min=0, max=0.5)
    ] = 0.0,
    allow_share_alike: Annotated[
        bool, typer.Option("--allow-share-alike", help="Let share-alike licences in.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="Most pictures of a source, for a trial.", min=1)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; half of the cores by default.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Make a picture library to train on: of public packages, or of your own pictures."""
    import os

    from text2layer.picture_library.build import build_library
    from text2layer.picture_library.own import own_folders
    from text2layer.picture_library.packs import Pack
    from text2layer.picture_library.sources import ALL, public_sources

    own = own_folders(
        cutouts or (), backgrounds or (), license=license_, author=author, style=style,
        hold_out=hold_out,
    )  # fmt: skip
    given = [Pack(pack, license_, author) for pack in packs or ()]
    named = source or ([] if cutouts else [ALL])
    built = build_library(
        out, [*public_sources(named), *given, *own], required=ALL not in named,
        allow_share_alike=allow_share_alike, limit=limit,
        workers=workers or max((os.cpu_count() or 2) // 2, 1), progress=on_terminal(),
    )  # fmt: skip
    for name, sentence in built.missing.items():
        typer.echo(f"the source {name} is missing: {sentence}", err=True)
    figures = built.figures()
    if as_json:
        typer.echo(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    # what a person can mend in words, what a source does not offer as a count
    said = [item.said for item in built.left_out if item.said][:10]
    report_skipped(Counter(item.reason for item in built.left_out), said)
    if len(built.left_out) > len(said):
        typer.echo(f"  each is named in {out / 'report.json'}", err=True)
    for kind in ("foregrounds", "backgrounds"):
        typer.echo(f"{figures[kind]} {kind}", err=True)
    if built.made and built.seconds:
        typer.echo(f"{built.made / built.seconds:.1f} pictures a second", err=True)
    typer.echo(out)


@app.command("view")
def view(
    data: Annotated[
        str,
        typer.Argument(help="A picture library or shards, also s3://...", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The sheet, a PNG.", show_default=False)
    ],
    count: Annotated[int, typer.Option(help="How many samples.", min=1, max=1000)] = 12,
    columns: Annotated[int, typer.Option(help="Samples side by side.", min=1)] = 2,
    size: Size = 128,
    seed: Seed = 0,
    split: Annotated[str | None, typer.Option(help="Only train, val or test.")] = None,
) -> None:
    """Show samples on one sheet: foreground, background, mask, whole, and the caption."""
    from text2layer.data.contact_sheet import contact_sheet
    from text2layer.data.known_samples import is_library
    from text2layer.files import writing

    check_picture(output)
    if is_library(data):
        items, captions = _composed(data, split, size, count, seed)
    else:
        items, captions = _stored(data, split, count, seed)
    sheet = contact_sheet(items, columns, captions)
    with writing(output) as file:
        sheet.save(file, "PNG")
    typer.echo(output)


def _composed(
    library: str, split: str | None, size: int, count: int, seed: int
) -> tuple[list["Parts"], list[str]]:
    """Samples composed from a library, with one caption each."""
    import torch

    from text2layer.data.composer import Composer
    from text2layer.data.library import Library

    composer = Composer(Library(library), split, size, progress=on_terminal())
    made = composer.compose(count, torch.Generator().manual_seed(seed))
    return [made], composer.captions(made, random.Random(seed))


def _stored(
    shards: str, split: str | None, count: int, seed: int
) -> tuple[list["Parts"], list[str]]:
    """The first samples of shards, or for a seed above 0 a shuffled choice of them."""
    from text2layer.data.shards import ShardReader
    from text2layer.errors import DataError
    from text2layer.parts import Parts

    reader = ShardReader(shards, split, shuffle_buffer=10 * count if seed else 0, seed=seed)
    samples = list(islice(reader, count))
    report_skipped(reader.skipped, reader.messages)
    if not samples:
        of_split = f" of split '{split}'" if split else ""
        raise DataError(f"The shards in '{shards}' hold no usable sample{of_split}.")
    items = [
        Parts.from_arrays(one.foreground, one.background, one.mask, one.image) for one in samples
    ]
    return items, [one.text for one in samples]


PHOTOS_HELP = "A folder of pictures, WebDataset shards, Parquet, or an address (s3://...)."
OUT_HELP = "A new or empty folder, or one that this command has begun; or an address (s3://...)."

PLACES: list[Described] = [
    ("photos", str, ..., typer.Argument(help=PHOTOS_HELP, show_default=False)),
    ("out", str, ..., typer.Argument(help=OUT_HELP, show_default=False)),
]
# what decides where and how a build runs, not what it gives
RUNNING: list[Described] = [
    ("captions", str | None, None, typer.Option(help="A CSV or TSV with a file column.")),
    ("workers", int | None, None, typer.Option(
        help="Processes, or actors on Ray; half of the cores by default.", min=1)),
    ("ray", str | None, None, typer.Option(
        help="Run on a Ray cluster: its address, or auto.", metavar="ADDRESS|auto")),
    ("device", str, "auto", typer.Option(
        help="Where networks run; auto takes GPUs if there are any.", metavar="auto|cpu|cuda")),
    ("photo_timeout", float, 120.0, typer.Option(
        help="Seconds that a photo may take before it is set aside.", min=0.001)),
    ("worker_memory", float | None, None, typer.Option(
        help="GB that a worker may hold before its photo is set aside; no bound by default.",
        min=0.001)),
    ("retry_set_aside", bool, False, typer.Option(
        "--retry-set-aside", help="Try the photos again on which workers died or hung.")),
    ("stages", str | None, None, typer.Option(
        help="Stages of your own, made by MODULE:FUNCTION.", metavar="MODULE:FUNCTION")),
    ("report", bool, True, typer.Option(help="Write report.html and report.json in the end.")),
    ("as_json", bool, False, typer.Option("--json", help="Print the summary as JSON.")),
]  # fmt: skip


@app.command("build")
def build(photos: str, out: str, as_json: bool, **given: Any) -> None:
    """Make a filtered layered data set from photos; it resumes after an interruption."""
    from text2layer.photos.chunk import DEFAULT_STAGES
    from text2layer.photos.run import build as run_build

    summary = run_build(
        photos, out, settings_of(BuildSettings, given),
        captions=given["captions"], workers=given["workers"], ray=given["ray"],
        photo_timeout=given["photo_timeout"], worker_memory=given["worker_memory"],
        retry_set_aside=given["retry_set_aside"], device=given["device"],
        stages=given["stages"] or DEFAULT_STAGES, report=given["report"], progress=on_terminal(),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary.to_json(), indent=2, ensure_ascii=False))
    else:
        _say_build(summary, given["report"])
    if summary.interrupted:
        typer.echo("Stopped before the end; the same command goes on from there.", err=True)
        raise typer.Exit(130)
    if summary.processed and not summary.kept and not summary.done_before:
        raise DataError("No photo was kept; the counts above say why.")


takes(build, [*PLACES, *options_of(BuildSettings), *RUNNING])


@app.command("report")
def report(
    out: Annotated[
        str, typer.Argument(help="Folder of a build, or its address.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Write report.html and report.json of a build again, finished or not."""
    from text2layer.photos.report import write_report

    figures = write_report(out, progress=on_terminal())
    where = f"{out.rstrip('/')}/report.html"
    typer.echo(json.dumps(figures, indent=2, ensure_ascii=False) if as_json else where)


def _say_build(summary: "BuildSummary", with_report: bool) -> None:
    """Counts go to stderr, the path of the result to stdout."""
    report_skipped(summary.skipped, ())
    rate = summary.processed / summary.seconds if summary.seconds else 0
    earlier = f", {summary.done_before} were done before" if summary.done_before else ""
    typer.echo(
        f"{summary.photos} photos{earlier}; looked at {summary.processed} "
        f"({rate:.2f} a second), kept {summary.kept}",
        err=True,
    )
    for (stage, reason), count in summary.reasons.most_common():
        typer.echo(f"  {count} {stage}: {reason}", err=True)
    strict = summary.reasons[STRICTEST]
    if strict > summary.kept:
        typer.echo(
            f"note: {strict} failed at the last judge alone, which is chosen to keep few and good "
            "samples; --pair-quality 0, into another folder, keeps them (docs/quality.md has the "
            "shares of good ones)",
            err=True,
        )
    typer.echo(summary.out / "report.html" if with_report else summary.out)


Shards = Annotated[
    list[str], typer.Argument(help="Folders of shards, or tars.", show_default=False)
]
Out = Annotated[Path, typer.Argument(help="A new or empty folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
PerShard = Annotated[int, typer.Option(help="Most samples in one tar.", min=1)]


@app.command("stats")
def stats(shards: Shards, as_json: Json = False) -> None:
    """Count what shards hold: objects, mask areas, parts, caption lengths, licences."""
    from text2layer.data.shard_tools import shard_statistics

    figures, skipped = shard_statistics(shards, progress=on_terminal())
    if as_json:
        typer.echo(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    report_skipped(skipped.counts, skipped.messages)
    for name, value in _statistics_lines(figures):
        typer.echo(f"{name:<40} {value}")


@app.command("merge")
def merge(
    shards: Shards, out: Out, samples_per_shard: PerShard = 1000, as_json: Json = False
) -> None:
    """Write several sets of shards as one; keys stay unique, bytes stay as they are."""
    from text2layer.data.shard_tools import merge_shards

    _say_written(merge_shards(shards, out, samples_per_shard, progress=on_terminal()), as_json)


@app.command("split")
def split(
    shards: Shards,
    out: Out,
    by: Annotated[
        str, typer.Option(help="What must not be in two splits: picture, source or stored.")
    ] = "picture",
    val: Annotated[float, typer.Option(help="Share for val.", min=0, max=1)] = 0.05,
    test: Annotated[float, typer.Option(help="Share for test.", min=0, max=1)] = 0.05,
    samples_per_shard: PerShard = 1000,
    as_json: Json = False,
) -> None:
    """Split shards into train, val and test so that no picture, or source, is in two of them."""
    from text2layer.data.shard_tools import split_shards

    written = split_shards(shards, out, by, val, test, samples_per_shard, progress=on_terminal())
    _say_written(written, as_json)


@app.command("index")
def index(
    shards: Shards,
    out: Annotated[
        Path | None,
        typer.Option(help="The file, FILE.index; shards.index in the folder by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; half of the cores by default.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an index of shards once, so that training on them starts in seconds."""
    import os

    from text2layer.data.indexing import index_shards

    processes = workers or max(1, (os.cpu_count() or 1) // 2)
    made = index_shards(shards, out, processes, progress=on_terminal())
    if as_json:
        summary = {"path": str(made.path), "samples": made.samples, "shards": made.shards,
                   "read": made.read, "skipped": made.skipped}  # fmt: skip
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    report_skipped(made.skipped, made.messages)
    typer.echo(f"{made.samples} samples, {made.shards} shards, {made.read} of them read", err=True)
    typer.echo(made.path)


def _say_written(written: "Written", as_json: bool) -> None:
    if as_json:
        summary = {
            "shards": [path.name for path in written.paths],
            "samples": written.samples,
            "skipped": dict(written.skipped.counts),
        }
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    report_skipped(written.skipped.counts, written.skipped.messages)
    for path in written.paths:
        typer.echo(path)


def _statistics_lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures as (name, value) for people; histograms are left to --json."""

    def mean(part: dict[str, Any]) -> str:
        return "-" if part["mean"] is None else f"{part['mean']:.3f}"

    words = figures["caption_words"]
    lines = [
        ("samples", str(figures["samples"])),
        ("objects in a picture", mean(figures["objects"])),
    ]
    lines += [(f"mask area above {t}", mean(area)) for t, area in figures["area"].items()]
    lines += [(f"parts above {t}", mean(part)) for t, part in figures["components"].items()]
    lines.append(("words in a caption", mean(words)))
    lines += [(f"  percentile {p}", str(value)) for p, value in words["percentiles"].items()]
    for name in ("splits", "licenses", "longest_side"):
        counts = ", ".join(f"{count} {key}" for key, count in figures[name].items())
        lines.append((name.replace("_", " "), counts))
    return lines
