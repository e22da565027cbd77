"""Opening a diffusers pipeline of others: from a folder or the hub, safetensors alone, no code.

    >>> pipeline, identity = open_pipeline("stabilityai/sd-turbo")        # doctest: +SKIP
    >>> identity["pipeline"], identity["model_revision"][:7]              # doctest: +SKIP
    ('StableDiffusionPipeline', 'b261bac')

Weights in pickles are never read, and what a repository brings as Python is never run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from text2layer.errors import InputError, Text2LayerError, WeightsError
from text2layer.files import WEIGHTS_FILES, file_sha256, verify_weights
from text2layer.models.frozen import quiet_transformers
from text2layer.pipelines.loading import HUB_ID

DTYPES = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "sequential")
INDEX = "model_index.json"
# what the checks of pipelines and the networks and schedulers behind them raise
CALL_ERRORS = (
    AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def open_pipeline(
    name: str, device: str = "cpu", dtype: str = "auto", offload: str = "none"
) -> tuple[Any, dict[str, Any]]:
    """Load a pipeline and put it where it computes.

    Args:
        name: a folder in diffusers' layout, or a hub id, "owner/name", which is fetched if it is
            not in the hub's cache.
        device: a torch device.
        dtype: of the networks; "auto" is float32 on a CPU, else bfloat16, or float16 where the GPU
            has no bfloat16.
        offload: "none" keeps all networks on the device; "model" moves each one there while it
            computes; "sequential" each of its layers, which takes least memory and most time.

    Returns:
        The pipeline, and what names it in a picture's metadata: `model` as given, `pipeline` (its
        class), and `model_revision` (the hub's commit) or `model_hash` (of the folder's weights).

    Raises:
        InputError: a word is not known, or there is no GPU to offload from.
        WeightsError: there is no such model, or it cannot be loaded from safetensors alone.
    """
    chosen = _checked_dtype(dtype, device)
    _check_offload(offload, device)
    folder = _fetched(name)
    kind = read_kind(folder)
    verify_weights(folder)
    from diffusers import DiffusionPipeline

    try:
        with _quiet():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, use_safetensors=True, torch_dtype=chosen, local_files_only=True
            )
        pipeline.set_progress_bar_config(disable=None)  # a bar on a terminal, nothing in a log
        if offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of diffusers, transformers, safetensors
        raise WeightsError(
            f"The {kind} in {name!r} cannot be loaded from safetensors ({reason_of(error)}); the "
            "copy is incomplete, or it needs pickles or code, which are never run."
        ) from error
    return pipeline, {"model": name, "pipeline": kind, **_named(folder, name)}


def kind_of(name: str) -> str:
    """The pipeline's class of a folder or hub id, of which the index alone is fetched.

    Raises:
        WeightsError: there is no such model, or its class is not one of this diffusers.
    """
    if _is_here(name):
        return read_kind(Path(name).expanduser())
    from huggingface_hub import hf_hub_download

    with _from_hub(name):
        file = hf_hub_download(name, INDEX)
    return read_kind(Path(file).parent)


def read_kind(folder: Path) -> str:
    """The pipeline's class that a folder in diffusers' layout names.

    Raises:
        WeightsError: it is no such folder, or its class is not one of this diffusers.
    """
    if folder.is_file():
        raise WeightsError(
            f"{str(folder)!r} is a file; give a folder in diffusers' layout, which "
            "from_single_file(FILE).save_pretrained(FOLDER) of a diffusers pipeline writes."
        )
    if not folder.is_dir():
        raise WeightsError(f"There is no model folder {str(folder)!r}; check the path.")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        kind = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise WeightsError(
            f"{str(folder)!r} holds no readable {INDEX}; give a folder in diffusers' layout, as "
            "save_pretrained of a pipeline writes it."
        ) from None
    import diffusers

    import text2layer.pipelines.text2layer  # noqa: F401  # diffusers knows our class then

    with _quiet():  # the class brings its image processors, which talk of torchvision
        found = getattr(diffusers, kind, None) if isinstance(kind, str) else None
    if not _is_pipeline(found):
        named = kind if isinstance(kind, str) else "pipeline with code of its own"
        raise WeightsError(
            f"{str(folder)!r} holds a {named}, which diffusers {diffusers.__version__} does not "
            "have; code that comes with a model is never run."
        )
    return kind


def takes(pipeline: Any, name: str) -> bool:
    """Whether a call of the pipeline has a parameter of this name."""
    return name in inspect.signature(pipeline.__call__).parameters


def default_of(pipeline: Any, name: str) -> Any:
    """A parameter's value where a call does not name it; None where it has none."""
    parameter = inspect.signature(pipeline.__call__).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


