"""`text2layer generate --text-to-image`: one model draws, others take the picture apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage
    from text2layer.cli.decompose import TakeApart

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


class FlatSource:
    """Draws a prompt with a text-to-image pipeline and takes the picture apart.

    Args:
        name: folder or hub id of the pipeline that draws.
        model: what takes apart; None leaves it to the networks of decompose.
        device: auto, cpu or cuda.
        drawing: options of `TextToImageLayers.draw`.
        others: as of `check_options`.

    Raises:
        InputError: an option that the pipeline does not take.
        WeightsError: a model is missing, damaged or unsafe to load.
    """

    def __init__(
        self,
        name: str,
        model: Path | None,
        device: str,
        drawing: Mapping[str, Any],
        others: Mapping[str, Any],
    ) -> None:
        from text2layer.cli.decompose import MAX_LAYERS, by_networks
        from text2layer.cli.sources import choose_device
        from text2layer.pipelines import TextToImageLayers

        self._drawing = dict(drawing)
        self._by = str(model) if model else others["saliency"] or "u2net"
        place = choose_device(device)
        if model:
            self._take_apart = _by_model(str(model), device, others)
        else:
            most = others["max-layers"] or MAX_LAYERS
            self._take_apart = by_networks(most, self._by, others["inpainter"] or "migan", False)
        self._pipe = TextToImageLayers.from_pretrained(
            name,
            device=place,
            dtype=others["dtype"] or "auto",
            offload=others["offload"] or "none",
        )
        self._pipe.check(**self._drawing)
        if drawing["negative_prompt"] and not self._pipe.is_guided(drawing["guidance_scale"]):
            typer.echo("note: without guidance the negative prompt has no effect", err=True)

    @property
    def takes_seed(self) -> bool:
        """Whether the same seed gives the same picture."""
        return self._pipe.takes_seed

    def make(self, prompt: str, seed: int) -> "LayeredImage":
        """One picture; a background alone, and a note, where no subject is found."""
        from text2layer.cli.generate import seeded
        from text2layer.pipelines.photo_layers import with_provenance

        generator = seeded(seed) if self.takes_seed else None
        flat = self._pipe.draw(prompt, **self._drawing, generator=generator)
        layered = with_provenance(self._take_apart(flat), flat)
        if not any(layer.alpha.any() for layer in layered.foregrounds):
            typer.echo(
                f"note: {self._by} finds no subject in this picture, which is kept as a background "
                "alone; try another seed, or text2layer decompose with another --saliency",
                err=True,
            )
        return layered


def _by_model(model: str, device: str, others: Mapping[str, Any]) -> "TakeApart":
    """A model takes apart, with the prompt and seed that the picture was drawn with."""
    from text2layer.cli.decompose import by_model, is_layered_pipeline

    given = {"max_layers": others["max-layers"]}
    if is_layered_pipeline(model):
        given |= {"dtype": others["dtype"], "offload": others["offload"]}
    layers_of = by_model(model, device, **given)

    def take_apart(flat: "LayeredImage") -> "LayeredImage":
        return layers_of(flat, flat.metadata["prompt"], flat.metadata.get("seed", 0), None)

    return take_apart
