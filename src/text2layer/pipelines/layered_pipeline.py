"""Layered pipelines of diffusers, such as Qwen-Image-Layered: a picture in, RGBA layers out.

>>> take_apart = LayeredPipeline.from_pretrained("Qwen/Qwen-Image-Layered")  # doctest: +SKIP
>>> layered = take_apart(picture, "a fox", generator=generator)              # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from text2layer.blend import composite_over, extend_edge_colours, resize_colour_and_alpha
from text2layer.errors import InputError
from text2layer.io.xmp import INPAINTED
from text2layer.layers import Layer, LayeredImage
from text2layer.pipelines import inputs
from text2layer.pipelines.opening import (
    calling,
    check_finite,
    default_of,
    open_pipeline,
    takes,
)

OPAQUE = 128  # alpha (0..255) from which a pixel counts as covered
SEEN = 0.9  # share of a pixel that is a layer's, from which its colour becomes the picture's own
MAX_LAYERS = 16
# how the model card of Qwen-Image-Layered calls it: guided by an empty text, captions in English
CARD = {"negative_prompt": " ", "cfg_normalize": True, "use_en_prompt": True}


class LayeredPipeline:
    """Takes a picture apart by a diffusers pipeline that gives a list of RGBA layers.

    Args:
        pipeline: loaded and on its device; a call takes `image` and `layers`.
        identity: what names it in metadata; see `opening.open_pipeline`.

    Raises:
        InputError: the pipeline is for something else.
    """

    def __init__(self, pipeline: Any, identity: dict[str, Any] | None = None) -> None:
        kind = type(pipeline).__name__
        if not (takes(pipeline, "image") and takes(pipeline, "layers")):
            raise InputError(f"{kind} makes no layers of a picture; give a layered pipeline.")
        self.pipeline = pipeline
        self.identity = identity or {"model": pipeline.name_or_path, "pipeline": kind}

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: str = "cpu", dtype: str = "auto", offload: str = "none"
    ) -> LayeredPipeline:
        """Open a folder or hub id; arguments and errors as of `opening.open_pipeline`."""
        return cls(*open_pipeline(name, device, dtype, offload))

    @torch.no_grad()
    def __call__(
        self,
        picture: np.ndarray,
        prompt: str = "",
        *,
        layers: int | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> LayeredImage:
        """Take a picture apart.

        The pipeline works at its own size; its layers are resized to the picture's, and where a
        layer is all that is seen, its colour is the picture's own.

        Args:
            picture: (H, W, 3) uint8.
            prompt: what it shows; without one the pipeline makes a caption of its own.
            layers: how many RGBA layers are asked for, 2 to `MAX_LAYERS`; by default the
                pipeline's own number.
            num_inference_steps: by default the pipeline's own.
            generator: read and advanced; see `inputs.check_generators`.
            callback_on_step_end: as diffusers has it.

        Returns:
            The lowest layer as background, the others as "Layer 1", "Layer 2", ..., bottom first;
            see `stacked`.

        Raises:
            InputError: the pipeline cannot use what is given.
            WeightsError: it gave NaN or infinity.
        """
        kind = type(self.pipeline).__name__
        if layers is not None and not 2 <= layers <= MAX_LAYERS:
            raise InputError(f"{kind} gives 2 to {MAX_LAYERS} layers, {layers} were asked for.")
        own = inputs.check_generators(generator, 1)[0]
        asked = {
            **CARD,
            "generator": own,
            "output_type": "np",
            "layers": layers,
            "num_inference_steps": num_inference_steps,
            "callback_on_step_end": callback_on_step_end,
        }
        options = {
            name: value
            for name, value in asked.items()
            if value is not None and takes(self.pipeline, name)
        }
        advice = "offloading (model, or sequential), or for fewer layers"
        with calling("take this apart", kind, advice):
            made = self.pipeline(
                image=Image.fromarray(picture).convert("RGBA"), prompt=prompt or None, **options
            ).images[0]
        parts = np.asarray(made)  # (layers, h, w, 4) in [0, 1]
        check_finite(parts, kind)
        stack = [np.rint(part.clip(0, 1) * 255).astype(np.uint8) for part in parts]
        return stacked(stack, picture, self._metadata(prompt, options, own))

    def _metadata(
        self, prompt: str, options: dict[str, Any], generator: torch.Generator
    ) -> dict[str, Any]:
        from text2layer import __version__

        steps = options.get("num_inference_steps", default_of(self.pipeline, "num_inference_steps"))
        guidance = default_of(self.pipeline, "true_cfg_scale")
        return {
            "prompt": prompt,
            "seed": generator.initial_seed(),
            **({} if steps is None else {"steps": int(steps)}),
            **({} if guidance is None else {"guidance_scale": float(guidance)}),
            **self.identity,
            "generator": f"text2layer {__version__}",
            "digital_source_type": INPAINTED,
        }


def stacked(
    stack: Sequence[np.ndarray], picture: np.ndarray, metadata: dict[str, Any]
) -> LayeredImage:
    """RGBA layers of one size over a picture's place, as a `LayeredImage` of the picture's size.

    The lowest is the background where it covers more than half of the picture: holes in it are
    continued from around them. Else the background is white, and all are layers.

    Args:
        stack: (h, w, 4) uint8 each, straight alpha, bottom first.
        picture: (H, W, 3) uint8, what they were made from.
        metadata: of the result.
    """
    height, width = picture.shape[:2]
    layers = [resize_colour_and_alpha(one[..., :3], one[..., 3], (width, height)) for one in stack]
    above = np.zeros((height, width), np.float32)  # share of each pixel that higher layers cover
    for index in reversed(range(len(layers))):
        colour, alpha = layers[index]
        seen = alpha.astype(np.float32) / 255 * (1 - above)
        above += seen
        own = np.rint(((seen - SEEN) / (1 - SEEN)).clip(0, 1) * 255).astype(np.uint8)
        layers[index] = (composite_over(colour, picture, own), alpha)
    background = np.full_like(picture, 255)
    lowest, alpha = layers[0]
    if (alpha >= OPAQUE).mean() > 0.5:
        background = extend_edge_colours(lowest, alpha, OPAQUE)
        layers = layers[1:]
    named = tuple(
        Layer(colour, alpha, name=f"Layer {number}")
        for number, (colour, alpha) in enumerate(layers, start=1)
    )
    return LayeredImage(background, named, metadata=metadata)
