"""Pictures drawn with a place or a scale: the same object, elsewhere."""

import numpy as np
import pytest
import torch

from tests.toy_model import build_pipeline
from text2layer import LayeredImage, load, save
from text2layer.blend import blend
from text2layer.errors import InputError
from text2layer.pipelines.placement import box_at, place

PROMPT = "a red apple in front of a snowy mountain"


def make(pipeline, seed: int = 0, **options) -> LayeredImage:
    return pipeline(PROMPT, generator=torch.Generator().manual_seed(seed), **options).layers[0]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("at", "scale"), [("left", None), ("top-right", 0.5), (None, 0.3), ((3, 9, 30, 40), None)]
)
def test_the_drawn_object_is_moved_and_nothing_else_changes(pipeline, at, scale):
    plain, made = make(pipeline), make(pipeline, at=at, scale=scale)
    assert made.foregrounds == (place(plain.foregrounds[0], at, scale, (64, 64)),)
    assert made.foregrounds != plain.foregrounds
    assert np.array_equal(made.background, plain.background)
    assert np.array_equal(made.composite, blend(plain.background, made.foregrounds))
    asked = {"at": list(at) if isinstance(at, tuple) else at, "scale": scale}
    assert made.metadata == plain.metadata | {k: v for k, v in asked.items() if v is not None}


def test_over_a_photo_it_lands_in_the_photos_pixels(pipeline):
    photo = noise(150, 300, 3)
    made = make(pipeline, background=photo, at="200,40,60,90")
    assert made.size == (300, 150)
    assert np.array_equal(made.background, photo)
    x, y, width, height = made.foregrounds[0].box
    left, top, wide, high = box_at("200,40,60,90", (300, 150))
    assert x >= left
    assert x + width <= left + wide
    assert y >= top
    assert y + height == top + high
    untouched = np.ones((150, 300), bool)
    untouched[y : y + height, x : x + width] = False
    assert np.array_equal(made.composite[untouched], photo[untouched])


def test_every_picture_of_a_call_is_moved(pipeline):
    made = pipeline([PROMPT, "a dog"], at="left", generator=torch.Generator().manual_seed(0)).layers
    for picture in made:
        x, y, width, height = box_at("left", (64, 64))
        assert x <= picture.foregrounds[0].offset[0] <= x + width
        assert picture.foregrounds[0].offset[1] + picture.foregrounds[0].size[1] == y + height


@pytest.mark.parametrize("suffix", [".psd", ".ora", ".layers"])
@pytest.mark.parametrize("at", ["bottom-right", (-20, 10, 40, 40)])
def test_a_moved_layer_is_in_the_file_as_it_is(pipeline, tmp_path, suffix, at):
    made = make(pipeline, at=at)
    save(made, tmp_path / f"moved{suffix}")
    assert load(tmp_path / f"moved{suffix}") == made


CUTOUT = np.dstack([noise(64, 64, 3), np.arange(64 * 64).reshape(64, 64) % 255]).astype(np.uint8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at": "nowhere"}, "'nowhere' is no place"),
        ({"at": "70,0,20,20"}, "lies outside of the canvas of 64 x 64"),
        ({"scale": 0.0}, "The scale must lie in"),
        ({"at": "0,0,20,20", "scale": 2.0}, "A box says how large the object is"),
        ({"at": "left", "image": noise(64, 64, 3)}, "A place is for an object that is drawn"),
        ({"scale": 2.0, "image": noise(64, 64, 3)}, "A scale is for an object that is drawn"),
        ({"at": "left", "foreground": CUTOUT}, "the given foreground comes back unchanged"),
        ({"at": "left", "output_type": "pt"}, "not for output_type 'pt'"),
        ({"scale": 2.0, "output_type": "latent"}, "A scale is for layered pictures"),
    ],
)
def test_what_cannot_be_moved_is_one_sentence(pipeline, options, words):
    with pytest.raises(InputError, match=words) as error:
        make(pipeline, **options)
    assert "\n" not in str(error.value)


def test_a_model_of_several_foregrounds_moves_none_of_them(toy_text_encoder):
    with pytest.raises(InputError, match="draws 2 foregrounds at once; move them one by one"):
        make(build_pipeline(toy_text_encoder, num_foregrounds=2), at="left")
