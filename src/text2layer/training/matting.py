"""Training of the matting network on composites whose masks are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor
from torch.nn import functional

from text2layer.data.contact_sheet import grid
from text2layer.models.losses import laplacian_loss, overlap
from text2layer.models.matting import MattingNetwork
from text2layer.tensors import composite, tensor_to_colour, tensor_to_mask
from text2layer.training import processes
from text2layer.training.augmentation import DRAWS, make_imperfect, varied_layers
from text2layer.training.loop import TrainingResult, train
from text2layer.training.objective import Batch, Objective, fast_inference, step_generator
from text2layer.training.outputs import export_network
from text2layer.training.settings import MattingSettings

if TYPE_CHECKING:
    from text2layer.data.source import Composition, SampleSource

VALIDATION_SAMPLES = 64
VALIDATION_BATCH = 16
PREVIEW_SAMPLES = 8


class MattingObjective(Objective):
    """Cross entropy, soft IoU and Laplacian loss of the mask.

    Args:
        settings: of the run.
        source: training samples of one foreground each.
        validation: samples of unseen concepts.
        device: where the network lives.
    """

    settings: MattingSettings
    source: SampleSource

    def __init__(
        self,
        settings: MattingSettings,
        source: SampleSource,
        validation: SampleSource,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.source = source
        network = MattingNetwork.from_preset(settings.preset)
        self.network = network.to(device, memory_format=torch.channels_last)
        batch = validation.compose(VALIDATION_SAMPLES, step_generator(1, 0))
        self.validation = batch.image, batch.mask

    def draw(self, generator: torch.Generator) -> Batch:
        """Pictures (B, 3, H, W) and the masks (B, 1, H, W) of their objects."""
        count = self.settings.batch_size
        batch = self.source.compose(count, generator, processes.rows(count))
        return Batch({"picture": self.picture(batch, generator), "mask": batch.mask})

    def fits_a_graph(self) -> bool:
        """Always: pictures are composed outside of it."""
        return True

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Compare the masks of the pictures."""
        truth = batch.tensors["mask"]
        logits = self.network.logits(batch.tensors["picture"]).float()
        with torch.autocast(logits.device.type, enabled=False):
            mask = torch.sigmoid(logits)
            losses = {
                "entropy": functional.binary_cross_entropy_with_logits(logits, truth),
                "overlap": 1 - overlap(mask.flatten(1), truth.flatten(1)).mean(),
                "laplacian": laplacian_loss(mask, truth),
            }
        losses["loss"] = torch.stack(list(losses.values())).sum()
        return losses

    def picture(self, batch: Composition, generator: torch.Generator) -> Tensor:
        """The composites of a batch, layers varied (`varied_layers`) and some imperfect."""
        count = self.settings.batch_size
        rows = processes.rows(count)
        other = self.source.compose(count, generator, rows).background
        draws = torch.rand((count, DRAWS), generator=generator)[rows]
        layers = varied_layers(batch.foreground, batch.background, other, draws)
        picture = composite(*layers, batch.mask)
        seeds = torch.randint(2**62, (count,), generator=generator)[rows].tolist()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return make_imperfect({"image": picture}, self.settings.imperfect, generators)["image"]

    def validate(self, network: ModelMixin) -> dict[str, float]:
        """Soft IoU on unseen concepts."""
        picture, truth = self.validation
        masks = self._masks(network, picture)
        return {"val_soft_iou": float(overlap(masks.flatten(1), truth.flatten(1)).mean())}

    def _masks(self, network: ModelMixin, picture: Tensor) -> Tensor:
        matting = cast(MattingNetwork, network)
        with fast_inference(picture.device):
            return torch.cat([matting(part).float() for part in picture.split(VALIDATION_BATCH)])

    def preview(self, network: ModelMixin) -> Image.Image:
        """Picture, true mask and the network's, unseen concepts."""
        picture, truth = (part[:PREVIEW_SAMPLES] for part in self.validation)
        masks = map(tensor_to_mask, (truth, self._masks(network, picture)))
        rows = zip(tensor_to_colour(picture), *masks, strict=True)
        return grid([list(row) for row in rows])


def train_matting(
    settings: MattingSettings, source: SampleSource, validation: SampleSource
) -> TrainingResult:
    """Train, then write the averaged network in half precision to `settings.out`/matting.

    See `loop.train` for what is raised.
    """
    result = train(
        lambda device: MattingObjective(settings, source, validation, device),
        settings,
        source.fingerprint,
    )
    if processes.is_main():
        averaged = MattingNetwork.from_pretrained(result.checkpoint / "ema")
        export_network(averaged, Path(settings.out) / "matting")
    return result
