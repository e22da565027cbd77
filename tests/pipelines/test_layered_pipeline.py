"""RGBA layers of a diffusers pipeline become a layered picture of the photo's size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import toy_diffusers
from tests.toy_photo import two_boxes
from text2layer.errors import InputError
from text2layer.pipelines import LayeredPipeline
from text2layer.pipelines.layered_pipeline import stacked


def box(colour: tuple[int, int, int], rows: slice, columns: slice, size: int = 32) -> np.ndarray:
    """(size, size, 4): opaque in a box, of one colour everywhere."""
    layer = np.zeros((size, size, 4), np.uint8)
    layer[..., :3] = colour
    layer[rows, columns, 3] = 255
    return layer


EVERYWHERE = slice(None)
LEFT, TOP = slice(0, 16), slice(0, 16)
GREEN, RED, BLUE = (0, 200, 0), (200, 0, 0), (0, 0, 200)


def a_photo(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


def test_the_lowest_layer_is_the_background() -> None:
    photo = a_photo()
    stack = [box(GREEN, EVERYWHERE, EVERYWHERE), box(RED, EVERYWHERE, LEFT), box(BLUE, TOP, LEFT)]
    made = stacked(stack, photo, {"seed": 1})
    assert made.size == (64, 64)
    assert [layer.name for layer in made.foregrounds] == ["Layer 1", "Layer 2"]
    assert made.metadata == {"seed": 1}
    hidden = made.background[4:60, 2:28]  # behind the red layer, away from its edge
    assert (hidden == GREEN).all()
    assert (made.foregrounds[0].colour[2:28, 2:28] == RED).all()  # behind the blue one


def test_what_is_seen_of_a_layer_is_the_photo_itself() -> None:
    photo = a_photo()
    stack = [box(GREEN, EVERYWHERE, EVERYWHERE), box(RED, EVERYWHERE, LEFT), box(BLUE, TOP, LEFT)]
    made = stacked(stack, photo, {})
    away = np.ones((64, 64), bool)  # from edges, which are soft after resizing
    away[:, 28:36] = away[28:36] = False
    assert np.array_equal(made.composite[away], photo[away])


def test_a_sparse_lowest_layer_stays_a_layer_on_white() -> None:
    made = stacked([box(GREEN, TOP, LEFT), box(RED, EVERYWHERE, LEFT)], a_photo(32), {})
    assert [layer.name for layer in made.foregrounds] == ["Layer 1", "Layer 2"]
    assert (made.background == 255).all()


def test_a_hole_in_the_background_is_continued() -> None:
    lowest = box(GREEN, EVERYWHERE, EVERYWHERE)
    lowest[10:20, 10:20] = (255, 255, 255, 0)
    photo = np.full((32, 32, 3), 90, np.uint8)
    made = stacked([lowest, box(RED, slice(8, 22), slice(8, 22))], photo, {})
    assert np.abs(made.background[12:18, 12:18].astype(int) - 90).max() < 120
    assert (made.background[:6] == 90).all()
    assert not (made.background[12:18, 12:18] == 255).all()


def test_a_tiny_pipeline_takes_a_photo_apart(toy_layered_pipeline: Path) -> None:
    pipe = LayeredPipeline.from_pretrained(str(toy_layered_pipeline))
    steps = []

    def seen(pipeline, step, timestep, tensors):
        steps.append(step)
        return {}

    photo = two_boxes(96, 72)
    generator = torch.Generator().manual_seed(4)
    made = pipe(
        photo, "two boxes", layers=3, num_inference_steps=2, generator=generator,
        callback_on_step_end=seen,
    )  # fmt: skip
    assert made.size == (96, 72)
    assert len(made.foregrounds) in (2, 3)
    assert steps == [0, 1]
    said = made.metadata
    assert (said["seed"], said["steps"], said["guidance_scale"]) == (4, 2, 4.0)
    assert said["pipeline"] == "QwenImageLayeredPipeline"
    assert len(said["model_hash"]) == 16


def test_what_is_no_layered_pipeline_is_refused(toy_layered_pipeline: Path) -> None:
    with pytest.raises(InputError, match="StableDiffusionPipeline makes no layers of a picture"):
        LayeredPipeline(toy_diffusers.stable_diffusion())
    pipe = LayeredPipeline.from_pretrained(str(toy_layered_pipeline))
    with pytest.raises(InputError, match="2 to 16 layers, 40 were asked for"):
        pipe(two_boxes(), "two boxes", layers=40)
