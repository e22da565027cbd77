"""Settings of the trainers: one dataclass each, and PRESETS. Imports no torch.

Every field carries its doc line and its limits (`options`); the command line is made from them. A
trainer has the settings that it can use, and no others.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from text2layer.errors import InputError
from text2layer.options import check_fields, setting, share

# architectures (field `preset`) that have what some settings are about
WITH_HEADS = ("tiny", "bench", "base", "paper")  # the paper's decoder: a trunk and its heads
LAYERED = (*WITH_HEADS, "base-256")  # layers in one latent
WITH_TRUNK = (*WITH_HEADS, "tiny-plain", "bench-plain")  # blocks that can be computed twice
FLOWS = ("tiny", "tiny-pooled", "bench", "small", "base", "large", "base-unet")  # rectified flow
LPIPS_SMALLEST = 16  # pixels: VGG16 halves them four times


@dataclass(frozen=True)
class TrainingSettings:
    """What the trainers share."""

    data: str = setting("", "Picture library (foregrounds.jsonl ...) or folder of shards.")
    style_weights: str = setting(
        "",
        "Share of each style of a library, like '3d icon=2,flat icon=1'; empty: all alike.",
    )
    out: str = setting("runs/run", "Folder for checkpoints, metrics.jsonl and previews.")
    init: str = setting("", "Folder of saved weights to start from instead of random ones.")
    resume: bool = setting(True, "Continue from the newest checkpoint in the output folder.")
    changed_data: bool = setting(
        False, "Continue although the data have changed since that checkpoint."
    )
    steps: int = setting(1000, "Number of optimiser updates of the whole run.", at_least=1)
    batch_size: int = setting(16, "Samples per update, of all processes together.", at_least=1)
    size: int = setting(128, "Width and height of training pictures, pixels.", at_least=1)
    learning_rate: float = setting(3e-4, "Peak learning rate.", above=0)
    warmup_steps: int = setting(100, "Updates of linear warm-up.", at_least=0)
    decay_fraction: float = share(0.3, "Last share of the run in which the rate falls to zero.")
    weight_decay: float = setting(0.01, "AdamW's weight decay.", at_least=0)
    beta1: float = setting(0.9, "AdamW's first beta.", at_least=0, below=1)
    beta2: float = setting(0.99, "AdamW's second beta.", at_least=0, below=1)
    max_grad_norm: float = setting(
        1.0, "Gradient norm above which gradients are scaled down.", above=0
    )
    ema_decay: float = setting(
        0.999, "Decay of the averaged weights (warmed up from 0).", at_least=0, below=1
    )
    mixed_precision: str = setting(
        "auto",
        "auto | no | bf16 | fp16; auto takes bf16 where the device multiplies it fast.",
        choices=("auto", "no", "bf16", "fp16"),
    )
    device: str = setting("auto", "auto | cpu | cuda.", choices=("auto", "cpu", "cuda"))
    seed: int = setting(0, "Seed of weights, data order and noise.", at_least=0, at_most=2**32 - 1)
    checkpoint_every: int = setting(500, "Updates between checkpoints.", at_least=1)
    keep_checkpoints: int = setting(2, "Newest checkpoints to keep.", at_least=1)
    preview_every: int = setting(500, "Updates between preview sheets; 0 for none.", at_least=0)
    validate_every: int = setting(250, "Updates between validation losses; 0 for none.", at_least=0)
    max_minutes: float = setting(
        0.0, "Stop after this many minutes, preparation included; 0: no limit.", at_least=0
    )
    timed: bool = setting(
        False, "Let the learning rate fall by the end of max_minutes, for time-limited runs."
    )
    compile: bool = setting(False, "Compile the network's blocks: faster on a GPU after a minute.")
    graph: bool = setting(
        False,
        "On one GPU record an update once and replay it; on a CPU the same code runs as it is.",
    )


@dataclass(frozen=True)
class WorldSettings(TrainingSettings):
    """What autoencoder and denoiser share: large networks, and a small world (`data.world`)."""

    warm_start: str = setting(
        "", "Folder of Stable Diffusion 1.x (vae/, unet/) to start from; fits the paper's presets."
    )
    gradient_checkpointing: bool = setting(
        False, "Compute activations twice instead of keeping them: less memory, a third more time."
    )
    canonical: float = share(
        0.0,
        "Share of pictures whose object stands in the canonical place; the rest is placed freely.",
    )
    drawings: str = setting(
        "",
        "List of the library's cut-outs to draw, an id a line, a tab and a weight; empty for all.",
    )
    background_crops: int = setting(
        0, "Windows that a background is seen through; 0 for any.", at_least=0
    )
    scene_weights: str = setting(
        "", "How often backgrounds of a scene are drawn, like 'building interior=0.3'; the rest: 1."
    )


@dataclass(frozen=True)
class AutoencoderSettings(WorldSettings):
    """Training of the composition-aware autoencoder."""

    out: str = setting("runs/autoencoder", "Folder for checkpoints, metrics.jsonl and previews.")
    gradient_checkpointing: bool = setting(
        False,
        "Compute activations twice instead of keeping them: less memory, a third more time.",
        presets=WITH_TRUNK,
    )
    preset: str = setting(
        "base",
        "Architecture: tiny | bench | base | base-256 | paper; baselines tiny-plain | bench-plain.",
    )
    num_foregrounds: int = setting(1, "Foreground layers per picture.", at_least=1, presets=LAYERED)
    auxiliary_head: bool = setting(
        True, "Predict the whole picture too; off is 'no-sup'.", presets=LAYERED
    )
    image_weight: float = setting(
        1.0, "Weight of l1 and LPIPS of I beside those of F and B.", at_least=0
    )
    mask_block: bool = setting(
        False, "Give the mask's head a last residual block of its own.", presets=WITH_HEADS
    )
    composition: str = setting("joint", "Composition loss: joint | dim.", choices=("joint", "dim"))
    l1_weight: float = setting(1.0, "Weight of l1 of F, B and I.", at_least=0)
    lpips_weight: float = setting(0.0, "Weight of LPIPS-VGG of F, B and I; 0 is off.", at_least=0)
    lpips_share: float = share(1.0, "Share of each batch that LPIPS looks at.")
    lpips_crop: int = setting(
        0, "Side of the window that LPIPS looks at, pixels; 0 for whole pictures.", at_least=0
    )
    adversarial_weight: float = setting(
        0.0, "Weight of the PatchGAN term; 0 is off.", at_least=0, presets=WITH_HEADS
    )
    adversarial_start: int = setting(
        50_000, "Update at which the discriminator is switched on.", at_least=0
    )
    mask_l1_weight: float = setting(1.0, "Weight of l1 of the mask.", at_least=0)
    composition_weight: float = setting(2.0, "Weight of the composition loss.", at_least=0)
    laplacian_weight: float = setting(3.0, "Weight of the mask's Laplacian loss.", at_least=0)
    mask_weight: float = setting(1.0, "The paper's lambda between pictures and mask.", at_least=0)
    kl_weight: float = setting(
        1e-6, "Weight of the KL term, per latent sum and picture pixel.", at_least=0
    )
    equivariance: float = share(0.0, "Share of updates with a scaled latent (EQ-VAE).")
    latent_noise: float = setting(
        0.0,
        "Most noise added to latents before they are decoded, in deviations of a channel.",
        at_least=0,
    )
    partial: float = share(0.15, "Share of samples with an empty or neutral part.")
    crop: int = setting(
        0, "Side of the window cut out of each batch, pixels; 0 takes it whole.", at_least=0
    )
    freeze_encoder: bool = setting(
        False, "Train the decoder alone: latents of init, and denoisers made for them, stay valid."
    )


@dataclass(frozen=True)
class DenoiserSettings(WorldSettings):
    """Training of the latent denoiser."""

    out: str = setting("runs/denoiser", "Folder for checkpoints, metrics.jsonl and previews.")
    preset: str = setting(
        "base",
        "Network and objective: tiny | tiny-pooled | tiny-paper | bench | small | base | large | "
        "base-unet | paper.",
    )
    autoencoder: str = setting("", "Folder of the trained autoencoder; base: the released one.")
    parts: str = setting(
        "",
        "Of a plain autoencoder: layers (SD-AE-UNet) | image (flat); empty for all it codes.",
        choices=("", "layers", "image"),
    )
    text_encoder: str = setting("minilm", "Text encoder: a name of the weights table or a path.")
    cache_samples: int = setting(
        0, "Samples encoded once before training; 0 encodes on the fly.", at_least=0
    )
    cache_file: str = setting(
        "", "Where encoded samples are kept: a file, none, or nothing for OUT/latents.safetensors."
    )
    caption_variants: int = setting(3, "Captions drawn per cached sample.", at_least=1)
    caption_dropout: float = share(0.1, "Share of empty captions, for guidance.")
    job_text: float = share(0.7, "Share of samples with nothing given.")
    job_background: float = share(0.1, "Share with the background given.")
    job_foreground: float = share(0.1, "Share with the foreground given.")
    job_image: float = share(0.1, "Share with the whole picture given.")
    job_reference: float = share(0.0, "Share with another drawing of the object given.")
    even_concepts: bool = setting(
        False, "Sample all concepts, not all cut-outs, with equal probability."
    )
    full_captions: bool = setting(
        False, "Captions that say all that varies: style, time, place and size."
    )
    hold_out_pairings: bool = setting(
        False, "Leave one in ten pairs of concept and scene out of training, for validation."
    )
    imperfect: float = share(0.25, "Share of given parts that are blurred, JPEG or badly cut.")
    timestep_mean: float = setting(
        0.0, "Mean of the logit-normal timestep (rectified flow).", presets=FLOWS
    )
    timestep_std: float = setting(
        1.0, "Deviation of the logit-normal timestep.", at_least=0, presets=FLOWS
    )
    sampling_shift: float = setting(
        1.0,
        "Shift of the sampling steps towards noise (rectified flow, arXiv 2403.03206).",
        above=0,
        presets=FLOWS,
    )
    distil_steps: int = setting(
        0, "Distil init to this many steps without guidance; 0: ordinary training.", at_least=0
    )
    distil_rank: int = setting(32, "Rank of the adapter that the student learns.", at_least=1)
    distil_substeps: int = setting(
        3, "Steps of the teacher in each step of the student.", at_least=1
    )
    distil_guidance: float = setting(5.0, "Guidance scale of the teacher.", at_least=0)
    preview_guidance: float = setting(3.0, "Guidance scale of preview pictures.", at_least=0)
    preview_steps: int = setting(20, "Sampling steps of preview pictures.", at_least=1)


@dataclass(frozen=True)
class MattingSettings(TrainingSettings):
    """Training of the network that gives a decomposed picture its mask."""

    out: str = setting("runs/matting", "Folder for checkpoints, metrics.jsonl and previews.")
    preset: str = setting("base", "Architecture: tiny | base.")
    imperfect: float = share(0.15, "Share of pictures that are blurred or JPEG.")


# rows of the benchmark (docs/benchmark.md)
BENCH = AutoencoderSettings(
    preset="bench", steps=700, size=64, learning_rate=1e-3, kl_weight=3e-3, warmup_steps=50
)

# the paper's runs, 512 from what 256 gave (docs/scale-training.md). What the paper leaves open is
# as in latent diffusion (rate 4.5e-6 a sample, 8 GPUs of 12 samples) and in Stable Diffusion
PAPER_AUTOENCODER = AutoencoderSettings(
    preset="paper", steps=250_000, batch_size=96, size=256, learning_rate=4.5e-6 * 96,
    beta1=0.5, beta2=0.9, weight_decay=0.0, decay_fraction=0.0, lpips_weight=1.0,
    adversarial_weight=0.5, partial=0.0, checkpoint_every=2000, preview_every=2000,
    validate_every=2000,
)  # fmt: skip
PAPER_DENOISER = DenoiserSettings(
    preset="paper", steps=75_000, batch_size=2048, size=256, learning_rate=1e-4,
    warmup_steps=10_000, decay_fraction=0.0, ema_decay=0.9999,
    text_encoder="openai/clip-vit-large-patch14", preview_guidance=7.5, preview_steps=50,
    checkpoint_every=1000, preview_every=1000, validate_every=1000,
)  # fmt: skip

# a world that a small model learns (data.world), and most of its samples drawn from text alone
SMALL_WORLD: dict[str, Any] = {
    "canonical": 0.9, "even_concepts": True, "background_crops": 3, "full_captions": True,
    "hold_out_pairings": True, "job_text": 0.75, "job_background": 0.05, "job_foreground": 0.03,
    "job_image": 0.1, "job_reference": 0.07,
}  # fmt: skip

AUTOENCODER_PRESETS: dict[str, AutoencoderSettings] = {
    "tiny": AutoencoderSettings(preset="tiny", steps=20, batch_size=4, size=32),
    "bench": BENCH,
    "bench-no-sup": replace(BENCH, auxiliary_head=False),
    # l1 of four pictures of three channels, the mask one of them, and nothing of layers; 2 samples
    # are 8 passes of the network, half of what an update of `bench` makes
    "bench-plain": replace(
        BENCH, preset="bench-plain", batch_size=2, mask_l1_weight=3.0, composition_weight=0.0,
        laplacian_weight=0.0,
    ),
    "base": AutoencoderSettings(
        steps=5000, batch_size=8, learning_rate=5e-4, kl_weight=3e-3, equivariance=0.25
    ),
    # one large GPU (recipes/base_model.py): most updates on small pictures, the last on 256 px
    "base-gpu": AutoencoderSettings(
        steps=12_000, batch_size=192, learning_rate=6e-4, kl_weight=3e-3, equivariance=0.25,
        lpips_weight=1.0, lpips_share=0.25, warmup_steps=200, decay_fraction=0.0, graph=True,
    ),
    # after `base`: --init its folder --freeze-encoder
    "base-256": AutoencoderSettings(
        preset="base-256", steps=10_000, batch_size=8, size=256, learning_rate=5e-4,
        kl_weight=0.0, latent_noise=0.15, auxiliary_head=False, canonical=0.75, background_crops=3,
    ),
    "paper-256": PAPER_AUTOENCODER,
    "paper-512": replace(PAPER_AUTOENCODER, size=512, gradient_checkpointing=True),
}  # fmt: skip

DENOISER_PRESETS: dict[str, DenoiserSettings] = {
    "tiny": DenoiserSettings(preset="tiny", steps=20, batch_size=4, size=32),
    "bench": DenoiserSettings(
        preset="bench", steps=900, batch_size=32, size=64, learning_rate=1e-3, cache_samples=3000,
        timestep_mean=0.6, preview_guidance=3.0, job_text=1.0, job_background=0.0,
        job_foreground=0.0, job_image=0.0,
    ),
    "base": DenoiserSettings(
        steps=60_000, batch_size=32, learning_rate=6e-4, cache_samples=24_000,
        timestep_mean=0.5, sampling_shift=2.0, **SMALL_WORLD,
    ),
    "base-unet": DenoiserSettings(
        preset="base-unet", steps=10_000, batch_size=24, learning_rate=6e-4, cache_samples=24_000
    ),
    "base-gpu": DenoiserSettings(
        preset="large", steps=10_000, batch_size=512, learning_rate=8e-4, warmup_steps=300,
        decay_fraction=0.0, cache_samples=120_000, cache_file="none", imperfect=0.0,
        timestep_mean=0.5, sampling_shift=2.0, compile=True, graph=True, **SMALL_WORLD,
    ),
    "paper-256": PAPER_DENOISER,
    "paper-512": replace(PAPER_DENOISER, size=512, gradient_checkpointing=True),
}  # fmt: skip

MATTING_PRESETS: dict[str, MattingSettings] = {
    "tiny": MattingSettings(preset="tiny", steps=20, batch_size=4, size=32),
    "base": MattingSettings(steps=10_000, batch_size=16, learning_rate=1e-3),
    "base-gpu": MattingSettings(steps=10_000, batch_size=64, learning_rate=1e-3, graph=True),
}

PRESETS: dict[str, dict[str, Any]] = {
    "autoencoder": AUTOENCODER_PRESETS,
    "denoiser": DENOISER_PRESETS,
    "matting": MATTING_PRESETS,
}

S = TypeVar("S", bound=TrainingSettings)


def settings_from(trainer: str, preset: str, /, **overrides: Any) -> Any:
    """Return the settings of PRESETS[trainer][preset] with fields replaced.

    Raises:
        InputError: for an unknown preset or field, or a value out of range.
    """
    if preset not in PRESETS[trainer]:
        known = ", ".join(PRESETS[trainer])
        raise InputError(f"No {trainer} preset is called {preset!r}; choose one of {known}.")
    base = PRESETS[trainer][preset]
    names = {item.name for item in fields(base)}
    unknown = sorted(set(overrides) - names)
    if unknown:
        raise InputError(f"The {trainer} trainer has no setting {unknown[0]!r}.")
    return check(replace(base, **overrides))


def check(settings: S) -> S:
    """Return the settings, or raise InputError for the first value that cannot be used."""
    check_fields(settings)
    if settings.timed and not settings.max_minutes:
        raise InputError("timed needs max_minutes, the length of the run.")
    if isinstance(settings, WorldSettings) and settings.init and settings.warm_start:
        raise InputError("init and warm_start both name weights to start from; give one.")
    if isinstance(settings, AutoencoderSettings):
        _check_autoencoder(settings)
    if isinstance(settings, DenoiserSettings):
        _check_denoiser(settings)
    return settings


def _check_autoencoder(settings: AutoencoderSettings) -> None:
    if settings.crop > settings.size:
        raise InputError(f"crop {settings.crop} is larger than size {settings.size}.")
    if 0 < settings.lpips_crop < LPIPS_SMALLEST:
        raise InputError(
            f"lpips_crop must be 0 or at least {LPIPS_SMALLEST}, got {settings.lpips_crop}."
        )
    if settings.mask_block and settings.warm_start:
        raise InputError("Stable Diffusion has no mask_block; leave one of it and warm_start.")
    if settings.freeze_encoder and not settings.init:
        raise InputError("freeze_encoder keeps the encoder of init; name its folder.")


def _check_denoiser(settings: DenoiserSettings) -> None:
    if settings.distil_steps and not settings.init:
        raise InputError("distil_steps needs a teacher; name its folder as init.")
    shares = sum(
        (
            settings.job_text, settings.job_background, settings.job_foreground,
            settings.job_image, settings.job_reference,
        )
    )  # fmt: skip
    if abs(shares - 1) > 1e-6:
        raise InputError(f"The job shares must sum to 1, they sum to {shares:.4g}.")
