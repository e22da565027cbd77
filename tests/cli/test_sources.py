"""Which device a process reads its samples to, and which of several processes speaks."""

import pytest
import torch

from text2layer.cli.sources import choose_device, report_skipped
from text2layer.errors import InputError


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (choose_device("auto"), choose_device("cpu")) == ("cuda", "cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (choose_device("auto"), choose_device("cpu")) == ("cuda:1", "cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=r"Process 2 .* no GPU of its own; start 2 processes"):
        choose_device("cuda")


def test_only_the_first_process_says_what_was_left_out(monkeypatch, capsys):
    report_skipped({"bad sample": 1}, ["one"])
    assert "left out: 1 bad sample" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    report_skipped({"bad sample": 1}, ["one"])
    assert capsys.readouterr().err == ""
