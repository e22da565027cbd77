"""The training loop that both trainers share.

What is trained comes as an `Objective`: a module whose forward pass draws one batch and returns
its losses. Every draw of a step comes from a generator seeded with (seed, step), so a run that was
stopped and resumed sees the same batches and noise as one that was not. Several processes of
torchrun share every batch, so their number may change too: see `processes`.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from text2layer.data.source import ReadsAhead, SampleSource
from text2layer.errors import InputError, WeightsError
from text2layer.training import checkpoints, processes
from text2layer.training.metrics import MetricsLog
from text2layer.training.precision import resolve_precision
from text2layer.training.settings import TrainingSettings
from text2layer.training.warm_start import warm_start


class Objective(nn.Module):
    """What a trainer optimises; subclasses set these attributes and write the methods below.

    Attributes:
        network: what is trained.
        settings: of the run.
        source: what `forward` draws from first; None where it reads nothing.
    """

    network: ModelMixin
    settings: TrainingSettings
    source: SampleSource | None

    def forward(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw this process's rows of a batch and return their losses by name.

        `loss` is the one that is minimised; all are means over rows.
        """
        raise NotImplementedError

    def prepare(self, generator: torch.Generator) -> None:
        """Begin to read the batch that `forward` will draw from this generator, if from files."""
        if isinstance(self.source, ReadsAhead):
            size = self.settings.batch_size
            self.source.prepare(size, generator, processes.rows(size))

    def load_init(self, network: ModelMixin) -> None:
        """Give a network of this shape the weights of `settings.init`."""
        checkpoints.load_weights(network, Path(self.settings.init))

    def rate_of(self, name: str) -> float:
        """The learning rate of a weight of the network, beside the one of the settings."""
        return 1.0

    def checkpoint_gradients(self) -> None:
        """Let the backward pass compute the network's activations anew."""
        self.network.enable_gradient_checkpointing()

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


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator from which every draw of a step comes, in every process."""
    mixed = (seed * 1_000_003 + step) * 4096
    return torch.Generator().manual_seed(mixed % 2**63)


def learning_rate_factor(
    step: int, settings: TrainingSettings, elapsed_minutes: float = 0.0
) -> float:
    """Linear warm-up, constant, then a linear fall to zero in the last `decay_fraction`.

    With `settings.timed` the run's end is the earlier of `steps` and `max_minutes`.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if not settings.decay_fraction:
        return warm
    left = (settings.steps - step) / (settings.steps * settings.decay_fraction)
    if settings.timed:
        time_left = 1 - elapsed_minutes / settings.max_minutes
        left = min(left, max(0.0, time_left / settings.decay_fraction))
    return warm * min(1.0, left)


