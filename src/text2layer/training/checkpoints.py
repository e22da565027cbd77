"""Checkpoints that are either whole or not there.

    RUN/checkpoint-00000500/
        model/          config.json and weights, as `save_pretrained` writes them
        ema/            the averaged weights, likewise: what a pipeline should use
        optimizer.pt    optimiser state (read with weights_only=True)
        state.json      step, settings, hash of the training data

A checkpoint is written under a temporary name and renamed when complete.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file

from text2layer.errors import WeightsError
from text2layer.models.denoiser import fill_flags
from text2layer.pipelines.loading import autoencoder_config as autoencoder_config
from text2layer.pipelines.loading import load_autoencoder as load_autoencoder


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the folder of the checkpoint after `step` updates."""
    return run / f"checkpoint-{step:08d}"


def list_checkpoints(run: Path) -> list[Path]:
    """Return complete checkpoints of a run, oldest first."""
    found = (path for path in run.glob("checkpoint-*") if path.name[11:].isdigit())
    return sorted(path for path in found if (path / "state.json").is_file())


def save_checkpoint(
    run: Path,
    step: int,
    model: ModelMixin,
    ema: ModelMixin,
    optimizer_state: dict[str, Any],
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write one checkpoint atomically, then drop all but the newest `keep`.

    Raises:
        WeightsError: when it cannot be written; earlier checkpoints stay as they are.
    """
    target = checkpoint_path(run, step)
    temporary = run / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        model.save_pretrained(temporary / "model")
        ema.save_pretrained(temporary / "ema")
        torch.save(optimizer_state, temporary / "optimizer.pt")
        (temporary / "state.json").write_text(json.dumps({"step": step, **state}, indent=2))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap OSError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"The checkpoint {target} cannot be written ({reason}); free some space, then the same "
            "command goes on from the one before."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_weights(model: ModelMixin, folder: Path) -> None:
    """Load the weights of a folder written by `save_pretrained` into a model of the same shape.

    A denoiser that knew fewer flags may be loaded into one of more.

    Args:
        model: takes them in place.
        folder: holds them.

    Raises:
        WeightsError: when the file is missing, damaged or belongs to another architecture.
    """
    file = folder / SAFETENSORS_WEIGHTS_NAME
    if not file.is_file():
        raise WeightsError(
            f"{folder} holds no {SAFETENSORS_WEIGHTS_NAME}; give a folder of saved weights."
        )
    try:
        weights = load_file(file)
        model.load_state_dict(fill_flags(model, weights))
    except SafetensorError as error:
        raise WeightsError(f"{file} is damaged ({error}); use another checkpoint.") from error
    except RuntimeError as error:
        raise WeightsError(
            f"{file} does not fit this architecture ({str(error).splitlines()[-1].strip()}); "
            "give weights of the same preset."
        ) from error


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's state.json."""
    try:
        return dict(json.loads((checkpoint / "state.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{checkpoint / 'state.json'} cannot be read ({error}); delete this checkpoint."
        ) from error


def load_optimizer_state(checkpoint: Path) -> dict[str, Any]:
    """Return the optimiser state of a checkpoint; never unpickles arbitrary objects."""
    try:
        return dict(torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu"))
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.PickleError) as error:
        raise WeightsError(
            f"{checkpoint / 'optimizer.pt'} cannot be read; delete this checkpoint to go on "
            "from the one before."
        ) from error
