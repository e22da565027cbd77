"""Training throughput against diffusers' own text-to-image loop over the same networks, in one run.

    python benchmarks/training.py LIBRARY AUTOENCODER [--updates 12] [--batch-size 32]

The reference does what an update of diffusers' `examples/text_to_image/train_text_to_image.py` does
with its defaults: float32, every sample encoded by the autoencoder and its caption by the text
encoder on the fly, clipping, AdamW, an averaged copy. Ours: bfloat16 where the machine is fast at
it, cached latents and text states, and the same rest: the trainer's own code. Updates are timed in
turns of three, so that both meet the same machine. Beside the rates: the network's operations a
sample, counted, and the share of the machine's own matrix product that they make.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

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


def diffusers_update(objective: DenoiserObjective, optimizer: Any, ema: EMAModel,
                     live: LatentsOnTheFly, step: int, batch_size: int) -> None:  # fmt: skip
    """One update as diffusers' example makes it."""
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
                     torch.zeros(batch_size, 4), level * 1000, states, mask)  # fmt: skip
    functional.mse_loss(output, noise - latents).backward()
    torch.nn.utils.clip_grad_norm_(objective.network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    ema.step(objective.network.parameters())


def our_update(objective: DenoiserObjective, optimizer: Any, ema: Any, step: int) -> None:
    """One update of the trainer: what `loop.train` does between two log lines."""
    with fast_inference(torch.device("cpu")):
        losses = objective(step, step_generator(0, step))
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(objective.network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    ema.update_parameters(objective.network)


def operations(objective: DenoiserObjective) -> float:
    """Floating-point operations of one sample, forward and backward (three times forward)."""
    batch = objective.latents.draw(1, step_generator(0, 0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoise(
            objective.network, batch.latents, batch.condition, batch.flags,
            torch.tensor([500.0]), batch.text_states, batch.text_mask,
        )  # fmt: skip
    return 3.0 * counter.get_total_flops()


def product_rate(kind: torch.dtype, side: int = 2048, repeats: int = 8) -> float:
    """Operations a second of products of side x side matrices, the best of some."""
    a, b = torch.randn(2, side, side).to(kind)
    best = 0.0
    for _ in range(repeats):
        begun = time.perf_counter()
        a @ b
        best = max(best, 2 * side**3 / (time.perf_counter() - begun))
    return best


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
    reference_ema = EMAModel(objective.network.parameters(), decay=0.999)
    spent = {"diffusers": 0.0, "ours": 0.0}
    for turn in range(options.updates // TURN + 1):
        for name in spent:
            begun = time.perf_counter()
            for step in range(TURN):
                if name == "diffusers":
                    diffusers_update(
                        objective, optimizer, reference_ema, live, step, options.batch_size
                    )
                else:
                    our_update(objective, optimizer, ema, step)
            if turn:  # the first turn warms up
                spent[name] += time.perf_counter() - begun
    count = options.updates // TURN * TURN * options.batch_size
    rates = {name: count / value for name, value in spent.items()}
    print(f"denoiser base, {settings.size} px, batch {options.batch_size}, {count} samples each, "
          f"{torch.get_num_threads()} CPU threads")  # fmt: skip
    fast = resolve_precision("auto", torch.device("cpu")) != "no"
    kinds = {"diffusers": torch.float32, "ours": torch.bfloat16 if fast else torch.float32}
    names = {
        "diffusers": "reference: diffusers' loop, fp32, no cache",
        "ours": "trainer: cached, " + ("bf16" if fast else "fp32"),
    }
    each = operations(objective)
    print(f"network: {each / 1e9:.2f} GFLOP a sample, forward and backward")
    for name, text in names.items():
        rate, peak = rates[name], product_rate(kinds[name])
        ratio, share = rate / rates["diffusers"], rate * each / peak
        print(f"{text:44}{rate:8.2f} samples/s  ratio {ratio:.2f}")
        print(f"{'':44}{share:.0%} of this machine's product, {peak / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
