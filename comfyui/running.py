"""Models that stay loaded between runs, the progress bar, and the stop button."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS_KEPT = 2  # of each kind


@functools.lru_cache(maxsize=MODELS_KEPT)
def load_model(model: str, fast: bool) -> Any:
    """A text2layer pipeline on ComfyUI's device; `base` is the released model."""
    from diffusers.utils import logging

    from text2layer.pipelines import Text2LayerPipeline, released_model

    logging.disable_progress_bar()  # of loading; ComfyUI has a bar of its own
    folder = released_model() if model in ("", "base") else Path(model).expanduser()
    pipe = Text2LayerPipeline.from_pretrained(folder, fast=fast)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device())


@functools.lru_cache(maxsize=MODELS_KEPT)
def load_networks(saliency: str, inpainter: str, max_layers: int) -> Any:
    """The networks of `text2layer decompose`."""
    from text2layer.pipelines import PhotoLayers

    return PhotoLayers(saliency, inpainter, max_layers)


def device() -> Any:
    """The torch device that ComfyUI computes on; outside of ComfyUI a GPU where there is one."""
    import torch

    try:
        from comfy.model_management import get_torch_device
    except ImportError:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return get_torch_device()


def stop_if_asked() -> None:
    """Raise ComfyUI's InterruptProcessingException after a click on its stop button."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except ImportError:
        return
    throw_exception_if_processing_interrupted()


class Progress:
    """ComfyUI's bar below a node; nothing outside of ComfyUI.

    Args:
        total: how many rounds of steps there are: pictures, or 1 for a batch.
    """

    def __init__(self, total: int) -> None:
        try:
            from comfy.utils import ProgressBar
        except ImportError:
            self._bar = None
        else:
            self._bar = ProgressBar(total)
        self._total = total
        self._done = 0

    def step(self, pipeline: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict:
        """To be given to a pipeline as `callback_on_step_end`."""
        stop_if_asked()
        steps = pipeline.num_timesteps
        self._show(self._done * steps + index + 1, self._total * steps)
        return {}

    def next(self) -> None:
        """One round is done."""
        stop_if_asked()
        self._done += 1
        self._show(self._done, self._total)

    def _show(self, value: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update_absolute(value, total)


def each(items: list[Any], work: Callable[[Any, Progress], Any]) -> list[Any]:
    """Do something for each item, with a bar; the stop button ends it between two."""
    progress = Progress(len(items))
    made = []
    for item in items:
        stop_if_asked()
        made.append(work(item, progress))
        progress.next()
    return made
