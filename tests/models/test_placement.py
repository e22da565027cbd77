"""Where networks run, in words; what is said when a GPU is not used."""

from pathlib import Path

import onnxruntime
import pytest
import torch

from tests import toy_onnx
from text2layer.models import placement
from text2layer.models.frozen import CPU, CUDA, VISIBLE, open_session
from text2layer.models.inpainting import load_inpainter
from text2layer.models.placement import in_words, merged, place, placements, why_no_gpu
from text2layer.models.saliency import load_saliency

ON_CPU = {"u2net": "CPU (onnxruntime)", "classifiers": "CPU (torch)"}
needs_cpu = pytest.mark.skipif(
    torch.cuda.is_available() or CUDA in onnxruntime.get_available_providers(),
    reason="needs a machine without CUDA",
)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with a driver, of which no library makes use."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(placement, "NVIDIA", tmp_path / "nvidia0")
    monkeypatch.delenv(VISIBLE, raising=False)


@needs_cpu
def test_networks_say_where_they_run(tmp_path: Path) -> None:
    """Also those that a stage of the user's own opens, by the name that the user gave."""
    saliency = str(toy_onnx.brightness_network(tmp_path / "saliency.onnx"))
    lama = str(toy_onnx.inverting_lama(tmp_path / "lama.onnx"))
    load_saliency(saliency, 1, batch=3)
    load_inpainter(lama, 1)
    assert placements()[saliency] == "CPU (onnxruntime, 3 photos together)"
    assert placements()[lama] == "CPU (onnxruntime)"


def test_one_sentence_says_it_for_all() -> None:
    place("judge of a test", "torch", "cuda", 8)
    assert placements()["judge of a test"] == "GPU (torch, 8 photos together)"
    places = {"u2net": "CPU (onnxruntime)", "j": "GPU (torch)", "isnet": "CPU (onnxruntime)"}
    assert in_words(places) == "Networks: u2net, isnet on CPU (onnxruntime); j on GPU (torch)."
    assert in_words({}) == ""


def test_workers_that_differ_are_both_told() -> None:
    first, second = {"a": "CPU (torch)", "b": "GPU (torch)"}, {"a": "GPU (torch)"}
    assert merged(first, second) == {"a": "CPU (torch); GPU (torch)", "b": "GPU (torch)"}
    assert merged(merged(first, second), first) == merged(first, second)
    assert merged({}, first) == first


@needs_cpu
def test_a_gpu_that_no_library_uses_is_told_with_what_to_install(a_gpu) -> None:
    said = why_no_gpu(ON_CPU.values())
    assert said.startswith("This machine has a GPU, but onnxruntime is a build without CUDA: ")
    assert "then install onnxruntime-gpu; torch has no CUDA: install" in said
    assert "torch" not in why_no_gpu([ON_CPU["u2net"], "GPU (torch)"])
    assert "onnxruntime" not in why_no_gpu([ON_CPU["classifiers"], "GPU (onnxruntime)"])


def test_cuda_that_does_not_start_is_another_case(a_gpu, monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    assert "onnxruntime could not start CUDA: install" in why_no_gpu([ON_CPU["u2net"]])


def test_nothing_is_said_where_a_gpu_is_used_not_there_or_not_wanted(a_gpu, monkeypatch) -> None:
    assert why_no_gpu(["GPU (onnxruntime)", "GPU (torch, 8 photos together)"]) == ""
    monkeypatch.setenv(VISIBLE, "")
    assert why_no_gpu(ON_CPU.values()) == ""
    monkeypatch.delenv(VISIBLE)
    assert why_no_gpu(ON_CPU.values())
    monkeypatch.setattr(placement, "NVIDIA", Path("/no/such/device"))
    monkeypatch.setenv("PATH", "")
    assert why_no_gpu(ON_CPU.values()) == ""


@pytest.mark.parametrize(
    ("visible", "gpu", "asked"),
    [
        (None, True, [CUDA, CPU]),
        ("0,1", True, [CUDA, CPU]),
        ("", True, [CPU]),
        (None, False, [CPU]),
    ],
)
def test_sessions_ask_for_the_gpu_that_they_may_use(
    tmp_path: Path, monkeypatch, capsys, visible: str | None, gpu: bool, asked: list[str]
) -> None:
    """onnxruntime as it is with CUDA; what its loader prints does not get among the results."""
    opened = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("no cuDNN"), raising=False)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers: opened.extend(providers)
    )
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    open_session(toy_onnx.brightness_network(tmp_path / "toy.onnx"), 1, gpu=gpu)
    names = [one[0] if isinstance(one, tuple) else one for one in opened]
    assert names == asked
    if CUDA in asked:
        assert opened[0][1]["use_tf32"] == "0"
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no cuDNN\n" if CUDA in asked else "")
