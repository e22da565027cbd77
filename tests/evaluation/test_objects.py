"""Protocol `objects`: an oracle is right, its opposite wrong, an untrained model nearly so."""

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from tests.toy_model import build_pipeline
from text2layer.data.named_things import AskedThings, open_things
from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.compare import compare
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.features import References
from text2layer.evaluation.objects import (
    GALLERIES,
    Gallery,
    cut_to_object,
    make_gallery,
    object_features,
    objects,
    ranks,
)
from text2layer.evaluation.results import read_results, write_results
from text2layer.evaluation.run import Networks, Run
from text2layer.models.efficientnet import EfficientNetLite0
from text2layer.models.frozen import module_sha256
from text2layer.parts import Parts, joined

# two colours of each, so that even thumbnails tell them apart
DRAWINGS = dict.fromkeys(("circle-000", "square-001", "ring-002", "square-006"), 1.0)


@pytest.fixture(scope="module")
def asked(library) -> AskedThings:
    return AskedThings(open_things(library, DRAWINGS, 64), seeds=3)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks.of(objects=Thumbnail())


class Recolouring(ModelMixin, ConfigMixin):
    """An autoencoder that multiplies colours: 1 changes nothing, -1 gives the negative."""

    @register_to_config
    def __init__(self, num_foregrounds: int = 1, factor: float = 1.0) -> None:
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, foreground, background, mask) -> Parts:
        return Parts(foreground * self.by, background * self.by, mask)


