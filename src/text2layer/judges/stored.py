"""The folder of a judge: a config with the number of its format, and one file of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from text2layer.errors import InputError
from text2layer.files import writing

SHIPPED = Path(__file__).resolve().parents[1] / "weights"  # one folder for each judge
CONFIG_FILE = "config.json"
FORMAT = 1  # of the two files


def read_judge(folder: Path, weights_file: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The fields of the config and the tensors by name.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged or of another format; says which, as a clause.
    """
    fields = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
        raise ValueError(f"{CONFIG_FILE} is not of format {FORMAT}")
    try:
        return fields, load((folder / weights_file).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{weights_file} is damaged: {error}") from None


def write_judge(
    folder: Path, fields: dict[str, Any], weights_file: str, tensors: dict[str, Tensor]
) -> None:
    """Write both files, the folder as well if it does not exist.

    Raises:
        InputError, FormatError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}.") from None
    with writing(folder / weights_file) as file:
        file.write(save(tensors))
    with writing(folder / CONFIG_FILE) as file:
        text = json.dumps({"format": FORMAT} | fields, indent=2, sort_keys=True)
        file.write(text.encode() + b"\n")
