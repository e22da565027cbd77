"""Checkpoints that are either whole or not there.

    RUN/checkpoint-00000500/
        model/          config.json and weights, as `save_pretrained` writes them
        ema/            the averaged weights, likewise: what a pipeline should use
        optimizer.pt    optimiser state (read with weights_only=True)
        state.json      step, settings, hash of the training data
        SHA256SUMS      hashes of these files; checkpoints of before November 2026 have none

A folder is written under a temporary name and renamed when complete (`files`).
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file

from text2layer.errors import InputError, WeightsError, WriteError
from text2layer.files import (
    CHECKSUMS,
    WEIGHTS_FILES,
    remove_unfinished,
    verify_checksums,
    write_checksums,
    writing_folder,
)
from text2layer.models.denoiser import fill_flags
from text2layer.pipelines.loading import autoencoder_config as autoencoder_config
from text2layer.pipelines.loading import load_autoencoder as load_autoencoder
from text2layer.training.settings import TrainingSettings


class DamagedCheckpointError(WeightsError):
    """A checkpoint of which a file is missing, cut short or changed."""


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
    """Write one checkpoint or nothing, then drop all but the newest `keep`.

    Raises:
        WriteError: when it cannot be written; earlier checkpoints stay as they are.
    """
    target = checkpoint_path(run, step)
    remove_unfinished(run)  # of the same run when it was killed
    with replacing(target) as folder:
        model.save_pretrained(folder / "model")
        ema.save_pretrained(folder / "ema")
        try:
            torch.save(optimizer_state, folder / "optimizer.pt")
        except RuntimeError as error:  # how torch tells of a full disk
            raise _not_written(target, error) from error
        (folder / "state.json").write_text(json.dumps({"step": step, **state}, indent=2))
        write_checksums(folder)
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def check_whole(checkpoint: Path) -> None:
    """Compare the files of a checkpoint with its SHA256SUMS, if it has any.

    Raises:
        DamagedCheckpointError: a file is missing, cut short or changed.
    """
    if (checkpoint / CHECKSUMS).is_file():
        try:
            verify_checksums(checkpoint)
        except WeightsError as error:
            raise DamagedCheckpointError(str(error)) from error


def put_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint so that it no longer counts as one; return its new name."""
    number, aside = 1, checkpoint.with_name(f"damaged-{checkpoint.name}")
    while aside.exists():
        number += 1
        aside = checkpoint.with_name(f"damaged-{checkpoint.name}-{number}")
    return checkpoint.rename(aside)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `out` when all went well.

    The folder above is made if need be.

    Raises:
        WriteError: when something cannot be written; an older `out` stays as it is.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with writing_folder(out, may_replace=lambda older: None) as folder:
            yield folder
            for file in folder.rglob(WEIGHTS_FILES):
                file.chmod(0o644)  # safetensors writes files for the owner alone
    except SafetensorError as error:  # how safetensors tells of a full disk
        raise _not_written(out, error) from error


def _not_written(out: Path, error: Exception) -> WriteError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return WriteError(
        f"{out} could not be written ({reason}); free some space, then run the same command again."
    )


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
        raise DamagedCheckpointError(
            f"{folder} holds no {SAFETENSORS_WEIGHTS_NAME}; give a folder of saved weights."
        )
    try:
        weights = load_file(file)
        model.load_state_dict(fill_flags(model, weights))
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpointError(
            f"{file} is damaged ({error}); use another checkpoint."
        ) from error
    except RuntimeError as error:
        raise WeightsError(
            f"{file} does not fit this architecture ({str(error).splitlines()[-1].strip()}); "
            "give weights of the same preset."
        ) from error


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's state.json."""
    try:
        return dict(json.loads((checkpoint / "state.json").read_text()))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"{checkpoint / 'state.json'} cannot be read ({error}); delete this checkpoint."
        ) from error


def check_resumable(settings: TrainingSettings, data_hash: str) -> None:
    """Find out before anything is prepared whether the run of the output folder can go on.

    Raises:
        InputError: it has checkpoints, and the settings ask for a new run.
        WeightsError: its newest readable checkpoint is of other data; see `check_data`.
    """
    found = list_checkpoints(Path(settings.out))
    if found and not settings.resume:
        raise InputError(
            f"{settings.out} holds checkpoints of an earlier run; give another output folder "
            "or resume it."
        )
    for newest in reversed(found):
        try:
            check_data(newest, read_state(newest), settings, data_hash)
        except DamagedCheckpointError:
            continue
        return


def check_data(
    checkpoint: Path, state: dict[str, Any], settings: TrainingSettings, data_hash: str
) -> None:
    """WeightsError if a checkpoint is of other data, unless the settings allow that."""
    if state.get("data_hash") != data_hash and not settings.changed_data:
        raise WeightsError(
            f"{checkpoint} was trained on other data ({state.get('data_hash')}, now "
            f"{data_hash}); give the same data, allow it (--changed-data), or give another "
            "output folder."
        )


def load_optimizer_state(checkpoint: Path) -> dict[str, Any]:
    """Return the optimiser state of a checkpoint; never unpickles arbitrary objects."""
    try:
        return dict(torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu"))
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.PickleError) as error:
        raise DamagedCheckpointError(
            f"{checkpoint / 'optimizer.pt'} cannot be read; delete this checkpoint to go on "
            "from the one before."
        ) from error
