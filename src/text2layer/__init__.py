"""Text to layers: foreground, background and soft mask in one diffusion pass.

>>> from text2layer import Text2LayerPipeline, save
>>> pipe = Text2LayerPipeline.from_pretrained()                  # doctest: +SKIP
>>> save(pipe("a red apple in front of a snowy mountain").layers[0], "apple.psd")  # doctest: +SKIP

Names are imported when they are first used (PEP 562), so that `import text2layer` stays quick
and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from text2layer.io import load, save
    from text2layer.io.parallax import save_parallax
    from text2layer.io.sprites import save_sprites
    from text2layer.layers import Layer, LayeredImage
    from text2layer.models.autoencoder import CaT2IAutoencoder
    from text2layer.pipelines import Text2LayerPipeline

__version__ = "0.1.0"

__all__ = [
    "CaT2IAutoencoder",
    "Layer",
    "LayeredImage",
    "Text2LayerPipeline",
    "__version__",
    "load",
    "save",
    "save_parallax",
    "save_sprites",
]

_HOMES = {
    "CaT2IAutoencoder": "text2layer.models.autoencoder",
    "Layer": "text2layer.layers",
    "LayeredImage": "text2layer.layers",
    "Text2LayerPipeline": "text2layer.pipelines",
    "load": "text2layer.io",
    "save": "text2layer.io",
    "save_parallax": "text2layer.io.parallax",
    "save_sprites": "text2layer.io.sprites",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'text2layer' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
