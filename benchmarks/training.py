"""Training throughput against diffusers' own text-to-image loop over the same networks, in one run.

    python benchmarks/training.py LIBRARY AUTOENCODER [--updates 12] [--batch-size 32]
    python benchmarks/training.py LIBRARY AUTOENCODER --device cuda --preset base-gpu --updates 300

The reference does what an update of diffusers' `examples/text_to_image/train_text_to_image.py` does
with its defaults: float32, every sample encoded by the autoencoder and its caption by the text
encoder on the fly, clipping, AdamW, an averaged copy. Ours: bfloat16 where the machine is fast at
it, cached latents and text states, and the same rest: the trainer's own code, as ordinary updates,
as those of `--graph` run as they are, and on a GPU recorded. Updates are timed in turns, so that
all meet the same machine. Beside the rates: the network's operations a sample, counted, and the
share of the machine's own matrix product that they make. Of an ordinary update the parts are timed
one by one: what is outside the network should be under 5 %.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections import Counter
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
from text2layer.training.graph import READ_EVERY, GraphUpdate
from text2layer.training.latents import LatentsOnTheFly
from text2layer.training.loop import make_ema, parameter_groups
from text2layer.training.objective import resolve_precision, step_generator
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
    noise, level = torch.randn_like(latents), torch.rand(batch_size, device=latents.device)
    noisy = torch.lerp(latents, noise, level[:, None, None, None])
    flags = torch.zeros(batch_size, 4, device=latents.device)
    output = denoise(objective.network, noisy, torch.zeros_like(latents), flags, level * 1000,
                     states, mask)  # fmt: skip
    functional.mse_loss(output, noise - latents).backward()
    torch.nn.utils.clip_grad_norm_(objective.network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    ema.step(objective.network.parameters())


class OurUpdates:
    """Updates of the trainer on a network of their own: what `loop.train` does between two lines.

    Args:
        objective: copied.
        way: "ordinary", "graph, not recorded" or "graph".
        precision: no or bf16.
    """

    def __init__(self, objective: DenoiserObjective, way: str, precision: str) -> None:
        self.objective = copy.copy(objective)
        self.objective._modules = {
            **objective._modules,
            "network": copy.deepcopy(objective.network),
        }
        network = self.objective.network
        self.weights = list(network.parameters())
        self.optimizer = torch.optim.AdamW(parameter_groups(network, 0.01), lr=1e-5, fused=True)
        self.ema = make_ema(network, 0.999)
        self.precision, self.way = precision, way
        self.spent: Counter[str] = Counter()
        if objective.settings.compile:
            self.objective.compile_network()
        if way != "ordinary":
            self.graph = GraphUpdate(self.objective, self.optimizer, self.ema, objective.settings,
                                     precision, capture=way == "graph")  # fmt: skip

    def __call__(self, step: int) -> None:
        """One update."""
        if self.way == "ordinary":
            self.ordinary(step)
        else:
            self.graph.update(step, 1e-5)
            if len(self.graph.unread) == READ_EVERY:
                self.graph.read()

    def ordinary(self, step: int) -> None:
        """One update, its parts timed (on a GPU: what the host spends on them)."""
        moment = time.perf_counter()

        def part(name: str) -> None:
            nonlocal moment
            now = time.perf_counter()
            self.spent[name] += now - moment
            moment = now

        with self.autocast():
            batch = self.objective.draw(step_generator(0, step))
            part("draws")
            loss = self.objective.losses(batch, step)["loss"]
        loss.backward()
        part("network")
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        part("clipping")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        part("AdamW")
        self.ema.update_parameters(self.objective.network)
        part("averages")

    def autocast(self) -> Any:
        """Of the precision."""
        kind = self.objective.network.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")


def operations(objective: DenoiserObjective) -> float:
    """Floating-point operations of one sample, forward and backward (three times forward)."""
    batch = objective.latents.draw(1, step_generator(0, 0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoise(
            objective.network, batch.latents, batch.condition, batch.flags,
            batch.latents.new_tensor([500.0]), batch.text_states, batch.text_mask,
        )  # fmt: skip
    return 3.0 * counter.get_total_flops()


def product_rate(kind: torch.dtype, device: torch.device, repeats: int = 8) -> float:
    """Operations a second of products of large square matrices, the best of some."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, side, side, device=device).to(kind)
    best = 0.0
    for _ in range(repeats):
        begun = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - begun))
    return best


def main() -> None:
    """Measure in turns and print samples per second and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("autoencoder")
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--text-encoder", default="minilm")
    options = parser.parse_args()
    device = torch.device(options.device)
    precision = resolve_precision("auto", device)
    settings = settings_from(
        "denoiser", options.preset, autoencoder=options.autoencoder, graph=True,
        batch_size=options.batch_size, cache_samples=512, cache_file="none", size=options.size,
        text_encoder=options.text_encoder, device=options.device,
    )  # fmt: skip
    source = Composer(Library(Path(options.library)), "train", settings.size, options.device)
    objective = DenoiserObjective(settings, source, source, device)
    autoencoder, tokenizer, text_encoder = objective.frozen
    live = LatentsOnTheFly(replace(settings, cache_samples=0), source, autoencoder, tokenizer,
                           text_encoder, device)  # fmt: skip
    optimizer = torch.optim.AdamW(parameter_groups(objective.network, 0.01), lr=1e-5)
    ema = EMAModel(objective.network.parameters(), decay=0.999)
    ways = ["ordinary", "graph, not recorded"] + ["graph"] * (options.device == "cuda")
    updates: dict[str, Any] = {way: OurUpdates(objective, way, precision) for way in ways}
    updates = {
        "diffusers": lambda step: diffusers_update(
            objective, optimizer, ema, live, step, options.batch_size
        ),
        **updates,
    }
    turn = max(TURN, min(options.updates // 4, READ_EVERY))
    spent = dict.fromkeys(updates, 0.0)
    for number in range(options.updates // turn + 1):
        for name, update in updates.items():
            begun = time.perf_counter()
            for step in range(turn):
                update(step)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first turn warms up, compiles and records
                spent[name] += time.perf_counter() - begun
            elif name == "ordinary":
                update.spent.clear()
    count = options.updates // turn * turn
    print(f"denoiser {options.preset}, {settings.size} px, batch {options.batch_size}, {count} "
          f"updates each, {options.device}, {torch.get_num_threads()} CPU threads")  # fmt: skip
    each = operations(objective)
    print(f"network: {each / 1e9:.2f} GFLOP a sample, forward and backward")
    for name, seconds in spent.items():
        kind = torch.bfloat16 if name != "diffusers" and precision == "bf16" else torch.float32
        rate, peak = count * options.batch_size / seconds, product_rate(kind, device)
        print(f"{name:24}{rate:10.2f} samples/s{count / seconds:10.2f} updates/s  "
              f"ratio {spent['diffusers'] / seconds:.2f}, {rate * each / 1e12:.2f} TFLOP/s, "
              f"{rate * each / peak:.0%} of this machine's {kind} product")  # fmt: skip
    parts = updates["ordinary"].spent
    print("of an ordinary update: " + ", ".join(
        f"{name} {seconds / parts.total():.1%}" for name, seconds in parts.items()
    ))  # fmt: skip


if __name__ == "__main__":
    main()
