"""Checks of what a caller gives the pipeline, and its way into tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from text2layer.blend import extend_edge_colours, resize_colour_and_alpha
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage
from text2layer.tensors import colour_to_tensor, mask_to_tensor

MIN_SIDE = 64
MAX_SIDE = 1024
MAX_PICTURES = 64  # of one call


@dataclass(frozen=True)
class Given:
    """What the caller gives, on the canvas of the result.

    Attributes:
        kind: foreground, background, image or None.
        colour: (H, W, 3) uint8, or None.
        alpha: (H, W) uint8 of a given foreground, or None.
    """

    kind: str | None = None
    colour: np.ndarray | None = None
    alpha: np.ndarray | None = None

    def as_tensors(self) -> dict[str, Tensor]:
        """Keyword arguments of `conditioning.condition_latents`."""
        if self.kind is None or self.colour is None:
            return {}
        tensors = {self.kind: colour_to_tensor(self.colour)}
        if self.alpha is not None:
            tensors["mask"] = mask_to_tensor(self.alpha)
        return tensors


def check_prompts(prompt: str | Sequence[str]) -> list[str]:
    """Return the prompts as a list; an empty one is refused."""
    if not isinstance(prompt, (str, Sequence)):
        raise InputError(f"A prompt must be text or a list of texts, got {prompt!r}.")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise InputError("The list of prompts is empty; give at least one prompt.")
    for text in prompts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The prompt is empty ({text!r}); say what the picture shows.")
    return prompts


def check_negative(negative: str | Sequence[str] | None, count: int) -> list[str]:
    """Return one negative prompt per prompt; None and "" mean the empty caption."""
    if negative is None or isinstance(negative, str):
        return [negative or ""] * count
    if len(negative) != count:
        raise InputError(
            f"{len(negative)} negative prompts were given for {count} prompts; give one or {count}."
        )
    return list(negative)


def fitting_size(
    asked: tuple[int | None, int | None], default: int, factor: int, given: Any = None
) -> tuple[int, int]:
    """Return (width, height): what was asked for, the rest in the shape of what is given.

    Args:
        asked: (width, height), None where open.
        default: the model's side; a canvas of open size has about `default`^2 pixels.
        factor: sides are rounded to a multiple of it.
        given: a layer or picture whose shape counts; a square without one.
    """
    width, height = asked
    if given is None:
        return default if width is None else width, default if height is None else height
    size = given.size if hasattr(given, "size") else None
    if isinstance(given, np.ndarray):
        size = (given.shape[1], given.shape[0]) if given.ndim == 3 else None
    ratio = size[0] / size[1] if isinstance(size, tuple) else 1.0

    def rounded(side: float) -> int:
        return max(MIN_SIDE, round(min(side, MAX_SIDE) / factor) * factor)

    if width is None:
        width = rounded(height * ratio if height else default * ratio**0.5)
    if height is None:
        height = rounded(width / ratio)
    return width, height


def check_size(width: int, height: int, factor: int) -> None:
    """Raise InputError unless both sides are multiples of the factor and within the limits."""
    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, int):
            raise InputError(f"The {name} must be a whole number of pixels, got {side!r}.")
        if side % factor or not MIN_SIDE <= side <= MAX_SIDE:
            nearest = min(max(round(side / factor) * factor, MIN_SIDE), MAX_SIDE)
            raise InputError(
                f"The {name} must be a multiple of {factor} from {MIN_SIDE} to {MAX_SIDE} pixels, "
                f"got {side}; {nearest} would do."
            )


def check_numbers(steps: int, guidance_scale: float, pictures: int) -> None:
    """Raise InputError for step counts, guidance or picture counts that cannot be used."""
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise InputError(f"The number of steps must be a whole number, got {steps!r}.")
    if not 1 <= steps <= 1000:
        raise InputError(f"The number of steps must lie in 1..1000, got {steps}.")
    if not 0 <= guidance_scale <= 100:
        raise InputError(f"The guidance scale must lie in 0..100, got {guidance_scale}.")
    if not 1 <= pictures <= MAX_PICTURES:
        raise InputError(f"One call makes 1 to {MAX_PICTURES} pictures, {pictures} were asked for.")


def check_names(chosen: Sequence[str], known: Sequence[str]) -> None:
    """Raise InputError unless a step callback asks for tensors that exist."""
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(f"A step callback can have {' and '.join(known)}, not {unknown[0]!r}.")


def check_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, pictures: int
) -> list[torch.Generator]:
    """Return one generator per picture.

    A single generator draws a seed for every picture after the first, which keeps its own; so the
    first picture of a batch equals the picture made alone, and each can be made again from the
    seed in its metadata.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**31 - 1, ()).item()))
    if isinstance(generator, torch.Generator):
        seeds = [int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
                 for _ in range(pictures - 1)]  # fmt: skip
        first = torch.Generator(generator.device).manual_seed(generator.initial_seed())
        rest = [torch.Generator(generator.device).manual_seed(seed) for seed in seeds]
        return [first, *rest]
    if len(generator) != pictures:
        raise InputError(
            f"{len(generator)} generators were given for {pictures} pictures; give one or "
            f"{pictures}."
        )
    return list(generator)


def check_given(
    size: tuple[int, int], foreground: Any = None, background: Any = None, image: Any = None
) -> Given:
    """Bring what is given onto the canvas.

    Args:
        size: (width, height) of the canvas; pictures of another size are resized to it.
        foreground: a cut-out: `Layer`, `LayeredImage` (its foreground), RGBA array or PIL picture.
        background: a picture: RGB array, PIL picture or `LayeredImage` (its composite).
        image: a picture to take apart, likewise.

    Raises:
        InputError: when more than one is given, or one is not a picture.
    """
    named = {"foreground": foreground, "background": background, "image": image}
    present = [name for name, value in named.items() if value is not None]
    if not present:
        return Given()
    if len(present) > 1:
        raise InputError(f"Give only one of {' and '.join(present)}; the rest is generated.")
    if foreground is not None:
        colour, alpha = _cutout(foreground)
        if alpha.shape != (size[1], size[0]):
            colour, alpha = resize_colour_and_alpha(colour, alpha, size)
        return Given("foreground", colour, alpha)
    colour = _picture(named[present[0]], present[0])
    if colour.shape[:2] != (size[1], size[0]):
        colour = np.asarray(Image.fromarray(colour).resize(size, Image.Resampling.LANCZOS))
    return Given(present[0], colour)


def _cutout(value: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return straight colour and alpha of a given foreground."""
    if isinstance(value, LayeredImage):
        return value.foreground, value.mask
    if isinstance(value, Layer):
        return value.colour, value.alpha
    rgba = np.asarray(value)
    if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
        raise InputError(
            "A given foreground must be a Layer or an RGBA picture (height, width, 4) of 8 bits, "
            f"got {_describe(value)}."
        )
    return extend_edge_colours(rgba[..., :3], rgba[..., 3]), np.ascontiguousarray(rgba[..., 3])


def _picture(value: Any, name: str) -> np.ndarray:
    """Return (H, W, 3) uint8 of a given picture."""
    if isinstance(value, LayeredImage):
        return value.composite
    if isinstance(value, Image.Image):
        return np.asarray(value.convert("RGB"))
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape[2:] == (3,):
        return value
    raise InputError(
        f"A given {name} must be a picture (PIL, or uint8 (height, width, 3)), "
        f"got {_describe(value)}."
    )


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None) or getattr(value, "size", None)
    return f"{type(value).__name__}{f' of shape {shape}' if shape is not None else ''}"
