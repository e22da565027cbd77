"""A picture taken apart by a toy network that finds what is bright."""

import numpy as np
import pytest

from tests import toy_onnx
from tests.toy_photo import two_boxes
from text2layer.errors import InputError
from text2layer.models.hole import cut_hole
from text2layer.models.inpainting import OpencvInpainter
from text2layer.models.saliency import SaliencyMap, SaliencyModel, load_saliency
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.rules import Rules
from text2layer.photos.settings import BuildSettings
from text2layer.photos.stages import Background, Foreground, Saliency
from text2layer.pipelines import PhotoLayers

SIDE = 96


@pytest.fixture(scope="module")
def saliency(tmp_path_factory) -> SaliencyModel:
    path = toy_onnx.brightness_network(
        tmp_path_factory.mktemp("toy") / "toy.onnx", (1, 3, SIDE, SIDE)
    )
    return load_saliency(str(path), 1)


@pytest.fixture(scope="module")
def take_apart(saliency) -> PhotoLayers:
    return PhotoLayers(saliency, OpencvInpainter())


@pytest.fixture(scope="module")
def take_subjects(saliency) -> PhotoLayers:
    return PhotoLayers(saliency, OpencvInpainter(), max_layers=4)


def test_a_bright_box_is_lifted_off_a_dark_wall(take_apart):
    picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
    picture[30:60, 30:60] = (250, 230, 240)
    layered = take_apart(picture)
    assert layered.mask[45, 45] > 250
    assert layered.mask[5, 5] == 0
    assert np.abs(layered.background.astype(int) - 30).max() <= 10  # the box is gone
    assert np.abs(layered.composite.astype(int) - picture).mean() < 2
    far = np.ones((SIDE, SIDE), bool)
    far[20:75, 20:75] = False
    assert np.array_equal(layered.composite[far], picture[far])


def test_without_a_limit_it_makes_what_the_builder_makes(take_apart, saliency):
    picture = two_boxes()
    photo = Photo(PhotoRef("key", "nowhere"), image=picture)
    settings = BuildSettings(second_saliency="", quality_filter=False)
    for stage in (
        Saliency(settings, network=saliency), Rules(settings), Foreground(settings),
        Background(settings, inpainter=OpencvInpainter()),
    ):  # fmt: skip
        stage.run([photo])
    layered = take_apart(picture)
    assert np.array_equal(layered.foregrounds[0].colour, photo.foreground)
    assert np.array_equal(layered.foregrounds[0].alpha, photo.mask)
    assert np.array_equal(layered.background, photo.background)
    assert layered.metadata == {}


@pytest.mark.parametrize("level", [0, 255])
def test_where_there_is_no_object_the_background_is_the_picture(take_apart, take_subjects, level):
    picture = np.full((SIDE, SIDE, 3), level, np.uint8)
    layered = take_apart(picture)
    assert not layered.mask.any()
    assert np.array_equal(layered.composite, picture)
    assert take_subjects(picture).foregrounds == ()
    assert np.array_equal(take_subjects(picture).background, picture)


def test_two_subjects_become_two_layers_the_largest_below(take_subjects):
    picture = two_boxes()
    layered = take_subjects(picture)
    large, small = layered.foregrounds
    assert (large.name, small.name) == ("Subject 1", "Subject 2")
    assert (large.alpha > 128).sum() > 2 * (small.alpha > 128).sum()
    assert 0 < large.offset[0] < SIDE // 6
    assert large.size[0] < SIDE * 2 // 3
    assert layered.background.max() <= 90  # both boxes are gone


def test_the_composite_is_the_photo_outside_the_holes_and_where_a_layer_is_opaque(
    take_subjects, saliency
):
    picture = two_boxes()
    layered = take_subjects(picture)
    hole = cut_hole(saliency.predict([picture])[0].mask)
    assert 0.1 < hole.mean() < 0.9
    assert np.array_equal(layered.composite[~hole], picture[~hole])
    assert np.array_equal(layered.background[~hole], picture[~hole])
    opaque = layered.mask == 255
    assert opaque.any()
    assert np.array_equal(layered.composite[opaque], picture[opaque])
    soft = (layered.mask >= 64) & ~opaque
    difference = np.abs(layered.composite.astype(int) - picture).max(2)
    assert soft.any()
    assert difference[soft].mean() < 16  # colours as they are, over a fill that is a guess


def test_the_limit_merges_subjects(saliency):
    picture = two_boxes()
    one = PhotoLayers(saliency, OpencvInpainter(), max_layers=1)(picture)
    several = PhotoLayers(saliency, OpencvInpainter(), max_layers=2)(picture)
    assert len(one.foregrounds) == 1
    assert np.array_equal(one.mask, several.mask)
    assert np.array_equal(one.background, several.background)


@pytest.mark.parametrize("size", [(2500, 120), (90, 2300)])
def test_a_long_photo_is_filled_small_and_kept_whole(take_subjects, size):
    width, height = size
    picture = two_boxes(width, height)
    layered = take_subjects(picture)
    assert layered.size == size
    assert len(layered.foregrounds) == 2
    along = np.indices((height, width))[0 if height > width else 1] / max(size)
    far = (along < 0.13) | (along > 0.9)  # from both boxes
    assert np.array_equal(layered.composite[far], picture[far])
    assert layered.background.max() <= 100


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (700, 1)])
def test_a_tiny_picture_is_no_trouble(take_subjects, size):
    picture = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    assert take_subjects(picture).size == size


def test_metadata_names_the_networks(take_subjects, saliency):
    metadata = take_subjects(two_boxes()).metadata
    assert metadata["saliency_sha256"] == saliency.sha256
    assert metadata["inpainter"] == "opencv"
    assert metadata["generator"].startswith("text2layer ")
    assert metadata["digital_source_type"].endswith("compositeWithTrainedAlgorithmicMedia")


def test_no_picture_is_one_sentence(take_apart):
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8"):
        take_apart(np.zeros((4, 4), np.uint8))


def test_a_limit_of_none_is_refused(saliency):
    with pytest.raises(InputError, match="At least one layer"):
        PhotoLayers(saliency, OpencvInpainter(), max_layers=0)


def test_what_the_network_doubts_fades_from_the_photo_into_the_fill():
    class Furry:
        """A sure box with a doubtful band on its right, over the whole height of the box."""

        name, sha256 = "furry", "0" * 64

        def predict(self, images):
            (picture,) = images
            mask = np.zeros(picture.shape[:2], np.uint8)
            mask[60:140, 40:100], mask[60:140, 100:160] = 255, 100
            return [SaliencyMap(mask, 1.0)]

    class Black:
        """Fills with black."""

        name, sha256 = "black", "1" * 64

        def fill(self, image, hole):
            return np.where(hole[..., None], 0, image).astype(np.uint8)

    picture = np.full((200, 200, 3), 60, np.uint8)
    picture[60:140, 40:160] = 220
    layered = PhotoLayers(Furry(), Black(), max_layers=4)(picture)
    assert len(layered.foregrounds) == 1
    row = layered.mask[100].astype(int)
    assert row[103] == 100  # near what is sure the mask is as it was found
    assert not row[112:].any()
    assert (np.diff(row[104:113]) <= 0).all()
    assert np.diff(row[104:113]).min() > -50  # it was one step of 100
    behind = layered.background[100, :, 0].astype(int)
    assert (behind[113:160] == 220).all()
    assert behind[103] == 0
    assert (np.diff(behind[104:113]) >= 0).all()
    assert np.diff(behind[104:113]).max() < 110  # it was one step of 220
