"""The judge of the pair: what it sees, how it is trained and stored."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.judges.toy_backbone import Colours
from text2layer.errors import DataError, InputError, WeightsError
from text2layer.judges import quality_training
from text2layer.judges.cases import Case, photo_pairs
from text2layer.judges.labels import Label
from text2layer.judges.pair import (
    MEASURES,
    SMALLER,
    Layers,
    composite_features,
    measures,
    moved_composite,
    pair_features,
    pair_scores,
)
from text2layer.judges.pair_training import LAYER_WEIGHT, held_out_pairs, tabulate_pairs
from text2layer.judges.quality import QualityConfig, QualityModel, load_quality, save_quality
from text2layer.judges.quality_training import tabulate, train_quality
from text2layer.judges.settings import QualitySettings

GREEN, RED = (20, 120, 20), (200, 30, 30)

pytestmark = pytest.mark.usefixtures("small_backbone")


def layers(left=10, fill=GREEN, side=64, wide=20):
    """A red box before green; the fill is green, or what is given."""
    mask = np.zeros((side, side), np.uint8)
    mask[20:40, left : left + wide] = 255
    image = np.full((side, side, 3), GREEN, np.uint8)
    image[mask > 0] = RED
    hole = np.zeros((side, side), bool)
    hole[18:42, max(left - 2, 0) : left + wide + 2] = True
    background = np.full((side, side, 3), GREEN, np.uint8)
    background[hole] = fill
    return Layers(image, mask, np.full_like(image, RED), background, hole)


def test_the_cut_out_moves_to_the_emptier_side_and_keeps_its_foot():
    red = (moved_composite(layers(left=10)) == RED).all(axis=2)
    rows, columns = np.nonzero(red)
    assert rows.max() == 39  # the foot
    assert columns.min() > 30  # right of where it was
    size = round(20 * SMALLER)
    assert abs(len(np.unique(rows)) - size) <= 1
    assert abs(len(np.unique(columns)) - size) <= 1
    mirrored = (moved_composite(layers(left=34)) == RED).all(axis=2)
    assert np.nonzero(mirrored)[1].max() < 34


@pytest.mark.parametrize(("left", "wide"), [(0, 64), (0, 1), (63, 1)])
def test_boxes_at_the_border_stay_inside(left, wide):
    found = moved_composite(layers(left=left, wide=wide))
    assert found.shape == (64, 64, 3)
    assert (found == RED).all(axis=2).any()


def test_without_an_object_the_composite_is_the_background():
    sample = layers()
    empty = Layers(
        sample.image, np.zeros_like(sample.mask), sample.foreground, sample.background, sample.hole
    )
    assert np.array_equal(moved_composite(empty), empty.background)
    assert np.isfinite(measures(empty)).all()


def test_measures_are_those_of_the_sample():
    found = dict(zip(MEASURES, measures(layers()), strict=True))
    assert found["object"] == pytest.approx(np.log(400 / 64**2), abs=1e-5)
    assert found["hole"] == pytest.approx(np.log(24 * 24 / 64**2), abs=1e-5)
    assert found["border"] == 0
    assert found["parts"] == pytest.approx(np.log(2))
    assert found["softness"] == 0
    assert found["recomposition"] == 0
    change = np.mean(np.abs(np.subtract(GREEN, RED))) * 400 / (24 * 24)
    assert found["change"] == pytest.approx(np.log1p(change), rel=1e-5)
    assert found["seam"] == pytest.approx(0, abs=1e-5)


def test_an_object_left_in_the_fill_changes_little_and_a_border_is_counted():
    left_over = layers(fill=RED)
    at = MEASURES.index("change")
    assert measures(left_over)[at] < measures(layers())[at]
    assert measures(layers(left=0))[MEASURES.index("border")] > 0


def test_layers_of_different_sizes_are_refused():
    sample = layers()
    with pytest.raises(InputError, match="make no sample"):
        Layers(sample.image, sample.mask[:-1], sample.foreground, sample.background, sample.hole)


def labelled(count=40):
    """Half of the fills still hold the red box; half of the masks lie beside it."""
    for number in range(count):
        good_mask, good_fill = number % 4 < 2, number % 2 == 0
        sample = layers(left=8 + number % 5, fill=GREEN if good_fill else RED)
        mask = sample.mask if good_mask else np.roll(sample.mask, 24, axis=1)
        sample = Layers(sample.image, mask, sample.foreground, sample.background, sample.hole)
        yield f"photo-{number}", good_mask, good_fill, sample


def cases():
    for key, good_mask, good_fill, sample in labelled():
        hole = np.where(sample.hole, 255, 0).astype(np.uint8)
        yield Case(Label(key, "mask", good_mask), sample.image, sample.mask, key)
        yield Case(Label(key, "fill", good_fill), sample.background, hole, key)


def pairs():
    for key, good_mask, good_fill, sample in labelled():
        yield key, good_mask and good_fill, sample


def test_the_pair_is_learnt_measured_held_out_and_comes_back(tmp_path):
    report = train_quality(cases(), tmp_path / "heads", pairs=pairs(), progress=False)
    figures = report["held_out"]["pair"]["photo"]
    assert (figures["count"], figures["good"]) == (40, 10)
    assert figures["roc_auc"] > 0.95
    model = load_quality(tmp_path / "heads")
    assert model.config.thresholds["pair"] == report["thresholds"]["pair"] < 1
    told = [good_mask and good_fill for _, good_mask, good_fill, _ in labelled()]
    scores = np.array(pair_scores(model, [sample for *_, sample in labelled()]))
    assert scores[told].min() > scores[np.logical_not(told)].max()


def test_its_logit_is_the_sum_of_its_parts(tmp_path):
    train_quality(cases(), tmp_path / "heads", pairs=pairs(), progress=False)
    model = load_quality(tmp_path / "heads")
    sample = layers()
    score = pair_scores(model, [sample])[0]
    mask = model.mask_scores([sample.image], [sample.mask])[0]
    fill = model.fill_scores([sample.background], [sample.hole])[0]
    own = model.heads["pair"].weight[0, -len(composite_features(Colours(), sample)) :]
    rest = logit(score) - LAYER_WEIGHT * (logit(mask) + logit(fill))
    others = layers(left=30)
    score, mask, fill = (
        pair_scores(model, [others])[0],
        model.mask_scores([others.image], [others.mask])[0],
        model.fill_scores([others.background], [others.hole])[0],
    )
    difference = composite_features(Colours(), sample) - composite_features(Colours(), others)
    expected = rest - (logit(score) - LAYER_WEIGHT * (logit(mask) + logit(fill)))
    assert float(own @ difference) == pytest.approx(expected, abs=1e-2)


def logit(score):
    return float(np.log(score / (1 - score)))


def test_held_out_scores_are_not_learnt_by_heart():
    """With verdicts that are noise, no photo is scored better than by chance."""
    rng = np.random.default_rng(1)
    noise = rng.permutation(np.arange(40) % 2 == 0)

    def noisy_cases():
        for number, case in enumerate(cases()):
            good = bool(noise[number // 2])
            label = Label(case.label.key, case.label.kind, good)
            yield Case(label, case.picture, case.mask, case.group)

    noisy_pairs = [
        (key, bool(told), sample)
        for told, (key, _, _, sample) in zip(noise, labelled(), strict=True)
    ]
    settings = QualitySettings()
    tables, _ = tabulate(noisy_cases(), Colours(), settings.folds, progress=False)
    table = tabulate_pairs(noisy_pairs, Colours(), settings.folds, progress=False)
    scores = held_out_pairs(table, tables, settings)
    assert quality_training.roc_auc(scores, noise) < 0.75


def test_a_pair_without_its_layers_labels_is_named():
    settings = QualitySettings()
    tables, _ = tabulate(cases(), Colours(), settings.folds, progress=False)
    more = [*pairs(), ("photo-40", True, layers())]
    table = tabulate_pairs(more, Colours(), settings.folds, progress=False)
    with pytest.raises(DataError, match="'photo-40' is not among"):
        held_out_pairs(table, tables, settings)


def test_heads_without_a_judge_of_the_pair_still_load(tmp_path):
    train_quality(cases(), tmp_path / "old", progress=False)
    model = load_quality(tmp_path / "old")
    assert set(model.heads) == {"mask", "fill"}
    assert "pair" not in json.loads((tmp_path / "old" / "config.json").read_text())["thresholds"]
    with pytest.raises(WeightsError, match="no judge of the pair"):
        pair_scores(model, [layers()])


def test_the_hash_tells_judges_of_the_pair_apart(tmp_path):
    backbone = Colours()
    sizes = {"mask": 9, "fill": 27, "pair": len(pair_features(backbone, layers()))}
    heads = {kind: nn.Linear(size, 1) for kind, size in sizes.items()}
    model = QualityModel(backbone, heads, QualityConfig())
    save_quality(model, tmp_path / "heads")
    assert load_quality(tmp_path / "heads").sha256 == model.sha256
    before = model.sha256
    with torch.no_grad():
        heads["pair"].bias += 1
    assert model.sha256 != before


def test_pairs_of_a_build_are_those_with_both_labels(tmp_path):
    from text2layer.data.schema import Sample, SampleMetadata
    from text2layer.data.shards import ShardWriter

    with ShardWriter(tmp_path) as writer:
        for key in ("both", "half", "bad"):
            one = layers()
            about = SampleMetadata("made here", "CC0-1.0", "", "train")
            parts = (one.foreground, one.mask, one.background, one.image)
            writer.write(Sample(key, *parts, "a box", about))
    labels = {
        ("both", "mask"): Label("both", "mask", True),
        ("both", "fill"): Label("both", "fill", True),
        ("half", "mask"): Label("half", "mask", True),
        ("bad", "mask"): Label("bad", "mask", True),
        ("bad", "fill"): Label("bad", "fill", False),
    }
    found = {key: (good, sample) for key, good, sample in photo_pairs(tmp_path, labels)}
    assert {key: good for key, (good, _) in found.items()} == {"both": True, "bad": False}
    assert found["both"][1].hole[30, 20]