@contextmanager
def calling(failed: str, kind: str, advice: str) -> Iterator[None]:
    """Turn what a call of a pipeline raises into one InputError.

    Args:
        failed: what could not be done: "draw this".
        kind: the pipeline's class.
        advice: what needs less memory, after "ask for".

    Raises:
        InputError: the GPU has too little memory, or the pipeline cannot use what it was given.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(f"{kind} needs more memory than the GPU has; ask for {advice}.") from None
    except Text2LayerError:  # of a callback
        raise
    except CALL_ERRORS as error:
        raise InputError(f"{kind} cannot {failed}: {reason_of(error)}.") from error


def check_finite(values: np.ndarray, kind: str) -> None:
    """Raise WeightsError for NaN or infinity in what a pipeline gave."""
    if not np.isfinite(values).all():
        raise WeightsError(
            f"{kind} gave numbers that are not finite; try the dtype float32 (or bfloat16)."
        )


def reason_of(error: Exception) -> str:
    """What a library says, shortened to 200 characters on one line, without a last stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return textwrap.shorten(text, 200, placeholder=" ...").rstrip(". ")


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars of loading, no hints to who wrote the model, while a pipeline is fetched or read."""
    from diffusers.utils import logging

    logging.disable_progress_bar()  # drawing has a bar of its own
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)


def _is_pipeline(kind: object) -> bool:
    from diffusers import DiffusionPipeline

    return isinstance(kind, type) and issubclass(kind, DiffusionPipeline)


def _checked_dtype(dtype: str, device: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise InputError(f"The dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
    if dtype != "auto":
        return {"float32": torch.float32, "float16": torch.float16}.get(dtype, torch.bfloat16)
    if torch.device(device).type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check_offload(offload: str, device: str) -> None:
    if offload not in OFFLOADS:
        raise InputError(f"Offloading is one of {', '.join(OFFLOADS)}, not {offload!r}.")
    if offload != "none" and torch.device(device).type == "cpu":
        raise InputError(
            f"Offloading ({offload}) moves networks off a GPU, and this runs on the CPU; leave it "
            "out, or choose the device cuda."
        )


def _fetched(name: str) -> Path:
    """The folder of a model on this machine; of a hub id its snapshot in the hub's cache.

    diffusers chooses the files: of the components alone, in safetensors alone.
    """
    if _is_here(name):
        return Path(name).expanduser()
    from diffusers import DiffusionPipeline

    with _from_hub(name), _quiet():
        return Path(DiffusionPipeline.download(name, use_safetensors=True))


def _is_here(name: str) -> bool:
    """Whether a name is a path, and no hub id."""
    folder = Path(name).expanduser()
    return folder.exists() or not HUB_ID.fullmatch(name) or folder.parent.is_dir()


@contextmanager
def _from_hub(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into one WeightsError."""
    try:
        yield
    except Text2LayerError:
        raise
    except Exception as error:  # the hub's client and its http library have many classes
        raise WeightsError(
            f"There is no folder {name!r}, and no pipeline of that name could be fetched from the "
            f"hub ({reason_of(error)}); check the name and the network."
        ) from error


def _named(folder: Path, name: str) -> dict[str, str]:
    """The commit of a snapshot, or a hash over the weights of a folder."""
    if not _is_here(name):
        return {"model_revision": folder.name}
    digest = hashlib.sha256()
    for file in sorted(folder.rglob(WEIGHTS_FILES)):
        digest.update(f"{file_sha256(file)}  {file.relative_to(folder).as_posix()}\n".encode())
    return {"model_hash": digest.hexdigest()[:16]}
