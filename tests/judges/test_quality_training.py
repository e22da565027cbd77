"""Training of the heads: the optimum, the splits, the figures and what is written."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.judges.toy_backbone import Colours
from text2layer.errors import DataError, InputError
from text2layer.judges.cases import Case
from text2layer.judges.labels import Label
from text2layer.judges.quality import QualityConfig, QualityModel, load_quality
from text2layer.judges.quality_training import (
    QualitySettings,
    Table,
    fit,
    fold_of,
    precision_and_recall,
    rank,
    roc_auc,
    threshold_for_precision,
    train_quality,
)

CASES = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30)

pytestmark = pytest.mark.usefixtures("small_backbone")


def case(number, kind, source, group, noise=0):
    """Good ones are bright where it counts; every `noise`-th label is wrong."""
    rng = np.random.default_rng([number, kind == "mask"])
    good = number % 2 == 0
    mask = np.zeros((48, 48), np.uint8)
    mask[12:36, 12:36] = 255
    picture = rng.integers(0, 60, (48, 48, 3), dtype=np.uint8)
    picture[12:36, 12:36] += 120 if good else 0
    told = good if not noise or number % noise else not good
    reason = "" if told else "other"
    label = Label(f"{source}-{number}", kind, told, reason, source)
    return Case(label, picture, mask, group, "drawn")


def cases(count=40, noise=0):
    for kind in ("mask", "fill"):
        for number in range(count):
            yield case(number, kind, "composed", "train" if number < count // 2 else "test", noise)
            yield case(number, kind, "photo", f"photo-{number}", noise)


def table(count=60, channels=5, seed=0):
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(count, channels)).astype(np.float32)) * 3 + 7
    good = features[:, 0] + torch.from_numpy(rng.normal(size=count)) > 7
    photo = torch.arange(count) % 3 == 0
    return Table(features, good, photo, torch.zeros(count, dtype=torch.bool),
                 torch.arange(count) % 5, ("",) * count)  # fmt: skip


def test_fit_is_at_the_optimum_of_its_loss():
    """The gradient of the loss, written again by hand, vanishes at the solution."""
    data, settings = table(), QualitySettings()
    head = fit(data, torch.ones(60, dtype=torch.bool), settings, "mask")
    x = data.features.double()
    deviation = x.std(dim=0, unbiased=False)
    scale = deviation * x.shape[1] ** 0.5
    weights, bias = head.weight[0].double() * scale, head.bias.double()
    rows = (x - x.mean(dim=0)) / scale
    logits = rows @ weights + bias + (head.weight[0].double() * x.mean(dim=0)).sum()
    case_weight = torch.zeros(60, dtype=torch.float64)
    for source, share in ((data.photo, 0.6), (~data.photo, 0.4)):
        for verdict in (data.good, ~data.good):
            case_weight[source & verdict] = share / 2 / (source & verdict).sum()
    residual = case_weight * (torch.sigmoid(logits) - data.good.double())
    gradient = rows.T @ residual + settings.decay * weights
    assert gradient.abs().max() < 1e-5
    assert residual.sum().abs() < 1e-5


def test_a_group_always_falls_into_the_same_part():
    parts = [fold_of(f"photo-{number}", 5) for number in range(200)]
    assert parts == [fold_of(f"photo-{number}", 5) for number in range(200)]
    assert min(np.bincount(parts, minlength=5)) > 20


def test_heads_learn_are_measured_apart_and_come_back(tmp_path):
    report = train_quality(cases(), tmp_path / "quality", progress=False)
    assert report["labels"] == {
        f"{source} {kind} {verdict}": 20
        for source in ("composed", "photo") for kind in ("fill", "mask")
        for verdict in ("bad", "good")
    }  # fmt: skip
    for kind in ("mask", "fill"):
        assert report["held_out"][kind]["composed"]["count"] == 20
        assert report["held_out"][kind]["photo"]["count"] == 40
        assert report["held_out"][kind]["photo"]["roc_auc"] > 0.98
    model = load_quality(tmp_path / "quality")
    assert model.config.held_out == report["held_out"]
    assert model.config.thresholds == report["thresholds"]
    assert json.loads((tmp_path / "quality" / "config.json").read_text())["labels"]
    bright, dark = (case(100 + number, "mask", "photo", "x") for number in (0, 1))
    good, bad = model.mask_scores([bright.picture, dark.picture], [bright.mask, dark.mask])
    assert good > 0.5 > bad


def test_held_out_figures_are_not_those_of_labels_learnt_by_heart(tmp_path):
    """With labels that are noise, held-out cases are scored no better than by chance."""
    rng = np.random.default_rng(0)
    verdicts = rng.permutation(np.arange(60) % 2 == 0)

    def noise():
        for kind in ("mask", "fill"):
            for number in range(60):
                found = case(2 * number, kind, "photo", f"photo-{number}")
                good = bool(verdicts[number])
                yield Case(Label(f"n-{number}", kind, good), found.picture, found.mask, found.group)

    report = train_quality(noise(), tmp_path, QualitySettings(decay=1e-7), progress=False)
    for kind in ("mask", "fill"):
        assert 0.2 < report["held_out"][kind]["photo"]["roc_auc"] < 0.8


def test_the_same_cases_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        train_quality(cases(12), tmp_path / name, progress=False)
    for name in ("heads.safetensors", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_labels_of_one_kind_or_one_verdict_are_refused(tmp_path):
    with pytest.raises(DataError, match="no label of a fill"):
        train_quality((c for c in cases() if c.label.kind == "mask"), tmp_path, progress=False)
    with pytest.raises(DataError, match="No bad mask"):
        train_quality((c for c in cases() if c.label.good), tmp_path, progress=False)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "given", [{"precision": 0}, {"decay": 0}, {"photo_share": 1}, {"folds": 1}]
)
def test_settings_out_of_range_are_named(given):
    with pytest.raises(InputError, match=next(iter(given))):
        QualitySettings(**given)


def test_the_hash_tells_models_apart():
    heads = {kind: torch.nn.Linear(3, 1) for kind in ("mask", "fill")}
    one = QualityModel(Colours(), heads, QualityConfig())
    other = QualityModel(Colours(), heads, QualityConfig(backbone="another"))
    assert one.sha256 != other.sha256


@given(CASES)
def test_roc_auc_is_the_share_of_pairs_in_order(cases):
    scores = np.array([score / 5 for score, _ in cases])
    good = np.array([verdict for _, verdict in cases])
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[good] for b in scores[~good]]
    if pairs:
        assert roc_auc(scores, good) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(roc_auc(scores, good))


@given(CASES, st.sampled_from([0.5, 0.8, 1.0]))
def test_the_threshold_is_the_least_that_is_precise_enough(cases, wanted):
    scores = np.array([score / 5 for score, _ in cases])
    good = np.array([verdict for _, verdict in cases])
    fitting = [
        s for s in set(scores.tolist()) if precision_and_recall(scores, good, s)[0] >= wanted
    ]
    assert threshold_for_precision(scores, good, wanted) == min(fitting, default=1.0)


def test_figures_by_hand():
    scores, good = np.array([0.9, 0.8, 0.6, 0.2]), np.array([True, False, True, True])
    found = rank(scores, good, 1.0)
    assert (found.count, found.good) == (4, 3)
    assert found.precision == found.recall == pytest.approx(2 / 3)
    assert (found.threshold, found.precision_there) == (0.9, 1.0)
    assert found.recall_there == pytest.approx(1 / 3)
    none = rank(np.array([0.1]), np.array([False]))
    assert none.to_json()["precision"] is None
    assert none.threshold == 1.0


def test_nothing_to_rank_is_named():
    with pytest.raises(InputError, match="0 scores"):
        rank(np.array([]), np.array([], bool))
