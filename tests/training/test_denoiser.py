"""Training of the denoiser: targets, learning, resuming, the exported pipeline."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.toy_model import build_autoencoder
from tests.training.runs import assert_same_checkpoint, metrics
from tests.training.toy_source import DiscSource, TwoDiscs, stop_at
from text2layer.errors import InputError, WeightsError
from text2layer.pipelines import Text2LayerPipeline
from text2layer.training.denoiser import DenoiserObjective, train_denoiser
from text2layer.training.latents import LatentBatch


def build(settings, source=None) -> DenoiserObjective:
    source = source or DiscSource()
    return DenoiserObjective(settings, source, source, torch.device("cpu"))


def random_batch(count: int) -> LatentBatch:
    generator = torch.Generator().manual_seed(0)
    return LatentBatch(
        latents=torch.randn(count, 4, 4, 4, generator=generator),
        condition=torch.zeros(count, 4, 4, 4),
        flags=torch.zeros(count, 4),
        text_states=torch.randn(count, 3, 16, generator=generator),
        text_mask=torch.ones(count, 3, dtype=torch.bool),
    )


class Oracle(nn.Module):
    """Knows the clean latents, and so what any noisy one should be answered with."""

    config = SimpleNamespace(in_channels=2 * 4 + 4)

    def __init__(self, clean: Tensor, answer) -> None:
        super().__init__()
        self.clean, self.answer = clean, answer

    def forward(self, stacked: Tensor, timestep: Tensor, **_: object) -> tuple[Tensor]:
        self.noisy, self.timestep = stacked[:, :4], timestep
        return (self.answer(self.noisy, self.clean, timestep),)


def test_flow_interpolates_from_picture_to_noise_and_asks_for_the_velocity(denoiser_settings):
    objective, batch = build(denoiser_settings()), random_batch(3)
    level = torch.tensor([0.0, 0.25, 1.0])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(7))
    oracle = Oracle(batch.latents, lambda noisy, clean, t: noise - clean)
    error = objective.error(oracle, batch, level, torch.Generator().manual_seed(7))
    assert float(error) == 0.0
    assert oracle.timestep.tolist() == [0.0, 250.0, 1000.0]
    assert torch.equal(oracle.noisy[0], batch.latents[0])  # t = 0: the picture
    torch.testing.assert_close(oracle.noisy[1], 0.75 * batch.latents[1] + 0.25 * noise[1])
    assert torch.equal(oracle.noisy[2], noise[2])  # t = 1: noise alone
    silent = Oracle(batch.latents, lambda noisy, clean, t: torch.zeros_like(noisy))
    error = objective.error(silent, batch, level, torch.Generator().manual_seed(7))
    assert float(error) == pytest.approx(float((noise - batch.latents).square().mean()))


def test_epsilon_follows_stable_diffusions_schedule_and_asks_for_the_noise(denoiser_settings):
    objective, batch = build(denoiser_settings(preset="tiny-paper")), random_batch(3)
    level = torch.tensor([0.0, 0.5, 0.9999])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(7))
    oracle = Oracle(batch.latents, lambda noisy, clean, t: noise)
    assert float(objective.error(oracle, batch, level, torch.Generator().manual_seed(7))) == 0.0
    assert oracle.timestep.tolist() == [0, 500, 999]
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = torch.tensor(np.cumprod(1 - betas)[[0, 500, 999]], dtype=torch.float32)
    expected = kept.sqrt()[:, None, None, None] * batch.latents
    expected = expected + (1 - kept).sqrt()[:, None, None, None] * noise
    torch.testing.assert_close(oracle.noisy, expected, atol=1e-4, rtol=1e-4)


def test_noise_levels_are_logit_normal(denoiser_settings):
    objective = build(denoiser_settings(batch_size=2000, timestep_mean=-1.0, timestep_std=0.5))
    drawn = objective.draw(torch.Generator().manual_seed(0))
    normal = torch.logit(drawn.tensors["level"])
    assert float(normal.mean()) == pytest.approx(-1.0, abs=0.05)
    assert float(normal.std()) == pytest.approx(0.5, abs=0.05)


def test_noise_is_not_made_of_the_numbers_that_drew_the_samples(denoiser_settings):
    objective = build(denoiser_settings(batch_size=4))
    noise = objective.draw(torch.Generator().manual_seed(3)).tensors["noise"]
    start = torch.randn(noise.numel(), generator=torch.Generator().manual_seed(3))
    assert not set(noise.flatten().tolist()) & set(start.tolist())


@pytest.mark.parametrize("preset", ["tiny", "tiny-paper"])
def test_a_short_run_learns(preset, denoiser_settings, source):
    settings = denoiser_settings(
        preset=preset, steps=60, batch_size=16, cache_samples=64, validate_every=30,
        learning_rate=3e-3 if preset == "tiny" else 1e-3,
    )  # fmt: skip
    result = train_denoiser(settings, source, DiscSource(name="others"))
    assert (result.step, result.interrupted) == (60, False)
    lines = [line for line in metrics(Path(settings.out)) if "loss" in line]
    assert set(lines[0]) == {"step", "loss", "grad_norm", "learning_rate"}
    assert lines[-1]["loss"] < 0.85 * lines[0]["loss"]
    held_out = [line["val_loss"] for line in metrics(Path(settings.out)) if "val_loss" in line]
    assert len(held_out) == 2
    assert held_out[1] < held_out[0]


@pytest.mark.parametrize("cached", [0, 24], ids=["on the fly", "cached"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(cached, denoiser_settings, tmp_path):
    settings = denoiser_settings(steps=12, batch_size=4, cache_samples=cached)
    whole = train_denoiser(settings, DiscSource(), DiscSource())

    again = replace(settings, out=str(tmp_path / "again"))
    if cached:
        first = train_denoiser(replace(again, max_minutes=1e-9), DiscSource(), DiscSource())
        assert (first.step, first.interrupted) == (1, True)
    else:
        stopping = DiscSource(on_compose=stop_at(5))  # the first call fits the text layer
        first = train_denoiser(again, stopping, DiscSource())
        assert (first.step, first.interrupted) == (5, True)
    resumed = train_denoiser(again, DiscSource(), DiscSource())
    assert (resumed.step, resumed.interrupted) == (12, False)

    assert metrics(tmp_path / "again") == metrics(Path(settings.out))
    assert_same_checkpoint(resumed.checkpoint, whole.checkpoint)


def test_a_run_ends_with_a_pipeline_of_the_averaged_weights(denoiser_settings, source):
    settings = denoiser_settings(steps=3, size=64, preview_every=3, ema_decay=0.5)
    result = train_denoiser(settings, DiscSource(64), DiscSource(64))
    assert (Path(settings.out) / "previews" / "step-00000003.png").is_file()
    folder = Path(settings.out) / "pipeline"
    assert not (folder / "text_encoder").exists()
    pipeline = Text2LayerPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    averaged = type(pipeline.denoiser).from_pretrained(result.checkpoint / "ema")
    for name, value in averaged.state_dict().items():
        stored = pipeline.denoiser.state_dict()[name]
        torch.testing.assert_close(stored, value.half().float(), msg=name)
    generator = torch.Generator().manual_seed(1)
    assert pipeline("a red ball", generator=generator).layers[0].size == (64, 64)


def test_the_autoencoder_decides_how_many_foregrounds_there_are(denoiser_settings, tmp_path):
    build_autoencoder(num_foregrounds=2).save_pretrained(tmp_path / "two")
    settings = denoiser_settings(
        autoencoder=str(tmp_path / "two"), steps=2, size=64, preview_every=2, cache_samples=8
    )
    train_denoiser(settings, TwoDiscs(64), TwoDiscs(64))
    assert (Path(settings.out) / "previews" / "step-00000002.png").is_file()
    pipeline = Text2LayerPipeline.from_pretrained(Path(settings.out) / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    (layered,) = pipeline("a red ball and a blue ball", num_inference_steps=2).layers
    assert [layer.name for layer in layered.foregrounds] == ["Foreground 1", "Foreground 2"]
    with pytest.raises(InputError, match=r"takes 11 channels .* got 7"):
        build(settings)  # on samples of one disc


def test_an_autoencoder_is_needed(denoiser_settings, source, tmp_path):
    with pytest.raises(InputError, match="name its folder"):
        train_denoiser(denoiser_settings(autoencoder=""), source, source)
    with pytest.raises(WeightsError, match="There is no autoencoder in"):
        train_denoiser(denoiser_settings(autoencoder=str(tmp_path / "none")), source, source)
