"""`text2layer generate`: text in, layers out."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from text2layer.pipelines import Text2LayerPipeline

ANY_CANVAS = (10**9, 10**9)  # the model says later how large it is
Prompt = Annotated[str, typer.Argument(help="What to draw, in English.", show_default=False)]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Where to write; the suffix chooses the format.",
                 show_default=False),
]  # fmt: skip
Seed = Annotated[
    int | None,
    typer.Option(help="Same seed, same picture; without one it is drawn and printed.",
                 min=0, max=2**63 - 1),
]  # fmt: skip
Steps = Annotated[int | None, typer.Option(help="Denoising steps [the model's own].", min=1)]
Guidance = Annotated[
    float | None, typer.Option(help="How closely to follow the prompt [the model's own].")
]
Side = Annotated[int | None, typer.Option(help="Pixels to draw [the model's own].", min=1)]
Negative = Annotated[str | None, typer.Option(help="What not to draw.")]
ModelFolder = Annotated[Path | None, typer.Option(help="Folder of a model [the released one].")]
Fast = Annotated[
    bool, typer.Option("--fast", help="Few steps without guidance: five times as fast.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Preview = Annotated[
    Path | None, typer.Option(help="Also write a PNG that shows all parts side by side.")
]


def generate(
    prompt: Prompt,
    output: Output,
    seed: Seed = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    width: Side = None,
    height: Side = None,
    negative_prompt: Negative = None,
    num_images: Annotated[
        int, typer.Option(help="How many; FILE-1, FILE-2, ... with seeds SEED, SEED+1, ...", min=1)
    ] = 1,
    model: ModelFolder = None,
    fast: Fast = False,
    foreground: Annotated[
        Path | None,
        typer.Option(help="A cut-out with alpha, or a layered file: draw the background behind."),
    ] = None,
    background: Annotated[
        Path | None, typer.Option(help="A picture: draw the foreground that belongs on it.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="A picture: take it apart into foreground and background.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option(help="With --image: how often; the best is kept [4].", min=1)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A cut-out with alpha: draw an object that looks like it."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A picture library: take its cut-out that is nearest to the prompt as reference.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Where the object goes: left, centre, right, top, bottom, top-left, ...: a square "
            "of half the shorter side, which it fills; or a box x,y,width,height in pixels.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR", help="How large the object becomes, relative to what was drawn."
        ),
    ] = None,
    preview: Preview = None,
    device: Device = "auto",
) -> None:
    """Draw a layered picture from text: foreground, soft mask and background.

    At most one part is given; it comes back unchanged, pixel for pixel, and the file has its size.
    The model sees it at its own working size (--width, --height), stretched by 7 % at most, else
    padded, never cropped; of a background that is far from square it sees a square window in the
    middle. A picture taken apart is what its layers make when laid over one another.
    Of a reference nothing is kept. --at and --scale move the drawn object, as a layer.
    """
    from text2layer.cli.outputs import check_outputs, check_picture, deliver, numbered
    from text2layer.cli.references import reference_from
    from text2layer.pipelines.placement import check_moved

    outputs = numbered(output, num_images)
    previews = numbered(preview, num_images) if preview else [None] * num_images
    check_outputs(outputs)
    for path in filter(None, previews):
        check_picture(path)
    given = _given(foreground, background, image, reference, library)
    check_moved(at, scale, next(iter(given), None), ANY_CANVAS, 1, "layered")  # before it loads
    pipe = load_pipeline(model, device, fast)
    if "library" in given:
        given = {"reference": reference_from(given["library"], prompt, pipe)}
    first = chosen_seed(seed)
    for index, (path, preview_path) in enumerate(zip(outputs, previews, strict=True)):
        result = pipe(
            prompt,
            **given,
            at=at,
            scale=scale,
            height=height,
            width=width,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            attempts=attempts,
            generator=seeded(first + index),
        )
        deliver(result.layers[0], path, preview_path)


def _given(
    foreground: Path | None,
    background: Path | None,
    image: Path | None,
    reference: Path | None,
    library: Path | None,
) -> dict[str, Any]:
    """Open what was given, by the name of its option."""
    from text2layer.cli.opening import open_layered
    from text2layer.cli.references import open_reference
    from text2layer.data.library import Library
    from text2layer.errors import InputError

    named: dict[str, tuple[Path | None, Callable[[Path], Any]]] = {
        "foreground": (foreground, open_layered),
        "background": (background, open_layered),
        "image": (image, open_layered),
        "reference": (reference, open_reference),
        "library": (library, Library),
    }
    present = [name for name, (path, _) in named.items() if path is not None]
    if len(present) > 1:
        raise InputError(f"Give only one of --{' and --'.join(present)}; the rest is drawn.")
    given = {name: read(path) for name, (path, read) in named.items() if path is not None}
    if "foreground" in given and not given["foreground"].foregrounds:
        raise InputError(f"{foreground} has no transparency; give a cut-out with an alpha channel.")
    return given


def load_pipeline(model: Path | None, device: str, fast: bool = False) -> "Text2LayerPipeline":
    from diffusers.utils import logging

    from text2layer.cli.sources import choose_device
    from text2layer.pipelines import Text2LayerPipeline, released_model

    device = choose_device(device)
    logging.disable_progress_bar()  # of loading; drawing has a bar of its own
    pipe = Text2LayerPipeline.from_pretrained(model or released_model(), fast=fast)
    pipe.set_progress_bar_config(disable=None)  # a bar on a terminal, nothing in a log
    return pipe.to(device)


def chosen_seed(seed: int | None) -> int:
    """Return the seed, or draw one and say which, so that the picture can be made again."""
    if seed is None:
        seed = secrets.randbelow(2**31)
        typer.echo(f"seed {seed}", err=True)
    return seed


def seeded(seed: int) -> Any:
    import torch

    return torch.Generator("cpu").manual_seed(seed % 2**63)
