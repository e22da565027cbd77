"""Layer edit scores, each step by hand, and the whole against the definition written out."""

import numpy as np
import pytest

from text2layer.errors import InputError
from text2layer.evaluation.layer_edits import (
    align,
    alpha_iou,
    layer_edit_scores,
    merge,
    regroup,
    rgb_l1,
)

RED, BLACK = (255, 0, 0), (0, 0, 0)
VARIANTS = ["layerd", "corrected"]


def layer(colour: tuple[int, int, int], alphas: list[int]) -> np.ndarray:
    """One row of pixels of one colour, (1, len(alphas), 4) uint8."""
    return np.array([[(*colour, alpha) for alpha in alphas]], np.uint8)


GROUND = layer(BLACK, [255] * 4)
OBJECT = layer(RED, [255, 255, 255, 0])
BACK_PART = layer(RED, [255, 255, 0, 0])
FRONT_PART = layer(RED, [0, 255, 255, 0])


def random_stack(generator: np.random.Generator, count: int) -> list[np.ndarray]:
    """An opaque ground and soft rectangles over it, which overlap in part."""
    stack = [generator.integers(0, 256, (9, 12, 4), np.uint8)]
    stack[0][..., 3] = 255
    for _ in range(count - 1):
        new = generator.integers(0, 256, (9, 12, 4), np.uint8)
        top, left = generator.integers(0, 6, 2)
        inside = np.zeros((9, 12), bool)
        inside[top : top + 5, left : left + 6] = True
        new[..., 3] = np.where(inside, np.maximum(new[..., 3], 1), 0)
        stack.append(new)
    return stack


# --- the definition written out, without a thought for speed


def reference_pair(p: np.ndarray, g: np.ndarray, variant: str) -> tuple[float, float]:
    p, g = p / 255.0, g / 255.0
    weight = (g[..., 3] > 0) * 1.0 if variant == "layerd" else g[..., 3]
    eps = 1e-8 if variant == "layerd" else 0.0
    error = np.abs(p - g)[..., :3].mean(-1)
    colour = (error * weight).sum() / (weight.sum() + eps) if weight.sum() else 0.0
    union = np.maximum(p[..., 3], g[..., 3]).sum()
    empty = 0.0 if variant == "layerd" else 1.0
    return colour, (np.minimum(p[..., 3], g[..., 3]).sum() / union if union else empty)


def reference_cost(p: np.ndarray, g: np.ndarray, variant: str) -> float:
    colour, overlap = reference_pair(p, g, variant)
    return (colour + 1 - overlap) / 2


def all_paths(n: int, m: int) -> list[list[tuple[int, int]]]:
    if (n, m) == (1, 1):
        return [[(0, 0)]]
    before = [(n - 1, m - 1), (n - 1, m), (n, m - 1)]
    return [[*path, (n - 1, m - 1)] for a, b in before if a and b for path in all_paths(a, b)]


def reference_path(costs: np.ndarray) -> list[tuple[int, int]]:
    return min(all_paths(*costs.shape), key=lambda path: sum(costs[pair] for pair in path))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("seed", "made", "wanted"), [(0, 4, 4), (1, 6, 3), (2, 3, 6), (3, 5, 5)])
def test_the_scores_are_those_of_the_definition(variant, seed, made, wanted):
    generator = np.random.default_rng(seed)
    predicted, true = random_stack(generator, made), random_stack(generator, wanted)
    scores = layer_edit_scores(predicted, true, variant)
    predicted, true = regroup(predicted), regroup(true)
    path = reference_path(np.array([[reference_cost(p, g, variant) for g in true]
                                    for p in predicted]))  # fmt: skip
    colour, overlap = np.mean(
        [reference_pair(predicted[i], true[j], variant) for i, j in path], axis=0
    )
    assert scores.rgb_l1 == pytest.approx(colour, rel=1e-9)
    assert scores.alpha_iou == pytest.approx(overlap, rel=1e-9)
    assert scores.cost == pytest.approx((colour + 1 - overlap) / 2, rel=1e-9)


# --- each step by hand


def test_regrouping_peels_off_what_lies_on_top():
    left, right = layer(RED, [255, 0, 0, 0]), layer(RED, [0, 0, 0, 9])
    cover = layer((0, 0, 255), [1, 0, 0, 0])  # however faint, it covers `left`
    groups = regroup([GROUND, left, right, cover])
    assert len(groups) == 3
    np.testing.assert_array_equal(groups[0], GROUND)
    np.testing.assert_array_equal(groups[1], left)
    assert groups[2][0, :, 3].tolist() == [1, 0, 0, 9]
    assert [len(regroup(stack)) for stack in ([GROUND], [left, right], [GROUND, GROUND])] == [
        1,
        1,
        2,
    ]
    empty = layer(RED, [0] * 4)
    assert len(regroup([empty, empty])) == 1  # nothing covers nothing


