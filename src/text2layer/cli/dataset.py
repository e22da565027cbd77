"""`text2layer dataset`: make training data from cut-outs or photos, and look at data."""

import json
import random
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from text2layer.cli import dataset_build, dataset_shards
from text2layer.cli.judges import label
from text2layer.cli.outputs import check_picture
from text2layer.cli.sources import choose_device, on_terminal, report_skipped
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer.parts import Parts

app = typer.Typer(help="Make and view training data.", no_args_is_help=True)
dataset_build.register(app)
dataset_shards.register(app)
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


@app.command("view")
def view(
    data: Annotated[Path, typer.Argument(help="A picture library, or shards.", show_default=False)],
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
    library: Path, split: str | None, size: int, count: int, seed: int
) -> tuple[list["Parts"], list[str]]:
    """Samples composed from a library, with one caption each."""
    import torch

    from text2layer.data.composer import Composer
    from text2layer.data.library import Library

    composer = Composer(Library(library), split, size, progress=on_terminal())
    made = composer.compose(count, torch.Generator().manual_seed(seed))
    return [made], composer.captions(made, random.Random(seed))


def _stored(
    shards: Path, split: str | None, count: int, seed: int
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
