"""Two processes share the samples and give the figures of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy_model import build_autoencoder

pytestmark = pytest.mark.slow


def evaluate(library: Path, model: Path, out: Path, *launcher: str) -> dict[str, float]:
    """Values by metric of a run of its own."""
    command = [
        *launcher, "text2layer", "evaluate", str(model), "--data", str(library), "--samples", "5",
        "--size", "64", "--batch-size", "2", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((out / "results.json").read_text())["results"]
    assert result["samples"] == 5
    return {name: figure["value"] for name, figure in result["metrics"].items()} | {
        "prompts": result["about"]["prompts_sha256"]
    }


def test_two_processes_give_the_figures_of_one(library, tmp_path):
    model = tmp_path / "model"
    build_autoencoder().save_pretrained(model)
    one = evaluate(library, model, tmp_path / "one", sys.executable, "-m")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    two = evaluate(library, model, tmp_path / "two", sys.executable, *launcher)
    assert one.keys() == two.keys()
    assert one.pop("prompts") == two.pop("prompts")
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-4), name
