"""Opens what a trainer's settings name: a picture library or a folder of shards."""

from __future__ import annotations

from pathlib import Path

import torch

from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.data.shards import ShardComposer
from text2layer.data.source import SampleSource
from text2layer.errors import DataError, InputError
from text2layer.training.settings import TrainingSettings


def open_sources(settings: TrainingSettings) -> tuple[SampleSource, SampleSource]:
    """Return training samples and validation samples (other concepts, other backgrounds).

    Pictures are held on the device that trains. Records that cannot be read are counted by the
    source and left out.

    Raises:
        InputError: when no data is named, or the style weights cannot be read.
        DataError: when the folder is neither a library nor shards, or nothing in it can be used.
    """
    if not settings.data:
        raise InputError("Name the training data: a picture library or a folder of shards.")
    root = Path(settings.data)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if (root / "foregrounds.jsonl").is_file():
        library = Library(root)
        weights = style_weights(settings.style_weights)
        return (
            Composer(library, "train", settings.size, device, style_weights=weights),
            Composer(library, "val", settings.size, device, style_weights=weights),
        )
    if any(root.glob("*.tar")):
        return (
            ShardComposer(root, split="train", size=settings.size, device=device),
            ShardComposer(root, split="val", size=settings.size, device=device),
        )
    raise DataError(
        f"{str(root)!r} holds neither foregrounds.jsonl (a picture library) nor .tar shards; "
        "check the path."
    )


def style_weights(text: str) -> dict[str, float] | None:
    """Read "3d icon=2, flat icon=1" into shares; None for an empty text (all alike).

    Example:
        >>> style_weights("3d icon=2, flat icon=1")
        {'3d icon': 2.0, 'flat icon': 1.0}
    """
    if not text.strip():
        return None
    try:
        pairs = (item.split("=") for item in text.split(","))
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(
            f"style_weights cannot be read: {text!r}; write it like '3d icon=2,flat icon=1'."
        ) from error
