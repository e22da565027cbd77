"""Layered files changed: `text2layer remove`, `move`, `scale`, `reorder`, `blend`; with a model,
`add` and `replace`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.blend_modes import BLEND_MODES, NORMAL
from text2layer.cli.generate import (
    Device,
    Fast,
    Guidance,
    ModelFolder,
    Negative,
    Output,
    Preview,
    Prompt,
    Seed,
    Steps,
    chosen_seed,
    load_pipeline,
    seeded,
)
from text2layer.cli.outputs import check_output, deliver
from text2layer.cli.sources import MaxPixels, Merge, open_layered
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage
    from text2layer.pipelines import Text2LayerPipeline

LayeredFile = Annotated[Path, typer.Argument(help="A layered file.", show_default=False)]
LayerName = Annotated[
    str,
    typer.Argument(help="Its name, or '#1' for the lowest foreground, '#2' ...",
                   show_default=False),
]  # fmt: skip
Result = Annotated[
    Path,
    typer.Option("--output", "-o", help="Where to write; it may be the same file.",
                 show_default=False),
]  # fmt: skip


def remove(file: LayeredFile, layer: LayerName, output: Result) -> None:
    """Remove one layer from a layered file."""
    layered = _load(file, output)
    deliver(layered.remove_layer(layered.find_layer(layer)), output)


def move(
    file: LayeredFile,
    layer: LayerName,
    output: Result,
    by: Annotated[
        str | None, typer.Option(metavar="DX,DY", help="Pixels to the right and down.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="New position of the top left of its visible part."),
    ] = None,
) -> None:
    """Move one layer of a layered file; it may lie partly or wholly off the canvas."""
    if (by is None) == (to is None):
        raise InputError("Give one of --by DX,DY and --to X,Y.")
    layered = _load(file, output)
    index = layered.find_layer(layer)
    chosen = layered.foregrounds[index]
    x, y = _pair(by if by is not None else to or "")
    if to is not None:
        left, top = (chosen.box or (*chosen.offset, 0, 0))[:2]
        x, y = x - left, y - top
    deliver(layered.replace_layer(index, chosen.moved(x, y)), output)


def scale(
    file: LayeredFile,
    layer: LayerName,
    factor: Annotated[float, typer.Argument(help="2 is twice as wide and high, 0.5 half.")],
    output: Result,
) -> None:
    """Make one layer of a layered file larger or smaller about its middle."""
    layered = _load(file, output)
    index = layered.find_layer(layer)
    deliver(layered.replace_layer(index, layered.foregrounds[index].scaled(factor)), output)


def reorder(
    file: LayeredFile,
    layer: LayerName,
    place: Annotated[
        str, typer.Argument(help="up, down, top, bottom, or a number: 1 is the lowest foreground.")
    ],
    output: Result,
) -> None:
    """Put one layer of a layered file above or below others."""
    layered = _load(file, output)
    index, last = layered.find_layer(layer), len(layered.foregrounds) - 1
    words = {"up": min(index + 1, last), "down": max(index - 1, 0), "top": last, "bottom": 0}
    if place not in words and not (place.isdecimal() and 1 <= int(place) <= last + 1):
        raise InputError(
            f"{place!r} is no place among layers: say up, down, top, bottom, or 1 to {last + 1}."
        )
    target = words[place] if place in words else int(place) - 1
    deliver(layered.reorder_layer(index, target), output)


def blend(
    file: LayeredFile,
    layer: LayerName,
    mode: Annotated[str, typer.Argument(metavar="MODE", help=f"One of {', '.join(BLEND_MODES)}.")],
    output: Result,
) -> None:
    """Give one layer of a layered file a blend mode: how its colour meets what is below it."""
    layered = _load(file, output)
    index = layered.find_layer(layer)
    changed = layered.foregrounds[index].replace(blend_mode=mode)
    deliver(layered.replace_layer(index, changed), output)


def _load(file: Path, output: Path) -> "LayeredImage":
    check_output(output)
    return open_layered(file)


def _pair(text: str) -> tuple[int, int]:
    try:
        x, y = (int(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is no pair of whole numbers; write it like 40,-10.") from None
    return x, y


At = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="left, centre, right, top, bottom, top-left, ...: a square of half the shorter side; "
        "or x,y,width,height in pixels. The new object is made to fill it.",
    ),
]


def add(
    file: LayeredFile,
    prompt: Prompt,
    output: Output,
    at: At = None,
    blend_mode: Annotated[
        str, typer.Option(help=f"Of the new layer: {', '.join(BLEND_MODES)}.")
    ] = NORMAL,
    seed: Seed = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    negative_prompt: Negative = None,
    model: ModelFolder = None,
    fast: Fast = False,
    preview: Preview = None,
    device: Device = "auto",
    merge: Merge = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Generate one more layer on top of a layered file.

    The picture so far is the new layer's background and stays as it is, pixel for pixel. Without
    --at the object is placed by the model.
    """
    if blend_mode not in BLEND_MODES:
        raise InputError(f"--blend-mode is one of {', '.join(BLEND_MODES)}, not {blend_mode!r}.")

    def draw(pipe: "Text2LayerPipeline", layered: "LayeredImage", **options: Any) -> "LayeredImage":
        made = pipe.add_layer(layered, prompt, at, **options)
        return made.replace_layer(-1, made.foregrounds[-1].replace(blend_mode=blend_mode))

    _change(
        file, output, preview, model, fast, device, seed, merge, max_pixels, draw,
        num_inference_steps=steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt,
    )  # fmt: skip


def replace(
    file: LayeredFile,
    layer: LayerName,
    output: Output,
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to draw [what the old layer was drawn from].", show_default=False
        ),
    ] = None,
    at: At = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    negative_prompt: Negative = None,
    model: ModelFolder = None,
    fast: Fast = False,
    preview: Preview = None,
    device: Device = "auto",
    merge: Merge = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Replace one layer of a layered file; the others stay as they are.

    The new layer comes in the old one's place and box. Without a prompt it is another version of
    the same (another --seed), under the same name. 'Background' draws a new background behind all
    visible layers.
    """  # fmt: skip

    def draw(pipe: "Text2LayerPipeline", layered: "LayeredImage", **options: Any) -> "LayeredImage":
        return pipe.replace_layer(layered, layer, prompt, at, **options)

    _change(
        file, output, preview, model, fast, device, seed, merge, max_pixels, draw,
        num_inference_steps=steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt,
    )  # fmt: skip


def _change(
    file: Path,
    output: Path,
    preview: Path | None,
    model: Path | None,
    fast: bool,
    device: str,
    seed: int | None,
    merge: bool,
    max_pixels: int | None,
    draw: Callable[..., "LayeredImage"],
    **options: Any,
) -> None:
    """Check, read, draw, write, show."""
    from text2layer.cli.outputs import check_output, check_picture, deliver

    check_output(output)
    if preview:
        check_picture(preview)
    layered = open_layered(file, merge, max_pixels)
    pipe = load_pipeline(model, device, fast)
    result = draw(pipe, layered, generator=seeded(chosen_seed(seed)), **options)
    deliver(result, output, preview)
