"""Checkpoints: whole or not there, one sentence for damage, nothing is unpickled."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file

from text2layer.errors import WeightsError, WriteError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.training import checkpoints


@pytest.fixture
def model() -> CaT2IAutoencoder:
    torch.manual_seed(0)
    return CaT2IAutoencoder.from_preset("tiny")


def save(run: Path, step: int, model: CaT2IAutoencoder, keep: int = 2, **state) -> Path:
    return checkpoints.save_checkpoint(run, step, model, model, {"step": step}, state, keep)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_checkpoint_holds_what_the_docstring_lists(model, tmp_path):
    target = save(tmp_path, 500, model, data_hash="abc")
    assert target == tmp_path / "checkpoint-00000500"
    assert {path.name for path in target.iterdir()} == {
        "model", "ema", "optimizer.pt", "state.json", "SHA256SUMS",
    }  # fmt: skip
    assert checkpoints.read_state(target) == {"step": 500, "data_hash": "abc"}
    assert checkpoints.load_optimizer_state(target) == {"step": 500}
    loaded = CaT2IAutoencoder.from_preset("tiny")
    checkpoints.load_weights(loaded, target / "model")
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_only_the_newest_are_kept(model, tmp_path):
    for step in (9, 10, 100, 20):
        save(tmp_path, step, model)
    names = [path.name for path in checkpoints.list_checkpoints(tmp_path)]
    assert names == ["checkpoint-00000020", "checkpoint-00000100"]


def test_other_folders_and_unfinished_ones_are_no_checkpoints(model, tmp_path):
    whole = save(tmp_path, 3, model)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / ".checkpoint-00000004.tmp").mkdir()
    (tmp_path / "checkpoint-00000005").mkdir()  # no state.json
    assert checkpoints.list_checkpoints(tmp_path) == [whole]


class FullDisk:
    """What a full disk does to `torch.save`, halfway through the file."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, value: object, path: Path) -> None:
        Path(path).write_bytes(b"half a file")
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed"),
        SafetensorError("No space left on device"),
    ],
    ids=["system", "torch", "safetensors"],
)
def test_a_write_that_fails_midway_leaves_the_earlier_checkpoint(
    error, model, tmp_path, monkeypatch
):
    save(tmp_path, 1, model, keep=1)
    before = files(tmp_path)
    monkeypatch.setattr(torch, "save", FullDisk(error))
    with pytest.raises(WriteError, match=r"checkpoint-00000002 could not be written") as raised:
        save(tmp_path, 2, model, keep=1)
    assert "\n" not in str(raised.value)
    assert files(tmp_path) == before


def test_what_a_killed_run_left_is_removed(model, tmp_path):
    (tmp_path / ".text2layer-0123456789ab.part" / "model").mkdir(parents=True)
    (tmp_path / ".text2layer-ba9876543210.part").touch()
    target = save(tmp_path, 1, model)
    assert list(tmp_path.iterdir()) == [target]


def test_ctrl_c_during_a_write_leaves_the_earlier_checkpoint(model, tmp_path, monkeypatch):
    save(tmp_path, 1, model, keep=1)
    before = files(tmp_path)
    monkeypatch.setattr(torch, "save", FullDisk(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, model, keep=1)
    assert files(tmp_path) == before


def test_weights_of_another_architecture_are_refused(model, tmp_path):
    target = save(tmp_path, 1, model)
    other = CaT2IAutoencoder.from_preset("tiny", latent_channels=8)
    with pytest.raises(WeightsError, match="does not fit this architecture") as error:
        checkpoints.load_weights(other, target / "model")
    assert "\n" not in str(error.value)


def test_truncated_weights_are_one_sentence(model, tmp_path):
    file = save(tmp_path, 1, model) / "model" / SAFETENSORS_WEIGHTS_NAME
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="is damaged"):
        checkpoints.load_weights(model, file.parent)
    with pytest.raises(WeightsError, match="holds no diffusion_pytorch_model"):
        checkpoints.load_weights(model, tmp_path)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "torch"])
def test_an_optimiser_state_never_runs_code(plain, model, tmp_path):
    target, mark = save(tmp_path, 1, model), tmp_path / "ran"
    content = {"optimizer": Bomb(mark)}
    if plain:
        (target / "optimizer.pt").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, target / "optimizer.pt")
    with pytest.raises(WeightsError, match=r"optimizer\.pt cannot be read"):
        checkpoints.load_optimizer_state(target)
    assert not mark.exists()


def test_damaged_state_files_are_one_sentence(model, tmp_path):
    target = save(tmp_path, 1, model)
    (target / "optimizer.pt").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(WeightsError, match="delete this checkpoint"):
        checkpoints.load_optimizer_state(target)
    (target / "state.json").write_text('{"step": 1')
    with pytest.raises(WeightsError, match=r"state\.json cannot be read"):
        checkpoints.read_state(target)
    (target / "state.json").write_text(json.dumps([1]))
    with pytest.raises(WeightsError, match=r"state\.json cannot be read"):
        checkpoints.read_state(target)


def test_a_trained_autoencoder_loads_in_float32(model, tmp_path):
    model.half().save_pretrained(tmp_path / "half")
    loaded = checkpoints.load_autoencoder(tmp_path / "half")
    assert loaded.dtype == torch.float32
    stored = load_file(tmp_path / "half" / SAFETENSORS_WEIGHTS_NAME)
    assert stored["encoder.conv_in.weight"].dtype == torch.float16


def test_a_folder_without_an_autoencoder_is_one_sentence(tmp_path):
    with pytest.raises(WeightsError, match="There is no autoencoder in"):
        checkpoints.load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError) as error:
        checkpoints.load_autoencoder(tmp_path)
    assert "\n" not in str(error.value)
