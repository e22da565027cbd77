"""The training loop that both trainers share.

What is trained comes as an `Objective`: a module whose forward pass draws one batch and returns
its losses. Every draw of a step comes from a generator seeded with (seed, step, process), so a run
that was stopped and resumed sees the same batches and noise as one that was not.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from text2layer.errors import InputError, WeightsError
from text2layer.training import checkpoints
from text2layer.training.settings import TrainingSettings


class Objective(nn.Module):
    """What a trainer optimises; subclasses set `network` and write the methods below."""

    network: ModelMixin

    def forward(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a batch and return its losses by name; `loss` is the one that is minimised."""
        raise NotImplementedError

    def after_update(self, step: int) -> dict[str, float]:
        """Work after the network's update (a discriminator's turn); values are logged."""
        return {}

    def validate(self, network: ModelMixin) -> dict[str, float]:
        """Losses of the averaged weights on a fixed set."""
        return {}

    def preview(self, network: ModelMixin) -> Image.Image | None:
        """A sheet made with the averaged weights, the same inputs every time."""
        return None

    def extra_state(self) -> dict[str, Any]:
        """State beyond network and optimiser that a checkpoint must hold."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    step: int
    checkpoint: Path
    interrupted: bool


def step_generator(seed: int, step: int, process: int = 0) -> torch.Generator:
    """Return the CPU generator from which every draw of a step comes."""
    mixed = (seed * 1_000_003 + step) * 4096 + process
    return torch.Generator().manual_seed(mixed % 2**63)


def learning_rate_factor(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, constant, then a linear fall to zero in the last `decay_fraction`."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    decay_steps = settings.steps * settings.decay_fraction
    left = settings.steps - step
    return warm * min(1.0, left / decay_steps) if decay_steps else warm


def make_ema(network: ModelMixin, decay: float) -> AveragedModel:
    """Average parameters and buffers; the decay rises as (1 + n) / (10 + n) up to `decay`."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        n = int(count)
        weight = 1.0 - min(decay, (1 + n) / (10 + n))
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current.to(averaged.dtype), weight)

    return AveragedModel(network, avg_fn=average, use_buffers=True)


def weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels only, neither norms nor biases."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


class StopRequest:
    """SIGTERM and SIGINT ask the loop to finish its step, save and return."""

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: the caller's signals stay as they are
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = True


