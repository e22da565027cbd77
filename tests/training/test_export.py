"""Exported models: half precision, complete, and never in place of a model that was better."""

import json
import os
from pathlib import Path

import pytest
import torch

from text2layer.errors import WriteError
from text2layer.files import CHECKSUMS, verify_checksums
from text2layer.pipelines import Text2LayerPipeline
from text2layer.training.export import export_pipeline, save_model


def test_an_exported_pipeline_is_half_the_size_and_names_its_text_encoder(pipeline, tmp_path):
    before = {k: v.clone() for k, v in pipeline.denoiser.state_dict().items()}
    folder = export_pipeline(pipeline, tmp_path / "model")
    names = {path.name for path in folder.iterdir()}
    assert names == {"autoencoder", "denoiser", "scheduler", "model_index.json", CHECKSUMS}
    assert verify_checksums(folder) == 6
    index = json.loads((folder / "model_index.json").read_text())
    assert index["text_encoder_name"] == pipeline.config.text_encoder_name
    full = sum(p.numel() * 4 for p in pipeline.denoiser.parameters())
    stored = folder / "denoiser" / "diffusion_pytorch_model.safetensors"
    assert stored.stat().st_size == pytest.approx(full / 2, rel=0.1)
    assert stored.stat().st_mode & 0o777 == 0o644
    for name, value in pipeline.denoiser.state_dict().items():  # what was given is not changed
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])

    loaded = Text2LayerPipeline.from_pretrained(folder)
    assert loaded.denoiser.dtype == loaded.autoencoder.dtype == torch.float32
    for name, value in loaded.autoencoder.state_dict().items():
        expected = pipeline.autoencoder.state_dict()[name]
        if value.is_floating_point():
            expected = expected.half().float()
        assert torch.equal(value, expected), name
    assert loaded.autoencoder.config.latent_scale == pipeline.autoencoder.config.latent_scale


def test_an_export_says_nothing_of_the_folders_its_weights_came_from(pipeline, tmp_path):
    pipeline.denoiser.save_pretrained(tmp_path / "here")
    pipeline.denoiser = type(pipeline.denoiser).from_pretrained(tmp_path / "here")
    folder = export_pipeline(pipeline, tmp_path / "model")
    save_model(pipeline.denoiser, tmp_path / "alone")
    for config in (folder / "denoiser", tmp_path / "alone"):
        assert str(tmp_path) not in (config / "config.json").read_text()
    assert verify_checksums(folder) == 6
    again = export_pipeline(Text2LayerPipeline.from_pretrained(folder), tmp_path / "again")
    assert str(tmp_path) not in (again / "model_index.json").read_text()


def test_a_newer_export_takes_the_place_of_the_older(pipeline, tmp_path):
    folder = save_model(pipeline.autoencoder, tmp_path / "model")
    (folder / "stale").touch()
    save_model(pipeline.denoiser, folder)
    assert json.loads((folder / "config.json").read_text())["_class_name"] != "CaT2IAutoencoder"
    assert not (folder / "stale").exists()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("at", ["writing", "renaming"])
def test_an_export_that_fails_leaves_the_older(at, pipeline, tmp_path, monkeypatch):
    folder = save_model(pipeline.autoencoder, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real, full = os.rename, OSError(28, "No space left on device")
    calls = []

    def rename(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:  # the older is out of the way, the new one not yet in place
            raise full
        real(source, target)

    def save_pretrained(model: object, out: Path) -> None:
        (out / "half").write_bytes(b"a file")
        raise full

    if at == "writing":
        monkeypatch.setattr(type(pipeline.autoencoder), "save_pretrained", save_pretrained)
    else:
        monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(WriteError, match=r"model could not be written: the disk is full"):
        save_model(pipeline.autoencoder, folder)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]
