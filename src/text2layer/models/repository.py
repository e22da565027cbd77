"""A model of the user's choice: a folder, a hub repository or a file; its licence, its input."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2layer.errors import WeightsError
from text2layer.files import file_sha256

ONNX_FILES = ("model.onnx", "onnx/model.onnx", "lama_fp32.onnx")  # as hub repositories name them
DATA_SUFFIXES = ("_data", ".data")  # of weights that an .onnx file keeps in a file of their own
CARD = "README.md"
PREPROCESSING = "preprocessor_config.json"


class Repository:
    """Where the files of a model are found by name.

    Args:
        name: a folder, the hub id of a repository (OWNER/NAME), or a file: then its folder counts.
    """

    def __init__(self, name: str) -> None:
        path = Path(name).expanduser()
        self.name = name
        self.folder = path if path.is_dir() else path.parent if path.is_file() else None

    def file(self, name: str) -> Path | None:
        """A file, fetched from the hub if it is not in the cache; None if there is none.

        Raises:
            WeightsError: there is no such repository, or the hub cannot be reached.
        """
        if self.folder is not None:
            return self.folder / name if (self.folder / name).is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.name, name))
        except Exception as error:  # the hub's client has many
            if isinstance(error, EntryNotFoundError) and not isinstance(
                error, LocalEntryNotFoundError
            ):
                return None
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"The model {self.name!r} cannot be loaded: {reason}.") from None

    def onnx(self) -> Path | None:
        """The ONNX network, with the file of its weights beside it if it has one; or None.

        Raises:
            WeightsError: a folder holds several, and none has a usual name.
        """
        for name in ONNX_FILES:
            found = self.file(name)
            if found is not None:
                for suffix in DATA_SUFFIXES:
                    self.file(name + suffix)
                return found
        own = sorted(self.folder.glob("*.onnx")) if self.folder is not None else []
        if len(own) > 1:
            raise WeightsError(
                f"{self.name!r} holds {len(own)} .onnx files; name the one that is meant."
            )
        return own[0] if own else None

    def preprocessing(self) -> dict[str, Any]:
        """What `preprocessor_config.json` says; {} if there is none.

        Raises:
            WeightsError: it is damaged.
        """
        path = self.file(PREPROCESSING)
        if path is None:
            return {}
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise WeightsError(f"{path} is damaged; get the model again.")
        return said

    def licence(self) -> str:
        """The licence that the model card names; "" if there is no card or it names none."""
        path = self.file(CARD)
        if path is None:
            return ""
        from huggingface_hub import metadata_load

        try:
            said = metadata_load(path) or {}
        except Exception:  # YAML of any kind of wrongness
            return ""
        licence = said.get("license")
        if licence == "other":  # then its name is elsewhere
            licence = said.get("license_name") or licence
        listed = licence if isinstance(licence, list) else [licence]
        return ", ".join(str(one).strip() for one in listed if one)


def onnx_sha256(path: Path) -> str:
    """SHA-256 (hex) of an ONNX network; of both files if its weights lie in one of their own."""
    data = [path.with_name(path.name + suffix) for suffix in DATA_SUFFIXES]
    files = [path, *(file for file in data if file.is_file())]
    if len(files) == 1:
        return file_sha256(path)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def input_size(said: dict[str, Any], name: str) -> tuple[int, int] | None:
    """(width, height) of what `preprocessor_config.json` asks for; None if it does not say.

    Raises:
        WeightsError: it asks for a size that no picture has.
    """
    size = said.get("size")
    if isinstance(size, dict):
        both = size.get("shortest_edge") or size.get("longest_edge")
        sides: Sequence[Any] = (size.get("width") or both, size.get("height") or both)
    elif isinstance(size, list | tuple) and len(size) == 2:
        sides = (size[1], size[0])
    else:
        sides = (size, size)
    if sides == (None, None):
        return None
    if not all(isinstance(side, int) and 1 <= side <= 8192 for side in sides):
        raise WeightsError(f"{PREPROCESSING} of {name!r} asks for the size {size!r}.")
    return int(sides[0]), int(sides[1])


def input_statistics(
    said: dict[str, Any], name: str, mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that colours in 0..1 are normalised by.

    Args:
        said: what `preprocessor_config.json` says.
        name: of the model.
        mean: where it says nothing.
        std: where it says nothing.

    Raises:
        WeightsError: they are not three numbers.
    """
    factor = 255 * float(said.get("rescale_factor") or 1 / 255)
    if said.get("do_rescale") is False:
        factor = 255.0
    if said.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    else:
        mean, std = said.get("image_mean", mean), said.get("image_std", std)
    try:
        means = tuple(float(one) / factor for one in mean)
        stds = tuple(float(one) / factor for one in std)
    except TypeError:
        means = stds = ()
    if len(means) != 3 or len(stds) != 3 or not all(map(math.isfinite, means + stds)):
        raise WeightsError(f"{PREPROCESSING} of {name!r} has no mean and deviation of 3 colours.")
    if not all(stds):
        raise WeightsError(f"{PREPROCESSING} of {name!r} divides by a deviation of 0.")
    return means, stds
