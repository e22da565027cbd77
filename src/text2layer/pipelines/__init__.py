"""Pipelines: text (and any given layer) in, layers out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from text2layer.pipelines.layered_pipeline import LayeredPipeline
    from text2layer.pipelines.photo_layers import PhotoLayers
    from text2layer.pipelines.text2layer import Text2LayerPipeline, Text2LayerPipelineOutput
    from text2layer.pipelines.text_to_image import TextToImageLayers

__all__ = [
    "LayeredPipeline",
    "PhotoLayers",
    "Text2LayerPipeline",
    "Text2LayerPipelineOutput",
    "TextToImageLayers",
    "released_model",
]


def released_model() -> Path:
    """Return the folder of the model that ships with the package."""
    return Path(__file__).parent.parent / "weights" / "base"


def __getattr__(name: str) -> Any:
    if name in ("Text2LayerPipeline", "Text2LayerPipelineOutput"):
        from text2layer.pipelines import text2layer

        return getattr(text2layer, name)
    if name == "PhotoLayers":
        from text2layer.pipelines.photo_layers import PhotoLayers

        return PhotoLayers
    if name == "LayeredPipeline":
        from text2layer.pipelines.layered_pipeline import LayeredPipeline

        return LayeredPipeline
    if name == "TextToImageLayers":
        from text2layer.pipelines.text_to_image import TextToImageLayers

        return TextToImageLayers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
