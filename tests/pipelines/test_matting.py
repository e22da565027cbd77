"""The matting network beside a model: pictures taken apart get its mask, and nothing else does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from text2layer.errors import WeightsError
from text2layer.models.matting import MattingNetwork
from text2layer.parts import Parts
from text2layer.pipelines import Text2LayerPipeline
from text2layer.pipelines.assemble import MATTED_ATTEMPTS, best_attempts, rough_layers
from text2layer.pipelines.loading import tensors_hash
from text2layer.tensors import colour_to_tensor
from text2layer.training.outputs import export_network


@pytest.fixture
def model(toy_model_folder: Path, tmp_path: Path) -> Path:
    """A model with a matting network beside it."""
    folder = shutil.copytree(toy_model_folder, tmp_path / "mine")
    torch.manual_seed(5)
    matting = MattingNetwork.from_preset("tiny")
    for parameter in matting.parameters():
        if parameter.ndim > 1:
            torch.nn.init.xavier_uniform_(parameter, gain=1.5)
    export_network(matting, tmp_path / "mine-matting")
    return folder


def load(folder: Path, **options: object) -> Text2LayerPipeline:
    pipeline = Text2LayerPipeline.from_pretrained(folder, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(width: int = 64, height: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def apart(pipeline: Text2LayerPipeline, prompt: object = "a red ball", **options: object):
    options = {"image": picture(), "generator": seeded(), "output_type": "pt", **options}
    return pipeline(prompt, **options).layers


def test_a_picture_taken_apart_gets_its_mask(model: Path):
    pipeline = load(model)
    parts = apart(pipeline, ["a red ball", "a cat"], generator=[seeded(), seeded()], attempts=3)
    with torch.no_grad():
        mask = pipeline.matting(colour_to_tensor(picture()))
    torch.testing.assert_close(parts.mask, mask.expand(2, -1, -1, -1))
    plain = apart(load(model, matting=None), attempts=3)
    assert not torch.allclose(parts.mask[:1], plain.mask)


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 2), (3.0, 4)])
def test_taking_apart_begins_where_mask_and_picture_lead(model: Path, guidance: float, calls: int):
    """Of a layout of one step more the first is left out: the latents are the rough layers'."""
    pipeline = load(model)
    seen = []
    pipeline.denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0][:, :4], float(kwargs["timestep"][0]))),
        with_kwargs=True,
    )
    noise = torch.randn(2, 4, 8, 8, generator=seeded())
    apart(pipeline, attempts=2, latents=noise, num_inference_steps=3, guidance_scale=guidance)
    assert [len(latents) for latents, _ in seen] == [calls] * 3
    assert [level for _, level in seen] == [750, 500, 250]
    given = colour_to_tensor(picture())
    autoencoder = pipeline.autoencoder
    with torch.no_grad():
        mask = pipeline.matting(given)
        known = autoencoder.encode(*rough_layers(given, mask), mask).mode()
    expected = torch.lerp(autoencoder.scale_latents(known), noise, 0.75)
    torch.testing.assert_close(seen[0][0][:2], expected)


def test_the_layers_still_make_the_picture(model: Path):
    made = load(model)("a red ball", image=picture(70, 93), generator=seeded()).layers[0]
    assert np.array_equal(made.composite, picture(70, 93))
    assert made.metadata["attempts"] == MATTED_ATTEMPTS
    assert made.metadata["matting_hash"] == tensors_hash(model.with_name("mine-matting"))
    assert 0 < made.mask.mean() < 255


def test_the_attempt_that_agrees_with_it_is_kept():
    masks = torch.zeros(4, 1, 8, 8)
    masks[0, :, :4] = 1.0  # most agree on this
    masks[1, :, :4] = 1.0
    masks[2, :, 4:] = 1.0
    masks[3, :, :, 2:] = 1.0
    colours = torch.zeros(4, 3, 8, 8)
    parts = Parts(foreground=colours, background=colours, mask=masks)
    matted = torch.zeros(1, 1, 8, 8)
    matted[:, :, 5:] = 1.0
    seen = colours[:1]
    assert best_attempts(parts, seen, 4).tolist() != [2]
    assert best_attempts(parts, seen, 4, matted).tolist() == [2]
    both = torch.cat([matted, masks[3:]])
    assert best_attempts(parts.each(lambda tensor: tensor.repeat(2, 1, 1, 1)),
                         seen, 4, both).tolist() == [2, 7]  # fmt: skip


def test_other_jobs_never_ask_it(model: Path):
    pipeline = load(model)
    pipeline.matting.register_forward_hook(lambda *_: pytest.fail("it was asked"))
    made = pipeline("a red ball", generator=seeded()).layers[0]
    assert "matting_hash" not in made.metadata
    pipeline("a red ball", background=picture(), generator=seeded())
    plain = load(model, matting=None)("a red ball", generator=seeded()).layers[0]
    assert made == plain


def test_each_prompt_is_heard(model: Path):
    """One mask, but what was hidden is drawn for each prompt by itself."""
    pipeline = load(model)
    prompts = ["a red ball", "a blue cat on a snowy mountain"]
    both = apart(pipeline, prompts, generator=[seeded(1), seeded(2)], attempts=2)
    alone = apart(pipeline, prompts[1], generator=seeded(2), attempts=2)
    torch.testing.assert_close(alone.background[0], both.background[1], rtol=1e-4, atol=1e-5)
    other = apart(pipeline, prompts[0], generator=seeded(2), attempts=2)
    assert not torch.allclose(other.background, alone.background, atol=1e-3)


def test_it_can_lie_in_the_model_folder_too(model: Path, tmp_path: Path):
    load(model).save_pretrained(tmp_path / "whole")
    inside = load(tmp_path / "whole")
    assert inside.matting_hash == tensors_hash(tmp_path / "whole" / "matting")
    torch.testing.assert_close(apart(inside).mask, apart(load(model)).mask)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_one_is_one_sentence(model: Path, damage: str):
    file = model.with_name("mine-matting") / SAFETENSORS_WEIGHTS_NAME
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        shutil.copy(model / "denoiser" / SAFETENSORS_WEIGHTS_NAME, file)
    with pytest.raises(WeightsError, match="mine-matting"):
        load(model)
