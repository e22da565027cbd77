"""Training throughput against the plainest loop over the same networks, in one run.

    python benchmarks/training.py LIBRARY AUTOENCODER [--updates 12] [--batch-size 32]

The plainest denoiser loop: float32, every sample composed, encoded by the autoencoder and its
caption by the text encoder on the fly, AdamW, nothing else. Ours: bfloat16 where the machine is
fast at it, cached latents and text states, averaged weights, clipping, logging: the trainer's own
code. Updates are timed in turns of three, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.models.denoiser import denoise
from text2layer.models.text_encoder import encode_prompts
from text2layer.training.denoiser import DenoiserObjective
from text2layer.training.latents import LatentsOnTheFly
from text2layer.training.loop import make_ema, step_generator, weight_decay_groups
from text2layer.training.precision import fast_inference, resolve_precision
from text2layer.training.settings import settings_from

TURN = 3


def plain_update(objective: DenoiserObjective, optimizer: Any, live: LatentsOnTheFly,
                 step: int, batch_size: int) -> None:  # fmt: skip
    """One update as a tutorial would write it."""
    generator = step_generator(0, step)
    batch = live.source.compose(batch_size, generator)
    captions = live.source.captions(batch, random.Random(step))
    states, mask = encode_prompts(live.tokenizer, live.text_encoder, captions)
    with torch.no_grad():
        posterior = live.autoencoder.encode(batch.foreground, batch.background, batch.mask)
        latents = live.autoencoder.scale_latents(posterior.mode())
    noise, level = torch.randn_like(latents), torch.rand(batch_size)
    noisy = torch.lerp(latents, noise, level[:, None, None, None])
    output = denoise(objective.network, noisy, torch.zeros_like(latents),
                     torch.zeros(batch_size, 3), level * 1000, states, mask)  # fmt: skip
    functional.mse_loss(output, noise - latents).backward()
    optimizer.step()
    optimizer.zero_grad()


def our_update(objective: DenoiserObjective, optimizer: Any, ema: Any, step: int) -> None:
    """One update of the trainer: what `loop.train` does between two log lines."""
    with fast_inference(torch.device("cpu")):
        losses = objective(step, step_generator(0, step))
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(objective.network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    ema.update_parameters(objective.network)


def main() -> None:
    """Measure in turns and print samples per second and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("autoencoder")
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    settings = settings_from(
        "denoiser", "base", autoencoder=options.autoencoder, batch_size=options.batch_size,
        cache_samples=512, device="cpu",
    )  # fmt: skip
    library = Library(Path(options.library))
    source = Composer(library, "train", settings.size)
    objective = DenoiserObjective(settings, source, source, torch.device("cpu"))
    autoencoder, tokenizer, text_encoder = objective.frozen
    live = LatentsOnTheFly(replace(settings, cache_samples=0), source, autoencoder, tokenizer,
                           text_encoder, torch.device("cpu"))  # fmt: skip
    optimizer = torch.optim.AdamW(weight_decay_groups(objective.network, 0.01), lr=1e-5)
    ema = make_ema(objective.network, 0.999)
    spent = {"plain": 0.0, "ours": 0.0}
    for turn in range(options.updates // TURN + 1):
        for name in spent:
            begun = time.perf_counter()
            for step in range(TURN):
                if name == "plain":
                    plain_update(objective, optimizer, live, step, options.batch_size)
                else:
                    our_update(objective, optimizer, ema, step)
            if turn:  # the first turn warms up
                spent[name] += time.perf_counter() - begun
    count = options.updates // TURN * TURN * options.batch_size
    rates = {name: count / value for name, value in spent.items()}
    print(f"denoiser base, {settings.size} px, batch {options.batch_size}, {count} samples each, "
          f"{torch.get_num_threads()} CPU threads")  # fmt: skip
    print(
        f"{'reference: plain loop, fp32, no cache':40}{rates['plain']:8.2f} samples/s  ratio 1.00"
    )
    precision = resolve_precision("auto", torch.device("cpu"))
    ours = "trainer: cached, " + ("fp32" if precision == "no" else precision)
    print(f"{ours:40}{rates['ours']:8.2f} samples/s  "
          f"ratio {rates['ours'] / rates['plain']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
