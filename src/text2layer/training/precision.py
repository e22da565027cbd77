"""Which number format training computes in: bfloat16 only where the machine multiplies it fast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 (AVX-512 BF16 or AMX, Ampere or newer).

    Others emulate it: on a CPU with AVX2 alone a matrix product in bfloat16 took 80 times as
    long as in float32 (docs/log.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in checks)
    return False


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Return no, bf16 or fp16 for a setting of those or `auto`."""
    if wanted != "auto":
        return wanted
    return "bf16" if bfloat16_is_fast(device) else "no"


def fast_inference(device: torch.device) -> AbstractContextManager[object]:
    """Context for frozen networks: bfloat16 autocast where it is fast, else float32."""
    if bfloat16_is_fast(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
