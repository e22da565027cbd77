"""`text2layer generate --text-to-image`: one model draws, others take the picture apart."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage
    from text2layer.cli.decompose import TakeApart

Job = Callable[[str, Path], None]
TAKING_APART = ("saliency", "inpainter")  # options of the networks that do it


def check_options(
    text_to_image: str | None,
    model: Path | None,
    own: Mapping[str, Any],
    others: Mapping[str, Any],
) -> None:
    """Raise InputError for an option that does not go with what draws.

    Args:
        text_to_image: what draws, if not a model of ours.
        model: with `text_to_image` what takes apart.
        own: options of our models alone, by name; None or False where they were not given.
        others: options of `text_to_image` alone, likewise.
    """
    unfit = [
        name
        for name, value in (own if text_to_image else others).items()
        if value is not None and value is not False
    ]
    if unfit:
        raise InputError(
            f"--{unfit[0]} goes {'without' if text_to_image else 'with'} --text-to-image."
        )
    if model and (name := next((n for n in TAKING_APART if others[n] is not None), None)):
        raise InputError(f"--{name} goes without --model, which takes the picture apart alone.")


def text_to_image_job(
    name: str,
    *,
    model: Path | None,
    saliency: str | None,
    inpainter: str | None,
    max_layers: int | None,
    device: str,
    dtype: str,
    offload: str,
    seed: int | None,
    num_images: int,
    previews: Sequence[Path | None],
    drawing: Mapping[str, Any],
) -> Job:
    """Load everything; return what draws a prompt, takes it apart and writes it to a path.

    Args:
        name: folder or hub id of the pipeline that draws.
        drawing: options of `TextToImageLayers.draw`.
    """
    from text2layer.cli.decompose import (
        MAX_LAYERS,
        by_model,
        by_networks,
        is_layered_pipeline,
        save_taken_apart,
    )
    from text2layer.cli.generate import chosen_seed, seeded
    from text2layer.cli.outputs import numbered
    from text2layer.cli.sources import choose_device
    from text2layer.pipelines import TextToImageLayers

    place = choose_device(device)
    by = str(model) if model else saliency or "u2net"
    take_apart: TakeApart
    if model:
        options = {"dtype": dtype, "offload": offload} if is_layered_pipeline(str(model)) else {}
        layers_of = by_model(str(model), device, max_layers=max_layers, **options)

        def with_its_words(flat: "LayeredImage") -> "LayeredImage":
            return layers_of(flat, flat.metadata["prompt"], flat.metadata.get("seed", 0), None)

        take_apart = with_its_words
    else:
        take_apart = by_networks(max_layers or MAX_LAYERS, by, inpainter or "migan", False)
    pipe = TextToImageLayers.from_pretrained(name, device=place, dtype=dtype, offload=offload)
    pipe.check(**drawing)
    if seed is not None and not pipe.takes_seed:
        raise InputError(f"{name} takes no seed; leave --seed out.")
    if drawing["negative_prompt"] and not pipe.is_guided(drawing["guidance_scale"]):
        typer.echo("note: without guidance the negative prompt has no effect", err=True)
    first = chosen_seed(seed) if pipe.takes_seed else 0

    def job(prompt: str, result: Path) -> None:
        paths = zip(numbered(result, num_images), previews, strict=True)
        for index, (path, preview) in enumerate(paths):
            generator = seeded(first + index) if pipe.takes_seed else None
            flat = pipe.draw(prompt, **drawing, generator=generator)
            layered = take_apart(flat)
            if not any(layer.alpha.any() for layer in layered.foregrounds):
                typer.echo(
                    f"note: {by} finds no subject in this picture, so {path} is a background "
                    "alone; try another seed, or text2layer decompose with another --saliency",
                    err=True,
                )
            save_taken_apart(layered, flat, path, preview)

    return job
