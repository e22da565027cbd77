"""Toy runs one after the other, as torchrun starts them: `-m tests.training.toy_run JOBS.json`.

A job is {"trainer", "settings"} and may end by a signal that one process sends itself while it
draws a batch: {"signal": "SIGKILL", "process": 1, "call": 5}.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tests.training.toy_source import DiscSource
from text2layer.training import autoencoder, denoiser
from text2layer.training.settings import settings_from

TRAINERS = {
    "autoencoder": autoencoder.train_autoencoder,
    "denoiser": denoiser.train_denoiser,
}


def run(job: dict[str, Any]) -> Any:
    """Train one job; returns how it ended."""
    settings = settings_from(job["trainer"], "tiny", **job["settings"])
    size = settings.size

    def on_compose(call: int) -> None:
        mine = job.get("process", 0) == int(os.environ.get("RANK", 0))
        if "signal" in job and mine and call == job["call"]:
            signal.raise_signal(getattr(signal, job["signal"]))

    source = DiscSource(size, on_compose=on_compose)
    return TRAINERS[job["trainer"]](settings, source, DiscSource(size))


if __name__ == "__main__":
    torch.set_num_threads(1)
    autoencoder.VALIDATION_SAMPLES = denoiser.VALIDATION_SAMPLES = 16
    denoiser.VALIDATION_BATCH = 8
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run(job)
