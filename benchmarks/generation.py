"""Where the time of one layered picture goes, as ratios to the denoiser's calls of the same run.

    python benchmarks/generation.py [--model DIR] [--size 256] [--steps 20] [--repeats 5]

The reference is the bare loop of the same denoiser calls (same shapes, same number, nothing else).
The promise: the whole call takes at most 1.25 times the reference. Where an adapter for few steps
lies beside the model, the whole call with `--fast` is measured too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from text2layer import load, save
from text2layer.models.denoiser import denoise, patch_size
from text2layer.models.text_encoder import encode_prompts
from text2layer.pipelines import Text2LayerPipeline, released_model
from text2layer.pipelines.loading import folder_beside

PROMPT = "a red apple in front of a snowy mountain"


def seconds(function: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def fast_call(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """The whole call with the adapter for few steps, if there is one."""
    if not folder_beside(Path(options.model), "fast").is_dir():
        return {}
    pipe = Text2LayerPipeline.from_pretrained(options.model, fast=True)
    pipe.set_progress_bar_config(disable=True)
    steps = pipe.config.default_steps
    return {
        f"whole call, --fast ({steps} steps)": lambda: pipe(
            PROMPT, width=options.size, height=options.size,
            generator=torch.Generator().manual_seed(0),
        ).layers[0]
    }  # fmt: skip


def main() -> None:
    """Measure in turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(released_model()))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    pipe = Text2LayerPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    patch = patch_size(pipe.denoiser)
    side = -(-options.size // pipe.size_multiple // patch) * patch
    channels = pipe.autoencoder.config.latent_channels
    latents = torch.randn(2, channels, side, side)
    states, mask = encode_prompts(pipe.tokenizer, pipe.text_encoder, ["", PROMPT])
    flags = torch.zeros(2, 4)
    folder = Path(tempfile.mkdtemp())

    @torch.no_grad()
    def calls() -> None:
        for _ in range(options.steps):
            time_ = torch.tensor(500.0)
            denoise(pipe.denoiser, latents, latents * 0, flags, time_, states, mask)

    def whole() -> Any:
        made = pipe(
            PROMPT, width=options.size, height=options.size, num_inference_steps=options.steps,
            guidance_scale=3.0, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return made.layers[0]

    @torch.no_grad()
    def decode() -> None:
        pipe.autoencoder.decode(pipe.autoencoder.unscale_latents(latents[:1]))

    layered = whole()
    parts: dict[str, Callable[[], Any]] = {
        "reference: denoiser calls alone": calls,
        "whole call, prompt to LayeredImage": whole,
        "  text encoder": lambda: encode_prompts(pipe.tokenizer, pipe.text_encoder, ["", PROMPT]),
        "  decoder": decode,
        "composite": lambda: layered.composite,
        **fast_call(options),
        "save PSD": lambda: save(layered, folder / "a.psd"),
        "save ORA": lambda: save(layered, folder / "a.ora"),
        "load PSD": lambda: load(folder / "a.psd"),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(options.repeats + 1):
        for name, function in parts.items():
            spent = seconds(function)
            if turn:  # the first turn warms up
                times[name].append(spent)
    reference = median(times["reference: denoiser calls alone"])
    print(f"{options.size} px, {options.steps} steps with guidance, float32 on "
          f"{torch.get_num_threads()} CPU threads, median of {options.repeats}")  # fmt: skip
    print(f"{'':38}{'ms':>9}{'ratio':>8}")
    for name, values in times.items():
        print(f"{name:38}{median(values) * 1000:9.1f}{median(values) / reference:8.3f}")


if __name__ == "__main__":
    main()
