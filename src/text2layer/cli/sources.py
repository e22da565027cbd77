"""Opens what a person names as data: a picture library, or a folder of shards."""

from pathlib import Path
from typing import TYPE_CHECKING

from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer.data.source import SampleSource


def choose_device(device: str) -> str:
    """Return cpu or cuda; auto takes the GPU where there is one.

    Raises:
        InputError: for another word, or cuda where there is none.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu or cuda, not {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("This machine has no CUDA device; use --device cpu.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def open_source(data: str | Path, split: str, size: int, device: str) -> "SampleSource":
    """Return the samples of one split of a library, composed on `device` at `size` pixels.

    Raises:
        InputError: nothing was named.
        DataError: it is neither a library nor a folder of shards.
    """
    from text2layer.data.composer import Composer
    from text2layer.data.library import Library

    if not str(data):
        raise InputError("Name the training data: --data LIBRARY.")
    return Composer(Library(data), split, size, choose_device(device))
