"""metrics.jsonl: means, lines that a resume drops, what a checkpoint remembers."""

import json
from pathlib import Path

import pytest
import torch

from text2layer.training.metrics import MetricsLog
from text2layer.training.settings import settings_from

SETTINGS = settings_from("autoencoder", "tiny", steps=24, batch_size=4)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fill(log: MetricsLog, steps: range) -> None:
    """Loss 1 / step; `rare` on every fourth update only."""
    for step in steps:
        values = {"loss": torch.tensor(1.0, dtype=torch.float64) / step}
        log.add(step, {**values, **({"rare": 4.0} if step % 4 == 0 else {})}, rate=0.1)


def test_means_of_ten_updates_and_of_the_rest(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, 0, SETTINGS, main=True) as log:
        fill(log, range(1, 25))
        log.write({"step": 24, "val_loss": 0.25})
    written = lines(path)
    assert [line["step"] for line in written] == [10, 20, 24, 24]
    assert written[0]["loss"] == pytest.approx(sum(1 / n for n in range(1, 11)) / 10, abs=1e-6)
    assert written[2]["loss"] == pytest.approx(sum(1 / n for n in range(21, 25)) / 4, abs=1e-6)
    assert written[0]["learning_rate"] == 0.1
    assert written[0]["samples_per_second"] > 0
    assert written[3] == {"step": 24, "val_loss": 0.25}


def test_a_term_that_few_updates_have_is_averaged_over_those(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl", 0, SETTINGS, main=True) as log:
        fill(log, range(1, 11))
    assert lines(tmp_path / "metrics.jsonl")[0]["rare"] == 4.0


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    with MetricsLog(whole, 0, SETTINGS, main=True) as log:
        fill(log, range(1, 25))
    with MetricsLog(parts, 0, SETTINGS, main=True) as log:
        fill(log, range(1, 17))
        pending = json.loads(json.dumps(log.pending()))
        fill(log, range(17, 23))  # after the checkpoint, before the kill
    with MetricsLog(parts, 16, SETTINGS, True, pending) as log:
        fill(log, range(17, 25))

    def without_clock(path: Path) -> list[dict]:
        return [{k: v for k, v in line.items() if "second" not in k} for line in lines(path)]

    assert without_clock(parts) == without_clock(whole)


def test_a_line_cut_short_by_a_kill_does_not_stop_the_next_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "loss": 2.0}\n{"step": 21, "lo')
    MetricsLog(path, 10, SETTINGS, main=True).__exit__()
    assert lines(path) == [{"step": 10, "loss": 1.0}]


def test_other_processes_write_nothing(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl", 0, SETTINGS, main=False) as log:
        fill(log, range(1, 11))
    assert not (tmp_path / "metrics.jsonl").exists()
