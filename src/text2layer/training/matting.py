"""Training of the matting network: the mask from the picture and the denoiser's answer to it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from PIL import Image
from torch import Tensor
from torch.nn import functional

from text2layer.data.contact_sheet import grid
from text2layer.errors import InputError
from text2layer.models.conditioning import condition_latents
from text2layer.models.denoiser import first_answer, flag_tensor, is_flow
from text2layer.models.losses import laplacian_loss
from text2layer.models.matting import MattingNetwork
from text2layer.models.text_encoder import encode_prompts
from text2layer.pipelines.text2layer import Text2LayerPipeline
from text2layer.pretrained.store import file_sha256
from text2layer.tensors import composite, tensor_to_colour, tensor_to_mask
from text2layer.training import processes
from text2layer.training.export import export_network
from text2layer.training.imperfect import make_imperfect
from text2layer.training.loop import Objective, TrainingResult, step_generator, train
from text2layer.training.precision import fast_inference
from text2layer.training.settings import MattingSettings
from text2layer.training.varied import DRAWS, varied_layers

if TYPE_CHECKING:
    from text2layer.data.source import Composition, SampleSource

VALIDATION_SAMPLES = 64
VALIDATION_BATCH = 16
PREVIEW_SAMPLES = 8


class MattingObjective(Objective):
    """Cross entropy, soft IoU and Laplacian loss of the mask.

    Args:
        settings: `model` is the pipeline whose denoiser answers.
        source: training samples with captions.
        validation: samples of unseen concepts.
        device: where the networks live.

    Raises:
        InputError: the model is no rectified flow, or has several foregrounds.
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
        pipeline = Text2LayerPipeline.from_pretrained(settings.model, matting=None)
        autoencoder = pipeline.autoencoder
        if not is_flow(pipeline.scheduler) or autoencoder.config.num_foregrounds > 1:
            raise InputError(
                f"{settings.model} is no rectified flow of one foreground; the matting network "
                "is made for those."
            )
        for part in (autoencoder, pipeline.denoiser, pipeline.text_encoder):
            part.to(device).eval().requires_grad_(False)
        autoencoder.to(memory_format=torch.channels_last)
        self.frozen = (pipeline,)  # a tuple: neither trained nor saved
        self.network = MattingNetwork.from_preset(
            settings.preset,
            latent_channels=autoencoder.config.latent_channels,
            latent_factor=autoencoder.latent_factor,
            denoiser_sha256=file_sha256(
                Path(settings.model) / "denoiser" / SAFETENSORS_WEIGHTS_NAME
            ),
        ).to(device, memory_format=torch.channels_last)
        batch = validation.compose(VALIDATION_SAMPLES, step_generator(1, 0))
        captions = validation.captions(batch, random.Random(0))
        noise = self.noise(batch.image, VALIDATION_SAMPLES, step_generator(1, 1))
        parts = [slice(at, at + VALIDATION_BATCH) for at in range(0, len(noise), VALIDATION_BATCH)]
        answers = [self.answers(batch.image[one], captions[one], noise[one]) for one in parts]
        self.validation = (batch.image, batch.mask, torch.cat(answers))

    def forward(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a batch of pictures, let the denoiser answer, and compare the mask."""
        count = self.settings.batch_size
        rows = processes.rows(count)
        batch = self.source.compose(count, generator, rows)
        picture = self.picture(batch, generator)
        seeds = torch.randint(2**62, (count,), generator=generator)[rows].tolist()
        silent, untold = torch.rand((2, count), generator=generator)[:, rows]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        picture = make_imperfect({"image": picture}, self.settings.imperfect, generators)["image"]
        captions = [
            "" if drop else self.source.captions(batch.row(row), random.Random(seeds[row]))[0]
            for row, drop in enumerate((untold < self.settings.caption_dropout).tolist())
        ]
        noise = self.noise(picture, count, generator)[rows]
        latents = torch.zeros_like(noise)
        answered = (silent >= self.settings.answer_dropout).nonzero()[:, 0].tolist()
        if answered:
            told = [captions[row] for row in answered]
            latents[answered] = self.answers(picture[answered], told, noise[answered])
        logits = self.network.logits(picture, latents).float()
        with torch.autocast(logits.device.type, enabled=False):
            mask = torch.sigmoid(logits)
            losses = {
                "entropy": functional.binary_cross_entropy_with_logits(logits, batch.mask),
                "overlap": 1 - overlap(mask, batch.mask).mean(),
                "laplacian": laplacian_loss(mask, batch.mask),
            }
        losses["loss"] = torch.stack(list(losses.values())).sum()
        return losses

    def picture(self, batch: Composition, generator: torch.Generator) -> Tensor:
        """The composites of a batch whose layers have been varied (see `varied`)."""
        count = self.settings.batch_size
        rows = processes.rows(count)
        other = self.source.compose(count, generator, rows).background
        draws = torch.rand((count, DRAWS), generator=generator)[rows]
        layers = varied_layers(batch.foreground, batch.background, other, draws)
        return composite(*layers, batch.mask)

    def noise(self, picture: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Noise (count, C, h, w) for latents of pictures (N, 3, H, W)."""
        autoencoder = self.frozen[0].autoencoder
        sides = (side // autoencoder.latent_factor for side in picture.shape[-2:])
        shape = (count, autoencoder.config.latent_channels, *sides)
        return torch.randn(shape, generator=generator).to(picture.device)

    @torch.no_grad()
    def answers(self, picture: Tensor, captions: list[str], noise: Tensor) -> Tensor:
        """The denoiser's first answers (N, C, h, w) to pictures (N, 3, H, W)."""
        (pipeline,) = self.frozen
        device = picture.device
        states, mask = encode_prompts(pipeline.tokenizer, pipeline.text_encoder, captions, cut=True)
        with fast_inference(device):
            condition = condition_latents(pipeline.autoencoder, image=picture).float()
            flags = flag_tensor(["image"] * len(picture), condition)
            return first_answer(
                pipeline.denoiser, noise, condition, flags, states.to(device), mask.to(device)
            ).float()

    def validate(self, network: ModelMixin) -> dict[str, float]:
        """Soft IoU on unseen concepts: of the denoiser's answer and the picture, and without it."""
        picture, truth, latents = self.validation
        scores = {
            "val_soft_iou": self._masks(network, picture, latents),
            "val_soft_iou_unanswered": self._masks(network, picture, torch.zeros_like(latents)),
        }
        return {name: float(overlap(mask, truth).mean()) for name, mask in scores.items()}

    def _masks(self, network: ModelMixin, picture: Tensor, latents: Tensor) -> Tensor:
        matting = cast(MattingNetwork, network)
        pairs = zip(picture.split(VALIDATION_BATCH), latents.split(VALIDATION_BATCH), strict=True)
        with fast_inference(picture.device):
            return torch.cat([matting(*pair).float() for pair in pairs])

    def preview(self, network: ModelMixin) -> Image.Image:
        """Picture, true mask, mask of the denoiser's answer decoded, and the network's."""
        picture, truth, latents = (part[:PREVIEW_SAMPLES] for part in self.validation)
        autoencoder = self.frozen[0].autoencoder
        decoded = autoencoder.decode(autoencoder.unscale_latents(latents)).mask
        made = self._masks(network, picture, latents)
        columns = (tensor_to_colour(picture), *map(tensor_to_mask, (truth, decoded, made)))
        rows = [list(row) for row in zip(*columns, strict=True)]
        return grid(rows)


def overlap(mask: Tensor, truth: Tensor) -> Tensor:
    """Soft IoU (N,) of masks (N, 1, H, W), differentiable; see `evaluation.mask_overlap`."""
    shared, either = torch.minimum(mask, truth), torch.maximum(mask, truth)
    return shared.sum((1, 2, 3)) / either.sum((1, 2, 3)).clamp(min=1e-6)


def train_matting(
    settings: MattingSettings, source: SampleSource, validation: SampleSource
) -> TrainingResult:
    """Train, then write the averaged network in half precision to `settings.out`/matting.

    See `loop.train` for what is raised.
    """
    if not settings.model:
        raise InputError("The matting network learns from a trained model; name its folder.")
    result = train(
        lambda device: MattingObjective(settings, source, validation, device),
        settings,
        source.fingerprint,
    )
    if processes.is_main():
        averaged = MattingNetwork.from_pretrained(result.checkpoint / "ema")
        export_network(averaged, Path(settings.out) / "matting")
    return result
