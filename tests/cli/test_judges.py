"""`dataset label`, `train quality`, `train relevance`: refusals, and one run of each trainer."""

import json
import socket

import numpy as np
import pytest

from tests.cli.outcome import assert_one_sentence
from text2layer.data.schema import Sample, SampleMetadata
from text2layer.data.shards import ShardWriter
from text2layer.errors import WeightsError
from text2layer.judges.labels import Label, write_labels
from text2layer.judges.quality import load_quality
from text2layer.judges.relevance import load_relevance
from text2layer.pretrained import resolve


@pytest.fixture
def build(tmp_path):
    """A folder with ten samples; every other one is bright in the middle."""
    mask = np.zeros((48, 48), np.uint8)
    mask[12:36, 12:36] = 255
    with ShardWriter(tmp_path / "build") as writer:
        for number in range(10):
            rng = np.random.default_rng(number)
            photo = rng.integers(0, 90, (48, 48, 3), dtype=np.uint8)
            fill = photo.copy()
            photo[12:36, 12:36] += 100 * (number % 2)
            fill[12:36, 12:36] += 100 * (number % 2)
            metadata = SampleMetadata("here", "", "", "train")
            writer.write(Sample(f"photo-{number}", photo, mask, fill, photo, "a photo", metadata))
    return tmp_path / "build"


def test_labelling_needs_samples_a_folder_for_the_labels_and_a_free_port(run, build, tmp_path):
    assert "There is no shard" in assert_one_sentence(run("dataset", "label", tmp_path / "none"))
    result = run("dataset", "label", build, "--labels", tmp_path / "none" / "labels.jsonl")
    assert "make it first" in assert_one_sentence(result)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("dataset", "label", build, "--no-browser", "--port", taken.getsockname()[1])
    assert "give another --port" in assert_one_sentence(result)


def test_training_needs_something_to_learn_from(run, build, tmp_path):
    assert "--photos BUILD" in assert_one_sentence(run("train", "quality", tmp_path / "heads"))
    result = run("train", "quality", tmp_path / "heads", "--photos", build)
    assert "text2layer dataset label" in assert_one_sentence(result)
    assert not (tmp_path / "heads").exists()


def test_labels_become_heads_and_figures(run, build, tmp_path):
    try:
        resolve("efficientnet-lite0", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    labels = [
        Label(f"photo-{number}", kind, number % 2 == 1)
        for number in range(10)
        for kind in ("mask", "fill")
    ]
    write_labels(build / "labels.jsonl", labels)
    result = run("train", "quality", tmp_path / "heads", "--photos", build, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["labels"]["photo mask good"] == report["labels"]["photo fill bad"] == 5
    model = load_quality(tmp_path / "heads")
    assert model.config.held_out == report["held_out"]
    shown = run("train", "quality", tmp_path / "again", "--photos", build).stdout
    assert "mask, photo, held out: 10 cases (5 good)" in shown


SMALL = ("--samples", 8, "--held-out", 8, "--size", 32, "--gallery", 3, "--steps", 10)


@pytest.fixture
def weights():
    """What others trained: Inception for pictures and MiniLM for texts."""
    try:
        for name in ("fid-inception", "minilm"):
            resolve(name, offline=True)
    except WeightsError as error:
        pytest.skip(str(error))


def test_data_that_are_none_are_one_sentence(run, tmp_path):
    result = run("train", "relevance", tmp_path / "probe", "--data", tmp_path / "none")
    assert str(tmp_path / "none") in assert_one_sentence(result)
    assert not (tmp_path / "probe").exists()


def test_a_library_becomes_a_probe_and_figures(run, library, tmp_path, weights):
    options = ("--data", library, "--cache", tmp_path / "cache", *SMALL)
    result = run("train", "relevance", tmp_path / "probe", *options, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert load_relevance(tmp_path / "probe").config.held_out == report["held_out"]
    shown = run("train", "relevance", tmp_path / "again", *options).stdout
    assert "20 galleries of 3 from 8 test pairs, seed 0" in shown
    assert f"{report['held_out']['picture_to_text']['r1']:8.3f}" in shown
