"""The quality classifiers: what they look at, and how they are stored."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from text2layer.errors import InputError, WeightsError
from text2layer.judges import quality
from text2layer.judges.pair import Layers, pair_scores
from text2layer.judges.quality import (
    KINDS,
    PAIR,
    QualityConfig,
    QualityModel,
    box_around,
    features_of,
    load_quality,
    over_grey,
    save_quality,
)
from text2layer.models.efficientnet import EfficientNetLite0
from text2layer.photos.settings import BuildSettings
from text2layer.pretrained import resolve


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return EfficientNetLite0(pretrained=False)


@pytest.fixture(scope="module")
def model(backbone):
    """Random heads."""
    picture, mask = scene()
    torch.manual_seed(1)
    heads = {
        kind: nn.Linear(len(features_of(kind, backbone, picture, mask)), 1)
        for kind in quality.KINDS
    }
    return QualityModel(backbone, heads, QualityConfig(thresholds={"mask": 0.6, "fill": 0.7}))


def scene(height=90, width=120):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[20:60, 40:80] = 255
    return picture, mask


def test_scores_are_the_sigmoid_of_the_heads(model, backbone):
    picture, mask = scene()
    small, small_mask = scene(64, 80)
    scores = model.mask_scores([picture, small], [mask, small_mask])
    head = model.heads["mask"]
    for score, (p, m) in zip(scores, [(picture, mask), (small, small_mask)], strict=True):
        logit = features_of("mask", backbone, p, m) @ head.weight[0] + head.bias[0]
        assert score == pytest.approx(1 / (1 + np.exp(-logit.item())), abs=1e-5)
    assert model.fill_scores([], []) == []


def test_batches_are_scored_as_single_samples_are(model, monkeypatch):
    scenes = [scene(64 + 5 * n, 80 + 9 * n) for n in range(8)]
    pictures, masks = ([one[place] for one in scenes] for place in (0, 1))
    single = [model.mask_scores(pictures, masks), model.fill_scores(pictures, masks)]
    for batch in (3, 8):
        monkeypatch.setattr(model, "batch", batch)
        assert model.mask_scores(pictures, masks) == pytest.approx(single[0], abs=1e-5)
        assert model.fill_scores(pictures, masks) == pytest.approx(single[1], abs=1e-5)


def test_a_hole_may_be_bool_or_bytes(model):
    picture, mask = scene()
    assert model.fill_scores([picture], [mask > 0]) == model.fill_scores([picture], [mask])


def test_the_fill_head_sees_nothing_far_from_the_hole(model):
    picture, mask = scene()
    far = picture.copy()
    far[:, 100:] = 255  # outside the box around the hole
    near = picture.copy()
    near[30:50, 45:65] = 255  # in the hole
    before, same, other = model.fill_scores([picture, far, near], [mask] * 3)
    assert same == before
    assert other != before


def test_the_mask_head_sees_photo_and_mask(backbone):
    picture, mask = scene()
    repainted = np.where(mask[..., None] > 0, 255 - picture, picture)
    cases = [(picture, mask), (picture, np.roll(mask, 20, axis=1)), (repainted, mask)]
    seen = [features_of("mask", backbone, p, m) for p, m in cases]
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0], features_of("mask", backbone, picture, mask))


def test_empty_and_full_masks_have_scores(model):
    picture, mask = scene()
    for value in (0, 255):
        flat = np.full_like(mask, value)
        for score in (*model.mask_scores([picture], [flat]), *model.fill_scores([picture], [flat])):
            assert 0 <= score <= 1


def test_what_does_not_fit_is_named(model):
    picture, mask = scene()
    with pytest.raises(InputError, match="does not fit"):
        model.mask_scores([picture], [mask[:-1]])
    with pytest.raises(InputError, match="2 pictures came with 1"):
        model.fill_scores([picture, picture], [mask])


def test_box_is_a_square_around_the_object():
    _, mask = scene()
    assert box_around(mask, 1.2) == (60 - 24, 40 - 24, 60 + 24, 40 + 24)
    tiny = np.zeros((100, 100), np.uint8)
    tiny[50, 50] = 255
    left, top, right, bottom = box_around(tiny, 1.0)
    assert right - left == bottom - top == quality.SMALLEST_BOX


def test_over_grey_mixes_by_the_mask():
    picture = np.full((1, 3, 3), 255, np.uint8)
    mask = np.array([[0, 51, 255]], np.uint8)
    assert over_grey(picture, mask)[0, :, 0].tolist() == [127, round(127 + 0.2 * 128), 255]


def test_saved_heads_come_back(model, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "load_backbone", lambda name: backbone)  # weights of others
    save_quality(model, tmp_path / "quality")
    again = load_quality(tmp_path / "quality")
    assert again.config == model.config
    assert again.sha256 == model.sha256
    picture, mask = scene()
    assert again.mask_scores([picture], [mask]) == model.mask_scores([picture], [mask])
    changed = QualityModel(
        backbone, {"mask": model.heads["mask"], "fill": nn.Linear(10, 1)}, model.config
    )
    assert changed.sha256 != model.sha256


def test_damaged_heads_are_refused_in_one_sentence(model, tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        load_quality(tmp_path)
    save_quality(model, tmp_path)
    (tmp_path / "heads.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="damaged"):
        load_quality(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(WeightsError, match="format"):
        load_quality(tmp_path)


def test_the_shipped_heads_load_and_know_their_labels():
    try:
        resolve("efficientnet-lite0", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    shipped = load_quality()
    assert shipped.config.backbone_sha256.startswith("57934424")
    assert set(shipped.config.thresholds) == set(shipped.config.held_out) == {*KINDS, PAIR}
    bound = BuildSettings().pair_quality
    assert bound == pytest.approx(shipped.config.thresholds[PAIR], abs=0.005)
    picture, mask = scene()
    assert 0 <= shipped.mask_scores([picture], [mask])[0] <= 1
    assert 0 <= shipped.fill_scores([picture], [mask])[0] <= 1
    sample = Layers(picture, mask, picture, picture, mask > 127)
    assert 0 <= pair_scores(shipped, [sample])[0] <= 1
