"""Frozen networks: how one is opened and held, and the hash that says which one it was.

Results, builds and models store these hashes, so what goes into them cannot change.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from text2layer.errors import WeightsError
from text2layer.options import require

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network")

# of those that onnxruntime may offer: the ones whose results stay close to the CPU's
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# whole float32, as a CPU computes; no trial of every way to convolve for every new batch; no more
# memory than is asked for, since workers may share a GPU
CUDA_OPTIONS = {
    "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}  # fmt: skip
GPU = "cuda"  # devices, as torch calls them
ONNXRUNTIME, TORCH = "onnxruntime", "torch"  # libraries that run networks
TF32 = "NVIDIA_TF32_OVERRIDE"  # "0": NVIDIA's libraries compute with whole float32
VISIBLE = "CUDA_VISIBLE_DEVICES"  # empty: no network of this process runs on a GPU
GPU_BATCH = (
    8  # pictures that a GPU is given together; on a CPU a batch takes memory, and saves none
)


class Held(Generic[Network]):
    """A network that another one uses and does not own.

    A module that is an attribute of another module is trained, saved and moved with it. This holder
    is no module, so that what it holds is left alone.

    Args:
        network: what is held.
    """

    def __init__(self, network: Network) -> None:
        self.network = network


def open_session(
    path: Path, threads: int = 0, *, graph: bytes | None = None, gpu: bool = True
) -> Any:
    """Open an onnxruntime session, on a GPU where onnxruntime has one.

    Args:
        path: the .onnx file.
        threads: of one operator; 0 leaves it to onnxruntime (one for each core).
        graph: is opened instead of the file that it was made from.
        gpu: False stays on the CPU.

    Raises:
        InputError: onnxruntime is not installed.
        WeightsError: the file is not a network that it can run.
    """
    onnxruntime = require("onnxruntime", "onnxruntime", "Running ONNX networks", extra="decompose")
    options = onnxruntime.SessionOptions()
    # planned memory is half as much again (IS-Net 2.1 GB instead of 1.3) and not faster
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors only: warnings of an exporter help no user
    if threads:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    providers: list[Any] = [CPU]
    if gpu and os.environ.get(VISIBLE) != "" and CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (CUDA, CUDA_OPTIONS))
        if hasattr(onnxruntime, "preload_dlls"):  # CUDA as torch's packages bring it
            with suppress(Exception), redirect_stdout(sys.stderr):
                onnxruntime.preload_dlls()
    try:
        return onnxruntime.InferenceSession(
            str(path) if graph is None else graph, options, providers=providers
        )
    except Exception as error:  # onnxruntime has a dozen classes for it, all below Exception
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is not an ONNX network that can be run: {reason}.") from None


def device_of(session: Any) -> str:
    """Where an onnxruntime session runs: "cpu" or "cuda"."""
    return GPU if CUDA in session.get_providers() else "cpu"


def batch_on(device: str, asked: int = 0) -> int:
    """Pictures that a network is given together: as many as are asked for, or as suit a device."""
    return asked or (GPU_BATCH if device == GPU else 1)


def torch_device() -> str:
    """Where torch runs networks of this process: "cpu" or "cuda"."""
    import torch

    return GPU if torch.cuda.is_available() else "cpu"


def has_cuda() -> bool:
    """Whether torch or onnxruntime, as installed here, would use a CUDA device."""
    import torch

    if os.environ.get(VISIBLE) == "":
        return False
    onnxruntime = require("onnxruntime", "onnxruntime", "Running ONNX networks", extra="decompose")
    return torch.cuda.is_available() or CUDA in onnxruntime.get_available_providers()


def module_sha256(*modules: nn.Module) -> str:
    """SHA-256 (hex) over the names, types, shapes and stored values of torch modules, in order.

    Values are hashed as they are stored: the same network in float16 has another hash.
    """
    import torch

    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def parameter_hash(encoder: nn.Module) -> str:
    """SHA-256 (hex) over the names, shapes and float32 values of a network's parameters.

    It does not depend on the file, the device or the precision that the loader chose, so that a
    checkpoint can say which text encoder it was trained with.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(encoder.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar and no load report on the terminal while weights are read."""
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
