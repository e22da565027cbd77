"""Neither batches nor processes change a figure or its interval, of any protocol."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.evaluation.all_protocols import measure
from tests.evaluation.toy_samples import ToyFeatures
from text2layer.data.known_samples import KnownSamples
from text2layer.evaluation import collector as module
from text2layer.evaluation.benchmark import PROTOCOLS
from text2layer.evaluation.collector import Collector
from text2layer.evaluation.features import References
from text2layer.evaluation.results import ProtocolResult, read_results


def assert_alike(results: list[ProtocolResult], others: list[ProtocolResult]) -> None:
    """The same figures but for the rounding of floating-point sums."""
    assert [result.protocol for result in results] == list(PROTOCOLS)
    assert [result.protocol for result in others] == list(PROTOCOLS)
    for one, other in zip(results, others, strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        assert one.absent == other.absent
        assert one.about["prompts_sha256"] == other.about["prompts_sha256"]
        for name, figure in one.metrics.items():
            found = other.metrics[name]
            assert (found.value, found.low, found.high) == pytest.approx(
                (figure.value, figure.low, figure.high), rel=0.01, abs=1e-3
            ), f"{one.protocol}: {name}"


def test_batches_and_the_order_of_processes_change_nothing(
    library, toy_text_encoder, tmp_path, monkeypatch
):
    whole = measure(library, toy_text_encoder, tmp_path, batch_size=8).results
    assert "fid_composite" in whole[0].metrics
    assert_alike(whole, measure(library, toy_text_encoder, tmp_path, batch_size=3).results)
    batches = KnownSamples.batches

    def by_process(self, batch_size, *_):
        """As it is gathered from two processes."""
        return (batch for process in (0, 1) for batch in batches(self, batch_size, process, 2))

    monkeypatch.setattr(KnownSamples, "batches", by_process)
    assert_alike(whole, measure(library, toy_text_encoder, tmp_path, batch_size=2).results)


def test_what_the_first_process_has_kept_no_other_computes_or_overwrites(tmp_path, monkeypatch):
    kept = References(tmp_path)
    pictures = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    with Collector(ToyFeatures(), kept) as first:
        first.known("composite", pictures)
        first.add(torch.arange(4), {})
        first.sets()
    with Collector(ToyFeatures(), kept) as again:
        again.known("composite", pictures)
        again.add(torch.arange(4), {})
        assert len(again.sets()["composite", module.REAL]) == 4
    # as the second of two processes sees it, whose own folder is empty
    monkeypatch.setattr(module, "is_first_process", lambda: False)
    monkeypatch.setattr(module, "gathered", lambda mine: [["composite"], *mine])
    with Collector(ToyFeatures(), References()) as second:
        second.known("composite", pictures)
        second.known("background", pictures)
        assert set(second._stores) == {("background", module.REAL)}


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(library, toy_text_encoder, tmp_path):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    launchers = {
        "one": ("-m",),
        "two": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"),
    }
    found = {}
    for name, launcher in launchers.items():
        command = [
            sys.executable, *launcher, "tests.evaluation.all_protocols", str(library),
            str(toy_text_encoder), str(tmp_path / name), "3",
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"{1 + (name == 'two')} processes"
        found[name] = read_results(tmp_path / name)
    assert_alike(found["one"], found["two"])
