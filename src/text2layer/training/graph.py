"""A training update as one CUDA graph: recorded once, then replayed without a word from Python.

Forward, backward, clipping, AdamW and averaging are one recording; where the objective draws its
batches on the device, they are part of it. What changes from update to update lies in tensors on
the device: seeds, learning rate, the averages' share, and a batch that was drawn outside. Losses go
to a ring on the device, which is read every `READ_EVERY` updates. The first updates of a kind of
batch run as they are, on a stream beside the main one, and the next one is recorded: torch asks for
that (its notes on CUDA graphs, "whole-network capture"). Without a GPU every update runs as it is.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from text2layer.training.objective import Batch, Objective, check_finite, step_draws
from text2layer.training.settings import TrainingSettings

READ_EVERY = 200  # updates between two looks at the losses, each of which waits for the GPU
WARM_UP = 3  # updates of a kind before one is recorded
AUTOCAST = {"bf16": torch.bfloat16}
Row = tuple[int, dict[str, Any], float, float | None]  # step, values, learning rate, moment


class GraphUpdate:
    """Updates of one process, recorded on a GPU.

    Batches are those of an ordinary update, but where the objective draws on the device and that is
    a GPU: its generator gives other numbers than the CPU's.

    Args:
        objective: what is optimised; `fits_a_graph`.
        optimizer: fused AdamW over the network's weights; its groups may have a `rate`.
        ema: average of the network.
        settings: of the run.
        precision: no or bf16.
        capture: record; only on a GPU.
    """

    read_every = READ_EVERY

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.AdamW,
        ema: AveragedModel,
        settings: TrainingSettings,
        precision: str,
        capture: bool,
    ) -> None:
        self.objective, self.optimizer, self.ema = objective, optimizer, ema
        self.settings, self.precision, self.capture = settings, precision, capture
        self.device = device = objective.network.device
        self.weights = [p for p in objective.network.parameters() if p.requires_grad]
        self.averages = _Averages(objective.network, ema.module)
        # fused AdamW on a GPU reads a float32, on a CPU it loses nothing of a float64
        kind = torch.float32 if device.type == "cuda" else torch.float64
        self.rates: dict[float, Tensor] = {}
        for group in optimizer.param_groups:
            rate = self.rates.setdefault(
                group.get("rate", 1.0), torch.zeros((), dtype=kind, device=device)
            )
            group["lr"], group["capturable"] = rate, True
        optimizer._warned_capturable_if_run_uncaptured = True  # the warm-up is meant to be
        self.generator = torch.Generator(device)
        self.names: list[str] = []
        self.ring = torch.zeros(0)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.unread: list[tuple[int, float]] = []  # step and learning rate
        self.begun = time.monotonic()
        self.warm: dict[Hashable, int] = {}
        self.recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Batch | None]] = {}
        if capture:
            self.pool, self.side = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def update(self, step: int, rate: float) -> None:
        """Make update number `step` at this learning rate; nothing is waited for."""
        seed, drawing = step_draws(self.settings.seed, step)
        torch.manual_seed(seed)  # latent noise
        self.objective.train()
        for factor, tensor in self.rates.items():
            tensor.fill_(rate * factor)
        self.averages.prepare(int(self.ema.n_averaged), self.settings.ema_decay)
        self.ema.n_averaged += 1
        batch = None
        if not self.objective.draws_on_device:
            batch = self.objective.draw(drawing)
            self.objective.prepare(step_draws(self.settings.seed, step + 1)[1])
        elif self.device.type == "cpu":
            self.generator = drawing  # the same draws as those of an ordinary update
        else:
            self.generator.manual_seed(drawing.initial_seed())
        self._run(batch, step)
        self.unread.append((step, rate))

    def _run(self, batch: Batch | None, step: int) -> None:
        """Replay the recording of such batches, or run and, when warm, record."""
        if not self.capture:
            self._work(batch, step)
            return
        kind = batch and (batch.kind, tuple((k, v.shape) for k, v in batch.tensors.items()))
        if self.warm.get(kind, 0) < WARM_UP:
            self.warm[kind] = self.warm.get(kind, 0) + 1
            side = self.side
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._work(batch, step)
            torch.cuda.current_stream().wait_stream(side)
            return
        if kind not in self.recorded:
            held = batch and Batch({k: v.clone() for k, v in batch.tensors.items()}, batch.kind)
            self.optimizer.zero_grad(set_to_none=True)  # nothing is freed while recording
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            with torch.cuda.graph(graph, pool=self.pool):
                self._work(held, step)
            self.recorded[kind] = graph, held
        graph, held = self.recorded[kind]
        if batch and held:
            for name, tensor in batch.tensors.items():
                held.tensors[name].copy_(tensor)
        graph.replay()

    def _work(self, batch: Batch | None, step: int) -> None:
        """All that an update does on the device."""
        self.optimizer.zero_grad(set_to_none=True)  # while recording: gradients of its own pool
        with self._autocast():
            if batch is None:
                batch = self.objective.draw(self.generator)
            losses = self.objective.losses(batch, step)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(
            self.weights, self.settings.max_grad_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.averages.update()
        self._keep({**losses, "grad_norm": norm})

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "no":
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.precision])

    def _keep(self, values: dict[str, Tensor]) -> None:
        """Write the values of an update into the ring."""
        if not self.names:  # of the first update, which is not recorded
            self.names = list(values)
            self.ring = torch.zeros(READ_EVERY, len(values), device=self.device)
        row = torch.stack([values[name].detach().float() for name in self.names])
        self.ring.index_copy_(0, self.position, row[None])
        self.position.add_(1).remainder_(READ_EVERY)

    def read(self) -> list[Row]:
        """What was not read yet: step, values, learning rate and moment of each update.

        The GPU is waited for; moments are spread evenly over the time since the last look.

        Raises:
            WeightsError: a loss is not a finite number.
        """
        rows = self.ring[: len(self.unread)].tolist()
        self.position.zero_()
        begun, self.begun = self.begun, time.monotonic()
        each = (self.begun - begun) / max(1, len(rows))
        found: list[Row] = []
        for number, ((step, rate), row) in enumerate(zip(self.unread, rows, strict=True), start=1):
            values = dict(zip(self.names, row, strict=True))
            check_finite(step, values["loss"], self.settings.out)
            found.append((step, values, rate, begun + number * each))
        self.unread = []
        return found


class _Averages:
    """The formula of `loop.make_ema` with its share in a tensor, which a graph can read."""

    def __init__(self, network: nn.Module, averaged: nn.Module) -> None:
        pairs = [
            *zip(averaged.parameters(), network.parameters(), strict=True),
            *zip(averaged.buffers(), network.buffers(), strict=True),
        ]
        self.floats = [[t.detach() for t in pair] for pair in pairs if pair[0].is_floating_point()]
        self.others = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.share = torch.zeros((), device=pairs[0][0].device)

    def prepare(self, count: int, decay: float) -> None:
        """Set the share of the newest weights when `count` were averaged before."""
        self.share.fill_(share_of_newest(count, decay))

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights in."""
        averaged, current = (list(column) for column in zip(*self.floats, strict=True))
        change = torch._foreach_sub(current, averaged)
        torch._foreach_mul_(change, self.share)
        torch._foreach_add_(averaged, change)
        if self.others:
            averaged, current = (list(column) for column in zip(*self.others, strict=True))
            torch._foreach_copy_(averaged, current)


def share_of_newest(count: int, decay: float) -> float:
    """What the newest weights make of the average when `count` were averaged before."""
    return 1.0 - min(decay, (1 + count) / (10 + count)) if count else 1.0


def plain_state(optimizer: Any) -> dict[str, Any]:
    """The optimiser's state with learning rates as numbers, as an ordinary update has them."""
    state = optimizer.state_dict()
    groups = [
        {**group, "lr": float(group["lr"]), "capturable": False} for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}
