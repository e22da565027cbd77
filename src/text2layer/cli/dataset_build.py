"""`text2layer dataset build|report`: photographs to a filtered layered data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.options import Described, options_of, settings_of, takes
from text2layer.cli.sources import on_terminal, report_skipped
from text2layer.errors import DataError
from text2layer.photos.settings import BuildSettings

if TYPE_CHECKING:
    from text2layer.photos.run import BuildSummary

PHOTOS_HELP = "A folder of pictures, WebDataset shards, or a Parquet list of files."
OUT_HELP = "A new or empty folder, or one that the same command has begun."

PLACES: list[Described] = [
    ("photos", Path, ..., typer.Argument(help=PHOTOS_HELP, show_default=False)),
    ("out", Path, ..., typer.Argument(help=OUT_HELP, show_default=False)),
]
# what decides where and how a build runs, not what it gives
RUNNING: list[Described] = [
    ("captions", Path | None, None, typer.Option(help="A CSV or TSV with a file column.")),
    ("workers", int | None, None, typer.Option(
        help="Processes, or actors on Ray; half of the cores by default.", min=1)),
    ("ray", str | None, None, typer.Option(
        help="Run on a Ray cluster: its address, or auto.", metavar="ADDRESS|auto")),
    ("stages", str | None, None, typer.Option(
        help="Stages of your own, made by MODULE:FUNCTION.", metavar="MODULE:FUNCTION")),
    ("report", bool, True, typer.Option(help="Write report.html and report.json in the end.")),
    ("as_json", bool, False, typer.Option("--json", help="Print the summary as JSON.")),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add `build`, with one option per field of its settings, and `report` to the group."""
    takes(build, [*PLACES, *options_of(BuildSettings), *RUNNING])
    app.command("build")(build)
    app.command("report")(report)


def build(photos: Path, out: Path, as_json: bool, **given: Any) -> None:
    """Make a filtered layered data set from photos; it resumes after an interruption."""
    from text2layer.photos.chunk import DEFAULT_STAGES
    from text2layer.photos.run import build as run_build

    summary = run_build(
        photos, out, settings_of(BuildSettings, given),
        captions=given["captions"], workers=given["workers"], ray=given["ray"],
        stages=given["stages"] or DEFAULT_STAGES, report=given["report"], progress=on_terminal(),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary.to_json(), indent=2, ensure_ascii=False))
    else:
        _say(summary, given["report"])
    if summary.interrupted:
        typer.echo("Stopped before the end; the same command goes on from there.", err=True)
        raise typer.Exit(130)
    if summary.processed and not summary.kept and not summary.done_before:
        raise DataError("No photo was kept; the counts above say why.")


def report(
    out: Annotated[Path, typer.Argument(help="Folder of a build.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Write report.html and report.json of a build again, finished or not."""
    from text2layer.photos.report import write_report

    figures = write_report(out, progress=on_terminal())
    typer.echo(
        json.dumps(figures, indent=2, ensure_ascii=False) if as_json else out / "report.html"
    )


def _say(summary: "BuildSummary", with_report: bool) -> None:
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
    typer.echo(summary.out / "report.html" if with_report else summary.out)
