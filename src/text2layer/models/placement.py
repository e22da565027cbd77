"""Where the networks of this process run, and why not on a GPU although there is one.

Networks say it when they are opened, so that also those of a stage of the user's own are known.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from text2layer.models.frozen import CUDA, GPU, ONNXRUNTIME, TORCH, VISIBLE

NVIDIA = Path("/dev/nvidia0")
ADVICE = {
    ONNXRUNTIME: (
        "onnxruntime is a build without CUDA: uninstall the package onnxruntime, then install "
        "onnxruntime-gpu"
    ),
    TORCH: "torch has no CUDA: install a CUDA build of it (pytorch.org)",
}
BROKEN = (
    "onnxruntime could not start CUDA: install the CUDA and cuDNN that its message above asks for"
)


class Placed(Protocol):
    """A network that knows where it runs.

    Attributes:
        name: as the user gave it.
        batch: pictures that it is given together.
        device: "cpu" or "cuda".
        library: that runs it.
    """

    name: str
    batch: int
    device: str
    library: str


_placements: dict[str, str] = {}


def note(network: Placed) -> None:
    """Remember where a network of this process runs."""
    place(network.name, network.library, network.device, network.batch)


def place(name: str, library: str, device: str, batch: int) -> None:
    """The same for a network that does not know it itself."""
    together = f", {batch} photos together" if batch > 1 else ""
    _placements[name] = f"{'GPU' if device == GPU else 'CPU'} ({library}{together})"


def placements() -> dict[str, str]:
    """Where each network of this process runs, as in "GPU (torch, 8 photos together)"."""
    return dict(_placements)


def why_no_gpu(places: Iterable[str]) -> str:
    """What to do so that networks run on this machine's GPU; "" if they do, or there is none.

    Args:
        places: values of `placements`.
    """
    if os.environ.get(VISIBLE) == "" or not has_nvidia():
        return ""
    idle = [library for library in (ONNXRUNTIME, TORCH)
            if any(one.startswith(f"CPU ({library}") for one in places)]  # fmt: skip
    if not idle:
        return ""
    reasons = []
    for library in idle:
        broken = library == ONNXRUNTIME and _onnxruntime_offers_cuda()
        reasons.append(BROKEN if broken else ADVICE[library])
    return f"This machine has a GPU, but {'; '.join(reasons)}."


def has_nvidia() -> bool:
    """Whether the machine has an NVIDIA GPU with a driver, whatever can use it."""
    return NVIDIA.exists() or shutil.which("nvidia-smi") is not None


def in_words(places: Mapping[str, str]) -> str:
    """One sentence: which network runs where; "" if there is none.

    Example:
        >>> in_words({"u2net": "CPU (onnxruntime)", "isnet": "CPU (onnxruntime)"})
        'Networks: u2net, isnet on CPU (onnxruntime).'
    """
    names: dict[str, list[str]] = {}
    for name, where in places.items():
        names.setdefault(where, []).append(name)
    said = [f"{', '.join(group)} on {where}" for where, group in names.items()]
    return f"Networks: {'; '.join(said)}." if said else ""


def merged(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Both, as of several workers: a network that runs here so and there otherwise has both."""
    both = dict(first)
    for name, where in second.items():
        known = both.get(name, where)
        both[name] = known if where in known.split("; ") else f"{known}; {where}"
    return both


def _onnxruntime_offers_cuda() -> bool:
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()
