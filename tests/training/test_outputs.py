"""What a run leaves in its folder: its metrics, preview sheets, and models.

Models are written in half precision, complete, and never in place of a model that was better.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.toy_source import DiscSource, TwoDiscs
from text2layer.errors import WriteError
from text2layer.files import CHECKSUMS, verify_checksums
from text2layer.pipelines import Text2LayerPipeline
from text2layer.tensors import tensor_to_colour, tensor_to_mask
from text2layer.training.outputs import (
    MetricsLog,
    component_rows,
    export_pipeline,
    preview_prompts,
    save_model,
)
from text2layer.training.settings import settings_from

SETTINGS = settings_from("autoencoder", "tiny", steps=24, batch_size=4)


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


def test_prompts_name_as_many_objects_as_there_are_foregrounds():
    alone, pairs, triples = (preview_prompts(count) for count in (1, 2, 3))
    assert len(alone) == len(pairs) == len(triples) == 8
    assert alone[0] == "a red apple in front of a snowy mountain"
    assert pairs[0] == "a red apple and a 3d icon of a cat in front of a snowy mountain"
    assert pairs[7] == "a green sofa and a red apple in front of a city skyline"
    assert triples[6] == "clip art of a tree, a green sofa and a red apple in front of a calm lake"


def test_a_row_shows_every_part():
    batch = DiscSource(16).compose(3, torch.Generator().manual_seed(0))
    parts = (batch.foreground, batch.background, batch.mask, batch.image, batch.image)
    expected = [(tensor_to_mask if part.shape[1] == 1 else tensor_to_colour)(part)[1]
                for part in parts]  # fmt: skip
    row = component_rows(batch, 1)
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(row, expected, strict=True))

    batch = TwoDiscs(16).take(range(3))
    row = component_rows(batch, 2)
    shapes = [picture.shape for picture in row]
    colour, mask = (16, 16, 3), (16, 16)
    assert shapes == [colour, colour, colour, mask, mask, colour, colour]
    for layer in range(2):
        assert np.array_equal(row[layer], tensor_to_colour(batch.foreground[2:, layer])[0])
        assert np.array_equal(row[3 + layer], tensor_to_mask(batch.mask[2:, layer])[0])
