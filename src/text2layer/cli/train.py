"""`text2layer train autoencoder|denoiser|matting`: options made from the trainers' settings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from text2layer.cli.app import App
from text2layer.cli.judges import quality, relevance
from text2layer.cli.options import preset_options, takes
from text2layer.cli.sources import first_process, open_source
from text2layer.training.settings import PRESETS, settings_from

RELEASED = "base"  # --autoencoder: the one of the released model

app = App(help="Train a model of your own.", no_args_is_help=True)

app.command("quality")(quality)
app.command("relevance")(relevance)


def _command(trainer: str, train: Callable[[Any], Any], text: str) -> None:
    """Register `text2layer train TRAINER` with one option per field of its settings."""

    def command(preset: str, **given: Any) -> None:
        overrides = {name: value for name, value in given.items() if value is not None}
        settings = settings_from(trainer, preset, **overrides)
        result = train(settings)
        if first_process():
            typer.echo(result.checkpoint)
            if result.interrupted:
                typer.echo(f"Stopped after step {result.step} of {settings.steps}; the same "
                           "command goes on from there.", err=True)  # fmt: skip
        if result.interrupted and not settings.max_minutes:
            raise typer.Exit(130)  # a run that was cut off by hand has not succeeded

    takes(command, preset_options(PRESETS[trainer]))
    command.__doc__ = text
    app.command(trainer)(command)


def _sources(settings: Any, num_foregrounds: int) -> tuple[Any, ...]:
    """Open the training and validation samples that the settings name."""
    from text2layer.data.composer import Composer
    from text2layer.data.world import World, read_weights, world_of

    weights, world = read_weights(settings.style_weights, "style_weights"), world_of(settings)

    def opened(split: str, world: World) -> Any:
        return open_source(
            settings.data, split, settings.size, settings.device, weights, num_foregrounds, world
        )

    train = opened("train", world)
    if isinstance(train, Composer):
        if world.hold_out_pairings and (held_out := train.held_out_pairings()):
            return train, held_out
        library = train.library
        if not (library.foregrounds_of("val") and library.backgrounds_of("val")):
            if first_process():
                typer.echo(f"'{settings.data}' has nothing of split val: validation draws other "
                           "samples of split train.", err=True)  # fmt: skip
            return train, train
    return train, opened("val", replace(world, drawings=None))  # lists name drawings of training


def _train_autoencoder(settings: Any) -> Any:
    from text2layer.training.autoencoder import train_autoencoder

    return train_autoencoder(settings, *_sources(settings, settings.num_foregrounds))


def _train_denoiser(settings: Any) -> Any:
    from text2layer.pipelines import released_model
    from text2layer.training.checkpoints import autoencoder_config
    from text2layer.training.denoiser import train_denoiser

    if settings.autoencoder == RELEASED and not Path(RELEASED).exists():
        settings = replace(settings, autoencoder=str(released_model() / "autoencoder"))
    layers = 1  # train_denoiser asks for the autoencoder
    if settings.autoencoder:
        layers = autoencoder_config(Path(settings.autoencoder)).get("num_foregrounds", 1)
    return train_denoiser(settings, *_sources(settings, layers))


def _train_matting(settings: Any) -> Any:
    from text2layer.training.matting import train_matting

    return train_matting(settings, *_sources(settings, 1))


_command(
    "autoencoder",
    _train_autoencoder,
    "Train the autoencoder that encodes foreground, background and mask as one latent.",
)
_command("denoiser", _train_denoiser, "Train the denoiser that generates latents from text.")
_command(
    "matting", _train_matting, "Train the network that predicts the masks of pictures to decompose."
)
