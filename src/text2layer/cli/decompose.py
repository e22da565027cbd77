"""`text2layer decompose`: photographs taken apart into layers."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.generate import (
    Dtype,
    Offload,
    Preview,
    Seed,
    Steps,
    chosen_seed,
    load_pipeline,
    seeded,
)
from text2layer.cli.outputs import To, each, ends_as_folder, in_folder
from text2layer.errors import FormatError, InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage

    TakeApart = Callable[[LayeredImage], LayeredImage]
    ByModel = Callable[[LayeredImage, str, int, int | None], LayeredImage]

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
            metavar="FOLDER",
            help="Let a model do both: a text2layer model (base is the released one), or the "
            "folder or hub id of a diffusers pipeline for layers (Qwen-Image-Layered).",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="With --model: what the photo shows, if you like.")
    ] = None,
    seed: Seed = None,
    steps: Steps = None,
    preview: Preview = None,
    device: Annotated[
        str | None, typer.Option(help="With --model: auto, cpu or cuda [auto].")
    ] = None,
    dtype: Dtype = None,
    offload: Offload = None,
) -> None:
    """Take a photograph apart: each subject becomes a layer, the background is filled behind them.

    The largest subject is "Subject 1" and the lowest layer, the next one lies on it, and so on;
    subjects beyond --max-layers join the nearest one, specks stay in the background. Layers are
    cropped, the file has the photo's size. Opened, it looks like the photo, but for the soft edges
    and the rim that is filled around each subject. A photo in which nothing is found is an error,
    and no file is written. With --model there are the model's layers: "Foreground", or of a
    diffusers pipeline "Layer 1", ..., as many as it makes (--max-layers).

    Several photos go into a folder, each under its own name; one that fails is named in the end,
    and the rest goes on.
    """
    networks = {"saliency": saliency, "inpainter": inpainter}
    drawing = {"prompt": prompt, "seed": seed, "steps": steps, "device": device, "dtype": dtype,
               "offload": offload}  # fmt: skip
    unfit = [name for name, value in (networks if model else drawing).items() if value is not None]
    if unfit:
        raise InputError(f"--{unfit[0]} goes {'without' if model else 'with'} --model.")
    several = len(photos) > 1 or ends_as_folder(output)
    if several and preview:
        raise InputError("--preview goes with one photo and one result.")
    if to and not several:
        raise InputError("--to goes with several photos, or -o FOLDER/.")
    by = model or saliency or "u2net"
    if several:
        results = in_folder(output, (path.stem for path in photos), to or ".psd")
        loaded = {}
    else:
        results = [Path(output)]
        loaded = {photos[0]: _load_photo(photos[0], results[0], preview)}  # before any network
    take_apart: TakeApart
    if model:
        layers_of = by_model(
            model, device or "auto", max_layers=max_layers, dtype=dtype, offload=offload
        )
        first = chosen_seed(seed)  # every photo gets the same

        def with_words(picture: "LayeredImage") -> "LayeredImage":
            return layers_of(picture, prompt or "", first, steps)

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


def by_model(model: str, device: str, **options: Any) -> "ByModel":
    """Load a model once; it takes a picture, words that may be empty, a seed, and steps.

    Args:
        model: base, or a folder or hub id of a model of ours or a layered pipeline of diffusers.
        options: of layered pipelines alone: max_layers, dtype, offload; None where not given.
    """
    if is_layered_pipeline(model):
        return _by_layered_pipeline(model, device, **options)
    unfit = next((name for name, value in options.items() if value is not None), None)
    if unfit:
        raise InputError(
            f"--{unfit.replace('_', '-')} goes with a layered pipeline of diffusers, and {model} "
            "is a text2layer model."
        )
    pipe = load_pipeline(None if model == "base" else Path(model), device)

    def take_apart(
        picture: "LayeredImage", prompt: str, seed: int, steps: int | None = None
    ) -> "LayeredImage":
        made: Any = pipe(prompt, image=picture, num_inference_steps=steps, generator=seeded(seed))
        layered: LayeredImage = made.layers[0]
        return layered

    return take_apart


def is_layered_pipeline(model: str) -> bool:
    """Whether a folder or hub id holds a pipeline of others, not a text2layer model."""
    from text2layer.pipelines.loading import PIPELINE_CLASS
    from text2layer.pipelines.opening import kind_of

    return model != "base" and kind_of(model) != PIPELINE_CLASS


def _by_layered_pipeline(
    model: str,
    device: str,
    max_layers: int | None = None,
    dtype: str | None = None,
    offload: str | None = None,
) -> "ByModel":
    from text2layer.cli.sources import choose_device
    from text2layer.pipelines import LayeredPipeline

    pipe = LayeredPipeline.from_pretrained(
        model, device=choose_device(device), dtype=dtype or "auto", offload=offload or "none"
    )
    layers = None if max_layers is None else max_layers + 1  # the background is one

    def take_apart(
        picture: "LayeredImage", prompt: str, seed: int, steps: int | None = None
    ) -> "LayeredImage":
        return pipe(
            picture.background, prompt, layers=layers, num_inference_steps=steps,
            generator=seeded(seed),
        )  # fmt: skip

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
