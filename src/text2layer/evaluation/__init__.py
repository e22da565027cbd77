"""Measures of layers and of the models that make them.

`evaluate` is the whole benchmark as a call; names are imported when they are first used (PEP 562),
because it loads every kind of model.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from text2layer.evaluation.benchmark import Evaluation, EvaluationSettings, evaluate

__all__ = ["Evaluation", "EvaluationSettings", "evaluate"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("text2layer.evaluation.benchmark"), name)
