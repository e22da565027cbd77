"""`text2layer evaluate`: objects, and what is refused before any long work.

Runs of the other protocols are in test_train.py.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.outcome import assert_one_sentence
from tests.recipe import recipe
from text2layer.cli import evaluate
from text2layer.errors import InputError
from text2layer.evaluation import benchmark
from text2layer.evaluation import run as evaluation_run
from text2layer.models.efficientnet import EfficientNetLite0
from text2layer.pipelines.loading import LearntThing, write_learnt


def test_plots_that_cannot_be_drawn_are_said_at_once(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    out = tmp_path / "scores"
    asked = run("evaluate", "no-such-model", "--data", "no-such-data", "--out", out)
    assert "matplotlib: run pip install -c constraints.txt '.[build]'" in assert_one_sentence(asked)
    assert not out.exists()


def test_objects_are_measured_by_name_and_listed_beside_the_model(
    run, library: Path, model: Path, tmp_path: Path, monkeypatch
) -> None:
    """The whole way on a toy model, with EfficientNet's architecture and random weights."""
    torch.manual_seed(4)
    looks = EfficientNetLite0(pretrained=False)
    monkeypatch.setattr(evaluation_run, "_objects", looks.to)
    listed, out = tmp_path / "drawings.txt", tmp_path / "scores"
    listed.write_text("# learnt\ncircle-000\nsquare-001\nring-002\n")
    asked = ("evaluate", model, "--data", library, "--protocols", "objects", "--steps", 2)
    few = ("--drawings", listed, "--seeds", 2)
    done = run(*asked, *few, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert "object top1, is the nearest thing (up)" in done.stdout
    stored = json.loads((out / "results.json").read_text())["results"]
    assert [result["protocol"] for result in stored] == ["objects"]
    about = stored[0]["about"]
    assert (about["known_things"], about["seeds"], stored[0]["samples"]) == (3, 2, 3)
    again = json.loads(run(*asked, *few, "--batch-size", 2, "--json").stdout)["results"][0]
    assert again["metrics"] == stored[0]["metrics"]
    assert again["about"]["prompts_sha256"] == about["prompts_sha256"]
    one = json.loads(run(*asked, "--things", 1, "--seeds", 1, "--json").stdout)["results"][0]
    assert one["samples"] == 1
    assert one["about"]["known_drawings"] > 3  # all that can be named

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    item = about["things"][0]
    item["top1"] = 2
    (out / "results.json").write_text(json.dumps({"format": 1, "results": stored}))
    things = recipe("learnt_things").learnt_things(out, copy)
    assert things[0] == LearntThing(item["prompt"], item["style"], item["concept"], 2, 2)
    write_learnt(copy, things)
    assert item["prompt"] in run("info", copy).stdout
    about["model_hash"] = "0" * 16
    (out / "results.json").write_text(json.dumps({"format": 1, "results": stored}))
    with pytest.raises(InputError, match="was measured on the model 0000"):
        recipe("learnt_things").learnt_things(out, copy)


def test_objects_need_a_library_and_drawings_of_it(run, library, model, tmp_path: Path) -> None:
    asked = ("evaluate", model, "--protocols", "objects", "--data")
    assert "in a picture library" in assert_one_sentence(run(*asked, tmp_path))
    listed = tmp_path / "drawings.txt"
    listed.write_text("unicorn\n")
    few = ("--drawings", listed)
    refused = run(*asked, library, *few)
    assert refused.exit_code == 1
    assert "none of the drawings" in refused.stderr.splitlines()[-1]
    listed.unlink()
    assert "cannot be read" in assert_one_sentence(run(*asked, library, *few))


def test_all_protocols_are_all_but_objects() -> None:
    assert evaluate.PROTOCOLS == benchmark.PROTOCOLS
    assert "objects" not in benchmark.choose("all", benchmark.PROTOCOLS)
    assert benchmark.choose("objects,prompt", benchmark.PROTOCOLS) == ["prompt", "objects"]


def test_known_things_are_measured_before_grounds_that_training_leaves_out(
    run, library: Path, model: Path, tmp_path: Path
) -> None:
    """Other protocols take the list too: their samples are of its cut-outs alone."""
    listed = tmp_path / "drawings.txt"
    listed.write_text("circle-000\nsquare-001\nring-002\n")
    asked = ("evaluate", model, "--data", library, "--protocols", "reconstruct", "--samples", 4)
    asked = (*asked, "--split", "pairings", "--json")
    wide = json.loads(run(*asked).stdout)["results"][0]
    few = json.loads(run(*asked, "--drawings", listed).stdout)["results"][0]
    assert few["about"]["split"] == "pairings"
    assert "drawings" not in wide["about"]
    assert few["about"]["drawings"]
    assert few["metrics"] != wide["metrics"]
    listed.write_text("triangle-003\n")  # of another split
    refused = run(*asked, "--drawings", listed)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith("Error: None of the listed drawings")


def test_networks_run_in_bfloat16_and_scores_in_float32(
    run, library: Path, model: Path, monkeypatch
) -> None:
    torch.manual_seed(4)
    looks = EfficientNetLite0(pretrained=False)
    monkeypatch.setattr(evaluation_run, "_objects", looks.to)
    asked = ("evaluate", model, "--data", library, "--samples", 8, "--steps", 1, "--things", 2,
             "--seeds", 1, "--protocols", "reconstruct,prompt,objects", "--json")  # fmt: skip
    exact, rounded = (
        json.loads(run(*asked, *more).stdout)["results"] for more in ((), ("--dtype", "bfloat16"))
    )
    for one, other in zip(exact, rounded, strict=True):
        assert "dtype" not in one["about"]
        assert other["about"]["dtype"] == "bfloat16"
        assert one["metrics"].keys() == other["metrics"].keys()
    for name in ("psnr_background", "soft_iou"):
        values = [result[0]["metrics"][name]["value"] for result in (exact, rounded)]
        assert values[0] != values[1]
        assert values == pytest.approx([values[0]] * 2, rel=0.02)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["no-such-model", "--dtype", "int8"], "must be float32 or bfloat16, not 'int8'"),
        (["networks", "--dtype", "bfloat16"], "--dtype needs the folder of a whole model"),
    ],
)
def test_dtypes_that_cannot_be_are_one_sentence(run, library: Path, asked, says: str) -> None:
    assert says in assert_one_sentence(run("evaluate", *asked, "--data", library))
