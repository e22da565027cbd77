"""Opening ONNX networks of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from text2layer.errors import InputError, WeightsError

# of those that onnxruntime may offer: the ones whose results stay close to the CPU's
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def open_session(path: Path, threads: int = 0) -> Any:
    """Open an onnxruntime session, on a GPU where onnxruntime has one.

    Args:
        path: the .onnx file.
        threads: of one operator; 0 leaves it to onnxruntime (one for each core).

    Raises:
        InputError: onnxruntime is not installed.
        WeightsError: the file is no network that it can run.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "Running ONNX networks needs onnxruntime: pip install 'text2layer[build]'."
        ) from None
    options = onnxruntime.SessionOptions()
    # planned memory is half as much again (IS-Net 2.1 GB instead of 1.3) and not faster
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors only: warnings of an exporter help no user
    if threads:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    offered = onnxruntime.get_available_providers()
    providers = [provider for provider in PROVIDERS if provider in offered]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a dozen classes for it, all below Exception
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is not an ONNX network that can be run: {reason}.") from None
