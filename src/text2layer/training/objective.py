"""What a trainer optimises, the random numbers of its updates, and their number format.

Training computes in bfloat16 only where the machine multiplies it fast.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor, nn

from text2layer.data.source import ReadsAhead, SampleSource
from text2layer.errors import DivergenceError
from text2layer.training import checkpoints, processes
from text2layer.training.settings import TrainingSettings, WorldSettings
from text2layer.training.warm_start import warm_start


@dataclass(frozen=True)
class Batch:
    """What one update learns from.

    Attributes:
        tensors: by name, on the network's device.
        kind: what else decides how losses are computed; batches of one kind have one shape.
    """

    tensors: dict[str, Tensor]
    kind: Hashable = None


class Objective(nn.Module):
    """What a trainer optimises; subclasses set these attributes and write the methods below.

    Attributes:
        network: what is trained.
        settings: of the run.
        source: what `draw` draws from first; None where it reads nothing.
        draws_on_device: whether `draw` takes all its numbers from a generator of the network's
            device and waits for nothing, so that a graph may hold it (`graph`).
    """

    network: ModelMixin
    settings: TrainingSettings
    source: SampleSource | None
    draws_on_device: bool = False

    def forward(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw this process's rows of a batch and return their losses by name."""
        return self.losses(self.draw(generator), step)

    def draw(self, generator: torch.Generator) -> Batch:
        """Draw this process's rows of a batch."""
        raise NotImplementedError

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses of a batch by name, all of them means over rows.

        `loss` is the one that is minimised.
        """
        raise NotImplementedError

    def fits_a_graph(self) -> bool:
        """Whether `losses` waits for nothing and batches have few shapes (`graph`)."""
        return False

    def prepare(self, generator: torch.Generator) -> None:
        """Begin to read the batch that `forward` will draw from this generator, if from files."""
        if isinstance(self.source, ReadsAhead):
            size = self.settings.batch_size
            self.source.prepare(size, generator, processes.rows(size))

    @property
    def recomputes(self) -> bool:
        """Whether activations are computed twice instead of kept (`checkpoint_gradients`)."""
        return isinstance(self.settings, WorldSettings) and self.settings.gradient_checkpointing

    def load_start(self, network: ModelMixin) -> None:
        """Give an untrained network the weights that the settings name, if they name any."""
        if self.settings.init:
            self.load_init(network)
        if isinstance(self.settings, WorldSettings) and self.settings.warm_start:
            warm_start(network, Path(self.settings.warm_start))

    def load_init(self, network: ModelMixin) -> None:
        """Give a network of this shape the weights of `settings.init`."""
        checkpoints.load_weights(network, Path(self.settings.init))

    def rate_of(self, name: str) -> float:
        """The learning rate of a weight of the network, beside the one of the settings."""
        return 1.0

    def compile_network(self) -> None:
        """Let torch.compile fuse the network's operations, in place; names of weights stay."""
        compile_blocks(self.network)

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


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator from which every draw of a step comes, in every process."""
    mixed = (seed * 1_000_003 + step) * 4096
    return torch.Generator().manual_seed(mixed % 2**63)


def step_draws(seed: int, step: int) -> tuple[int, torch.Generator]:
    """The seed of a step's latent noise, and the generator of everything else it draws."""
    generator = step_generator(seed, step)
    return int(torch.randint(2**31, (), generator=generator)), generator


def check_finite(step: int, loss: float, folder: Path | str) -> None:
    """Raise DivergenceError if the loss of a step is not a finite number."""
    if not math.isfinite(loss):
        raise DivergenceError(
            f"The loss became {loss} at step {step} of {folder}; lower learning_rate and "
            "resume from the last checkpoint."
        )


def compile_blocks(network: nn.Module) -> None:
    """Let torch.compile fuse what a network repeats, in place; names of weights stay.

    Of a transformer each block is compiled (they share one compilation), of other networks every
    direct part; of a list of parts, which is never called itself, each of its parts.
    """
    blocks = getattr(network, "transformer_blocks", None)
    for block in _called_parts(network) if blocks is None else blocks:
        if any(True for _ in block.parameters()):
            block.compile(dynamic=False)


def _called_parts(network: nn.Module) -> Iterator[nn.Module]:
    """The direct parts of a network, of lists and dicts what is in them."""
    for part in network.children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            yield from _called_parts(part)
        else:
            yield part


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 (AVX-512 BF16 or AMX, Ampere or newer).

    Others emulate it: on a CPU with AVX2 alone a matrix product in bfloat16 took 80 times as
    long as in float32 (docs/log.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in checks)
    return False


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Return no, bf16 or fp16 for a setting of those or `auto`."""
    if wanted != "auto":
        return wanted
    return "bf16" if bfloat16_is_fast(device) else "no"


def fast_inference(device: torch.device) -> AbstractContextManager[object]:
    """Context for frozen networks: bfloat16 autocast where it is fast, else float32."""
    if bfloat16_is_fast(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