def train(
    make_objective: Callable[[torch.device], Objective],
    settings: TrainingSettings,
    data_hash: str,
) -> TrainingResult:
    """Run an objective to `settings.steps`, resuming from the newest checkpoint of the run.

    Args:
        make_objective: builds the objective on a device, after the seed is set.
        settings: of either trainer.
        data_hash: fingerprint of the training data, stored in every checkpoint.

    Raises:
        WeightsError: when a checkpoint cannot be read or belongs to another run.
        InputError: when the requested device is not there.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda but no CUDA device is available; use device cpu.")
    accelerator = Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision=settings.mixed_precision,
    )
    set_seed(settings.seed)
    run = Path(settings.out)
    run.mkdir(parents=True, exist_ok=True)
    objective = make_objective(accelerator.device)
    network = objective.network
    optimizer = torch.optim.AdamW(
        weight_decay_groups(network, settings.weight_decay),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
    )
    ema = make_ema(network, settings.ema_decay)
    start = _resume(run, settings, objective, ema, optimizer, data_hash)
    prepared, optimizer = accelerator.prepare(objective, optimizer)

    def save(step: int) -> Path:
        return checkpoints.save_checkpoint(
            run, step, network, ema.module,
            {"optimizer": optimizer.state_dict(), "averaged": int(ema.n_averaged),
             "extra": objective.extra_state()},
            {"settings": asdict(settings), "data_hash": data_hash}, settings.keep_checkpoints,
        )  # fmt: skip

    log = MetricsLog(run / "metrics.jsonl", start, settings, accelerator.is_main_process)
    begun = time.monotonic()
    step = start
    newest = checkpoints.checkpoint_path(run, start)
    with StopRequest() as stop, log:
        while step < settings.steps:
            generator = step_generator(settings.seed, step, accelerator.process_index)
            torch.manual_seed(generator.initial_seed() % 2**31)  # dropout and latent noise
            rate = settings.learning_rate * learning_rate_factor(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            objective.train()
            losses = prepared(step, generator)
            accelerator.backward(losses["loss"])
            norm = accelerator.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
            if not bool(torch.isfinite(losses["loss"].detach())):
                raise WeightsError(
                    f"The loss became {float(losses['loss'])} at step {step} of {run}; lower "
                    "learning_rate and resume from the last checkpoint."
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            extra = objective.after_update(step)
            step += 1
            ema.update_parameters(network)
            log.add(step, losses, {"grad_norm": float(norm), **extra}, rate)

            ended = step == settings.steps or stop.received
            ended |= 0 < settings.max_minutes * 60 < time.monotonic() - begun
            if accelerator.is_main_process:
                _look(step, ended, settings, objective, ema, log, run)
                if ended or step % settings.checkpoint_every == 0:
                    newest = save(step)
            if ended:
                break
    accelerator.wait_for_everyone()
    return TrainingResult(step, newest, step < settings.steps)


def _look(
    step: int,
    ended: bool,
    settings: TrainingSettings,
    objective: Objective,
    ema: AveragedModel,
    log: MetricsLog,
    run: Path,
) -> None:
    """Validation and preview at their intervals and at the end."""

    def due(every: int) -> bool:
        return every > 0 and (ended or step % every == 0)

    objective.eval()
    ema.eval()
    with torch.no_grad():
        if due(settings.validate_every):
            log.write({"step": step, **objective.validate(ema.module)})
        if due(settings.preview_every):
            sheet = objective.preview(ema.module)
            if sheet is not None:
                (run / "previews").mkdir(exist_ok=True)
                sheet.save(run / "previews" / f"step-{step:08d}.png")


def _resume(
    run: Path,
    settings: TrainingSettings,
    objective: Objective,
    ema: AveragedModel,
    optimizer: torch.optim.Optimizer,
    data_hash: str,
) -> int:
    """Load the newest checkpoint (or `init`) into everything; return the step to go on from."""
    found = checkpoints.list_checkpoints(run) if settings.resume else []
    if not found:
        if settings.init:
            for model in (objective.network, ema.module):
                checkpoints.load_weights(model, Path(settings.init))
        return 0
    newest = found[-1]
    state = checkpoints.read_state(newest)
    if state.get("data_hash") != data_hash:
        raise WeightsError(
            f"{newest} was trained on other data ({state.get('data_hash')}, now {data_hash}); "
            "give another output folder or the same data."
        )
    checkpoints.load_weights(objective.network, newest / "model")
    checkpoints.load_weights(ema.module, newest / "ema")
    stored = checkpoints.load_optimizer_state(newest)
    optimizer.load_state_dict(stored["optimizer"])
    ema.n_averaged.fill_(stored["averaged"])
    objective.load_extra_state(stored["extra"])
    return int(state["step"])


class MetricsLog:
    """Progress bar on stderr and one JSON line per 10 steps in metrics.jsonl."""

    every = 10

    def __init__(self, path: Path, start: int, settings: TrainingSettings, main: bool) -> None:
        self.path = path
        self.settings = settings
        self.sums: dict[str, float] = {}
        self.count = 0
        self.clock = time.monotonic()
        if main and path.is_file():
            self._drop_after(start)
        self.file = path.open("a") if main else None
        self.bar = tqdm(
            total=settings.steps, initial=start, disable=not main, file=sys.stderr,
            mininterval=2.0, desc=path.parent.name,
        )  # fmt: skip

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.file:
            self.file.close()

    def _drop_after(self, step: int) -> None:
        """Drop lines of steps that a resumed run is about to take again."""
        lines = [line for line in self.path.read_text().splitlines() if line.strip()]
        kept = [line for line in lines if json.loads(line).get("step", 0) <= step]
        self.path.write_text("".join(line + "\n" for line in kept))

    def add(
        self, step: int, losses: dict[str, Tensor], extra: dict[str, float], rate: float
    ) -> None:
        """Take one step's values; write their means every `every` steps."""
        values = {**{k: float(v.detach()) for k, v in losses.items()}, **extra}
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.count += 1
        self.bar.update(1)
        if step % self.every and step != self.settings.steps:
            return
        seconds = time.monotonic() - self.clock
        means = {key: value / self.count for key, value in self.sums.items()}
        speed = self.count * self.settings.batch_size / max(seconds, 1e-9)
        self.bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
        self.write({"step": step, **means, "learning_rate": rate, "samples_per_second": speed})
        self.sums, self.count, self.clock = {}, 0, time.monotonic()

    def write(self, values: dict[str, float | int]) -> None:
        """Append one JSON line at once, so that a kill loses nothing."""
        if self.file is None:
            return
        rounded = {
            key: value if isinstance(value, int) or not math.isfinite(value) else round(value, 6)
            for key, value in values.items()
        }
        self.file.write(json.dumps(rounded) + "\n")
        self.file.flush()
