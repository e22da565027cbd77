"""Settings of the trainers: presets, overrides, limits."""

from dataclasses import fields

import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder

from text2layer.errors import InputError
from text2layer.models.autoencoder import PRESETS as AUTOENCODERS
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.denoiser import PRESETS as DENOISERS
from text2layer.models.denoiser import build_scheduler, is_flow
from text2layer.models.plain_autoencoder import PRESETS as PLAIN
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.training.settings import (
    FLOWS,
    LAYERED,
    PRESETS,
    WITH_HEADS,
    WITH_TRUNK,
    check,
    settings_from,
)

ALL = [(trainer, preset) for trainer, presets in PRESETS.items() for preset in presets]


@pytest.mark.parametrize(("trainer", "preset"), ALL)
def test_every_preset_passes_its_own_check(trainer, preset):
    settings = settings_from(trainer, preset)
    assert check(settings) is settings
    assert settings == PRESETS[trainer][preset]


@pytest.mark.parametrize("trainer", PRESETS)
def test_every_field_has_a_line_of_help(trainer):
    for item in fields(PRESETS[trainer]["base"]):
        text = item.metadata["help"]
        assert text.endswith("."), item.name
        assert text[0].isupper() or text[0].islower(), item.name


@pytest.mark.parametrize("size", [256, 512])
def test_the_papers_presets_are_the_papers(size):
    settings = settings_from("autoencoder", f"paper-{size}")
    assert (settings.steps, settings.size) == (250_000, size)
    assert (settings.beta1, settings.beta2) == (0.5, 0.9)
    assert (settings.lpips_weight, settings.adversarial_weight) == (1.0, 0.5)
    assert settings.adversarial_start == 50_000
    weights = (settings.mask_l1_weight, settings.composition_weight, settings.laplacian_weight)
    assert weights == (1.0, 2.0, 3.0)
    assert (settings.mask_weight, settings.kl_weight) == (1.0, 1e-6)
    assert settings.composition == "joint"
    denoiser = settings_from("denoiser", f"paper-{size}")
    assert (denoiser.steps, denoiser.size, denoiser.caption_dropout) == (75_000, size, 0.1)
    assert denoiser.text_encoder == "openai/clip-vit-large-patch14"


def test_overrides_replace_the_presets_values():
    settings = settings_from("denoiser", "tiny", steps=7, seed=3)
    assert (settings.steps, settings.seed, settings.preset) == (7, 3, "tiny")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"seed": -5}, "seed must lie in 0..4294967295, got -5"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1"),
        ({"lpips_share": 1.5}, "lpips_share must lie in 0..1"),
        ({"lpips_crop": 8}, "lpips_crop must be 0 or at least 16"),
        ({"image_weight": -1.0}, "image_weight must be at least 0"),
        ({"timed": True}, "timed needs max_minutes"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number, got inf"),
        ({"kl_weight": -1e-6}, "kl_weight must be at least 0"),
        ({"decay_fraction": 1.5}, "decay_fraction must lie in 0..1"),
        ({"partial": 2.0}, "partial must lie in 0..1"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1"),
        (
            {"mixed_precision": "fp8"},
            "mixed_precision must be auto, no, bf16 or fp16, got 'fp8'",
        ),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, got 'tpu'"),
        ({"composition": "both"}, "composition must be joint or dim, got 'both'"),
        ({"mask_block": True, "warm_start": "sd"}, "Stable Diffusion has no mask_block"),
        ({"colour": 1}, "The autoencoder trainer has no setting 'colour'"),
    ],
)
def test_values_that_cannot_be_used_are_named(overrides, words):
    with pytest.raises(InputError, match=words) as error:
        settings_from("autoencoder", "tiny", **overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"job_text": 0.5}, "sum to 0.8"),
        ({"job_text": 1.2, "job_image": -0.4}, "must lie in 0..1"),
        ({"caption_variants": 0}, "caption_variants must be at least 1"),
        ({"caption_dropout": -0.1}, "caption_dropout must lie in 0..1"),
        ({"cache_samples": -5}, "cache_samples must be at least 0"),
    ],
)
def test_the_denoisers_values_too(overrides, words):
    with pytest.raises(InputError, match=words):
        settings_from("denoiser", "tiny", **overrides)


@pytest.mark.parametrize(
    ("trainer", "preset", "overrides"),
    [
        ("autoencoder", "bench-plain", {"adversarial_weight": 0.5}),
        ("autoencoder", "bench-plain", {"mask_block": True}),
        ("autoencoder", "bench-plain", {"auxiliary_head": False}),
        ("autoencoder", "bench-plain", {"num_foregrounds": 2}),
        ("autoencoder", "base-256", {"init": "a", "adversarial_weight": 0.5}),
        ("autoencoder", "base-256", {"init": "a", "mask_block": True}),
        ("autoencoder", "base-256", {"init": "a", "gradient_checkpointing": True}),
        ("denoiser", "paper-256", {"timestep_mean": 0.5}),
        ("denoiser", "paper-256", {"timestep_std": 2.0}),
        ("denoiser", "paper-256", {"sampling_shift": 2.0}),
    ],
)
def test_what_an_architecture_cannot_use_is_refused(trainer, preset, overrides):
    name = [*overrides][-1]
    with pytest.raises(InputError, match=f"{name} .* cannot be used with preset"):
        settings_from(trainer, preset, **overrides)


@pytest.mark.parametrize("name", sorted(set(AUTOENCODERS) | set(PLAIN)))
def test_which_autoencoder_has_what_is_said_rightly(name):
    kind = PlainAutoencoder if name in PLAIN else CaT2IAutoencoder
    with torch.device("meta"):
        network = kind.from_preset(name)
    assert (name in LAYERED) == (kind is CaT2IAutoencoder)
    assert (name in WITH_HEADS) == hasattr(network, "heads")
    assert (name in WITH_TRUNK) == isinstance(network.decoder, Decoder)


def test_which_denoiser_is_a_flow_is_said_rightly():
    assert set(FLOWS) == {name for name in DENOISERS if is_flow(build_scheduler(name))}


@pytest.mark.parametrize("setting", ["gradient_checkpointing", "warm_start", "canonical"])
def test_the_matting_trainer_has_no_setting_it_cannot_use(setting):
    with pytest.raises(InputError, match=f"The matting trainer has no setting '{setting}'"):
        settings_from("matting", "tiny", **{setting: 1})


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(InputError, match="No denoiser preset is called 'huge'; choose one of tiny"):
        settings_from("denoiser", "huge")
