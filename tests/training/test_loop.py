"""The shared loop: schedule, averaged weights, stopping, resuming, refusing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from tests.training.runs import metrics, weights
from tests.training.toy_source import DiscSource
from text2layer.errors import DivergenceError, InputError, WeightsError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.denoiser import build_denoiser
from text2layer.models.matting import MattingNetwork
from text2layer.training import checkpoints
from text2layer.training.autoencoder import AutoencoderObjective, train_autoencoder
from text2layer.training.loop import (
    Objective,
    StopRequest,
    compile_blocks,
    learning_rate_factor,
    make_ema,
    parameter_groups,
    step_generator,
    train,
)
from text2layer.training.settings import settings_from

ROOT = Path(__file__).parents[2]


def test_the_rate_warms_up_holds_and_falls_to_zero():
    settings = settings_from("denoiser", "tiny", steps=100, warmup_steps=10, decay_fraction=0.2)
    factors = [learning_rate_factor(step, settings) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[4] == pytest.approx(0.5)
    assert factors[9:81] == [1.0] * 72
    assert factors[90] == pytest.approx(0.5)
    assert factors[100] == 0.0
    assert factors[80:] == sorted(factors[80:], reverse=True)


def test_without_decay_the_rate_stays():
    settings = settings_from("denoiser", "tiny", steps=10, warmup_steps=0, decay_fraction=0.0)
    assert {learning_rate_factor(step, settings) for step in range(10)} == {1.0}


def test_a_timed_run_falls_by_whichever_end_comes_first():
    settings = settings_from(
        "denoiser", "tiny", steps=1000, warmup_steps=0, decay_fraction=0.5, max_minutes=10.0,
        timed=True,
    )  # fmt: skip
    assert learning_rate_factor(0, settings, 4.9) == 1.0
    assert learning_rate_factor(0, settings, 7.5) == pytest.approx(0.5)
    assert learning_rate_factor(0, settings, 11.0) == 0.0
    assert learning_rate_factor(750, settings, 1.0) == pytest.approx(0.5)


def test_compiled_blocks_keep_the_names_of_their_weights():
    network = build_denoiser("tiny", 4, 16)
    names = list(network.state_dict())
    compile_blocks(network)
    assert list(network.state_dict()) == names
    assert all(block._compiled_call_impl is not None for block in network.transformer_blocks)


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_denoiser("tiny-paper", 4, 16),
        lambda: MattingNetwork.from_preset("tiny"),
        lambda: CaT2IAutoencoder.from_preset("tiny"),
    ],
    ids=["unet", "matting", "autoencoder"],
)
def test_what_is_compiled_is_what_is_called(build):
    """A list of parts is never called: compiling it would do nothing at all."""
    network = build()
    compile_blocks(network)
    compiled = [module for module in network.modules() if module._compiled_call_impl is not None]
    assert not any(isinstance(module, (nn.ModuleList, nn.ModuleDict)) for module in compiled)
    held = {id(p) for module in compiled for p in module.parameters()}
    assert {id(p) for p in network.parameters()} == held


def test_every_seed_and_step_draws_its_own_numbers():
    drawn = {
        float(torch.rand((), generator=step_generator(seed, step), dtype=torch.float64))
        for seed in range(3)
        for step in range(5)
    }
    assert len(drawn) == 3 * 5


def test_averaged_weights_follow_the_formula():
    torch.manual_seed(0)
    network = CaT2IAutoencoder.from_preset("tiny")
    ema = make_ema(network, decay=0.25)
    expected = None
    for count in range(6):
        with torch.no_grad():
            network.quant_conv.weight.normal_()
            network.heads["mask"][1].running_mean.normal_()
        network.heads["mask"][1].num_batches_tracked += 1
        ema.update_parameters(network)
        current = network.quant_conv.weight.double()
        decay = min(0.25, (1 + count) / (10 + count))
        expected = current if expected is None else decay * expected + (1 - decay) * current
    torch.testing.assert_close(ema.module.quant_conv.weight.double(), expected, rtol=1e-5, atol=0)
    mean = network.heads["mask"][1].running_mean
    assert not torch.equal(ema.module.heads["mask"][1].running_mean, mean)  # buffers too
    assert ema.module.heads["mask"][1].num_batches_tracked == 6


def test_norms_and_biases_are_not_decayed():
    network = CaT2IAutoencoder.from_preset("tiny")
    decayed, free = parameter_groups(network, 0.3)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(network.parameters()))
    chosen = {id(parameter) for parameter in decayed["params"]}
    for module in network.modules():
        own = {name: id(p) for name, p in module.named_parameters(recurse=False)}
        is_kernel = isinstance(module, (nn.Conv2d, nn.Linear))
        assert (own.get("weight") in chosen) == (is_kernel and "weight" in own)
        assert own.get("bias") not in chosen


def test_weights_with_a_rate_of_their_own_are_groups_of_their_own():
    network = CaT2IAutoencoder.from_preset("tiny", doublings=1, decoder_channels=(32, 16))
    groups = parameter_groups(
        network, 0.3, lambda name: 20.0 if name.startswith("decoder.refine") else 1.0
    )
    assert [group["rate"] for group in groups] == [1.0, 1.0, 20.0, 20.0]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3, 0.0]
    fast = {id(p) for group in groups[2:] for p in group["params"]}
    assert fast == {id(p) for p in network.decoder.refine.parameters()}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_a_run_that_is_done_is_not_trained_again(autoencoder_settings, source):
    settings = autoencoder_settings(steps=2)
    first = train_autoencoder(settings, source, source)
    before = weights(first.checkpoint / "model")
    again = train_autoencoder(settings, source, source)
    assert (again.step, again.interrupted, again.checkpoint) == (2, False, first.checkpoint)
    assert all(torch.equal(before[k], v) for k, v in weights(again.checkpoint / "model").items())


def test_a_time_limit_ends_with_a_checkpoint(autoencoder_settings, source):
    settings = autoencoder_settings(steps=50, max_minutes=1e-9)
    result = train_autoencoder(settings, source, source)
    assert (result.step, result.interrupted) == (1, True)
    assert checkpoints.read_state(result.checkpoint)["step"] == 1


def test_checkpoints_come_at_their_interval_and_name_data_and_settings(
    autoencoder_settings, source
):
    settings = autoencoder_settings(steps=7, checkpoint_every=2, keep_checkpoints=3)
    train_autoencoder(settings, source, source)
    found = checkpoints.list_checkpoints(Path(settings.out))
    assert [int(path.name[-8:]) for path in found] == [4, 6, 7]
    state = checkpoints.read_state(found[0])
    assert state["data_hash"] == source.fingerprint
    assert state["settings"]["learning_rate"] == settings.learning_rate


def test_other_data_is_refused_before_anything_is_prepared(autoencoder_settings, monkeypatch):
    settings = autoencoder_settings(steps=2, max_minutes=1e-9)
    train_autoencoder(settings, DiscSource(), DiscSource())
    prepared = []
    with pytest.raises(WeightsError, match="was trained on other data") as error:
        train(prepared.append, settings, DiscSource(name="other").fingerprint)
    assert "\n" not in str(error.value)
    assert "--changed-data" in str(error.value)
    assert not prepared
    newest = checkpoints.list_checkpoints(Path(settings.out))[-1]
    damaged = newest.parent / "checkpoint-00000009"  # one that says nothing about its data
    damaged.mkdir()
    (damaged / "state.json").write_text("{")
    with pytest.raises(WeightsError, match="was trained on other data"):
        train(prepared.append, settings, DiscSource(name="other").fingerprint)
    assert not prepared


def test_a_run_goes_on_with_changed_data_where_that_is_asked_for(autoencoder_settings):
    train_autoencoder(autoencoder_settings(steps=1), DiscSource(), DiscSource())
    other = DiscSource(name="other")
    result = train_autoencoder(autoencoder_settings(steps=2, changed_data=True), other, other)
    assert result.step == 2
    assert checkpoints.read_state(result.checkpoint)["data_hash"] == other.fingerprint


def test_a_run_at_an_address_is_refused(autoencoder_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = []
    with pytest.raises(InputError, match="'s3://bucket/run' is an address"):
        train(prepared.append, autoencoder_settings(out="s3://bucket/run"), "")
    assert not prepared
    assert not list(tmp_path.glob("s3*"))


def test_starting_anew_over_checkpoints_is_refused(autoencoder_settings, source):
    result = train_autoencoder(autoencoder_settings(steps=1), source, source)
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        train_autoencoder(autoencoder_settings(steps=1, resume=False), source, source)
    assert result.checkpoint.is_dir()
    assert len(metrics(result.checkpoint.parent)) == 1


def test_a_checkpoint_of_another_preset_is_refused(autoencoder_settings, source):
    train_autoencoder(autoencoder_settings(steps=2, max_minutes=1e-9), source, source)
    with pytest.raises(WeightsError, match="does not fit this architecture"):
        train_autoencoder(autoencoder_settings(steps=2, auxiliary_head=False), source, source)


def test_a_run_can_start_from_saved_weights(autoencoder_settings, source, tmp_path):
    torch.manual_seed(5)
    given = CaT2IAutoencoder.from_preset("tiny")
    given.save_pretrained(tmp_path / "given")
    settings = autoencoder_settings(
        steps=1, init=str(tmp_path / "given"), learning_rate=1e-12, weight_decay=0.0
    )
    result = train_autoencoder(settings, source, source)
    for part in ("model", "ema"):
        trained = weights(result.checkpoint / part)
        for name, value in given.named_parameters():
            torch.testing.assert_close(trained[name], value.detach(), atol=1e-8, rtol=1e-6)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(
    autoencoder_settings, source
):
    class Broken(AutoencoderObjective):
        def forward(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
            losses = super().forward(step, generator)
            return {**losses, "loss": losses["loss"] * (float("nan") if step == 2 else 1.0)}

    settings = autoencoder_settings(steps=5, checkpoint_every=1)

    def make(device: torch.device) -> Objective:
        return Broken(settings, source, source, device)

    with pytest.raises(
        DivergenceError, match=r"The loss became nan at step 2.*lower learning_rate"
    ):
        train(make, settings, source.fingerprint)
    newest = checkpoints.list_checkpoints(Path(settings.out))[-1]
    assert newest.name == "checkpoint-00000002"
    assert all(torch.isfinite(value).all() for value in weights(newest / "model").values())


def test_the_next_batch_is_read_ahead_as_it_will_be_drawn(autoencoder_settings, source):
    class Reader(DiscSource):
        """Remembers what was asked of it."""

        def __init__(self) -> None:
            super().__init__()
            self.prepared: list[Tensor] = []
            self.composed: list[Tensor] = []

        def prepare(self, batch_size, generator, rows=slice(None)):
            self.prepared.append(generator.get_state())

        def compose(self, batch_size, generator=None, rows=slice(None)):
            self.composed.append(generator.get_state())
            return super().compose(batch_size, generator, rows)

    settings, reader = autoencoder_settings(steps=3), Reader()

    def make(device: torch.device) -> Objective:
        return AutoencoderObjective(settings, reader, source, device)

    train(make, settings, source.fingerprint)
    assert len(reader.composed) == len(reader.prepared) == 3
    for ahead, drawn in zip(reader.prepared, reader.composed[1:], strict=False):
        assert torch.equal(ahead, drawn)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_one_sentence(autoencoder_settings, source):
    with pytest.raises(InputError, match="no CUDA device is available"):
        train_autoencoder(autoencoder_settings(device="cuda"), source, source)


def test_two_precisions_in_one_process_are_one_sentence(autoencoder_settings, source):
    train_autoencoder(autoencoder_settings(steps=1), source, source)
    with pytest.raises(InputError, match="one for all runs of a process"):
        train_autoencoder(autoencoder_settings(steps=2, mixed_precision="bf16"), source, source)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    """Change a bit of the last byte, which a weights file does not notice."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model/diffusion_pytorch_model.safetensors", cut),
        ("ema/diffusion_pytorch_model.safetensors", flip),
        ("optimizer.pt", cut),
        ("state.json", cut),
        ("ema/diffusion_pytorch_model.safetensors", Path.unlink),
    ],
)
@pytest.mark.parametrize("hashes", [True, False], ids=["hashes", "old"])
def test_a_damaged_newest_checkpoint_is_put_aside_and_said(
    autoencoder_settings, source, caplog, name, damage, hashes
):
    if damage is flip and not hashes:
        pytest.skip("a checkpoint without hashes cannot tell")
    settings = autoencoder_settings(steps=4, checkpoint_every=2)
    first = train_autoencoder(settings, source, source)
    # copies: what is read maps the file, which is damaged in place
    expected = {key: value.clone() for key, value in weights(first.checkpoint / "model").items()}
    older, newest = checkpoints.list_checkpoints(Path(settings.out))
    if not hashes:
        for checkpoint in (older, newest):
            (checkpoint / "SHA256SUMS").unlink()
    damage(newest / name)
    again = train_autoencoder(replace(settings, keep_checkpoints=1), source, source)
    assert "checkpoint-00000004 is damaged; going on from checkpoint-00000002" in caplog.text
    assert [path.name for path in checkpoints.list_checkpoints(newest.parent)] == [newest.name]
    assert (newest.parent / "damaged-checkpoint-00000004").is_dir()
    for key, value in weights(again.checkpoint / "model").items():
        assert torch.equal(expected[key], value)


