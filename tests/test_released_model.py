"""The model that ships with the package: whole, small enough, and the same picture twice."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from text2layer.errors import WeightsError
from text2layer.files import CHECKSUMS, verify_checksums
from text2layer.pipelines import Text2LayerPipeline, loading, released_model
from text2layer.pretrained import resolve

LIMIT = 60_000_000  # bytes of weights that a released model may have


@pytest.fixture(scope="module")
def released():
    pipe = Text2LayerPipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_its_weights_are_safetensors_below_the_limit():
    files = [file for file in released_model().rglob("*") if file.is_file()]
    weights = [file for file in files if file.suffix == ".safetensors"]
    assert {file.parent.name for file in weights} == {"autoencoder", "denoiser"}
    assert sum(file.stat().st_size for file in weights) <= LIMIT
    assert {file.suffix for file in files if file.name != CHECKSUMS} <= {
        ".safetensors",
        ".json",
        ".md",
    }


def test_it_carries_the_attributions_that_its_training_data_ask_for():
    text = (released_model() / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for word in ("CC-BY-3.0", "Scopia", "Blend Swap", "MIT", "Apache-2.0"):
        assert word in text


def test_its_hash_is_that_of_its_weights(released):
    digest = hashlib.sha256()
    for name in ("autoencoder", "denoiser"):
        (file,) = (released_model() / name).glob("*.safetensors")
        for key, tensor in sorted(load_file(file).items()):
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.float().numpy().tobytes())
    assert released.model_hash == digest.hexdigest()[:16] == loading.model_hash(released_model())


def test_the_same_seed_gives_the_same_layers(released):
    def draw(seed: int):
        generator = torch.Generator().manual_seed(seed)
        return released("a red apple", generator=generator, num_inference_steps=4).layers[0]

    one, same, other = draw(3), draw(3), draw(4)
    assert one == same
    assert not np.array_equal(one.composite, other.composite)
    assert one.size == (released.config.default_size,) * 2
    assert one.metadata["model_hash"] == released.model_hash


def test_foregrounds_and_prompts_matter(released):
    """Trained weights: the mask is neither empty nor full, and another prompt another picture."""

    def draw(prompt: str):
        generator = torch.Generator().manual_seed(0)
        return released(prompt, generator=generator, num_inference_steps=8).layers[0]

    cat, sea = draw("a 3d icon of a yellow cat in a forest"), draw("a red car in front of the sea")
    for picture in (cat, sea):
        assert 0.01 < (picture.mask > 127).mean() < 0.9
    difference = np.abs(cat.composite.astype(int) - sea.composite.astype(int)).mean()
    assert difference > 5


def test_its_adapter_for_few_steps_belongs_to_it():
    folder = released_model().with_name("base-fast")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LIMIT
    assert verify_checksums(folder) == 3
    pipe = Text2LayerPipeline.from_pretrained(fast=True)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red car", generator=torch.Generator().manual_seed(0)).layers[0]
    assert (picture.metadata["model"], picture.metadata["steps"]) == ("base-fast", 6)
    assert picture.metadata["guidance_scale"] == 1.0
    assert 0.01 < (picture.mask > 127).mean() < 0.9


def test_its_matting_network_belongs_to_it_and_finds_what_was_pasted():
    """A disc of stripes on a soft sky; nothing of the kind is in the training data."""
    folder = released_model().with_name("base-matting")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LIMIT
    assert verify_checksums(folder) == 2
    try:
        resolve("efficientnet-lite0", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    rows, columns = np.mgrid[0:256, 0:256]
    sky = np.stack([90 + rows // 4, 130 + rows // 4, 220 - columns // 16], -1).astype(np.uint8)
    inside = (rows - 140) ** 2 + (columns - 110) ** 2 < 60**2
    stripes = np.where((columns // 12 % 2)[..., None], (200, 40, 30), (250, 230, 60))
    picture = np.where(inside[..., None], stripes, sky).astype(np.uint8)
    pipe = Text2LayerPipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    made = pipe("", image=picture, generator=generator, attempts=2).layers[0]
    assert np.array_equal(made.composite, picture)
    found = made.mask > 127
    assert (found & inside).sum() / (found | inside).sum() > 0.9
    hidden = made.background[inside].astype(int) - sky[inside]
    assert np.abs(hidden).mean() < 40  # sky again, no stripes: those are 90 levels off
    assert np.abs(stripes[inside].astype(int) - sky[inside]).mean() > 80
