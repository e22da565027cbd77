"""Stages that cannot be imported, named by tests."""

from text2layer.photos.stages import make_stages

RATE = 1 / len(())

__all__ = ["RATE", "make_stages"]
