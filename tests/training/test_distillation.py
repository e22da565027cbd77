"""Few steps: what the student is asked for, that it learns it, and what it leaves behind."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training.runs import metrics
from tests.training.toy_source import DiscSource
from text2layer.errors import InputError
from text2layer.files import verify_checksums
from text2layer.models.adapter import merge_adapter, read_note
from text2layer.models.denoiser import build_denoiser, build_scheduler, flag_tensor, set_steps
from text2layer.models.frozen import Held
from text2layer.pipelines import Text2LayerPipeline
from text2layer.training.denoiser import train_denoiser
from text2layer.training.distillation import DistillationObjective
from text2layer.training.latents import LatentBatch


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build_denoiser("tiny", 4, 16)
    nn.init.normal_(network.proj_out.weight, std=0.3)  # silent otherwise
    network.save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.fixture
def build(denoiser_settings, teacher: Path):
    def make(**overrides: object) -> DistillationObjective:
        settings = denoiser_settings(init=str(teacher), **{"distil_steps": 4, **overrides})
        source = DiscSource()
        return DistillationObjective(settings, source, source, torch.device("cpu"))

    return make


def batch_of(count: int, flags: Tensor | None = None) -> LatentBatch:
    generator = torch.Generator().manual_seed(0)
    return LatentBatch(
        latents=torch.randn(count, 4, 4, 4, generator=generator),
        condition=torch.zeros(count, 4, 4, 4),
        flags=torch.zeros(count, 4) if flags is None else flags,
        text_states=torch.randn(count, 6, 16, generator=generator),
        text_mask=torch.ones(count, 6, dtype=torch.bool),
    )


def test_one_plain_step_of_the_teacher_is_what_the_teacher_itself_does(build):
    objective = build(distil_substeps=1, distil_guidance=1.0)
    level = torch.tensor([0.0, 0.3, 0.6, 0.999])
    own = objective.error(
        objective.teacher.network, batch_of(4), level, torch.Generator().manual_seed(1)
    )
    assert float(own) < 1e-10
    guided = build(distil_substeps=1, distil_guidance=4.0)
    other = guided.error(
        guided.teacher.network, batch_of(4), level, torch.Generator().manual_seed(1)
    )
    assert float(other) > 1e-4


class Straight(nn.Module):
    """A velocity that depends on words alone: their mean, added everywhere."""

    config = SimpleNamespace(in_channels=2 * 4 + 4)

    def forward(self, stacked: Tensor, encoder_hidden_states: Tensor,
                encoder_attention_mask: Tensor, **_: object) -> tuple[Tensor]:  # fmt: skip
        mask = encoder_attention_mask[..., None]
        mean = (encoder_hidden_states * mask).sum((1, 2)) / mask.sum((1, 2))
        return (mean[:, None, None, None].expand_as(stacked[:, :4]),)


def test_the_way_is_guided_but_not_where_a_picture_is_taken_apart(build):
    objective = build(distil_substeps=3, distil_guidance=5.0)
    objective.teacher = Held(Straight())
    flags = flag_tensor([None, "image"], torch.empty(0))
    batch = batch_of(2, flags)
    noisy, start, end = torch.zeros(2, 4, 4, 4), torch.tensor([1.0, 0.8]), torch.tensor([0.7, 0.2])
    arrived = objective.teachers_way(noisy, batch, start, end)
    with_words = batch.text_states.sum((1, 2)) / 6
    states, mask = objective.without_words(batch)
    empty = (states * mask[..., None]).sum((1, 2)) / mask.sum(1)
    velocity = empty + torch.tensor([5.0, 1.0]) * (with_words - empty)
    expected = (-(start - end) * velocity)[:, None, None, None].expand_as(arrived)
    torch.testing.assert_close(arrived, expected, rtol=1e-4, atol=1e-5)


def test_every_window_is_asked_at_its_beginning(build):
    objective = build()
    seen: list[Tensor] = []

    def remember(noisy: Tensor, batch: LatentBatch, start: Tensor, end: Tensor) -> Tensor:
        seen.append(torch.stack([start, end], 1))
        return noisy

    objective.teachers_way = remember
    level = torch.tensor([0.99, 0.6, 0.4, 0.0])
    objective.error(objective.network, batch_of(4), level, torch.Generator().manual_seed(0))
    scheduler = build_scheduler("tiny")
    set_steps(scheduler, 4)
    windows = torch.stack([scheduler.sigmas[:-1], scheduler.sigmas[1:]], 1)
    torch.testing.assert_close(seen[0], windows)


def test_a_student_comes_nearer_to_its_teacher_and_needs_no_guidance(
    denoiser_settings, teacher: Path
):
    settings = denoiser_settings(
        init=str(teacher), distil_steps=4, steps=60, validate_every=30, batch_size=8,
        caption_dropout=0.0, distil_guidance=3.0,
    )  # fmt: skip
    source = DiscSource()
    train_denoiser(settings, source, source)
    losses = [line["loss"] for line in metrics(Path(settings.out)) if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    student = Text2LayerPipeline.from_pretrained(Path(settings.out) / "pipeline")
    assert student.config.default_steps == 4
    assert student.config.default_guidance_scale == 1.0
    adapter = Path(settings.out) / "adapter"
    assert read_note(adapter, teacher).steps == 4
    assert verify_checksums(adapter) == 3
    merged = build_denoiser("tiny", 4, 16)
    merged.load_state_dict(load_file(teacher / SAFETENSORS_WEIGHTS_NAME))
    merge_adapter(merged, adapter)
    for name, weight in student.denoiser.state_dict().items():
        torch.testing.assert_close(weight, merged.state_dict()[name], rtol=2e-3, atol=1e-3)


def test_an_interrupted_student_goes_on_as_if_it_had_not_been(denoiser_settings, teacher: Path):
    source = DiscSource()
    options = {"init": str(teacher), "distil_steps": 4, "validate_every": 0}
    whole = denoiser_settings(**options, steps=4, decay_fraction=0.0)
    half = replace(whole, out=f"{whole.out}-half")
    train_denoiser(whole, source, source)
    train_denoiser(replace(half, steps=2), source, source)
    train_denoiser(half, source, source)
    for name in ("adapter_model.safetensors", "few_steps.json"):
        resumed, expected = (Path(run.out) / "adapter" / name for run in (half, whole))
        assert resumed.read_bytes() == expected.read_bytes()


def test_every_window_is_drawn_alike(build):
    levels = build().draw_levels(4000, torch.Generator().manual_seed(0))
    counts = torch.histc((1 - levels) * 4, bins=4, min=0, max=4)
    assert counts.min() > 900


def test_what_cannot_be_distilled_is_said(denoiser_settings, build):
    with pytest.raises(InputError, match="distil_steps needs a teacher"):
        denoiser_settings(distil_steps=4)
    with pytest.raises(InputError, match="needs a rectified flow"):
        build(preset="tiny-paper")


def test_steps_of_a_flow_end_a_whole_step_before_the_picture():
    scheduler = build_scheduler("tiny", shift=1.0)
    set_steps(scheduler, 4)
    assert scheduler.sigmas.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert scheduler.timesteps.tolist() == [1000.0, 750.0, 500.0, 250.0]