def make_ema(network: ModelMixin, decay: float) -> AveragedModel:
    """Average parameters and buffers; the decay rises as (1 + n) / (10 + n) up to `decay`.

    All tensors of a device and type are averaged in one call, and the count stays on the CPU: an
    update waits for no GPU.
    """

    def average(averaged: Any, current: Any, _: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        n = int(model.n_averaged)
        torch._foreach_lerp_(averaged, current, 1.0 - min(decay, (1 + n) / (10 + n)))

    model = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return model


def parameter_groups(
    network: nn.Module, weight_decay: float, rate_of: Callable[[str], float] = lambda name: 1.0
) -> list[dict[str, Any]]:
    """Groups of one `rate` each, a factor of the learning rate.

    Matrices and kernels decay, neither norms nor biases.
    """
    trainable = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups = []
    for rate in sorted({1.0, *(rate_of(name) for name, _ in trainable)}):
        alike = [p for name, p in trainable if rate_of(name) == rate]
        groups += [
            {"params": [p for p in alike if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in alike if p.ndim <= 1], "weight_decay": 0.0},
        ]
        for group in groups[-2:]:
            group["rate"] = rate
    return groups


def compile_blocks(network: nn.Module) -> None:
    """Let torch.compile fuse what a network repeats, in place; names of weights stay.

    Of a transformer each block is compiled (they share one compilation), of other networks every
    direct part.
    """
    blocks = getattr(network, "transformer_blocks", None)
    for block in network.children() if blocks is None else blocks:
        if any(True for _ in block.parameters()):
            block.compile(dynamic=False)


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
        WeightsError: when a checkpoint cannot be read or written or belongs to another run.
        InputError: when the requested device is not there, the output folder holds checkpoints
            of a run that is not to be resumed, or the batch cannot be shared evenly.
    """
    begun = time.monotonic()
    accelerator = _accelerator(settings)
    set_seed(settings.seed)
    run = _Run(make_objective(accelerator.device), settings, data_hash)
    state = run.resume()
    step = int(state.get("step", 0))
    newest = checkpoints.checkpoint_path(run.folder, step)
    if settings.gradient_checkpointing:
        run.objective.checkpoint_gradients()
    if settings.compile:
        compile_blocks(run.network)
    prepared, run.optimizer = accelerator.prepare(run.objective, run.optimizer)
    log = MetricsLog(
        run.folder / "metrics.jsonl", step, settings, accelerator.is_main_process,
        state.get("metrics"),
    )  # fmt: skip
    with StopRequest() as stop, log:
        minutes, stopped = processes.largest((time.monotonic() - begun) / 60, 0)
        while step < settings.steps:
            rate = settings.learning_rate * learning_rate_factor(step, settings, minutes)
            values = run.update(accelerator, prepared, step, rate)
            step += 1
            log.add(step, values, rate)
            minutes, stopped = processes.largest((time.monotonic() - begun) / 60, stop.received)
            ended = step == settings.steps or bool(stopped)
            ended |= 0 < settings.max_minutes < minutes
            if ended or step % settings.checkpoint_every == 0:
                newest = checkpoints.checkpoint_path(run.folder, step)
                if accelerator.is_main_process:
                    run.save(step, log)  # first, so that a failing look loses nothing
            if accelerator.is_main_process:
                run.look(step, ended, log)
            if ended:
                break
    accelerator.wait_for_everyone()
    return TrainingResult(step, newest, step < settings.steps)


def _accelerator(settings: TrainingSettings) -> Accelerator:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda but no CUDA device is available; use device cpu.")
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    on_cpu = settings.device == "cpu" or not (alone or torch.cuda.is_available())
    state = PartialState(cpu=on_cpu, **({} if alone else {"timeout": processes.PATIENCE}))
    if settings.batch_size % processes.count():
        raise InputError(
            f"A batch of {settings.batch_size} cannot be shared evenly by {processes.count()} "
            "processes; give batch_size a multiple of their number."
        )
    device = torch.device("cpu") if on_cpu else state.device
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in float32
    precision = resolve_precision(settings.mixed_precision, device)
    try:
        return Accelerator(cpu=on_cpu, mixed_precision=precision)
    except ValueError as error:
        raise InputError(
            f"mixed_precision {precision} cannot be used here "
            f"({str(error).splitlines()[0]}); use no or bf16, one for all runs of a process."
        ) from error


class _Run:
    """What an update changes, and its way to and from the run's folder."""

    def __init__(self, objective: Objective, settings: TrainingSettings, data_hash: str) -> None:
        self.objective, self.settings, self.data_hash = objective, settings, data_hash
        self.network = objective.network
        processes.share_batch_norm(self.network, self.network.device)
        self.folder = Path(settings.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.optimizer: Any = torch.optim.AdamW(
            parameter_groups(self.network, settings.weight_decay, self.objective.rate_of),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,  # one pass over the weights: a third of the time on a CPU (docs/log.md)
        )
        self.ema = make_ema(self.network, settings.ema_decay)
        self.newest_loss: tuple[int, Tensor | float] = 0, 0.0

    def update(
        self, accelerator: Accelerator, prepared: Any, step: int, rate: float
    ) -> dict[str, Tensor | float]:
        """One optimiser update at this learning rate; return every value to log."""
        settings = self.settings
        seed, generator = self.draws(step)
        torch.manual_seed(seed)  # latent noise
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)  # checkpoints of before have none
        self.objective.train()
        losses = prepared(step, generator)
        self.objective.prepare(self.draws(step + 1)[1])
        accelerator.backward(losses["loss"])
        norm = accelerator.clip_grad_norm_(self.network.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        extra = self.objective.after_update(step)
        self.ema.update_parameters(self.network)
        self.check_loss()  # of the update before: a GPU may still be busy with this one
        values = processes.mean_of_each({**losses, "grad_norm": norm, **extra}, accelerator.device)
        self.newest_loss = step, values["loss"].detach()
        return values

    def draws(self, step: int) -> tuple[int, torch.Generator]:
        """The seed of a step's latent noise, and the generator of everything else it draws."""
        generator = step_generator(self.settings.seed, step)
        return int(torch.randint(2**31, (), generator=generator)), generator

    def check_loss(self) -> None:
        """Raise WeightsError if the newest loss is not a finite number."""
        step, loss = self.newest_loss[0], float(self.newest_loss[1])
        if not math.isfinite(loss):
            raise WeightsError(
                f"The loss became {loss} at step {step} of {self.folder}; lower learning_rate and "
                "resume from the last checkpoint."
            )

    def look(self, step: int, ended: bool, log: MetricsLog) -> None:
        """Validation and preview of the averaged weights, at their intervals and at the end."""

        def due(every: int) -> bool:
            return every > 0 and (ended or step % every == 0)

        self.objective.eval()
        self.ema.eval()
        with torch.no_grad():
            if due(self.settings.validate_every):
                log.write({"step": step, **self.objective.validate(self.ema.module)})
            if due(self.settings.preview_every):
                sheet = self.objective.preview(self.ema.module)
                if sheet is not None:
                    (self.folder / "previews").mkdir(exist_ok=True)
                    sheet.save(self.folder / "previews" / f"step-{step:08d}.png")

    def save(self, step: int, log: MetricsLog) -> Path:
        """Write a checkpoint after `step` updates."""
        self.check_loss()
        return checkpoints.save_checkpoint(
            self.folder, step, self.network, self.ema.module,
            {"optimizer": self.optimizer.state_dict(), "averaged": int(self.ema.n_averaged),
             "extra": self.objective.extra_state()},
            {"settings": asdict(self.settings), "data_hash": self.data_hash,
             "metrics": log.pending()},
            self.settings.keep_checkpoints,
        )  # fmt: skip

    def resume(self) -> dict[str, Any]:
        """Load the newest checkpoint and return its state.json; without one what to start from."""
        found = checkpoints.list_checkpoints(self.folder)
        if found and not self.settings.resume:
            raise InputError(
                f"{self.folder} holds checkpoints of an earlier run; give another output folder "
                "or resume it."
            )
        if not found:
            if self.settings.init:
                for model in (self.network, self.ema.module):
                    self.objective.load_init(model)
            if self.settings.warm_start:
                warm_start(self.network, Path(self.settings.warm_start))
                self.ema.module.load_state_dict(self.network.state_dict())
            return {}
        newest = found[-1]
        state = checkpoints.read_state(newest)
        if state.get("data_hash") != self.data_hash:
            raise WeightsError(
                f"{newest} was trained on other data ({state.get('data_hash')}, now "
                f"{self.data_hash}); give another output folder or the same data."
            )
        checkpoints.load_weights(self.network, newest / "model")
        checkpoints.load_weights(self.ema.module, newest / "ema")
        stored = checkpoints.load_optimizer_state(newest)
        self.optimizer.load_state_dict(stored["optimizer"])
        self.ema.n_averaged.fill_(stored["averaged"])
        self.objective.load_extra_state(stored["extra"])
        return state
