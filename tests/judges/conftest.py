"""Fixtures of the judges' tests."""

import pytest

from tests.judges.toy_backbone import Colours
from text2layer.judges import quality, quality_training


@pytest.fixture
def small_backbone(monkeypatch):
    """No weights of others; the trainer looks the backbone up by name."""
    for module in (quality_training, quality):
        monkeypatch.setattr(module, "load_backbone", lambda name: Colours())
