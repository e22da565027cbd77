"""What is a copy: the drawing itself and its reconstruction are, another drawing is not."""

import numpy as np
import pytest
import torch

from tests.evaluation.test_objects import Tracer
from tests.recipe import recipe
from tests.toy_library import build_toy_library
from text2layer.data.named_things import AskedThings, open_things
from text2layer.evaluation.drawing import Drawer
from text2layer.models.lpips import LPIPS
from text2layer.tensors import bytes_to_mask

own = recipe("own_drawings")


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> AskedThings:
    library = build_toy_library(tmp_path_factory.mktemp("own") / "library")
    return AskedThings(open_things(library, None, 64), seeds=1)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    torch.manual_seed(0)
    return LPIPS("alex", pretrained=False)


def test_objects_are_cut_alike_wherever_they_stand(asked):
    batch = asked.batch([0])
    mask = bytes_to_mask(batch.mask)
    one = own.cut(batch.foreground, mask)
    other = own.cut(batch.foreground.roll(-3, 2), mask.roll(-3, 2))
    assert torch.equal(one.colour, other.colour)
    assert torch.equal(one.mask, other.mask)
    assert one.colour.shape == (1, 3, own.SIDE, own.SIDE)
    assert (one.colour[:, :, 0, 0] == 128).all()
    nothing = own.cut(batch.foreground, mask * 0)
    assert (nothing.colour == 128).all()
    assert nothing.mask.max() == 0


def test_thresholds_are_what_nine_in_ten_reconstructions_keep(asked, lpips):
    known = own.gallery(asked)
    blurred = own.Cut(
        torch.nn.functional.avg_pool2d(known.colour.float(), 5, 1, 2).byte(), known.mask * 0.9
    )
    most, least = own.thresholds(known, blurred, lpips)
    apart = np.diag(own.distances(blurred, known, lpips))
    assert (apart <= most).mean() >= 0.9
    assert apart.min() < most < apart.max()
    assert least == pytest.approx(0.9, abs=0.01)


def test_who_traces_copies_and_the_untrained_do_not(asked, lpips, pipeline):
    report, sheet = own.measure(Tracer(pipeline, asked), asked, lpips)
    assert report["objects"] == len(asked.things) == report["copies"]
    assert report["share_of_copies"]["value"] == 1
    assert report["nearest_is_of_the_thing"] == 1
    assert max(item["lpips"] for item in report["drawn"]) == pytest.approx(0, abs=1e-6)
    ids = [asked.composer.foregrounds[asked.placement(n).foreground].id for n in range(len(asked))]
    assert [item["nearest"] for item in report["drawn"]] == ids
    assert report["median_lpips_of_training_drawings_to_the_next"] > 0
    assert sheet.width > own.SIDE

    empty, _ = own.measure(Tracer(pipeline, asked, empty=True), asked, lpips)
    assert empty["copies"] == 0


def test_four_seeds_stand_beside_what_was_learnt(asked, pipeline):
    assert [len(thing.drawings) for thing in own.richest(asked.things, 3)] == sorted(
        (len(thing.drawings) for thing in asked.things), reverse=True
    )[:3]
    sheet = own.four_seeds(Drawer(pipeline, 64, 2), asked, rows=2)
    columns = own.SEEDS + min(own.SHOWN, len(own.richest(asked.things, 1)[0].drawings))
    assert sheet.width == columns * (64 + 8) + 8
