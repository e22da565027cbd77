"""Few steps: a denoiser learns to do in one call what its teacher does in several guided ones.

The way from noise to picture is cut into as many windows as the student shall take steps. From a
noisy latent at a window's beginning the teacher, with classifier-free guidance, takes some Euler
steps to its end; the student learns the straight line there (piecewise rectified flow, PeRFlow,
arXiv 2405.07510, section 3, at the beginning of each window alone, where it is asked at inference).
No guidance is left to pay for: a picture costs `distil_steps` calls instead of twice the teacher's.
What is learnt is an adapter of low rank (`models.adapter`).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from text2layer.data.source import SampleSource
from text2layer.errors import InputError
from text2layer.files import file_sha256, write_checksums
from text2layer.models.adapter import FewSteps, add_adapter, merge, save_adapter
from text2layer.models.denoiser import GIVEN, build_scheduler, denoise, is_flow, set_steps
from text2layer.models.frozen import Held
from text2layer.models.text_encoder import encode_prompts
from text2layer.pipelines.text2layer import Text2LayerPipeline
from text2layer.training.checkpoints import load_weights, replacing
from text2layer.training.denoiser import DenoiserObjective
from text2layer.training.latents import LatentBatch
from text2layer.training.outputs import export_pipeline
from text2layer.training.settings import DenoiserSettings

ANY_ATTENTION = [
    SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH,
]  # fmt: skip
IMAGE_FLAG = GIVEN.index("image")  # such pictures are taken apart without guidance


class DistillationObjective(DenoiserObjective):
    """Regression on where the guided teacher arrives.

    Args:
        settings: `init` is the teacher and what the student starts from; `distil_steps`,
            `distil_substeps` and `distil_guidance` say what is learnt, `distil_rank` by how much.
        source: training samples with captions.
        validation: samples of unseen concepts.
        device: where the networks live.

    Raises:
        InputError: the preset is no rectified flow, or no transformer.
    """

    def __init__(
        self,
        settings: DenoiserSettings,
        source: SampleSource,
        validation: SampleSource,
        device: torch.device,
    ) -> None:
        if not is_flow(build_scheduler(settings.preset)):
            raise InputError(
                f"distil_steps needs a rectified flow, and preset {settings.preset} is none."
            )
        super().__init__(settings, source, validation, device)
        load_weights(self.network, Path(settings.init))
        teacher = copy.deepcopy(self.network)
        self.teacher = Held(teacher.eval().requires_grad_(False))
        add_adapter(self.network, settings.distil_rank)
        set_steps(self.scheduler, settings.distil_steps)
        self.sigmas = self.scheduler.sigmas.to(device)  # (steps + 1,), 1 to 0
        self.empty = encode_prompts(self.frozen.tokenizer, self.frozen.text_encoder, [""])

    def load_init(self, network: ModelMixin) -> None:
        """Nothing is left to load: the student is the teacher with a silent adapter."""

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Evenly in 0..1, so that every window is learnt alike."""
        return torch.rand(count, generator=generator, device=generator.device)

    def question(
        self, batch: LatentBatch, noise: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents at the beginning of a window; the answer is the teacher's mean velocity.

        Levels (B,) in 0..1 choose the windows: an equal share of the levels for each.
        """
        windows = ((1 - level) * self.settings.distil_steps).long()
        windows = windows.clamp(0, self.settings.distil_steps - 1)
        start, end = self.sigmas[windows], self.sigmas[windows + 1]
        noisy = torch.lerp(batch.latents, noise, start[:, None, None, None])
        arrived = self.teachers_way(noisy, batch, start, end)
        return noisy, start * 1000, (noisy - arrived) / (start - end)[:, None, None, None]

    @torch.no_grad()
    def teachers_way(self, noisy: Tensor, batch: LatentBatch, start: Tensor, end: Tensor) -> Tensor:
        """Where the teacher takes noisy latents (B, C, h, w) from levels `start` to `end` (B,)."""
        states, mask = (torch.cat(pair) for pair in zip(
            self.without_words(batch), (batch.text_states, batch.text_mask), strict=True
        ))  # fmt: skip
        condition, flags = (torch.cat([part, part]) for part in (batch.condition, batch.flags))
        scale = torch.where(batch.flags[:, IMAGE_FLAG] > 0, 1.0, self.settings.distil_guidance)
        step = (start - end) / self.settings.distil_substeps
        for number in range(self.settings.distil_substeps):
            level = (start - number * step).repeat(2) * 1000
            twice = torch.cat([noisy] * 2)
            with sdpa_kernel(ANY_ATTENTION):  # no backward pass follows
                both = denoise(
                    self.teacher.network, twice, condition, flags, level, states, mask
                ).float()
            without, with_words = both.chunk(2)
            velocity = torch.lerp(without, with_words, scale[:, None, None, None])
            noisy = noisy - step[:, None, None, None] * velocity
        return noisy

    def without_words(self, batch: LatentBatch) -> tuple[Tensor, Tensor]:
        """States and mask of the empty caption, in the shape of the batch's."""
        states, mask = torch.zeros_like(batch.text_states), torch.zeros_like(batch.text_mask)
        length = self.empty[1].shape[1]
        states[:, :length], mask[:, :length] = self.empty[0].to(states), self.empty[1].to(mask)
        return states, mask

    def pipeline(self, network: Any) -> Text2LayerPipeline:
        """The pipeline around the student: as many steps as it learnt, no guidance."""
        pipeline = super().pipeline(network)
        pipeline.register_to_config(
            default_steps=self.settings.distil_steps, default_guidance_scale=1.0
        )
        return pipeline

    def export(self, checkpoint: Path, out: Path) -> None:
        """Write the adapter to `out`/adapter, and the pipeline with it merged to `out`/pipeline."""
        averaged = copy.deepcopy(self.network)
        load_weights(averaged, checkpoint / "ema")
        note = FewSteps(
            self.settings.distil_steps,
            file_sha256(Path(self.settings.init) / SAFETENSORS_WEIGHTS_NAME),
        )
        with replacing(out / "adapter") as folder:
            save_adapter(averaged, folder, note)
            write_checksums(folder)
        merge(averaged)
        export_pipeline(self.pipeline(averaged), out / "pipeline")
