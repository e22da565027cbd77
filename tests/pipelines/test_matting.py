"""The matting network beside a model: pictures taken apart get its mask, and nothing else does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from text2layer.errors import WeightsError
from text2layer.models.autoencoder import LayerComponents
from text2layer.models.matting import MattingNetwork
from text2layer.pipelines import Text2LayerPipeline
from text2layer.pipelines.attempts import best_attempts
from text2layer.pipelines.loading import weights_hash
from text2layer.pipelines.rough_layers import rough_layers
from text2layer.pretrained.store import file_sha256
from text2layer.tensors import colour_to_tensor
from text2layer.training.export import export_network


@pytest.fixture
def model(toy_model_folder: Path, tmp_path: Path) -> Path:
    """A model with a matting network beside it."""
    folder = shutil.copytree(toy_model_folder, tmp_path / "mine")
    torch.manual_seed(5)
    matting = MattingNetwork.from_preset(
        "tiny", latent_channels=4,
        denoiser_sha256=file_sha256(folder / "denoiser" / SAFETENSORS_WEIGHTS_NAME),
    )  # fmt: skip
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
    given = []
    pipeline.matting.register_forward_hook(lambda _, inputs, mask: given.append((inputs, mask)))
    parts = apart(pipeline, attempts=3)
    (seen, latents), mask = given[0]
    assert seen.shape == (1, 3, 64, 64)
    assert latents.shape == (1, 4, 8, 8)
    assert torch.equal(parts.mask, mask)
    plain = apart(load(model, matting=None), attempts=3)
    assert not torch.equal(parts.mask, plain.mask)


def test_taking_apart_begins_where_mask_and_picture_lead(model: Path):
    """Of a layout of one step more the first is left out: the latents are the rough layers'."""
    pipeline = load(model)
    seen, masks = [], []
    pipeline.matting.register_forward_hook(lambda _, inputs, mask: masks.append(mask))
    pipeline.denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0][:, :4], float(kwargs["timestep"][0]))),
        with_kwargs=True,
    )
    noise = torch.randn(2, 4, 8, 8, generator=seeded())
    apart(pipeline, attempts=2, latents=noise, num_inference_steps=3)
    assert [len(latents) for latents, _ in seen] == [1, 2, 2, 2]
    assert [level for _, level in seen] == [1000, 750, 500, 250]
    assert torch.equal(seen[0][0], noise[:1])
    given = colour_to_tensor(picture())
    autoencoder = pipeline.autoencoder
    known = autoencoder.encode(*rough_layers(given, masks[0]), masks[0]).mode()
    expected = torch.lerp(autoencoder.scale_latents(known), noise, 0.75)
    torch.testing.assert_close(seen[1][0], expected)


def test_the_layers_still_make_the_picture(model: Path):
    made = load(model)("a red ball", image=picture(70, 93), generator=seeded()).layers[0]
    assert np.array_equal(made.composite, picture(70, 93))
    assert made.metadata["matting_hash"] == weights_hash(model.with_name("mine-matting"))
    assert 0 < made.mask.mean() < 255


def test_the_attempt_that_agrees_with_it_is_kept():
    masks = torch.zeros(4, 1, 8, 8)
    masks[0, :, :4] = 1.0  # most agree on this
    masks[1, :, :4] = 1.0
    masks[2, :, 4:] = 1.0
    masks[3, :, :, 2:] = 1.0
    colours = torch.zeros(4, 3, 8, 8)
    parts = LayerComponents(foreground=colours, background=colours, mask=masks)
    matted = torch.zeros(1, 1, 8, 8)
    matted[:, :, 5:] = 1.0
    seen = colours[:1]
    assert best_attempts(parts, seen, 4).tolist() != [2]
    assert best_attempts(parts, seen, 4, matted).tolist() == [2]
    both = torch.cat([matted, masks[3:]])
    assert best_attempts(LayerComponents(**{k: v.repeat(2, 1, 1, 1) for k, v in parts.items()}),
                         seen, 4, both).tolist() == [2, 7]  # fmt: skip


def test_other_jobs_never_ask_it(model: Path):
    pipeline = load(model)
    pipeline.matting.register_forward_hook(lambda *_: pytest.fail("it was asked"))
    made = pipeline("a red ball", generator=seeded()).layers[0]
    assert "matting_hash" not in made.metadata
    pipeline("a red ball", background=picture(), generator=seeded())
    plain = load(model, matting=None)("a red ball", generator=seeded()).layers[0]
    assert made == plain


def test_each_prompt_is_heard_with_and_without_guidance(model: Path):
    """A prompt's mask is its own, and is that of a call without guidance."""
    pipeline = load(model)
    prompts = ["a red ball", "a blue cat on a snowy mountain"]
    generators = [seeded(1), seeded(2)]
    both = apart(pipeline, prompts, generator=generators, attempts=2).mask
    guided = apart(
        pipeline, prompts, generator=[seeded(1), seeded(2)], attempts=2, guidance_scale=4.0
    ).mask
    torch.testing.assert_close(both, guided)
    assert not torch.equal(both[0], both[1])
    alone = apart(pipeline, prompts[1], generator=seeded(2), attempts=2).mask
    torch.testing.assert_close(alone[0], both[1], rtol=1e-4, atol=1e-5)


def test_it_can_lie_in_the_model_folder_too(model: Path, tmp_path: Path):
    load(model).save_pretrained(tmp_path / "whole")
    inside = load(tmp_path / "whole")
    assert inside.matting_hash == weights_hash(tmp_path / "whole" / "matting")
    torch.testing.assert_close(apart(inside).mask, apart(load(model)).mask)


def test_that_of_another_denoiser_is_refused(model: Path):
    denoiser = model / "denoiser" / SAFETENSORS_WEIGHTS_NAME
    torch.manual_seed(9)
    network = load(model, matting=None).denoiser
    torch.nn.init.normal_(network.proj_out.weight)
    network.save_pretrained(model / "denoiser")
    assert denoiser.is_file()
    with pytest.raises(WeightsError, match=r"another denoiser.*train it anew"):
        load(model)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_one_is_one_sentence(model: Path, damage: str):
    file = model.with_name("mine-matting") / SAFETENSORS_WEIGHTS_NAME
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        shutil.copy(model / "denoiser" / SAFETENSORS_WEIGHTS_NAME, file)
    with pytest.raises(WeightsError, match="mine-matting"):
        load(model)
