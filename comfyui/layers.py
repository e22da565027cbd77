"""The nodes that turn layers into ComfyUI's pictures and back, and into files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from text2layer import LayeredImage
from text2layer.errors import InputError

from . import conversion

LAYERS = "TEXT2LAYER_LAYERS"  # a list of LayeredImage, one for each picture of a batch
FORMATS = ("psd", "ora", "webp", "png")
INVERT = (
    "BOOLEAN",
    {"default": False, "tooltip": "On for the mask of Load Image, which is 1 where transparent."},
)


class LayersNode:
    """What all nodes that make layers have in common."""

    CATEGORY = "text2layer"
    FUNCTION = "run"
    RETURN_TYPES = (LAYERS, "IMAGE", "IMAGE", "MASK", "IMAGE")
    RETURN_NAMES = ("layers", "composite", "foreground", "mask", "background")


class ImagesToLayers(LayersNode):
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
        cutouts = cutouts_of(foreground, mask, invert_mask)
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


def cutouts_of(foreground: torch.Tensor, mask: torch.Tensor, inverted: bool) -> list[LayeredImage]:
    """A cut-out of each picture of a batch."""
    colours = conversion.pictures(foreground)
    size = (colours[0].shape[1], colours[0].shape[0])
    alphas = conversion.opaque(mask, size, len(colours), inverted)
    return [conversion.cutout(*parts) for parts in zip(colours, alphas, strict=True)]
