"""The training loop that the trainers share.

What is trained comes as an `Objective`: a module whose forward pass draws one batch and returns
its losses. Every draw of a step comes from a generator seeded with (seed, step), so a run that was
stopped and resumed sees the same batches and noise as one that was not. Several processes of
torchrun share every batch, so their number may change too: see `processes`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from text2layer.errors import InputError, WeightsError
from text2layer.files import check_local, try_lock
from text2layer.training import checkpoints, processes
from text2layer.training.graph import GraphUpdate, Row, plain_state, share_of_newest
from text2layer.training.objective import Objective as Objective
from text2layer.training.objective import check_finite, resolve_precision, step_draws
from text2layer.training.objective import compile_blocks as compile_blocks
from text2layer.training.objective import step_generator as step_generator
from text2layer.training.outputs import MetricsLog
from text2layer.training.settings import TrainingSettings

LOCK = "train.lock"  # in a run's folder; it stays, empty, and is held while a process trains there
STOPPING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")  # the last two: clusters give notice so

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    step: int
    checkpoint: Path
    interrupted: bool


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
        torch._foreach_lerp_(averaged, current, share_of_newest(int(model.n_averaged), decay))

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


class StopRequest:
    """SIGTERM, SIGINT, SIGHUP and SIGUSR1 ask the loop to finish its step, save and return.

    What the caller ignores stays ignored: `nohup` does so with SIGHUP.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for name in STOPPING:
            number = getattr(signal, name, None)  # Windows has two of them
            if number is None or signal.getsignal(number) == signal.SIG_IGN:
                continue
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
        WriteError: when a checkpoint cannot be written.
        DivergenceError: when the loss is no finite number.
        InputError: when the requested device is not there, the output folder holds checkpoints
            of a run that is not to be resumed, another process trains there, or the batch cannot
            be shared evenly.
    """
    begun = time.monotonic()
    accelerator = _accelerator(settings)
    with _locked(Path(settings.out), accelerator.is_main_process):
        return _train(make_objective, settings, data_hash, accelerator, begun)


def _train(
    make_objective: Callable[[torch.device], Objective],
    settings: TrainingSettings,
    data_hash: str,
    accelerator: Accelerator,
    begun: float,
) -> TrainingResult:
    checkpoints.check_resumable(settings, data_hash)  # before all samples are encoded
    set_seed(settings.seed)
    run = _Run(make_objective(accelerator.device), settings, data_hash)
    state = run.resume()
    step = int(state.get("step", 0))
    newest = checkpoints.checkpoint_path(run.folder, step)
    if run.objective.recomputes:
        run.objective.checkpoint_gradients()
    if settings.compile:
        run.objective.compile_network()
    updates: GraphUpdate | _Updates = _Updates(run, accelerator)
    if settings.graph and _fits_a_graph(run.objective, accelerator):
        updates = run.graph(accelerator.mixed_precision, accelerator.device.type == "cuda")
    log = MetricsLog(
        run.folder / "metrics.jsonl", step, settings, accelerator.is_main_process,
        state.get("metrics"),
    )  # fmt: skip
    with StopRequest() as stop, log:
        minutes, stopped = processes.largest((time.monotonic() - begun) / 60, 0)
        while step < settings.steps:
            rate = settings.learning_rate * learning_rate_factor(step, settings, minutes)
            updates.update(step, rate)
            step += 1
            minutes, stopped = processes.largest((time.monotonic() - begun) / 60, stop.received)
            ended = step == settings.steps or bool(stopped)
            ended |= 0 < settings.max_minutes < minutes
            saved = ended or step % settings.checkpoint_every == 0
            if saved or step % updates.read_every == 0 or run.look_due(step, ended):
                for done, values, rate, moment in updates.read():
                    run.newest_loss = done, values["loss"]
                    log.add(done + 1, values, rate, moment)
            if saved:
                newest = checkpoints.checkpoint_path(run.folder, step)
                if accelerator.is_main_process:
                    run.save(step, log)  # first, so that a failing look loses nothing
            if accelerator.is_main_process:
                run.look(step, ended, log)
            if ended:
                break
    accelerator.wait_for_everyone()
    return TrainingResult(step, newest, step < settings.steps)


@contextmanager
def _locked(folder: Path, is_main: bool) -> Iterator[None]:
    """Hold a run's folder alone; the lock of a process that has died is no obstacle."""
    check_local(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not is_main:
        yield
        return
    lock = try_lock(folder / LOCK)
    if lock is None:
        raise InputError(
            f"Another process trains in {folder}; wait until it has ended, or give another "
            "output folder."
        )
    try:
        yield
    finally:
        lock.release()


def _fits_a_graph(objective: Objective, accelerator: Accelerator) -> bool:
    """Whether an update can be recorded: one process, nothing in it that waits or scales losses."""
    alone = processes.count() == 1 and accelerator.mixed_precision != "fp16"
    return alone and not objective.recomputes and objective.fits_a_graph()


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


class _Updates:
    """Updates as they are, of one process or several."""

    read_every = 1

    def __init__(self, run: _Run, accelerator: Accelerator) -> None:
        self.run, self.accelerator = run, accelerator
        self.prepared, run.optimizer = accelerator.prepare(run.objective, run.optimizer)
        self.row: Row = 0, {}, 0.0, None

    def update(self, step: int, rate: float) -> None:
        """Make update number `step` at this learning rate."""
        run, accelerator = self.run, self.accelerator
        settings, objective, optimizer = run.settings, run.objective, run.optimizer
        seed, generator = step_draws(settings.seed, step)
        torch.manual_seed(seed)  # latent noise
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)  # checkpoints of before have none
        objective.train()
        losses = self.prepared(step, generator)
        objective.prepare(step_draws(settings.seed, step + 1)[1])
        accelerator.backward(losses["loss"])
        norm = accelerator.clip_grad_norm_(run.network.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        extra = objective.after_update(step)
        run.ema.update_parameters(run.network)
        run.check_loss()  # of the update before: a GPU may still be busy with this one
        values = processes.mean_of_each({**losses, "grad_norm": norm, **extra}, accelerator.device)
        self.row = step, values | {"loss": values["loss"].detach()}, rate, None

    def read(self) -> list[Row]:
        """The values of the newest update."""
        return [self.row]


class _Run:
    """What an update changes, and its way to and from the run's folder."""

    def __init__(self, objective: Objective, settings: TrainingSettings, data_hash: str) -> None:
        self.objective, self.settings, self.data_hash = objective, settings, data_hash
        self.network = objective.network
        processes.share_batch_norm(self.network, self.network.device)
        self.folder = Path(settings.out)
        self.optimizer: Any = torch.optim.AdamW(
            parameter_groups(self.network, settings.weight_decay, self.objective.rate_of),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,  # one pass over the weights, 8 ms not 26 of a CPU's update; graphs need it
        )
        self.ema = make_ema(self.network, settings.ema_decay)
        self.newest_loss: tuple[int, Tensor | float] = 0, 0.0

    def graph(self, precision: str, capture: bool) -> GraphUpdate:
        """The updates as a graph."""
        return GraphUpdate(
            self.objective, self.optimizer, self.ema, self.settings, precision, capture
        )

    def check_loss(self) -> None:
        """Raise DivergenceError if the newest loss is not a finite number."""
        check_finite(self.newest_loss[0], float(self.newest_loss[1]), self.folder)

    def look_due(self, step: int, ended: bool) -> bool:
        """Whether `look` has something to do."""
        every = (self.settings.validate_every, self.settings.preview_every)
        return any(one > 0 and (ended or step % one == 0) for one in every)

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
            {"optimizer": plain_state(self.optimizer), "averaged": int(self.ema.n_averaged),
             "extra": self.objective.extra_state()},
            {"settings": asdict(self.settings), "data_hash": self.data_hash,
             "metrics": log.pending()},
            self.settings.keep_checkpoints,
        )  # fmt: skip

    def resume(self) -> dict[str, Any]:
        """Load the newest whole checkpoint and return its state.json; without any the start.

        Damaged ones are named in the log and put aside, so that none is kept instead of a whole
        one.
        """
        found = checkpoints.list_checkpoints(self.folder)
        if not found:
            self.objective.load_start(self.network)
            self.ema.module.load_state_dict(self.network.state_dict())
            return {}
        damaged = []
        for newest in reversed(found):
            try:
                state = self._load(newest)
            except checkpoints.DamagedCheckpointError as error:
                damaged.append(newest)
                reason = error
                continue
            self._put_aside(damaged, f"going on from {newest.name}")
            return state
        raise WeightsError(
            f"No checkpoint in {self.folder} is whole ({reason}); delete them to start anew, or "
            "give another output folder."
        )

    def _put_aside(self, damaged: list[Path], then: str) -> None:
        if damaged:
            processes.largest(0)  # until all processes have seen them
        if processes.is_main():
            for checkpoint in damaged:
                aside = checkpoints.put_aside(checkpoint)
                _log.warning(
                    "%s is damaged; %s. It is called %s now.", checkpoint, then, aside.name
                )

    def _load(self, newest: Path) -> dict[str, Any]:
        """Load a checkpoint and return its state.json."""
        checkpoints.check_whole(newest)
        state = checkpoints.read_state(newest)
        checkpoints.check_data(newest, state, self.settings, self.data_hash)
        checkpoints.load_weights(self.network, newest / "model")
        checkpoints.load_weights(self.ema.module, newest / "ema")
        stored = checkpoints.load_optimizer_state(newest)
        self.optimizer.load_state_dict(stored["optimizer"])
        self.ema.n_averaged.fill_(stored["averaged"])
        self.objective.load_extra_state(stored["extra"])
        return state