def test_a_run_without_a_whole_checkpoint_says_so(autoencoder_settings, source):
    settings = autoencoder_settings(steps=2, checkpoint_every=1)
    train_autoencoder(settings, source, source)
    for checkpoint in checkpoints.list_checkpoints(Path(settings.out)):
        cut(checkpoint / "optimizer.pt")
    with pytest.raises(WeightsError, match=r"No checkpoint in .* is whole"):
        train_autoencoder(settings, source, source)
    assert len(checkpoints.list_checkpoints(Path(settings.out))) == 2


def test_one_process_trains_in_a_folder(autoencoder_settings, source):
    settings = autoencoder_settings(steps=1)
    Path(settings.out).mkdir()
    lock = FileLock(Path(settings.out) / "train.lock")
    with lock, pytest.raises(InputError, match="Another process trains in"):
        train_autoencoder(settings, source, source)
    assert train_autoencoder(settings, source, source).step == 1


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.received
            signal.raise_signal(signal.SIGUSR1)
            assert stop.received
    finally:
        signal.signal(signal.SIGHUP, before)


SCRIPT = """
import sys
from tests.training.toy_source import DiscSource
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.settings import settings_from

settings = settings_from("autoencoder", "tiny", out=sys.argv[1], steps=10**6, device="cpu",
    mixed_precision="no", checkpoint_every=10**6, preview_every=0, validate_every=0)
result = train_autoencoder(settings, DiscSource(), DiscSource())
print(result.step, result.interrupted)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_leaves_a_whole_checkpoint_that_resumes(autoencoder_settings, tmp_path, name):
    run = tmp_path / "run"
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))  # this tree, whatever is installed
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(run)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").stat().st_size:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "the run wrote no metrics"
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    step, interrupted = printed.split()
    assert interrupted == "True"
    (checkpoint,) = checkpoints.list_checkpoints(run)
    assert checkpoint.name == f"checkpoint-{int(step):08d}"
    assert not list(run.glob(".*"))

    settings = autoencoder_settings(steps=int(step) + 1, out=str(run))
    resumed = train_autoencoder(settings, DiscSource(), DiscSource())
    assert (resumed.step, resumed.interrupted) == (int(step) + 1, False)
    steps = [line["step"] for line in metrics(run)]
    assert steps == sorted(set(steps))
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == resumed.step
