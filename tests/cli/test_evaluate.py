"""`text2layer evaluate`: what is refused before any long work; runs are in test_train.py."""

import sys
from pathlib import Path

from tests.cli.outcome import assert_one_sentence


def test_plots_that_cannot_be_drawn_are_said_at_once(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    out = tmp_path / "scores"
    asked = run("evaluate", "no-such-model", "--data", "no-such-data", "--out", out)
    assert "pip install 'text2layer[build]'" in assert_one_sentence(asked)
    assert not out.exists()
