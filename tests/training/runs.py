"""Reading and comparing the folders that trainers write."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def metrics(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without the clock's column."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists by path."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return {name: value}
    return {k: v for key, part in pairs for k, v in flat(part, f"{name}/{key}").items()}


def assert_same_checkpoint(one: Path, other: Path) -> None:
    """Weights, averaged weights and everything in optimizer.pt are equal to the bit."""
    for part in ("model", "ema"):
        ours, theirs = weights(one / part), weights(other / part)
        assert ours.keys() == theirs.keys()
        different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
        assert different == [], part
    ours, theirs = (flat(torch.load(path / "optimizer.pt", weights_only=True))
                    for path in (one, other))  # fmt: skip
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, theirs[name]), name
        else:
            assert value == theirs[name], name
