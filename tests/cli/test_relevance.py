"""`train relevance`: what it refuses, and one run to a probe and its figures."""

import json

import pytest

from tests.cli.outcome import assert_one_sentence
from text2layer.errors import WeightsError
from text2layer.models.relevance import load_relevance
from text2layer.pretrained import resolve

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
