"""`text2layer decompose`: photographs taken apart into layers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.generate import (
    Preview,
    Seed,
    chosen_seed,
    load_pipeline,
    seeded,
)
from text2layer.cli.outputs import To, each, in_folder
from text2layer.errors import FormatError, InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage

    TakeApart = Callable[[LayeredImage], LayeredImage]

MAX_LAYERS = 4
PREVIEW_SIDE = 512  # pixels of each part's longer side


def decompose(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...",
            help="Opaque pictures: JPEG, PNG, HEIC, ...; - reads stdin.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            show_default=False,
            help="Where to write; the suffix chooses the format. FOLDER/ for several photos.",
        ),
    ],
    to: To = None,
    max_layers: Annotated[
        int | None, typer.Option(help=f"Maximum number of subjects [{MAX_LAYERS}].", min=1)
    ] = None,
    saliency: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="What finds the subjects: u2net, u2netp, isnet, an .onnx file, a hub id [u2net].",
        ),
    ] = None,
    inpainter: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="What fills the background: migan, opencv, or the folder or hub id of a diffusers "
            "inpainting pipeline [migan].",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Let a text2layer model do both; base is the released one."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="With --model: what the photo shows, if you like.")
    ] = None,
    seed: Seed = None,
    preview: Preview = None,
    device: Annotated[
        str | None, typer.Option(help="With --model: auto, cpu or cuda [auto].")
    ] = None,
) -> None:
    """Take a photograph apart: each subject becomes a layer, the background is filled behind them.

    The largest subject is "Subject 1" and the lowest layer, the next one lies on it, and so on;
    subjects beyond --max-layers join the nearest one, specks stay in the background. Layers are
    cropped, the file has the photo's size. Opened, it looks like the photo, but for the soft edges
    and the rim that is filled around each subject. A photo in which nothing is found is an error,
    and no file is written. With --model there are the model's layers ("Foreground").

    Several photos go into a folder, each under its own name; one that fails is named in the end,
    and the rest goes on.
    """
    networks = {"max-layers": max_layers, "saliency": saliency, "inpainter": inpainter}
    drawing = {"prompt": prompt, "seed": seed, "device": device}
    unfit = [name for name, value in (networks if model else drawing).items() if value is not None]
    if unfit:
        raise InputError(f"--{unfit[0]} goes {'without' if model else 'with'} --model.")
    several = len(photos) > 1 or output.endswith(("/", os.sep))
    if several and preview:
        raise InputError("--preview goes with one photo and one result.")
    if to and not several:
        raise InputError("--to goes with several photos, or -o FOLDER/.")
    by = model or saliency or "u2net"
    if several:
        results = in_folder(Path(output), (path.stem for path in photos), to or ".psd")
        loaded = {}
    else:
        results = [Path(output)]
        loaded = {photos[0]: _load_photo(photos[0], results[0], preview)}  # before any network
    take_apart: TakeApart
    if model:
        layers_of = by_model(model, device or "auto")
        first = chosen_seed(seed)  # every photo gets the same

        def with_words(picture: "LayeredImage") -> "LayeredImage":
            return layers_of(picture, prompt or "", first)

        take_apart = with_words
    else:
        take_apart = by_networks(max_layers or MAX_LAYERS, by, inpainter or "migan", not several)

    def one(photo: Path, result: Path) -> None:
        picture = loaded.get(photo) or _load_photo(photo, result, preview)
        layered = take_apart(picture)
        if not any(layer.alpha.any() for layer in layered.foregrounds):
            other = "--saliency" if not model else "--prompt"
            raise InputError(
                f"{by} finds no subject in {photo}, or nothing but one; try another {other}."
            )
        save_taken_apart(layered, picture, result, preview)

    if several:
        each(list(zip(photos, results, strict=True)), one)
    else:
        one(photos[0], results[0])


def _load_photo(photo: Path, output: Path, preview: Path | None) -> "LayeredImage":
    """Open the photo once it is certain that the results have a place, and another one."""
    from text2layer import io
    from text2layer.cli.outputs import check_output, check_picture

    check_output(output)
    if preview:
        check_picture(preview)
    picture = io.load(photo)
    for path in filter(None, (output, preview)):
        if path.exists() and photo.exists() and path.samefile(photo):
            raise InputError(f"{path} is the photo itself; choose another name for the result.")
    if picture.foregrounds:
        raise FormatError(
            f"{photo} has layers or transparency already; to take it apart as it looks, flatten it "
            f"first: text2layer convert {photo} flat.png"
        )
    return picture


def by_networks(max_layers: int, saliency: str, inpainter: str, bar: bool) -> "TakeApart":
    """Load networks of others once."""
    from text2layer.cli.sources import on_terminal
    from text2layer.pipelines import PhotoLayers

    layers = PhotoLayers(saliency, inpainter, max_layers, bar and on_terminal())
    return lambda picture: layers(picture.background)


def by_model(model: str, device: str) -> "Callable[[LayeredImage, str, int], LayeredImage]":
    """Load a model of our own once; it takes a picture, words that may be empty, and a seed."""
    pipe = load_pipeline(None if model == "base" else Path(model), device)

    def take_apart(picture: "LayeredImage", prompt: str, seed: int) -> "LayeredImage":
        made: Any = pipe(prompt, image=picture, generator=seeded(seed))
        layered: LayeredImage = made.layers[0]
        return layered

    return take_apart


def save_taken_apart(
    layered: "LayeredImage", picture: "LayeredImage", output: Path, preview: Path | None
) -> None:
    """Write the result; what the picture's file said of itself goes along."""
    from text2layer.cli.outputs import deliver, show_preview
    from text2layer.pipelines.photo_layers import with_provenance

    layered = with_provenance(layered, picture)
    deliver(layered, output)
    if preview:
        scale = min(PREVIEW_SIDE / max(layered.size), 1)
        width, height = (max(round(side * scale), 1) for side in layered.size)
        show_preview(layered.resized((width, height)), preview, output)
