"""`text2layer dataset stats|merge|split`: tools for finished shards."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.sources import on_terminal, report_skipped

if TYPE_CHECKING:
    from text2layer.data.shard_tools import Written

Shards = Annotated[
    list[Path], typer.Argument(help="Folders of shards, or tars.", show_default=False)
]
Out = Annotated[Path, typer.Argument(help="A new or empty folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
PerShard = Annotated[int, typer.Option(help="Most samples in one tar.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("stats")(stats)
    app.command("merge")(merge)
    app.command("split")(split)


def stats(shards: Shards, as_json: Json = False) -> None:
    """Count what shards hold: objects, mask areas, parts, caption lengths, licences."""
    from text2layer.data.shard_tools import shard_statistics

    figures, skipped = shard_statistics(shards, progress=on_terminal())
    if as_json:
        typer.echo(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    report_skipped(skipped.counts, skipped.messages)
    for name, value in _lines(figures):
        typer.echo(f"{name:<40} {value}")


def merge(
    shards: Shards, out: Out, samples_per_shard: PerShard = 1000, as_json: Json = False
) -> None:
    """Write several sets of shards as one; keys stay unique, bytes stay as they are."""
    from text2layer.data.shard_tools import merge_shards

    _say(merge_shards(shards, out, samples_per_shard, progress=on_terminal()), as_json)


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
    _say(written, as_json)


def _say(written: "Written", as_json: bool) -> None:
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


def _lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
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