def test_merging_is_over_with_straight_alpha():
    generator = np.random.default_rng(0)
    back, front = generator.integers(0, 256, (2, 20, 20, 4), np.uint8)
    a, b = front[..., 3:] / 255, back[..., 3:] / 255
    alpha = a + b * (1 - a)
    colour = (front[..., :3] * a + back[..., :3] * b * (1 - a)) / np.maximum(alpha, 1e-9)
    merged = merge(back, front)
    assert np.abs(merged[..., 3:] - alpha * 255).max() <= 1
    seen = alpha[..., 0] > 0.2
    assert np.abs(merged[..., :3] - colour)[seen].max() <= 1.5


def test_colour_counts_by_the_true_alpha():
    true = np.array([[(0, 0, 0, 255), (0, 0, 0, 51), (0, 0, 0, 0)]], np.uint8)
    predicted = np.array([[(51, 51, 51, 255), (255, 255, 255, 0), (99, 99, 99, 255)]], np.uint8)
    assert rgb_l1(predicted, true) == pytest.approx((0.2 + 1) / 2)
    assert rgb_l1(predicted, true, "corrected") == pytest.approx((0.2 * 1 + 1 * 0.2) / 1.2)
    assert rgb_l1(GROUND, OBJECT) == pytest.approx(1 / 3)  # one channel of three


def test_overlap_of_alphas_and_of_empty_layers():
    half, empty = layer(RED, [128, 0, 255, 0]), layer(RED, [0] * 4)
    for variant in VARIANTS:
        assert alpha_iou(half, OBJECT, variant) == pytest.approx((128 + 255) / (3 * 255))
        assert alpha_iou(empty, OBJECT, variant) == 0
        assert rgb_l1(OBJECT, empty, variant) == 0
    assert (alpha_iou(empty, empty, "layerd"), alpha_iou(empty, empty, "corrected")) == (0, 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (4, 3), (5, 5)])
def test_the_alignment_is_the_cheapest_of_all_paths(shape):
    costs = np.random.default_rng(7).random(shape)
    assert align(costs) == reference_path(costs)


def test_equal_ways_prefer_the_diagonal_then_the_prediction():
    assert align(np.zeros((3, 2))) == [(0, 0), (1, 0), (2, 1)]
    assert align(np.zeros((2, 3))) == [(0, 0), (0, 1), (1, 2)]
    around = np.zeros((3, 3))
    around[1, 1] = 1
    assert align(around) == [(0, 0), (0, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_object_in_two_parts_by_hand(variant):
    split = [GROUND, BACK_PART, FRONT_PART]
    for stacks in ((split, [GROUND, OBJECT]), ([GROUND, OBJECT], split)):
        scores = layer_edit_scores(*stacks, variant)
        # pairs: ground 1, each part 2/3
        assert scores.alpha_iou == pytest.approx(7 / 9)
        assert scores.rgb_l1 == pytest.approx(0)
        assert scores.cost == pytest.approx(1 / 9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_true_stack_is_perfect_and_floats_are_rounded(variant):
    stack = random_stack(np.random.default_rng(4), 4)
    scores = layer_edit_scores(stack, [x / 255 for x in stack], variant)
    assert (scores.rgb_l1, scores.alpha_iou, scores.cost) == (0, 1, 0)


def test_a_missing_prediction_is_left_out_or_worst():
    for missing in (None, []):
        published = layer_edit_scores(missing, [GROUND, OBJECT], "layerd")
        assert np.isnan([published.rgb_l1, published.alpha_iou, published.cost]).all()
        corrected = layer_edit_scores(missing, [GROUND, OBJECT], "corrected")
        assert (corrected.rgb_l1, corrected.alpha_iou, corrected.cost) == (1, 0, 1)


def test_a_flat_picture_is_left_out_or_a_stack_of_one():
    assert np.isnan(layer_edit_scores([GROUND], [GROUND, OBJECT]).cost)
    assert np.isnan(layer_edit_scores([GROUND, OBJECT], [GROUND]).cost)
    scores = layer_edit_scores([GROUND], [GROUND, OBJECT], "corrected")
    assert scores.alpha_iou == pytest.approx((1 + 3 / 4) / 2)
    assert scores.rgb_l1 == pytest.approx((0 + 1 / 3) / 2)


def test_what_is_no_stack_is_refused():
    pair = [GROUND, OBJECT]
    with pytest.raises(InputError, match=r"one size, got \(1, 3\) and \(1, 4\)"):
        layer_edit_scores([GROUND[:, :3], OBJECT[:, :3]], pair)
    with pytest.raises(InputError, match="at least one true layer"):
        layer_edit_scores(pair, [])
    with pytest.raises(InputError, match=r"must be \(H, W, 4\), but \(1, 4, 3\)"):
        layer_edit_scores([GROUND[..., :3]], pair)
    with pytest.raises(InputError, match=r"float in \[0, 1\], but float64 from nan"):
        layer_edit_scores([GROUND * np.nan, OBJECT], pair)
    with pytest.raises(InputError, match=r"float in \[0, 1\], but int64 from 0 to 255"):
        layer_edit_scores([GROUND.astype(np.int64), OBJECT], pair)
    with pytest.raises(InputError, match="'layerd' and 'corrected', not 'exact'"):
        layer_edit_scores(pair, pair, "exact")
