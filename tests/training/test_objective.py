"""The number format of training follows what the machine multiplies fast."""

import pytest
import torch

from text2layer.training.objective import bfloat16_is_fast, fast_inference, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("bf16", "amx", "fast"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_a_cpu_is_fast_with_either_instruction_set(monkeypatch, bf16, amx, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert bfloat16_is_fast(CPU) is fast
    assert resolve_precision("auto", CPU) == ("bf16" if fast else "no")
    with fast_inference(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if fast else torch.float32)


def test_an_older_torch_without_the_checks_counts_as_slow(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not bfloat16_is_fast(CPU)


@pytest.mark.parametrize("named", ["no", "bf16", "fp16"])
def test_a_named_format_is_kept(named):
    assert resolve_precision(named, CPU) == named
