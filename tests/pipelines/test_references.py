"""References: a cut-out that shows what the object looks like, of which nothing is kept."""

from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toy_model import build_pipeline
from text2layer import Layer, LayeredImage
from text2layer.canonical import FOOT, LONGEST, canonical_box
from text2layer.errors import InputError
from text2layer.models.denoiser import GIVEN
from text2layer.pipelines.frame import frame_for
from text2layer.pipelines.inputs import check_given

PROMPT = "a red apple in front of a snowy mountain"


def make(pipeline, seed: int = 0, **options) -> LayeredImage:
    return pipeline(PROMPT, generator=torch.Generator().manual_seed(seed), **options).layers[0]


def cutout(width: int = 60, height: int = 40, colour=(200, 30, 30)) -> np.ndarray:
    """An opaque rectangle of 40 x 20 near the top left of a transparent picture."""
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[..., :3] = 77
    rgba[3:23, 5:45] = (*colour, 255)
    return rgba


@pytest.mark.parametrize("frame", [(256, 256), (256, 128), (128, 200), (1, 1)])
def test_the_canonical_box_is_a_square_that_stands_at_the_foot(frame):
    x, y, width, height = canonical_box(frame)
    assert width == height == max(1, round(LONGEST * min(frame)))
    assert y + height == round(FOOT * frame[1])
    assert abs(2 * x + width - frame[0]) <= 1


def test_a_reference_is_seen_in_the_canonical_place(pipeline):
    given = check_given(reference=cutout())
    assert given.size is None
    tensors = given.as_tensors(frame_for((None, None), 64, 8, given.size))
    assert set(tensors) == {"foreground", "mask"}
    mask = tensors["mask"][0, 0]
    rows, columns = (mask > 0.5).any(1).nonzero()[:, 0], (mask > 0.5).any(0).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1]) + 1) == (35, 59)  # 24 high, on round(.92 * 64)
    assert (int(columns[0]), int(columns[-1]) + 1) == (8, 56)  # .75 of 64 wide, centred
    red = torch.tensor([200, 30, 30]) / 127.5 - 1
    torch.testing.assert_close(tensors["foreground"][0].mean((1, 2)), red, atol=0.02, rtol=0)


def test_the_network_gets_its_encoding_and_its_flag(pipeline):
    from text2layer.models.denoiser import condition_latents

    seen = []
    forward = pipeline.denoiser.forward

    def record(stacked, **options):
        seen.append(stacked)
        return forward(stacked, **options)

    with mock.patch.object(pipeline.denoiser, "forward", record):
        make(pipeline, reference=cutout())
    tensors = check_given(reference=cutout()).as_tensors(frame_for((64, 64), 64, 8))
    with torch.no_grad():
        expected = condition_latents(pipeline.autoencoder, **tensors)
    for stacked in seen:
        torch.testing.assert_close(stacked[:, 4:8], expected.expand(len(stacked), -1, -1, -1))
        assert stacked[:, 8:].mean((0, 2, 3)).tolist() == [0, 0, 0, 1]


def test_nothing_of_it_is_kept_and_it_counts(pipeline):
    made = make(pipeline, reference=cutout())
    assert made.size == made.foregrounds[0].size == (64, 64)
    assert made != make(pipeline)
    other = make(pipeline, reference=cutout(colour=(30, 30, 200)))
    assert not np.array_equal(other.foregrounds[0].colour, made.foregrounds[0].colour)
    assert made == make(pipeline, reference=cutout())
    wide = make(pipeline, reference=cutout(), width=128)
    assert wide.size == (128, 64)


def test_where_the_object_lies_in_its_picture_does_not_count(pipeline):
    moved = np.roll(np.pad(cutout(), ((0, 30), (0, 9), (0, 0))), (11, 7), (0, 1))
    moved[moved[..., 3] == 0] = 0
    one, other = make(pipeline, reference=cutout()), make(pipeline, reference=moved)
    assert one == other  # the metadata's hash too
    layer = Layer.from_rgba(cutout(), name="Foreground")
    assert make(pipeline, reference=layer.moved(30, 40)) == one
    canvas = LayeredImage(np.zeros((90, 80, 3), np.uint8), (layer.moved(10, 12),))
    assert make(pipeline, reference=canvas) == one
    assert make(pipeline, reference=Image.fromarray(cutout())) == one


def test_metadata_names_it_and_its_rights(pipeline):
    rights = {"source": "a package", "author": "Ann", "license": "CC0-1.0"}
    layer = Layer.from_rgba(cutout(), name="apple-7", metadata={**rights, "seed": 3, "caption": ""})
    made = make(pipeline, reference=layer)
    said = made.metadata["reference"]
    assert made.metadata["given"] == "reference"
    assert made.metadata["guidance_scale"] == 2.0  # the model's own
    assert set(said) == {"name", "sha256", *rights}
    assert said["name"] == "apple-7"
    assert {name: said[name] for name in rights} == rights
    assert len(said["sha256"]) == 64
    other = make(pipeline, reference=cutout(colour=(200, 30, 31))).metadata["reference"]
    assert other["name"] == "Foreground"
    assert other["sha256"] != said["sha256"]
    assert "reference" not in make(pipeline).metadata


def test_a_model_of_two_foregrounds_sees_it_as_the_lowest(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder, num_foregrounds=2)
    tensors = check_given(reference=cutout(), num_foregrounds=2).as_tensors(
        frame_for((64, 64), 64, 8), 2
    )
    assert tensors["mask"].shape == (1, 2, 1, 64, 64)
    assert tensors["mask"][0, 0].any()
    assert not tensors["mask"][0, 1].any()
    assert len(make(pipeline, reference=cutout()).foregrounds) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"background": np.zeros((64, 64, 3), np.uint8)}, "together with a given background"),
        ({"foreground": cutout()}, "together with a given foreground"),
        ({"image": np.zeros((64, 64, 3), np.uint8)}, "together with a given image"),
        ({"reference": np.zeros((64, 64, 3), np.uint8)}, "A given reference must be a Layer or an"),
        ({"reference": np.zeros((64, 64, 4), np.uint8)}, "The given reference is empty"),
        ({"reference": np.full((64, 64, 4), 255, np.uint8)}, "reference has no transparency"),
        ({"reference": LayeredImage(np.zeros((64, 64, 3), np.uint8))}, "has no foreground layer"),
        ({"attempts": 2}, "Several attempts are made at taking a picture apart"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(pipeline, options, words):
    with pytest.raises(InputError, match=words) as error:
        make(pipeline, **{"reference": cutout(), **options})
    assert "\n" not in str(error.value)


def test_a_model_of_three_flags_says_that_it_does_not_know_references(toy_text_encoder):
    with mock.patch("text2layer.models.denoiser.GIVEN", GIVEN[:3]):
        older = build_pipeline(toy_text_encoder)
    with pytest.raises(InputError, match="This model does not know references") as error:
        make(older, reference=cutout())
    assert "\n" not in str(error.value)
    assert make(older).metadata["given"] is None
    assert make(older, foreground=cutout()).metadata["given"] == "foreground"
