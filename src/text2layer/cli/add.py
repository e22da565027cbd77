"""`text2layer add` and `text2layer replace`: one layer of a layered file, drawn by the model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from text2layer.cli.layers import LayeredFile, LayerName
from text2layer.cli.opening import MaxPixels, Merge, open_layered

if TYPE_CHECKING:
    from text2layer import LayeredImage
    from text2layer.pipelines import Text2LayerPipeline

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

    def draw(pipe: "Text2LayerPipeline", layered: "LayeredImage", **options: Any) -> "LayeredImage":
        return pipe.add_layer(layered, prompt, at, **options)

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