class Tracer(Drawer):
    """Draws the real drawing of a chosen thing, as a model that learnt all would.

    With `decoded` it draws what the pipeline's autoencoder makes of it.
    """

    def __init__(
        self, pipeline, asked: AskedThings, shift: int = 0, empty: bool = False,
        decoded: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(pipeline, 64)
        self.asked, self.shift, self.empty, self.decoded = asked, shift, empty, decoded
        self.number = {asked.picture_seed(n): n for n in range(len(asked))}

    def __call__(self, prompts, numbers, **given):
        made = []
        for prompt, seed in zip(prompts, numbers, strict=True):
            assert prompt == self.asked.prompt(self.number[seed])
            number = (self.number[seed] + self.shift * self.asked.seeds) % len(self.asked)
            parts = self.asked.batch([number]).to_float()
            if self.decoded:
                parts = self.pipeline.autoencoder(parts.foreground, parts.background, parts.mask)
            mask = parts.mask * (not self.empty)
            made.append(Parts(parts.foreground, parts.background, mask).to_bytes())
        return joined(made)


def values(result) -> dict[str, float]:
    return {name: figure.value for name, figure in result.metrics.items()}


@pytest.fixture(scope="module")
def negative(toy_text_encoder):
    """A pipeline whose autoencoder shows nothing as it is."""
    pipeline = build_pipeline(toy_text_encoder)
    pipeline.register_modules(autoencoder=Recolouring(factor=-1.0))
    return pipeline


@pytest.fixture(scope="module")
def faithful(toy_text_encoder):
    """A pipeline whose autoencoder changes nothing."""
    pipeline = build_pipeline(toy_text_encoder)
    pipeline.register_modules(autoencoder=Recolouring())
    return pipeline


def test_who_traces_the_drawings_is_always_right(asked, networks, faithful):
    result = objects(Tracer(faithful, asked), asked, networks, Run(batch_size=4))
    found = values(result)
    for gallery in GALLERIES:
        assert found[f"object_top1{gallery}"] == found[f"object_top5{gallery}"] == 1
        assert found[f"object_top1{gallery}_ceiling"] == 1
        assert found[f"object_top1{gallery}_chance"] == 0
    assert found["empty_masks"] == 0
    assert result.samples == len(asked.things) == result.metrics["object_top1"].samples
    assert [item["top1"] for item in result.about["things"]] == [3] * len(asked.things)
    assert [item["top1_real"] for item in result.about["things"]] == [3] * len(asked.things)
    assert result.about["things"][0]["taken_for"] == []
    assert result.about["split"] == "train"
    assert result.about["known_things"] == 3
    assert result.about["known_drawings"] == 4
    assert "efficientnet-lite0" in result.about["networks"]


def test_who_draws_what_the_autoencoder_can_show_is_right_among_decoded_drawings(
    asked, networks, negative
):
    """Drawings as they are say no over the best that the model could draw."""
    result = objects(Tracer(negative, asked, decoded=True), asked, networks, Run())
    found = values(result)
    assert found["object_top1"] == found["object_top1_ceiling"] == 1
    assert found["object_top1_real"] == found["object_top1_real_ceiling"] < 1
    assert set(result.about["galleries"]) == {"object_top1", "object_top1_real"}
    assert result.about["autoencoder_sha256"] == module_sha256(negative.autoencoder)


def test_each_autoencoder_has_a_gallery_of_its_own(asked, networks, faithful, negative, tmp_path):
    run = Run(references=References(tmp_path))
    first = make_gallery(asked, networks.get("objects"), run, faithful.autoencoder)
    second = make_gallery(asked, networks.get("objects"), run, negative.autoencoder)
    again = make_gallery(asked, networks.get("objects"), run, faithful.autoencoder)
    real = make_gallery(asked, networks.get("objects"), run)
    assert not torch.allclose(first.features, second.features, atol=0.01)
    assert torch.equal(first.features, again.features)
    assert torch.allclose(first.features, real.features, atol=0.01)
    assert len(list(tmp_path.glob("*-objects.npy"))) == 3


def test_who_draws_another_thing_is_always_wrong(asked, networks, faithful):
    result = objects(Tracer(faithful, asked, shift=1), asked, networks, Run())
    assert result.metrics["object_top1"].value < 0.5  # two styles of squares are one name
    wrong = [item for item in result.about["things"] if item["top1"] == 0]
    assert wrong
    assert all(len(item["taken_for"]) == 1 for item in wrong)
    right = values(objects(Tracer(faithful, asked), asked, networks, Run()))
    for gallery in GALLERIES:
        ceiling = f"object_top1{gallery}_ceiling"
        assert result.metrics[ceiling].value == pytest.approx(right[ceiling])


def test_empty_masks_are_wrong_and_counted(asked, networks, faithful):
    result = objects(Tracer(faithful, asked, empty=True), asked, networks, Run())
    assert values(result)["object_top1"] == values(result)["object_top5"] == 0
    assert values(result)["empty_masks"] == 1


def test_batches_do_not_change_a_count_and_the_same_command_asks_the_same(
    asked, networks, toy_text_encoder, tmp_path
):
    drawer = Drawer(build_pipeline(toy_text_encoder), 64, 2)
    kept = References(tmp_path / "kept")
    one, other = (objects(drawer, asked, networks, Run(size, references=kept)) for size in (1, 5))
    assert values(one) == values(other)
    assert one.about["things"] == other.about["things"]
    assert one.about["prompts_sha256"] == other.about["prompts_sha256"]
    assert len(list((tmp_path / "kept").glob("*-objects.npy"))) == 2  # each gallery was seen once
    differences = compare([one], [other])["objects"]
    assert differences["object_top1"].paired
    assert differences["object_top1"].difference.value == 0


def test_another_gallery_is_not_compared(asked, networks, faithful, library, tmp_path):
    few = dict.fromkeys(list(DRAWINGS)[:3], 1.0)
    other = AskedThings(open_things(library, few, 64), seeds=3, limit=2)
    mine = AskedThings(open_things(library, DRAWINGS, 64), seeds=3, limit=2)
    results = [objects(Tracer(faithful, one), one, networks, Run()) for one in (mine, other)]
    assert mine.things[0].name == other.things[0].name
    results[1].about["prompts_sha256"] = results[0].about["prompts_sha256"]
    with pytest.raises(InputError, match="drawings sha256 differ"):
        compare([results[0]], [results[1]])
    write_results(results[:1], tmp_path)
    (read,) = read_results(tmp_path)
    assert read.about["things"] == results[0].about["things"]
    np.testing.assert_array_equal(read.per_sample["object_top1"], np.ones(2))


def test_without_the_network_it_says_so_before_anything_is_drawn(asked, pipeline):
    drawer = Tracer(pipeline, asked)
    with pytest.raises(WeightsError, match="it was not asked for"):
        objects(drawer, asked, Networks.of(), Run())
    assert drawer.seconds == 0
    assert torch.equal(asked.owners.unique(), torch.arange(3))


class Thumbnail(nn.Module):
    """The picture itself, 16 x 16: differences in any part count."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x).flatten(1)


def scene(top: int, left: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A red object of 20 x 10 pixels with a blue head, and noise where the mask is 0."""
    colour = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    mask = torch.zeros(1, 1, size, size)
    mask[..., top : top + 20, left : left + 10] = 1
    red, blue = (torch.tensor(c, dtype=torch.uint8)[:, None, None]
                 for c in ((250, 0, 0), (0, 0, 250)))  # fmt: skip
    colour[0, :, top : top + 20, left : left + 10] = red
    colour[0, :, top : top + 5, left : left + 10] = blue
    return colour, mask


def test_the_object_fills_the_middle_of_a_grey_square():
    picture = np.full((8, 8, 3), 7, np.uint8)
    picture[2:6, 3:5] = 200
    mask = np.zeros((8, 8))
    mask[2:6, 3:5] = 0.6
    mask[0, 0] = 0.4  # half-transparent pixels are not the object
    square = cut_to_object(picture, mask)
    assert square.shape == (4, 4, 3)
    assert (square[:, 1:3] == 200).all()
    assert (square[:, [0, 3]] == 128).all()
    assert cut_to_object(picture, mask * 0.5) is None


def test_neither_place_nor_what_the_mask_hides_changes_the_features():
    torch.manual_seed(0)
    colours, masks = zip(scene(0, 0), scene(30, 50), scene(44, 20), strict=True)
    features = object_features(Thumbnail(), torch.cat(colours), torch.cat(masks))
    assert torch.allclose(features[0], features[1])
    assert torch.allclose(features[0], features[2])
    assert torch.allclose(features.norm(dim=1), torch.ones(3))
    turned = object_features(Thumbnail(), colours[0].flip(2), masks[0].flip(2))
    assert (features[0] @ turned[0]) < 0.9


def test_an_empty_mask_has_no_features_and_is_wrong():
    colour, mask = scene(0, 0)
    colours, masks = colour.repeat(2, 1, 1, 1), torch.cat([mask, mask * 0])
    features = object_features(Thumbnail(), colours, masks)
    assert features[1].isnan().all()
    assert not features[0].isnan().any()
    gallery = Gallery(["thing", "other"], torch.tensor([0, 1]), features[:1].repeat(2, 1) * -1)
    found = ranks(gallery.similarity(features), torch.tensor([0, 0]))
    assert found[1] == torch.inf
    assert object_features(Thumbnail(), colour, mask * 0).isnan().all()
    with pytest.raises(InputError, match="does not fit"):
        object_features(Thumbnail(), colour, mask[..., :9])


def test_a_thing_counts_once_by_its_nearest_drawing():
    angles = torch.tensor([0.0, 1.0, 0.2, 0.3, 0.4])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    gallery = Gallery(["fox", "cup", "owl"], torch.tensor([0, 0, 1, 1, 2]), features)
    seen = torch.tensor([[0.99, 0.01]])
    similarity = gallery.similarity(seen / seen.norm())
    assert similarity.argmax().item() == 0
    # by drawings the owl is fourth, by things it is third
    assert [ranks(similarity, torch.tensor([n])).item() for n in range(3)] == [0, 1, 2]


def test_a_tie_is_not_right():
    assert ranks(torch.full((1, 4), 0.5), torch.tensor([1])).item() == 3


def test_the_real_network_tells_shapes_apart():
    try:
        network = EfficientNetLite0()
    except WeightsError as error:
        pytest.skip(str(error))
    rows, columns = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    disc = ((rows**2 + columns**2) < 24**2).float()[None, None]
    ring = disc * ((rows**2 + columns**2) > 14**2).float()
    bar = ((rows.abs() < 24) & (columns.abs() < 6)).float()[None, None]
    red = torch.tensor([200, 30, 30], dtype=torch.uint8)[None, :, None, None].expand(3, 3, 64, 64)
    shapes = torch.cat([disc, ring, bar])
    gallery = Gallery(
        ["disc", "ring", "bar"], torch.arange(3), object_features(network, red, shapes)
    )
    moved = object_features(network, red.roll(1, 1), shapes.roll(4, 3))  # green, and aside
    assert ranks(gallery.similarity(moved), torch.arange(3)).tolist() == [0, 0, 0]
