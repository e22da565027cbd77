"""What is written can be read again, and two results are compared honestly."""

import math

import numpy as np
import pytest

from text2layer.errors import InputError
from text2layer.evaluation.compare import compare, comparison_table, paired_difference
from text2layer.evaluation.interval import Interval
from text2layer.evaluation.results import (
    ProtocolResult,
    plot_scores,
    read_results,
    shown,
    table,
    write_results,
)

ABOUT = {"data": "abc", "split": "test", "size": 64, "data_seed": 0, "prompts_sha256": "d",
         "networks": {"inception": "e"}}  # fmt: skip


def result(shift: float = 0.0, **about: object) -> ProtocolResult:
    scores = np.random.default_rng(1).normal(0.5, 0.1, 200) + shift
    scores[3] = math.nan
    made = ProtocolResult("generate", 1, 200, {**ABOUT, **about})
    made.add_means({"soft_iou_judge": scores})
    made.metrics["fid_composite"] = Interval(40 + 100 * shift, 38 + 100 * shift, 42 + 100 * shift)
    made.metrics["relevance_r1"] = Interval(0.2, -math.inf, math.inf, 200, note="of 100")
    made.absent["clip_cosine"] = "no CLIP was named"
    return made


def test_results_come_back_as_they_were_written(tmp_path):
    write_results([result()], tmp_path / "out")
    (read,) = read_results(tmp_path / "out")
    assert read.metrics == result().metrics
    assert read.absent == result().absent
    assert read.about == ABOUT
    np.testing.assert_array_equal(
        read.per_sample["soft_iou_judge"], result().per_sample["soft_iou_judge"]
    )
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| fid composite (down) | 40.00 | 38.00 to 42.00 |" in text
    assert "absent. no CLIP was named" in text


@pytest.mark.parametrize("damage", ["nothing", "not json", "another format", "no scores"])
def test_no_results_are_one_sentence(tmp_path, damage):
    write_results([result()], tmp_path)
    if damage == "nothing":
        (tmp_path / "results.json").unlink()
    elif damage == "not json":
        (tmp_path / "results.json").write_text("{")
    elif damage == "another format":
        (tmp_path / "results.json").write_text('{"format": 99, "results": []}')
    else:
        (tmp_path / "scores.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no results that can be read"):
        read_results(tmp_path)


def test_a_small_but_steady_gain_is_clear_when_samples_are_paired():
    compared = compare([result()], [result(0.01)])["generate"]
    gain = compared["soft_iou_judge"]
    assert gain.paired
    assert gain.verdict == "better"
    assert gain.difference.value == pytest.approx(0.01)
    assert gain.difference.ignored == 1
    # by their own intervals the two could not be told apart
    assert gain.first.high > gain.second.low
    assert compared["fid_composite"].verdict == ""  # 1 of +-2.8
    assert compared["relevance_r1"].verdict == ""
    assert compare([result()], [result(0.1)])["generate"]["fid_composite"].verdict == "worse"
    assert "not clearly different" in comparison_table({"generate": compared}, ("a", "b"))


def test_paired_bootstrap_agrees_with_the_normal_interval():
    rng = np.random.default_rng(0)
    first = rng.normal(size=400)
    second = first + rng.normal(0.2, 1, 400)
    interval = paired_difference(first, second)
    change = second - first
    error = change.std(ddof=1) / 20
    assert interval.value == pytest.approx(change.mean())
    assert interval.low == pytest.approx(change.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(change.mean() + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize(
    ("about", "named"),
    [({"data": "other"}, "data"), ({"size": 128}, "size"), ({"split": "val"}, "split"),
     ({"networks": {"inception": "other"}}, "network inception")],
)  # fmt: skip
def test_results_of_other_conditions_are_not_compared(about, named):
    with pytest.raises(InputError, match=f"their {named} differ"):
        compare([result()], [result(**about)])


def test_nothing_in_common_is_one_sentence():
    other = result()
    other.protocol = "decompose"
    with pytest.raises(InputError, match="no protocol in common"):
        compare([result()], [other])


def test_plots_are_a_png_and_need_scores():
    assert plot_scores([result()]).startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no scores"):
        plot_scores([ProtocolResult("generate", 1, 0)])


def test_numbers_are_shown_with_four_digits():
    numbers = (0, 1234.5678, 12.345678, 0.12345678, 0.0001)
    assert [shown(x) for x in numbers] == ["0", "1235", "12.35", "0.1235", "0.000100"]
    assert "| mask share, of the picture | 0.3" in table(
        [ProtocolResult("generate", 1, 2, {}, {"mask_share": Interval(0.3, 0.2, 0.4, 2)})]
    )
