"""Damaged masks and fills are bad by measure, good ones are good, and a seed says all."""

import numpy as np
import pytest

from tests.toy_library import build_toy_library
from text2layer.data.schema import Sample, SampleMetadata
from text2layer.data.shards import ShardWriter
from text2layer.judges import damage
from text2layer.judges.cases import (
    composed_cases,
    composer_of,
    network_verdict,
    photo_cases,
)
from text2layer.judges.damage import fill_error, grown_hole
from text2layer.judges.labels import Label

SIDE = 128


@pytest.fixture(scope="module")
def disc():
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    inside = (y - 60) ** 2 + (x - 70) ** 2 < 30**2
    return np.where(inside, 255, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def ground():
    """A picture with texture everywhere."""
    rng = np.random.default_rng(3)
    return rng.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def composer(tmp_path_factory):
    root = build_toy_library(tmp_path_factory.mktemp("damage") / "toy")
    return composer_of(root, "train", 6)


@pytest.mark.parametrize("seed", range(8))
def test_good_masks_stay_near_the_truth_and_are_soft(disc, seed):
    found = damage.good_mask(disc, np.random.default_rng(seed))
    inside, truth = found > 127, disc > 127
    assert (inside & truth).sum() / (inside | truth).sum() >= damage.GOOD_IOU
    assert len(np.unique(found)) > 4


@pytest.mark.parametrize("seed", range(8))
def test_damaged_masks_are_far_from_it(disc, seed):
    truth = disc > 127
    incomplete = damage.incomplete_mask(disc, np.random.default_rng(seed)) > 127
    assert 0.1 < (incomplete & truth).sum() / truth.sum() < 0.8
    assert (incomplete & ~truth).sum() < 0.1 * truth.sum()
    spilled = damage.spilled_mask(disc, np.random.default_rng(seed)) > 76
    assert (spilled & truth).sum() > 0.9 * truth.sum()
    assert (spilled & ~truth).sum() > 0.25 * truth.sum()
    stray = damage.stray_mask(disc, np.random.default_rng(seed)) > 127
    assert (stray & truth).sum() < 0.2 * truth.sum()


def test_an_empty_mask_is_left_alone():
    empty = np.zeros((SIDE, SIDE), np.uint8)
    for make in (damage.incomplete_mask, damage.spilled_mask, damage.good_mask):
        assert not make(empty, np.random.default_rng(0)).any()


def test_the_verdict_on_a_networks_mask_follows_from_the_truth(disc):
    half, more, none = disc.copy(), disc.copy(), np.zeros_like(disc)
    half[:60] = 0
    more[:30] = 255
    near = np.roll(disc, 6, axis=0)
    assert network_verdict(disc, disc) == ""
    assert network_verdict(half, disc) == "incomplete"
    assert network_verdict(more, disc) == "background included"
    assert network_verdict(none, disc) == "no object"
    assert network_verdict(near, disc) is None


def test_the_hole_grows_to_all_sides_and_further_below(disc):
    rows, columns = np.nonzero(grown_hole(disc, 3, 10))
    old_rows, old_columns = np.nonzero(disc)
    assert rows.min() == old_rows.min() - 3
    assert rows.max() == old_rows.max() + 10
    assert (columns.min(), columns.max()) == (old_columns.min() - 3, old_columns.max() + 3)


def test_the_truth_is_a_good_fill_and_every_damage_is_measured_as_error(disc, ground):
    hole = grown_hole(disc, 3, 6)
    rng = np.random.default_rng(0)
    assert fill_error(ground, ground, hole).verdict is True
    smeared = fill_error(damage.smeared(ground, hole), ground, hole)
    assert smeared.verdict is False
    assert smeared.reason == "blurred"
    foreign = damage.foreign_texture(ground, hole, 255 - ground // 3, rng)
    found = fill_error(foreign, ground, hole)
    assert (found.verdict, found.reason) == (False, "not cohesive")
    flat = np.full_like(ground, 100)
    assert fill_error(damage.smeared(flat, hole), flat, hole).verdict is True


@pytest.mark.parametrize("seed", range(4))
def test_damage_changes_the_hole_alone(disc, ground, seed):
    hole = grown_hole(disc, 3, 6)
    rng = np.random.default_rng(seed)
    colour, alpha = np.zeros((20, 30, 3), np.uint8), np.full((20, 30), 255, np.uint8)
    for changed in (
        damage.smeared(ground, hole),
        damage.seamed(ground, hole, rng),
        damage.streaked(ground, hole, rng),
        damage.foreign_texture(ground, hole, 255 - ground, rng),
        damage.pasted_object(ground, hole, colour, alpha, rng),
    ):
        assert np.array_equal(changed[~hole], ground[~hole])
        assert np.abs(changed[hole].astype(int) - ground[hole]).mean() > 3


def opencv_like(picture, hole):
    return damage.smeared(picture, hole)


def test_cases_are_of_both_kinds_and_verdicts_and_the_seed_says_all(composer):
    def make(seed):
        return list(
            composed_cases(
                composer, 24, seed, inpaint=opencv_like, saliency=lambda p: p.max(axis=2)
            )
        )

    cases, again, other = make(5), make(5), make(6)
    found = {(case.label.kind, case.label.good) for case in cases}
    assert found == {(kind, good) for kind in ("mask", "fill") for good in (True, False)}
    assert [case.label for case in cases] == [case.label for case in again]
    for case, same in zip(cases, again, strict=True):
        assert np.array_equal(case.picture, same.picture)
        assert np.array_equal(case.mask, same.mask)
    assert [case.way for case in cases] != [case.way for case in other]
    assert len({(case.label.key, case.label.kind) for case in cases}) == len(cases)
    for case in cases:
        assert case.group == "train"
        assert bool(case.label.reason) == (not case.label.good)
        if case.way == "small":
            assert (case.mask > 127).mean() < damage.SMALL_SHARE


def test_the_labelled_samples_of_a_build_become_cases(tmp_path, disc, ground):
    photo = np.where(disc[..., None] > 0, 250, ground).astype(np.uint8)
    metadata = SampleMetadata("here", "", "", "train")
    with ShardWriter(tmp_path, lossless=True) as writer:
        for key in ("a", "b"):
            writer.write(Sample(key, photo, disc, ground, photo, "a disc", metadata))
    labels = {("a", "mask"): Label("a", "mask", True), ("a", "fill"): Label("a", "fill", False)}
    cases = list(photo_cases(tmp_path, labels))
    assert [(case.label, case.group) for case in cases] == [(v, "a") for v in labels.values()]
    assert np.array_equal(cases[0].picture, photo)
    assert np.array_equal(cases[0].mask, disc)
    assert np.array_equal(cases[1].picture, ground)
    hole = cases[1].mask > 0
    assert hole[disc > 127].all()
    assert (disc > 127).sum() < hole.sum() < 2 * (disc > 127).sum()
