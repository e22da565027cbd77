"""A build says at its start, and in its report, where its networks run."""

import json
import os
from pathlib import Path

import onnxruntime
import pytest
import torch

from tests import toy_onnx
from tests.photos.toy_photos import write_photos
from text2layer.models.frozen import CUDA, VISIBLE
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() or CUDA in onnxruntime.get_available_providers(),
    reason="needs a machine without CUDA",
)


def settings(folder: Path) -> BuildSettings:
    network = toy_onnx.brightness_network(folder / "toy.onnx", (1, 3, 48, 48))
    return BuildSettings(
        saliency=str(network), second_saliency="", inpainter="opencv", mask_quality=0,
        fill_quality=0, pair_quality=0, licence="CC0-1.0", min_size=1, duplicate_distance=0,
        photos_per_shard=4,
    )  # fmt: skip


STAGES = """
import os
from pathlib import Path
from tests.photos import toy_stages

def make_stages(settings, threads):
    names = ("NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES")
    Path(__file__).with_suffix(".txt").write_text(repr([os.environ.get(name) for name in names]))
    return toy_stages.make_stages(settings, threads)
"""


@pytest.mark.parametrize(("device", "visible"), [("auto", None), ("cpu", "")])
def test_workers_compute_in_whole_floats_and_on_the_device_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None
) -> None:
    """TF32 keeps 10 bits of a number's 23, and would move scores across their thresholds."""
    for name in ("NVIDIA_TF32_OVERRIDE", VISIBLE):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "noting_stages.py").write_text(STAGES)
    monkeypatch.syspath_prepend(str(tmp_path))
    build(
        write_photos(tmp_path / "photos", 2), tmp_path / "out",
        BuildSettings(min_size=1, duplicate_distance=0), stages="noting_stages:make_stages",
        workers=1, device=device, report=False, progress=False,
    )  # fmt: skip
    assert (tmp_path / "noting_stages.txt").read_text() == repr(["0", visible])


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_it_is_said_once_and_a_gpu_that_is_not_used_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch, device: str
) -> None:
    """The machine has the program of NVIDIA's driver, as one with a GPU has."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(VISIBLE, raising=False)
    photos, out = write_photos(tmp_path / "photos", 8), tmp_path / "out"
    chosen = settings(tmp_path)
    build(photos, out, chosen, workers=2, device=device, progress=False)
    said = capfd.readouterr().err
    assert said.count(f"Networks: {chosen.saliency} on CPU (onnxruntime).") == 1
    hint = "This machine has a GPU, but onnxruntime is a build without CUDA"
    assert said.count(hint) == (device == "auto")
    report = json.loads((out / "report.json").read_text())
    assert report["devices"] == {chosen.saliency: "CPU (onnxruntime)"}
    assert report["time"]["runs"][0]["devices"] == report["devices"]
    page = (out / "report.html").read_text()
    assert f"<td>{chosen.saliency}</td><td>CPU (onnxruntime)</td>" in page
    build(photos, out, chosen, workers=1, device=device, progress=False)  # nothing is left to do
    assert "Networks" not in capfd.readouterr().err
