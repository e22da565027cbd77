"""The nodes: what ComfyUI shows, and the one call of text2layer behind each.

A node fails with one sentence of text2layer, which ComfyUI shows at the node.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import torch

from text2layer import LayeredImage
from text2layer.errors import InputError

from . import conversion
from .running import Progress, each, load_model, load_networks

LAYERS = "TEXT2LAYER_LAYERS"  # a list of LayeredImage, one for each picture of a batch
FORMATS = ("psd", "ora", "webp", "png")
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
INVERT = (
    "BOOLEAN",
    {"default": False, "tooltip": "On for the mask of Load Image, which is 1 where transparent."},
)


def generators(seed: int, count: int) -> list[torch.Generator]:
    """One for each picture of a batch, with seeds that follow one another."""
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


class _LayersNode:
    """What all nodes that make layers have in common."""

    CATEGORY = "text2layer"
    FUNCTION = "run"
    RETURN_TYPES = (LAYERS, "IMAGE", "IMAGE", "MASK", "IMAGE")
    RETURN_NAMES = ("layers", "composite", "foreground", "mask", "background")


class Generate(_LayersNode):
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
            num_inference_steps=steps or None,
            guidance_scale=guidance_scale or None,
            width=width or None,
            height=height or None,
            negative_prompt=negative_prompt or None,
            num_images_per_prompt=batch_size,
            generator=generators(seed, batch_size),
            callback_on_step_end=Progress(1).step,
        )
        return conversion.outputs(made.layers)


class _GivenNode(_LayersNode):
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
                num_inference_steps=steps or None,
                guidance_scale=guidance_scale or None,
                negative_prompt=negative_prompt or None,
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
        given = _cutouts(foreground, mask, invert_mask)
        return self.draw(given, prompt, seed, steps, guidance_scale, model, fast, negative_prompt)


class Decompose(_LayersNode):
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


class ImagesToLayers(_LayersNode):
    """Pictures of other nodes as layers, so that they can be saved."""

    DESCRIPTION = "Lay a foreground with its mask on a background, or on the layers so far."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "foreground": ("IMAGE",),
                "mask": ("MASK",),
                "invert_mask": INVERT,
                "name": ("STRING", {"default": "Foreground"}),
            },
            "optional": {"background": ("IMAGE",), "layers": (LAYERS,)},
        }

    def run(
        self,
        foreground: torch.Tensor,
        mask: torch.Tensor,
        invert_mask: bool,
        name: str,
        background: torch.Tensor | None = None,
        layers: list[LayeredImage] | None = None,
    ) -> tuple[Any, ...]:
        if (background is None) == (layers is None):
            raise InputError("Connect a background, or layers to put this one on, one of the two.")
        under = layers or [LayeredImage(one) for one in conversion.pictures(background)]
        cutouts = _cutouts(foreground, mask, invert_mask)
        if len(under) != len(cutouts):
            raise InputError(
                f"There are {len(cutouts)} foregrounds for {len(under)} pictures; give as many."
            )
        made = [
            picture.add(cutout.foregrounds[0].replace(name=name))
            for picture, cutout in zip(under, cutouts, strict=True)
        ]
        return conversion.outputs(made)


class LayersToImages:
    """The layers of one picture as a batch, bottom first."""

    CATEGORY = "text2layer"
    DESCRIPTION = "Each layer of a picture as IMAGE and MASK of the picture's size, bottom first."
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE")
    RETURN_NAMES = ("foregrounds", "masks", "background")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        index = ("INT", {"default": 0, "min": 0, "max": 4095, "tooltip": "Which of the batch."})
        return {"required": {"layers": (LAYERS,), "index": index}}

    def run(self, layers: list[LayeredImage], index: int) -> tuple[Any, ...]:
        if index >= len(layers):
            raise InputError(f"There is no picture {index}: the batch has {len(layers)}, from 0.")
        picture = layers[index]
        if not picture.foregrounds:
            raise InputError("This picture has no layer on its background.")
        parts = [picture.on_canvas(layer) for layer in picture.foregrounds]
        return (
            conversion.image_of([colour for colour, _ in parts]),
            conversion.mask_of([alpha for _, alpha in parts]),
            conversion.image_of([picture.background]),
        )


class SaveLayers:
    """Writes layered files into ComfyUI's output folder."""

    CATEGORY = "text2layer"
    DESCRIPTION = "Save layers as PSD, ORA and others in ComfyUI's output folder."
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("paths",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "layers": (LAYERS,),
                "filename_prefix": ("STRING", {"default": "text2layer"}),
                "format": (list(FORMATS),),
            }
        }

    def run(self, layers: list[LayeredImage], filename_prefix: str, format: str) -> dict[str, Any]:
        from text2layer import save

        paths = []
        for picture in layers:
            path = free_path(output_folder(), filename_prefix, format)
            save(picture, path)
            paths.append(str(path))
        return {"ui": {"text": paths}, "result": ("\n".join(paths),)}


def output_folder() -> Path:
    """Where ComfyUI puts results; `output` in the current folder outside of ComfyUI."""
    try:
        import folder_paths
    except ImportError:
        return Path("output").absolute()
    return Path(folder_paths.get_output_directory())


def free_path(folder: Path, prefix: str, suffix: str) -> Path:
    """`PREFIX_00001_.psd` with the next number; the prefix may name folders below `folder`.

    Raises:
        InputError: the prefix leads out of the folder, or the format is not known.
    """
    if suffix not in FORMATS:
        raise InputError(f"The format must be one of {', '.join(FORMATS)}, not {suffix!r}.")
    root = folder.resolve()
    stem = Path(os.path.normpath(root / (prefix or "text2layer")))
    if root not in stem.resolve().parents:
        raise InputError(f"The prefix {prefix!r} leads out of the output folder; give a name.")
    stem.parent.mkdir(parents=True, exist_ok=True)
    taken = [
        int(number)
        for file in stem.parent.iterdir()
        if file.name.startswith(f"{stem.name}_")
        and (number := file.name[len(stem.name) + 1 :].split("_")[0]).isdecimal()
    ]
    return stem.with_name(f"{stem.name}_{max(taken, default=0) + 1:05}_.{suffix}")


def _cutouts(foreground: torch.Tensor, mask: torch.Tensor, inverted: bool) -> list[LayeredImage]:
    """A cut-out of each picture of a batch."""
    colours = conversion.pictures(foreground)
    size = (colours[0].shape[1], colours[0].shape[0])
    alphas = conversion.opaque(mask, size, len(colours), inverted)
    return [conversion.cutout(*parts) for parts in zip(colours, alphas, strict=True)]


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
