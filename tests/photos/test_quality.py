"""The stages that reject by the quality classifiers."""

import numpy as np
import pytest
import torch
from torch import nn

from text2layer.judges.pair import MEASURES
from text2layer.judges.quality import QualityConfig, QualityModel
from text2layer.photos.photo import Photo, PhotoRef, run_stages
from text2layer.photos.quality import FillQuality, MaskQuality, PairQuality, load_classifiers
from text2layer.photos.settings import BuildSettings


class MeanColour(nn.Module):
    """A backbone whose eight maps are the mean colours of 32 x 32 fields."""

    def maps(self, x):
        return [torch.nn.functional.avg_pool2d(x, 32)] * 8


@pytest.fixture(scope="module")
def model():
    """The mask head likes bright masks, the fill head likes bright holes."""
    mask_head, fill_head = nn.Linear(9, 1), nn.Linear(27, 1)
    for head in (mask_head, fill_head):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    with torch.no_grad():
        mask_head.weight[0, 6:] = 10.0  # the mask as a picture is the third view
        mask_head.bias += 15.0
        fill_head.weight[0, :3] = 2.0  # inside the hole, first depth
    pair_head = nn.Linear(9 + 27 + 6 + len(MEASURES), 1)
    nn.init.zeros_(pair_head.weight)
    nn.init.zeros_(pair_head.bias)
    with torch.no_grad():
        pair_head.weight[0, -len(MEASURES)] = 8.0  # likes large objects: from exp(-.75) on
        pair_head.bias += 6.0
    heads = {"mask": mask_head, "fill": fill_head, "pair": pair_head}
    return QualityModel(MeanColour(), heads, QualityConfig())


def photo(key, mask_share, fill):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, : int(64 * mask_share)] = 255
    picture = np.full((64, 64, 3), 90, np.uint8)
    background = np.full((64, 64, 3), fill, np.uint8)
    hole = np.zeros((64, 64), bool)
    hole[20:40, 20:40] = True
    return Photo(
        PhotoRef(key, key), picture, mask, foreground=picture, hole=hole, background=background
    )


def both(settings, model):
    return [MaskQuality(settings, model), FillQuality(settings, model)]


def three_photos():
    return [photo("small", 0.1, 200), photo("dark", 0.6, 20), photo("fine", 0.6, 220)]


def test_photos_are_rejected_by_the_head_that_dislikes_them(model):
    photos = three_photos()
    run_stages(both(BuildSettings(), model), photos)
    reasons = [p.rejected and (p.rejected.stage, p.rejected.reason) for p in photos]
    assert reasons == [("mask quality", "poor mask"), ("fill quality", "poor fill"), None]
    assert "at least 0.5" in photos[0].rejected.detail
    assert set(photos[0].scores) == {"mask_quality"}  # the fill of a rejected photo is not scored
    assert set(photos[2].scores) == {"mask_quality", "fill_quality"}
    expected = model.fill_scores([photos[2].background], [photos[2].hole])[0]
    assert photos[2].scores["fill_quality"] == pytest.approx(expected, abs=1e-4)


def test_without_the_filter_everything_is_scored_and_kept(model):
    photos = three_photos()
    run_stages(both(BuildSettings(quality_filter=False), model), photos)
    assert [p.rejected for p in photos] == [None] * 3
    assert all(set(p.scores) == {"mask_quality", "fill_quality"} for p in photos)


def test_a_bound_of_0_turns_a_head_off(model):
    photos = three_photos()
    run_stages(both(BuildSettings(mask_quality=0), model), photos)
    assert [p.rejected and p.rejected.reason for p in photos] == [None, "poor fill", None]
    assert "mask_quality" not in photos[0].scores


def test_with_both_off_no_weights_are_asked_for():
    settings = BuildSettings(mask_quality=0, fill_quality=0, pair_quality=0)
    assert load_classifiers(settings) is None
    photos, stages = three_photos(), both(settings, None)
    run_stages(stages, photos)
    assert [stage.model_hashes for stage in stages] == [{}, {}]
    assert [(p.rejected, p.scores) for p in photos] == [(None, {})] * 3


def test_the_stages_name_the_model_that_they_use(model):
    stages = both(BuildSettings(fill_quality=0), model)
    assert [stage.model_hashes for stage in stages] == [{"quality": model.sha256}, {}]


def test_the_pair_is_judged_where_both_layers_are_good(model):
    """The same good layers; the judge of the pair sees what they are together."""
    settings = BuildSettings(pair_quality=0.5)
    photos = [photo("dark", 0.6, 20), photo("narrow", 0.4, 220), photo("wide", 0.6, 220)]
    stages = [*both(settings, model), PairQuality(settings, model)]
    run_stages(stages, photos)
    reasons = [p.rejected and (p.rejected.stage, p.rejected.reason) for p in photos]
    assert reasons == [("fill quality", "poor fill"), ("pair quality", "poor pair"), None]
    assert "at least 0.5" in photos[1].rejected.detail
    assert "pair_quality" not in photos[0].scores
    assert photos[1].scores["pair_quality"] < 0.5 < photos[2].scores["pair_quality"]
    assert stages[-1].model_hashes == {"quality": model.sha256}


def test_a_bound_of_0_turns_the_judge_of_the_pair_off(model):
    settings = BuildSettings(pair_quality=0)
    photos = [photo("narrow", 0.4, 220)]
    stage = PairQuality(settings, model)
    run_stages([stage], photos)
    assert photos[0].rejected is None
    assert (photos[0].scores, stage.model_hashes) == ({}, {})


def test_without_the_filter_the_pair_is_scored_and_kept(model):
    photos = [photo("narrow", 0.4, 220)]
    run_stages([PairQuality(BuildSettings(quality_filter=False), model)], photos)
    assert photos[0].rejected is None
    assert photos[0].scores["pair_quality"] < 0.5
