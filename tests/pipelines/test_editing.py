"""Layers added, placed and made anew by a model; whatever else is there stays to the bit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.toy_model import build_pipeline
from text2layer import Layer, LayeredImage
from text2layer.canonical import canonical_box
from text2layer.errors import InputError
from text2layer.pipelines.editing import draw_layer, free_name
from text2layer.pipelines.placement import box_at

PROMPT = "a red apple in front of a snowy mountain"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def layered(pipeline) -> LayeredImage:
    return pipeline(PROMPT, generator=seeded()).layers[0]


@pytest.fixture
def stack() -> LayeredImage:
    """Three layers on a wide canvas, the second hidden, the third half-transparent."""
    layers = [
        Layer(noise(30, 40, 3, seed=i), noise(30, 40, seed=9 + i), name, (40 * i, 20 * i),
              metadata={"prompt": f"a {name.lower()}", "seed": i})
        for i, name in enumerate(["Cat", "Dog", "Ball"])
    ]  # fmt: skip
    layers[1] = layers[1].replace(visible=False)
    layers[2] = layers[2].replace(opacity=0.5)
    return LayeredImage(noise(100, 150, 3), tuple(layers), metadata={"prompt": "a meadow"})


# Adding


def test_layers_are_added_one_at_a_time(pipeline, layered):
    once = pipeline.add_layer(layered, "a blue ball", generator=seeded(1))
    twice = pipeline.add_layer(once, "a blue ball", generator=seeded(2))
    assert twice.foregrounds[:2] == once.foregrounds
    assert once.foregrounds[:1] == layered.foregrounds
    assert np.array_equal(twice.background, layered.background)
    assert [layer.name for layer in twice.foregrounds] == [
        "Foreground", "a blue ball 1", "a blue ball 2",
    ]  # fmt: skip
    assert twice.metadata == layered.metadata
    assert [layer.metadata["seed"] for layer in twice.foregrounds[1:]] == [1, 2]
    assert pipeline.add_layer(layered, "a blue ball", generator=seeded(1)) == once
    made = pipeline("a blue ball", background=layered.composite, generator=seeded(1)).layers[0]
    assert np.array_equal(once.foregrounds[1].colour, made.foreground)
    assert np.array_equal(once.foregrounds[1].alpha, made.mask)


def test_a_layer_has_the_size_of_the_canvas(pipeline):
    made = pipeline.add_layer(LayeredImage(noise(150, 300, 3)), "a blue ball", generator=seeded())
    assert made.foregrounds[0].size == made.size == (300, 150)


@pytest.mark.parametrize("at", ["left", "bottom-right", "20,30,60,50", (-10, 5, 40, 40)])
def test_a_layer_fills_the_box_that_was_asked_for(pipeline, stack, at):
    made = pipeline.add_layer(stack, "a blue ball", at=at, generator=seeded(3))
    x, y, width, height = box_at(at, stack.size)
    left, top, wide, high = made.foregrounds[-1].box
    assert x <= left
    assert left + wide <= x + width
    assert y <= top
    assert top + high == y + height  # it stands on the box's bottom
    assert wide == width or high == height or max(wide / width, high / height) > 0.9
    assert made.foregrounds[:-1] == stack.foregrounds
    assert np.array_equal(made.background, stack.background)


def test_the_model_sees_the_surroundings_of_the_box_alone(pipeline, stack):
    one = pipeline.add_layer(stack, "a blue ball", at="0,0,40,40", generator=seeded(3))
    far = stack.replace(background=stack.background.copy())
    far.background[60:] = 0  # beyond the window of 53 pixels
    other = pipeline.add_layer(far, "a blue ball", at="0,0,40,40", generator=seeded(3))
    assert other.foregrounds[-1] == one.foregrounds[-1]
    far.background[:50] = 0
    near = pipeline.add_layer(far, "a blue ball", at="0,0,40,40", generator=seeded(3))
    assert near.foregrounds[-1] != one.foregrounds[-1]


class DrawsCanonically:
    """A model that draws an opaque block in the canonical place of what it is shown."""

    def __init__(self, width: float, height: float) -> None:
        self.shape = width, height  # relative to the canonical box

    def __call__(self, prompt: str, background: np.ndarray, **_: object) -> SimpleNamespace:
        size = background.shape[1], background.shape[0]
        x, y, side, _ = canonical_box(size)
        wide, high = (round(share * side) for share in self.shape)
        alpha = np.zeros((size[1], size[0]), np.uint8)
        left = x + (side - wide) // 2
        alpha[y + side - high : y + side, left : left + wide] = 255
        layer = Layer(background, alpha)
        self.drawn = wide, high
        return SimpleNamespace(layers=[LayeredImage(background, (layer,))])


@pytest.mark.parametrize("shape", [(1, 1), (1, 0.5), (0.4, 1)])
@pytest.mark.parametrize("at", ["left", "bottom-right", "100,120,60,60", "130,100,40,90"])
def test_what_a_model_draws_in_its_usual_place_lands_in_the_box(shape, at):
    model = DrawsCanonically(*shape)
    canvas = LayeredImage(noise(300, 400, 3))
    layer = draw_layer(model, canvas, "a ball", at, {})
    left, top, wide, high = box_at(at, canvas.size)
    x, y, width, height = layer.box
    assert left <= x <= x + width <= left + wide
    assert top <= y <= y + height == top + high
    assert (width == wide) or (height == high)
    assert abs(x + width / 2 - (left + wide / 2)) <= 1
    # it need not grow: the model drew it as large as the box, or larger than fits
    assert max(width, height) <= max(model.drawn) + 1


def test_a_hundred_layers_take_one_more(pipeline):
    layer = Layer(noise(4, 4, 3), noise(4, 4))
    many = LayeredImage(noise(64, 64, 3), tuple(layer.moved(i % 60, i % 50) for i in range(100)))
    made = pipeline.add_layer(many, "a blue ball", generator=seeded())
    assert len(made.foregrounds) == 101
    assert made.foregrounds[:100] == many.foregrounds


def test_names_are_fit_for_files_and_free(pipeline, stack):
    made = pipeline.add_layer(LayeredImage(noise(64, 64, 3)), "a red\n\tball ", generator=seeded())
    assert made.foregrounds[0].name == "a redball 1"
    named = stack.replace_layer(0, stack.foregrounds[0].replace(name="a dog 1"))
    assert free_name(named, "a dog") == "a dog 2"
    assert free_name(named.replace(background_name="a dog 2"), "a dog") == "a dog 3"


@pytest.mark.parametrize("options", [{"prompt": ["a", "b"]}, {"num_images_per_prompt": 2}])
def test_one_layer_is_drawn_for_one_prompt(pipeline, options):
    with pytest.raises(InputError, match="One layer is drawn for one prompt"):
        pipeline.add_layer(LayeredImage(noise(64, 64, 3)), **{"prompt": "a ball", **options})


def test_a_model_of_several_foregrounds_draws_no_single_layer(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder, num_foregrounds=2)
    with pytest.raises(InputError, match="draws 2 foregrounds at once"):
        pipeline.add_layer(LayeredImage(noise(64, 64, 3)), "a ball", generator=seeded())


# Making anew


@pytest.mark.parametrize("layer", ["Ball", "#3", 2, -1])
def test_a_layer_is_made_anew_in_its_place(pipeline, stack, layer):
    made = pipeline.replace_layer(stack, layer, "a yellow apple", generator=seeded(4))
    old, new = stack.foregrounds[2], made.foregrounds[2]
    assert made.foregrounds[:2] == stack.foregrounds[:2]
    assert np.array_equal(made.background, stack.background)
    assert new.name == "a yellow apple 1"
    assert (new.opacity, new.visible) == (old.opacity, old.visible)
    assert new.metadata["prompt"] == "a yellow apple"
    (x, y, width, height), (left, top, wide, high) = old.box, new.box
    assert x <= left
    assert left + wide <= x + width
    assert y <= top
    assert top + high == y + height


def test_without_a_prompt_it_is_another_version_of_the_same(pipeline, stack):
    made = pipeline.replace_layer(stack, "Cat", generator=seeded(4))
    assert made.foregrounds[0].name == "Cat"
    assert made.foregrounds[0].metadata["prompt"] == "a cat"
    assert made.foregrounds[0].metadata["seed"] == 4
    assert made.foregrounds[1:] == stack.foregrounds[1:]
    again = pipeline.replace_layer(made, "Cat", generator=seeded(5))
    assert again.foregrounds[0] != made.foregrounds[0]


def test_the_only_layer_of_a_generated_picture_has_the_pictures_prompt(pipeline, layered):
    made = pipeline.replace_layer(layered, "Foreground", generator=seeded(9))
    assert made.foregrounds[0].metadata["prompt"] == PROMPT
    assert np.array_equal(made.background, layered.background)


def test_what_lies_above_does_not_shine_through(pipeline, stack):
    """The new layer sees what is below it: the layers above may be anything."""
    one = pipeline.replace_layer(stack, "Cat", generator=seeded(4)).foregrounds[0]
    other = stack.replace_layer(2, stack.foregrounds[2].replace(offset=(0, 0), opacity=1.0))
    assert pipeline.replace_layer(other, "Cat", generator=seeded(4)).foregrounds[0] == one


def test_the_background_is_made_anew_behind_the_visible_layers(pipeline, stack):
    made = pipeline.replace_layer(stack, "Background", "a snowy mountain", generator=seeded(4))
    assert made.foregrounds == stack.foregrounds
    assert not np.array_equal(made.background, stack.background)
    assert made.metadata["prompt"] == "a meadow"
    assert made.metadata["background"]["prompt"] == "a snowy mountain"
    again = pipeline.replace_layer(made, "Background", generator=seeded(4))
    assert np.array_equal(again.background, made.background)
    shown = stack.replace_layer(1, stack.foregrounds[1].replace(visible=True))
    other = pipeline.replace_layer(shown, "Background", "a snowy mountain", generator=seeded(4))
    assert not np.array_equal(other.background, made.background)


@pytest.mark.parametrize(
    ("change", "layer", "options", "words"),
    [
        ({}, "Bird", {}, "no foreground layer 'Bird': there are 'Cat', 'Dog', 'Ball', or #1 to #3"),
        ({}, "#4", {}, "no foreground layer '#4'"),
        ({}, "#0", {}, "no foreground layer '#0'"),
        ({}, 3, {}, "no foreground 3: this picture has 3"),
        ({"foregrounds": ()}, "Cat", {}, "it has none"),
        ({}, "Background", {"at": "left"}, "no place can be asked for it"),
        ({"metadata": {}}, "Background", {}, "does not say from which prompt"),
        ({}, "Cat", {"at": "nowhere"}, "is no place"),
    ],
)
def test_layers_that_cannot_be_made_anew(pipeline, stack, change, layer, options, words):
    with pytest.raises(InputError, match=words):
        pipeline.replace_layer(stack.replace(**change), layer, generator=seeded(), **options)


def test_a_layer_without_a_prompt_and_names_that_are_not_clear(pipeline, stack):
    plain = stack.replace_layer(0, stack.foregrounds[0].replace(metadata={}))
    with pytest.raises(InputError, match="'Cat' does not say from which prompt"):
        pipeline.replace_layer(plain, "Cat", generator=seeded())
    twins = stack.replace_layer(1, stack.foregrounds[1].replace(name="Cat"))
    with pytest.raises(InputError, match="2 layers are called 'Cat'; name one of #1, #2"):
        pipeline.replace_layer(twins, "Cat", generator=seeded())
