"""Several processes that train one network: what each of them draws, and what they agree on.

Every process draws the random numbers of a whole batch and works on its own rows of it, so a run
takes the same samples, noise and all, however many processes share it. What a loss or a norm knows
of the batch is averaged over the processes. Without torch.distributed there is one process, which
has all rows and agrees with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(hours=2)  # in which one process may encode samples or look at its work


def count() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return count() == 1 or distributed.get_rank() == 0


def rows(batch_size: int) -> slice:
    """Rows of a batch that are this process's: every `count`-th, so that first rows come first.

    Args:
        batch_size: of all processes together, a multiple of their number.
    """
    if count() == 1:
        return slice(batch_size)
    return slice(distributed.get_rank(), batch_size, count())


def normal_like(own: Tensor) -> Tensor:
    """Normal noise for this process's rows, cut from noise for the whole batch."""
    return torch.randn_like(torch.cat([own] * count()))[rows(count() * len(own))]


def uniform(number: int, generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) for this process's `number` rows, cut from those of the whole batch."""
    return torch.rand(count() * number, generator=generator)[rows(count() * number)]


def mean(values: Tensor) -> Tensor:
    """Mean of a detached tensor over the processes."""
    if count() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / count()


def mean_of_each(values: dict[str, Tensor | float], device: torch.device) -> dict[str, Any]:
    """Mean of every scalar over the processes, in one exchange."""
    if count() == 1:
        return values
    row = [torch.as_tensor(value, device=device).float() for value in values.values()]
    return dict(zip(values, mean(torch.stack(row)), strict=True))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean gradients, of networks that DDP does not wrap."""
    if count() > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = mean(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def largest(*values: float) -> list[float]:
    """The largest of each value among the processes; no GPU is waited for."""
    if count() == 1:
        return list(values)
    table = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(table, distributed.ReduceOp.MAX, group=_host_group())
    return table.tolist()


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process run the block before the others do."""
    if not is_main():
        largest(0)
    yield
    if is_main():
        largest(0)


def share_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let batch norms take mean and variance of the whole batch, in place; names stay."""
    if count() == 1:
        return
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if type(module) is nn.BatchNorm2d:
                on_gpu = device.type == "cuda"
                shared = nn.SyncBatchNorm if on_gpu else SharedBatchNorm
                other = shared(module.num_features, module.eps, module.momentum).to(device)
                other.load_state_dict(module.state_dict())
                parent.register_module(name, other)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the samples of all processes on CPUs; torch's SyncBatchNorm needs GPUs."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W), normalised by the statistics of N * `count` samples while training."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)  # (C,)
        mean, square = _Sum.apply(torch.stack([mean, variance + mean.square()])) / count()
        variance = square - mean.square()
        with torch.no_grad():
            number = count() * values.numel() / values.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(input.dtype)


class _Sum(torch.autograd.Function):
    """Sum over the processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


@cache
def _host_group() -> Any:
    """Processes that talk over the host's network, beside NCCL's on the GPUs."""
    if distributed.get_backend() == "gloo":
        return distributed.group.WORLD
    return distributed.new_group(backend="gloo", timeout=PATIENCE)
