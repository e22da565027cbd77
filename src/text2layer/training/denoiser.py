"""Training of the latent denoiser: rectified flow (base) or epsilon prediction (paper)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.denoiser import (
    build_denoiser,
    build_scheduler,
    denoise,
    initialise,
    is_flow,
)
from text2layer.models.plain_autoencoder import PARTS, PlainAutoencoder
from text2layer.models.text_encoder import load_text_encoder
from text2layer.pipelines.frame import MIN_SIDE
from text2layer.pipelines.text2layer import Text2LayerPipeline
from text2layer.training import processes
from text2layer.training.checkpoints import load_autoencoder
from text2layer.training.latent_cache import CachedLatents, encode_samples
from text2layer.training.latents import LatentBatch, LatentsOnTheFly
from text2layer.training.loop import TrainingResult, train
from text2layer.training.objective import Batch, Objective, fast_inference, step_generator
from text2layer.training.outputs import export_pipeline, generation_sheet, preview_prompts
from text2layer.training.settings import DenoiserSettings

if TYPE_CHECKING:
    from text2layer.data.source import SampleSource

VALIDATION_SAMPLES = 256
VALIDATION_BATCH = 64
LATENT_CACHE_SEED = 7
INITIAL_CAPTIONS = 256  # captions whose token states the text layer is fitted to
LATENT_CELLS = 16  # least cells a side that positions are laid out for


@dataclass(frozen=True)
class FrozenParts:
    """What a pipeline has besides its denoiser; no module, so that it is neither trained nor saved.

    Attributes:
        autoencoder: gives the latents.
        tokenizer: of the text encoder.
        text_encoder: gives the token states.
    """

    autoencoder: CaT2IAutoencoder | PlainAutoencoder
    tokenizer: Any
    text_encoder: Any


class DenoiserObjective(Objective):
    """Velocity or epsilon regression on latents of composed samples.

    Args:
        settings: of the run.
        source: training samples with captions.
        validation: samples of unseen concepts.
        device: where the networks live.
    """

    settings: DenoiserSettings

    def __init__(
        self,
        settings: DenoiserSettings,
        source: SampleSource,
        validation: SampleSource,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.source = None if settings.cache_samples else source
        autoencoder = open_autoencoder(settings)
        tokenizer, text_encoder = load_text_encoder(settings.text_encoder)
        text_config: Any = text_encoder.config
        self.network = build_denoiser(
            settings.preset,
            latent_channels=autoencoder.config.latent_channels,
            text_channels=text_config.hidden_size,
            sample_size=max(128 // autoencoder.latent_factor, LATENT_CELLS),
        ).to(device)
        self.scheduler = build_scheduler(settings.preset, settings.sampling_shift)
        live = LatentsOnTheFly(settings, source, autoencoder, tokenizer, text_encoder, device)
        initialise(self.network, *live.caption_states(INITIAL_CAPTIONS))
        self.latents: LatentsOnTheFly | CachedLatents = live
        if settings.cache_samples:
            seeded = step_generator(settings.seed, LATENT_CACHE_SEED)
            if settings.cache_file == "none":
                self.latents = CachedLatents(settings, device, encode_samples(live, seeded))
            else:
                file = Path(settings.cache_file or Path(settings.out) / "latents.safetensors")
                self.latents = CachedLatents.open(file, live, seeded)
        held_out = LatentsOnTheFly(
            settings, validation, autoencoder, tokenizer, text_encoder, device
        )
        generator = step_generator(1, 0)
        self.validation_batches = [
            held_out.draw(VALIDATION_BATCH, generator)
            for _ in range(VALIDATION_SAMPLES // VALIDATION_BATCH)
        ]
        self.frozen = FrozenParts(autoencoder, tokenizer, text_encoder)
        self.draws_on_device = self.fits_a_graph()

    def draw(self, generator: torch.Generator) -> Batch:
        """A `LatentBatch` with `noise` like its latents and `level` (B,) in 0..1, by name.

        A generator of the CPU seeds another one on the device for noise and levels; one of the
        device itself draws them too.
        """
        count = self.settings.batch_size
        rows = processes.rows(count)
        batch = self.latents.draw(count, generator, rows)
        if generator.device.type == "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            generator = torch.Generator(batch.latents.device).manual_seed(seed)
        level = self.draw_levels(count, generator)
        noise = self.draw_noise(batch, count, generator)
        return Batch({**vars(batch), "level": level[rows], "noise": noise[rows]})

    def fits_a_graph(self) -> bool:
        """With encoded samples: their texts have one length."""
        return bool(self.settings.cache_samples)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean squared error of the network's prediction."""
        tensors = dict(batch.tensors)
        level, noise = tensors.pop("level"), tensors.pop("noise")
        with training_attention(noise.device):
            error = self.error_of_noise(self.network, LatentBatch(**tensors), level, noise)
        return {"loss": error}

    def compile_network(self) -> None:
        """Its blocks; where an update is a graph, the whole network at one shape."""
        if self.settings.graph:
            self.network.compile(fullgraph=True, dynamic=False)
        else:
            super().compile_network()

    def draw_noise(self, batch: LatentBatch, count: int, generator: torch.Generator) -> Tensor:
        """Normal noise for a whole batch of `count`, of which `batch` may hold some rows."""
        latents = batch.latents
        shape = (count, *latents.shape[1:])
        return torch.randn(shape, generator=generator, device=latents.device, dtype=latents.dtype)

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels (count,) in 0..1: logit-normal of a flow (arXiv 2403.03206), else even."""
        if not is_flow(self.scheduler):
            return torch.rand(count, generator=generator, device=generator.device)
        normal = torch.randn(count, generator=generator, device=generator.device)
        return torch.sigmoid(self.settings.timestep_mean + self.settings.timestep_std * normal)

    def error(
        self,
        network: Any,
        batch: LatentBatch,
        level: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean squared error at noise levels (B,) in 0..1 (of the schedule's length for DDPM)."""
        noise = self.draw_noise(batch, len(level), generator)
        return self.error_of_noise(network, batch, level, noise)

    def error_of_noise(
        self, network: Any, batch: LatentBatch, level: Tensor, noise: Tensor
    ) -> Tensor:
        """`error` with noise like the latents."""
        noisy, timestep, target = self.question(batch, noise, level)
        output = denoise(
            network, noisy, batch.condition, batch.flags, timestep,
            batch.text_states, batch.text_mask,
        )  # fmt: skip
        return functional.mse_loss(output.float(), target)

    def question(
        self, batch: LatentBatch, noise: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is asked: noisy latents, their timesteps, and the right answer."""
        latents = batch.latents
        if is_flow(self.scheduler):  # x_t = (1 - t) x + t e, v = e - x (arXiv 2209.03003)
            noisy = torch.lerp(latents, noise, level[:, None, None, None])
            return noisy, level * 1000, noise - latents
        timestep = (level * self.scheduler.config.num_train_timesteps).long()
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        return noisy, timestep, noise

    def checkpoint_gradients(self) -> None:
        """As in every objective; attention is computed anew by the kernel of the forward pass."""

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), training_attention(self.network.device)

        anew = partial(checkpoint, use_reentrant=False, context_fn=contexts)
        self.network.enable_gradient_checkpointing(anew)

    def validate(self, network: ModelMixin) -> dict[str, float]:
        """Error on unseen concepts at evenly spread noise levels."""
        generator = torch.Generator(self.validation_batches[0].latents.device).manual_seed(0)
        total = 0.0
        for batch in self.validation_batches:
            count = batch.latents.shape[0]
            level = (torch.arange(count, device=batch.latents.device) + 0.5) / count
            with fast_inference(batch.latents.device):
                total += float(self.error(network, batch, level, generator))
        return {"val_loss": total / len(self.validation_batches)}

    def pipeline(self, network: ModelMixin) -> Text2LayerPipeline:
        """The pipeline around the given denoiser."""
        frozen = self.frozen
        return Text2LayerPipeline(
            frozen.autoencoder, network, frozen.text_encoder, frozen.tokenizer, self.scheduler,
            default_size=self._drawn_size(),
            default_steps=self.settings.preview_steps,
            default_guidance_scale=self.settings.preview_guidance,
            text_encoder_name=self.settings.text_encoder,
        )  # fmt: skip

    def _drawn_size(self) -> int:
        """Side of preview pictures and of what the pipeline draws by itself, pixels.

        Pipelines draw 64 px and more, where the presets for tests train on less.
        """
        return max(MIN_SIDE, self.settings.size)

    def export(self, checkpoint: Path, out: Path) -> None:
        """Write the pipeline with the averaged weights of a checkpoint to `out`/pipeline."""
        averaged = type(self.network).from_pretrained(checkpoint / "ema")
        export_pipeline(self.pipeline(cast(ModelMixin, averaged)), out / "pipeline")

    def preview(self, network: ModelMixin) -> Image.Image:
        """The same prompts and seeds every time."""
        pipeline = self.pipeline(network)
        pipeline.set_progress_bar_config(disable=True)
        prompts = preview_prompts(pipeline.autoencoder.config.num_foregrounds)
        with fast_inference(network.device):
            made = pipeline(
                prompts,
                generator=[torch.Generator().manual_seed(i) for i in range(len(prompts))],
            )
        return generation_sheet(made.layers)


def open_autoencoder(settings: DenoiserSettings) -> CaT2IAutoencoder | PlainAutoencoder:
    """Load the autoencoder; of a plain one the parts that the settings ask for."""
    autoencoder = load_autoencoder(Path(settings.autoencoder))
    if not settings.parts:
        return autoencoder
    if not isinstance(autoencoder, PlainAutoencoder):
        raise InputError(
            f"parts {settings.parts!r} can be asked of a plain autoencoder (train autoencoder "
            f"--preset bench-plain), but {settings.autoencoder} codes all layers at once."
        )
    return autoencoder.with_parts(PARTS[:3] if settings.parts == "layers" else PARTS[3:])


def training_attention(device: torch.device) -> AbstractContextManager[None]:
    """Plain attention on a CPU, whose fused backward pass is slow for short sequences.

    Forward and backward of preset base took 0.52 s instead of 0.61 s in one run (batch 24, 64
    tokens, two cores, bfloat16; docs/log.md says how sure that is). A GPU keeps its fused kernels.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def train_denoiser(
    settings: DenoiserSettings, source: SampleSource, validation: SampleSource
) -> TrainingResult:
    """Train, then write a pipeline folder with the averaged weights to `settings.out`/pipeline.

    See `loop.train` for what is raised.
    """
    if not settings.autoencoder:
        raise InputError("The denoiser trains on a trained autoencoder; name its folder.")
    built: list[DenoiserObjective] = []

    def make(device: torch.device) -> Objective:
        if settings.distil_steps:
            from text2layer.training.distillation import DistillationObjective

            built.append(DistillationObjective(settings, source, validation, device))
        else:
            built.append(DenoiserObjective(settings, source, validation, device))
        return built[0]

    result = train(make, settings, source.fingerprint)
    if not processes.is_main():
        return result
    built[0].export(result.checkpoint, Path(settings.out))
    return result
