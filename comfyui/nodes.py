"""The nodes: what ComfyUI shows, and the one call of text2layer behind each.

A node fails with one sentence of text2layer, which ComfyUI shows at the node.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from text2layer import LayeredImage

from . import conversion
from .layers import (
    INVERT,
    ImagesToLayers,
    LayersNode,
    LayersToImages,
    SaveLayers,
    cutouts_of,
)
from .running import Progress, each, load_model, load_networks

MAX_SEED = 2**63 - 2**10  # room for the seeds of a batch
PROMPT = ("STRING", {"multiline": True, "default": "a red apple in front of a snowy mountain"})
NEGATIVE = ("STRING", {"multiline": True, "default": "", "tooltip": "What not to draw."})
SEED = ("INT", {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True})
STEPS = ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's own."})
GUIDANCE = (
    "FLOAT",
    {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1, "tooltip": "0: the model's own."},
)
SIDE = ("INT", {"default": 0, "min": 0, "max": 1024, "step": 8, "tooltip": "0: the model's own."})
MODEL = ("STRING", {"default": "base", "tooltip": "base, or the folder or hub id of a model."})
FAST = ("BOOLEAN", {"default": False, "tooltip": "Few steps without guidance."})


def generators(seed: int, count: int) -> list[torch.Generator]:
    """One for each picture of a batch, with seeds that follow one another."""
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def asked(steps: int, guidance_scale: float, negative_prompt: str) -> dict[str, Any]:
    """Options of a call; what is 0 or empty is the model's own."""
    return {
        "num_inference_steps": steps or None,
        "guidance_scale": guidance_scale or None,
        "negative_prompt": negative_prompt or None,
    }


class Generate(LayersNode):
    """Text to layers, a batch in one pass."""

    DESCRIPTION = "Draw foreground, soft mask and background from text."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prompt": PROMPT,
                "seed": SEED,
                "steps": STEPS,
                "guidance_scale": GUIDANCE,
                "width": SIDE,
                "height": SIDE,
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 64}),
                "model": MODEL,
                "fast": FAST,
            },
            "optional": {"negative_prompt": NEGATIVE},
        }

    def run(
        self,
        prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        width: int,
        height: int,
        batch_size: int,
        model: str,
        fast: bool,
        negative_prompt: str = "",
    ) -> tuple[Any, ...]:
        made = load_model(model, fast)(
            prompt,
            **asked(steps, guidance_scale, negative_prompt),
            width=width or None,
            height=height or None,
            num_images_per_prompt=batch_size,
            generator=generators(seed, batch_size),
            callback_on_step_end=Progress(1).step,
        )
        return conversion.outputs(made.layers)


class _GivenNode(LayersNode):
    """One part is given, the other one is drawn: a picture of the batch after another."""

    PART: ClassVar[str]
    GIVEN: ClassVar[dict[str, Any]]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                **cls.GIVEN,
                "prompt": PROMPT,
                "seed": SEED,
                "steps": STEPS,
                "guidance_scale": GUIDANCE,
                "model": MODEL,
                "fast": FAST,
            },
            "optional": {"negative_prompt": NEGATIVE},
        }

    def draw(
        self,
        given: list[Any],
        prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        model: str,
        fast: bool,
        negative_prompt: str,
    ) -> tuple[Any, ...]:
        pipe = load_model(model, fast)

        def one(item: tuple[Any, torch.Generator], progress: Progress) -> LayeredImage:
            part, generator = item
            made = pipe(
                prompt,
                **{self.PART: part},
                **asked(steps, guidance_scale, negative_prompt),
                generator=generator,
                callback_on_step_end=progress.step,
            )
            return made.layers[0]

        return conversion.outputs(
            each(list(zip(given, generators(seed, len(given)), strict=True)), one)
        )


class GivenBackground(_GivenNode):
    """A picture is given; the foreground that belongs on it is drawn."""

    DESCRIPTION = "Draw a foreground on a given background, which stays as it is."
    PART = "background"
    GIVEN: ClassVar[dict[str, Any]] = {"background": ("IMAGE",)}

    def run(
        self,
        background: torch.Tensor,
        prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        model: str,
        fast: bool,
        negative_prompt: str = "",
    ) -> tuple[Any, ...]:
        given = [LayeredImage(picture) for picture in conversion.pictures(background)]
        return self.draw(given, prompt, seed, steps, guidance_scale, model, fast, negative_prompt)


class GivenForeground(_GivenNode):
    """A cut-out is given; the background behind it is drawn."""

    DESCRIPTION = "Draw a background behind a given foreground, which stays as it is."
    PART = "foreground"
    GIVEN: ClassVar[dict[str, Any]] = {
        "foreground": ("IMAGE",),
        "mask": ("MASK",),
        "invert_mask": INVERT,
    }

    def run(
        self,
        foreground: torch.Tensor,
        mask: torch.Tensor,
        invert_mask: bool,
        prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        model: str,
        fast: bool,
        negative_prompt: str = "",
    ) -> tuple[Any, ...]:
        given = cutouts_of(foreground, mask, invert_mask)
        return self.draw(given, prompt, seed, steps, guidance_scale, model, fast, negative_prompt)


class Decompose(LayersNode):
    """Any picture to layers, by saliency and inpainting networks or by a model."""

    DESCRIPTION = (
        "Take a picture apart: a layer for each subject, the background filled behind them. With "
        "a model, that model does both; without, a saliency and an inpainting network."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "max_layers": ("INT", {"default": 4, "min": 1, "max": 100}),
                "saliency": ("STRING", {"default": "u2net"}),
                "inpainter": ("STRING", {"default": "migan"}),
            },
            "optional": {
                "model": ("STRING", {"default": "", "tooltip": "base, a folder, or nothing."}),
                "prompt": ("STRING", {"default": "", "tooltip": "With a model, if you like."}),
                "seed": SEED,
            },
        }

    def run(
        self,
        image: torch.Tensor,
        max_layers: int,
        saliency: str,
        inpainter: str,
        model: str = "",
        prompt: str = "",
        seed: int = 0,
    ) -> tuple[Any, ...]:
        if model:
            pipe = load_model(model, False)

            def one(item: tuple[Any, torch.Generator], progress: Progress) -> LayeredImage:
                picture, generator = item
                given = LayeredImage(picture)
                return pipe(
                    prompt, image=given, generator=generator, callback_on_step_end=progress.step
                ).layers[0]

        else:
            networks = load_networks(saliency, inpainter, max_layers)

            def one(item: tuple[Any, torch.Generator], progress: Progress) -> LayeredImage:
                return networks(item[0])

        taken = conversion.pictures(image)
        return conversion.outputs(
            each(list(zip(taken, generators(seed, len(taken)), strict=True)), one)
        )


NODE_CLASS_MAPPINGS = {
    "Text2LayerGenerate": Generate,
    "Text2LayerGivenBackground": GivenBackground,
    "Text2LayerGivenForeground": GivenForeground,
    "Text2LayerDecompose": Decompose,
    "Text2LayerImagesToLayers": ImagesToLayers,
    "Text2LayerLayersToImages": LayersToImages,
    "Text2LayerSave": SaveLayers,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "Text2LayerGenerate": "Generate Layers",
    "Text2LayerGivenBackground": "Foreground for Background",
    "Text2LayerGivenForeground": "Background for Foreground",
    "Text2LayerDecompose": "Decompose into Layers",
    "Text2LayerImagesToLayers": "Images to Layers",
    "Text2LayerLayersToImages": "Layers to Images",
    "Text2LayerSave": "Save Layers",
}
