"""Two processes train what one does: same samples, same weights, and either goes on for the other.

The pair runs under torchrun on gloo, the one process here in the test.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.conftest import COMMON
from tests.training.runs import assert_same_checkpoint, flat, metrics, weights
from tests.training.toy_run import run
from text2layer.errors import InputError
from text2layer.training import checkpoints, processes
from text2layer.training.loop import step_generator

ROOT = Path(__file__).parents[2]
STEPS = 6
HALF = {"signal": "SIGTERM", "process": 0, "call": 2}  # of call 0 on: after the third update
PLAIN = ("autoencoder", "plain", {"equivariance": 0.5, "partial": 0.5})
QUICK = [PLAIN, ("denoiser", "live", {"imperfect": 0.5, "gradient_checkpointing": True})]
OTHERS = [
    ("autoencoder", "adversarial",
     {"size": 48, "adversarial_weight": 0.5, "adversarial_start": 0, "learning_rate": 1e-4}),
    ("denoiser", "cached", {"cache_samples": 24, "imperfect": 0.5}),
    ("denoiser", "epsilon", {"preset": "tiny-paper", "cache_samples": 24}),
]  # fmt: skip


@pytest.fixture(scope="module")
def one_thread():
    """As many threads as each of the pair has: sums of floats come in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def job(tmp_path, autoencoder_folder, toy_text_encoder):
    """Make a job of `toy_run` that writes to tmp_path/NAME."""

    def make(trainer, name, **settings):
        own = {"learning_rate": 1e-3, "batch_size": 4}
        if trainer == "denoiser":
            own |= {"autoencoder": str(autoencoder_folder), "text_encoder": str(toy_text_encoder)}
        shared = {**COMMON, "steps": STEPS, "out": str(tmp_path / name), "checkpoint_every": 1,
                  "keep_checkpoints": STEPS}  # fmt: skip
        return {"trainer": trainer, "settings": {**shared, **own, **settings}}

    return make


def start_pair(jobs, tmp_path):
    """Start two processes under torchrun, in a process group of their own."""
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps(jobs))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.training.toy_run", str(file)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(pair, timeout=480):
    """Wait for a pair; return its exit code and what it said."""
    try:
        said, _ = pair.communicate(timeout=timeout)
    finally:
        if pair.poll() is None:
            os.killpg(pair.pid, signal.SIGKILL)
    return pair.returncode, said


def run_pair(jobs, tmp_path):
    code, said = finish(start_pair(jobs, tmp_path))
    assert code == 0, said


def newest(run_folder):
    return checkpoints.list_checkpoints(run_folder)[-1]


def assert_close_runs(one, other):
    """The same first gradient, to the rounding of sums; later what rounding has grown to.

    Adam divides by the size of each gradient, so that the rounding of tiny ones counts in full.
    """
    ours, theirs = metrics(one), metrics(other)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        for key, value in mine.items():
            assert value == pytest.approx(yours[key], rel=2e-3), key
    first, last = (checkpoints.checkpoint_path(one, step) for step in (1, STEPS))
    states = [
        flat(checkpoints.load_optimizer_state(checkpoints.checkpoint_path(run_folder, 1)))
        for run_folder in (one, other)
    ]
    for name in (name for name in states[0] if name.endswith("exp_avg")):
        mine, yours = states[0][name], states[1][name]
        torch.testing.assert_close(mine, yours, atol=1e-6, rtol=1e-3, msg=name)
    for part in ("model", "ema"):
        start, mine = (joined(folder / part) for folder in (first, last))
        yours = joined(checkpoints.checkpoint_path(other, STEPS) / part)
        assert float((mine - yours).norm()) < 0.05 * float((mine - start).norm())


def joined(folder):
    return torch.cat([value.flatten().double() for value in weights(folder).values()])


