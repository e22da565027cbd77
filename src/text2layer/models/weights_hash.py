"""The SHA-256 that says which network made something."""

from __future__ import annotations

import hashlib
from typing import Any


def module_sha256(*modules: Any) -> str:
    """SHA-256 (hex) over the names, shapes and values of torch modules, in order."""
    import torch

    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
