"""What the API adds to a generation, and what one batch saves, as ratios to the library call.

    python benchmarks/studio.py [--steps 20] [--count 4] [--repeats 3] [--clock processor]

The library call and the request (ask, follow the events with previews, keep the pictures) run in
turns in one process with one model. The promise: at most 1.05. `--clock processor` counts processor
time of the whole process, server and client too, for machines that do other things as well.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import uvicorn

from text2layer.server.app import build_app
from text2layer.server.client import StudioClient
from text2layer.server.drawing import Studio
from text2layer.server.settings import ServeSettings
from text2layer.server.store import Store
from text2layer.server.worker import Worker

PROMPT = "a castle in front of sand dunes"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def generators(count: int) -> list[torch.Generator]:
    """Those of seeds 0, 1, ..."""
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def serve(worker: Worker) -> tuple[uvicorn.Server, str]:
    """Start the server on a free port; return it and its address once the model is loaded."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = build_app(worker, ServeSettings())
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    while worker.studio.info is None:
        time.sleep(0.1)
    return server, f"http://127.0.0.1:{listening.getsockname()[1]}"


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Store(Path(folder), 3600), Studio(), 4)
        server, address = serve(worker)
        pipe, client = worker.studio.pipeline(fast=False), StudioClient(address)

        def batch() -> Any:
            return pipe(
                PROMPT,
                num_inference_steps=options.steps,
                num_images_per_prompt=options.count,
                generator=generators(options.count),
            )

        def one_by_one() -> None:
            for generator in generators(options.count):
                pipe(PROMPT, num_inference_steps=options.steps, generator=generator)

        def request() -> None:
            asked = client.generate(PROMPT, steps=options.steps, count=options.count, seed=0)
            client.wait(asked)

        ways: dict[str, Callable[[], Any]] = {
            "reference: library, one batch": batch,
            "library, one by one": one_by_one,
            "API, one batch": request,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, way in ways.items():
                begun = clock()
                way()
                times[name].append(clock() - begun)
        server.should_exit = True
        worker.stop()
    first = median(times["reference: library, one batch"])
    print(f"{options.count} candidates, {options.steps} steps, {options.clock} time, medians")
    for name, values in times.items():
        print(f"{name:34}{median(values):8.2f} s   ratio {median(values) / first:.3f}")


if __name__ == "__main__":
    main()