def test_two_processes_train_what_one_does_and_either_goes_on_for_the_other(
    job, tmp_path, one_thread
):
    for trainer, name, settings in QUICK:
        run(job(trainer, f"one-{name}", **settings))
    plain = PLAIN[2]
    run(job("autoencoder", "one-then-two", **plain) | HALF)
    assert newest(tmp_path / "one-then-two").name == "checkpoint-00000003"

    pair = [job(trainer, f"two-{name}", **settings) for trainer, name, settings in QUICK]
    pair.append(job("autoencoder", "one-then-two", **plain))
    pair.append(job("autoencoder", "two-then-one", **plain) | HALF)
    run_pair(pair, tmp_path)

    assert newest(tmp_path / "two-then-one").name == "checkpoint-00000003"
    run(job("autoencoder", "two-then-one", **plain))
    for _, name, _ in QUICK:
        assert_close_runs(tmp_path / f"one-{name}", tmp_path / f"two-{name}")
    for resumed in ("one-then-two", "two-then-one"):
        assert_close_runs(tmp_path / "one-plain", tmp_path / resumed)
    assert (tmp_path / "two-plain" / "model" / "config.json").is_file()
    assert (tmp_path / "two-live" / "pipeline" / "model_index.json").is_file()


@pytest.mark.slow
def test_so_they_do_with_an_adversary_with_cached_latents_and_with_epsilon(
    job, tmp_path, one_thread
):
    for trainer, name, settings in OTHERS:
        run(job(trainer, f"one-{name}", **settings))
    run_pair([job(t, f"two-{name}", **settings) for t, name, settings in OTHERS], tmp_path)
    for _, name, _ in OTHERS:
        assert_close_runs(tmp_path / f"one-{name}", tmp_path / f"two-{name}")
    assert (tmp_path / "two-cached" / "latents.safetensors").is_file()


@pytest.mark.slow
def test_a_pair_that_was_killed_goes_on_where_its_last_checkpoint_is(job, tmp_path):
    often = {"checkpoint_every": 2, "steps": 8, "validate_every": 4, "preview_every": 8}
    whole = job("autoencoder", "whole", **often)
    killed = job("autoencoder", "killed", **often)
    run_pair([whole], tmp_path)
    code, _ = finish(
        start_pair([killed | {"signal": "SIGKILL", "process": 1, "call": 5}], tmp_path)
    )
    assert code != 0
    assert newest(tmp_path / "killed").name == "checkpoint-00000004"
    run_pair([killed], tmp_path)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert_same_checkpoint(newest(tmp_path / "killed"), newest(tmp_path / "whole"))


@pytest.mark.slow
def test_a_pair_that_is_told_to_stop_leaves_one_whole_checkpoint(job, tmp_path):
    endless = job("autoencoder", "run", steps=10**6, checkpoint_every=10**6)
    pair = start_pair([endless], tmp_path)
    lines = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not lines.is_file() or not lines.stat().st_size:
        assert time.monotonic() < deadline, "the pair wrote no metrics"
        assert pair.poll() is None
        time.sleep(0.1)
    pair.send_signal(signal.SIGTERM)  # to torchrun, which passes it on
    finish(pair)
    (stopped,) = checkpoints.list_checkpoints(tmp_path / "run")
    step = checkpoints.read_state(stopped)["step"]
    assert step >= 10
    endless["settings"]["steps"] = step + 2
    run_pair([endless], tmp_path)
    steps = [line["step"] for line in metrics(tmp_path / "run")]
    assert steps[-1] == step + 2
    assert steps == sorted(set(steps))


def test_rows_of_the_processes_are_the_batch(monkeypatch):
    assert list(range(6))[processes.rows(6)] == list(range(6))
    monkeypatch.setattr(processes, "count", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        parts.append(list(range(6))[processes.rows(6)])
        whole = torch.rand(6, generator=step_generator(0, 0))
        assert torch.equal(processes.uniform(2, step_generator(0, 0)), whole[parts[-1]])
        torch.manual_seed(3)
        noise = torch.randn(6, 4, 2, 2)
        torch.manual_seed(3)
        assert torch.equal(processes.normal_like(torch.empty(2, 4, 2, 2)), noise[parts[-1]])
    assert parts == [[0, 3], [1, 4], [2, 5]]


def test_a_batch_that_cannot_be_shared_is_one_sentence(job, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(InputError, match="A batch of 4 cannot be shared evenly by 3 processes"):
        run(job("autoencoder", "run"))
