"""Checks of what a caller gives the pipeline, and its way into tensors."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from text2layer.blend import composite_over
from text2layer.blend_modes import NORMAL
from text2layer.canonical import canonical_box
from text2layer.errors import FormatError, InputError
from text2layer.io.srgb import upright_srgb
from text2layer.layers import Layer, LayeredImage
from text2layer.pipelines.assemble import ATTEMPTS, MATTED_ATTEMPTS, MAX_ATTEMPTS
from text2layer.pipelines.frame import Frame, Window, window_of
from text2layer.tensors import colour_to_tensor, mask_to_tensor

MAX_PICTURES = 64  # of one call
OUTPUT_TYPES = ("layered", "pil", "np", "pt", "latent")
RIGHTS = ("caption", "source", "author", "license")  # what a reference's own metadata may say


@dataclass(frozen=True)
class Given:
    """What the caller gives, at its own size.

    Attributes:
        kind: foreground, background, image, reference or None.
        colour: (H, W, 3) uint8; of several foregrounds their two-layer view. None without kind.
        alpha: (H, W) uint8 of a given foreground or reference, or None.
        layers: the given foregrounds as they came, bottom first.
        metadata: what a picture's metadata say of a reference.
    """

    kind: str | None = None
    colour: np.ndarray | None = None
    alpha: np.ndarray | None = None
    layers: tuple[Layer, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) in pixels; None without kind, and of a reference, of which none stays."""
        if self.colour is None or self.kind == "reference":
            return None
        return self.colour.shape[1], self.colour.shape[0]

    def square_window(self) -> Window | None:
        """The square of a given background in which is drawn; None where all of it is."""
        if self.kind != "background" or self.colour is None:
            return None
        return window_of(self.colour)

    def as_tensors(self, frame: Frame, num_foregrounds: int = 1) -> dict[str, Tensor]:
        """Keyword arguments of `conditioning.condition_latents`, on the frame's canvas.

        Given foregrounds are merged for a model of one; for a model of several they are its lowest
        and the rest are empty. A reference comes as a foreground in the canonical place.
        """
        if self.kind is None or self.colour is None:
            return {}
        if self.alpha is None:
            return {self.kind: colour_to_tensor(frame.fit_colour(self.colour))}
        if self.kind == "reference":
            fitted = [_in_canonical_place(Layer(self.colour, self.alpha), frame.canvas)]
        elif num_foregrounds > 1:
            canvas = LayeredImage(self.colour)
            fitted = [frame.fit_layer(*canvas.on_canvas(layer)) for layer in self.layers]
        else:
            fitted = [frame.fit_layer(self.colour, self.alpha)]
        colour = colour_to_tensor(np.stack([pixels for pixels, _ in fitted]))
        mask = mask_to_tensor(np.stack([alpha for _, alpha in fitted]))
        if num_foregrounds > 1:
            missing = num_foregrounds - len(fitted)
            colour, mask = (
                torch.cat([part, part.new_zeros(missing, *part.shape[1:])])[None]
                for part in (colour, mask)
            )
        return {"foreground": colour, "mask": mask}


def check_prompts(prompt: str | Sequence[str] | None, may_be_empty: bool = False) -> list[str]:
    """Return the prompts as a list; an empty one is refused unless it `may_be_empty`."""
    if not isinstance(prompt, (str, Sequence)):
        raise InputError(f"A prompt must be text or a list of texts, got {prompt!r}.")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise InputError("The list of prompts is empty; give at least one prompt.")
    for text in prompts:
        if not isinstance(text, str) or not (text.strip() or may_be_empty):
            raise InputError(f"The prompt is empty ({text!r}); say what the picture shows.")
        check_characters(text)
    return prompts


def check_characters(text: str) -> None:
    """Raise InputError for text that no encoder reads: half a character, or a NUL."""
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise InputError(
            f"The prompt {text[:40]!r} holds bytes that are no text (UTF-8); type it again."
        )


def check_embeds(prompt: Any, embeds: Tensor) -> list[str]:
    """Return empty prompts, as many as token states (N, L, D) are given instead of them."""
    if prompt is not None:
        raise InputError("Give a prompt or prompt_embeds, not both.")
    if not isinstance(embeds, Tensor) or embeds.ndim != 3 or not len(embeds):
        raise InputError(f"prompt_embeds must be a tensor (N, L, D), got {_describe(embeds)}.")
    return [""] * len(embeds)


def checked_embeds(
    embeds: Tensor, mask: Tensor | None, count: int, encoder: Any
) -> tuple[Tensor, Tensor]:
    """Return given token states (count, L, D) and their mask (count, L), of one or of all prompts.

    Raises:
        InputError: a shape does not fit the other, the prompts or the text encoder.
    """
    width = getattr(getattr(encoder, "config", None), "hidden_size", embeds.shape[-1])
    if embeds.ndim != 3 or embeds.shape[-1] != width or len(embeds) not in (1, count):
        raise InputError(
            f"prompt_embeds must have shape ({count}, L, {width}), got {tuple(embeds.shape)}."
        )
    if mask is None:
        mask = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    if mask.shape != embeds.shape[:2]:
        raise InputError(
            f"The attention mask of prompt_embeds must have shape {tuple(embeds.shape[:2])}, got "
            f"{tuple(mask.shape)}."
        )
    repeats = count // len(embeds)
    return embeds.repeat(repeats, 1, 1), mask.bool().repeat(repeats, 1)


def check_negative(negative: str | Sequence[str] | None, count: int) -> list[str]:
    """Return one negative prompt per prompt; None and "" mean the empty caption."""
    for text in [negative] if isinstance(negative, str) else negative or ():
        check_characters(text)
    if negative is None or isinstance(negative, str):
        return [negative or ""] * count
    if len(negative) != count:
        raise InputError(
            f"{len(negative)} negative prompts were given for {count} prompts; give one or {count}."
        )
    return list(negative)


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


def check_attempts(
    attempts: int | None, given: Given, latents: Tensor | None, matted: bool = False
) -> int:
    """Return how often a picture is taken apart; 1 for other jobs, for which none may be asked.

    Fewer by default where its mask is `matted`.
    """
    if given.kind != "image":
        if attempts not in (None, 1):
            raise InputError("Several attempts are made at taking a picture apart; give an image.")
        return 1
    if attempts is None:
        if latents is not None:
            return 1
        return MATTED_ATTEMPTS if matted else ATTEMPTS
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise InputError(f"The number of attempts must be a whole number, got {attempts!r}.")
    if not 1 <= attempts <= MAX_ATTEMPTS:
        raise InputError(f"The attempts must lie in 1..{MAX_ATTEMPTS}, got {attempts}.")
    return attempts


def check_output_type(output_type: str) -> None:
    """Raise InputError for an output type that there is not."""
    if output_type not in OUTPUT_TYPES:
        raise InputError(
            f"output_type must be {', '.join(OUTPUT_TYPES[:-1])} or {OUTPUT_TYPES[-1]}, got "
            f"{output_type!r}."
        )


def step_options(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """Options of a scheduler's step: the generators of its noise, where it takes them."""
    takes = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": generators if len(generators) > 1 else generators[0]} if takes else {}


def check_names(chosen: Sequence[str], known: Sequence[str]) -> None:
    """Raise InputError unless a step callback asks for tensors that exist."""
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(f"A step callback can have {' and '.join(known)}, not {unknown[0]!r}.")


def check_count(count: int) -> None:
    """Raise InputError unless a number of pictures per prompt is whole; see `check_numbers`."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputError(f"num_images_per_prompt must be a whole number, got {count!r}.")


def check_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, pictures: int
) -> list[torch.Generator]:
    """Return one generator per picture, fresh from the seed that its metadata names.

    A picture takes the seed of its generator if that was not used before, else a seed that the
    generator draws. So the first picture of a new generator is the one of its seed, as in
    diffusers; a generator that is used again gives another picture; and each picture can be made
    again from its own seed. The generator's state is read and advanced.

    Args:
        generator: one for all pictures, or one each; None draws a seed by torch's own.
        pictures: how many.

    Raises:
        InputError: the list has another length, or holds something else.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**31 - 1, ()).item()))
    given = [generator] * pictures if isinstance(generator, torch.Generator) else list(generator)
    if len(given) != pictures:
        raise InputError(
            f"{len(given)} generators were given for {pictures} pictures; give one or {pictures}."
        )
    for one in given:
        if not isinstance(one, torch.Generator):
            raise InputError(f"A generator must be a torch.Generator, got {one!r}.")
    return [_next_generator(one) for one in given]


def _next_generator(generator: torch.Generator) -> torch.Generator:
    """A generator fresh from a seed, and the given one advanced."""
    fresh = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    new = torch.equal(generator.get_state(), fresh.get_state())
    drawn = torch.randint(2**31 - 1, (), generator=generator, device=generator.device)
    return fresh if new else fresh.manual_seed(int(drawn))


def check_given(
    foreground: Any = None,
    background: Any = None,
    image: Any = None,
    num_foregrounds: int = 1,
    reference: Any = None,
) -> Given:
    """Check what is given.

    Args:
        foreground: a cut-out: RGBA array or PIL picture, `Layer` (alone on a canvas of its size)
            or `LayeredImage` (all its foregrounds).
        background: a picture: RGB array, PIL picture (its transparent parts become white) or
            `LayeredImage` (its composite).
        image: a picture to take apart, likewise.
        num_foregrounds: of the model. More given ones than that are refused, unless it is one.
        reference: a cut-out that shows what the object looks like, as a foreground is given.

    Raises:
        InputError: when more than one is given, one is not a picture, or a cut-out is empty or
            nowhere transparent, or there are too many foregrounds.
    """
    named = {"foreground": foreground, "background": background, "image": image}
    present = [name for name, value in named.items() if value is not None]
    if reference is not None:
        if present:
            raise InputError(
                f"A reference cannot be given together with a given {present[0]}: the model takes "
                "one thing at a time; give one of the two."
            )
        return _reference(reference)
    if not present:
        return Given()
    if len(present) > 1:
        raise InputError(f"Give only one of {' and '.join(present)}; the rest is generated.")
    if foreground is None:
        return Given(present[0], _picture(named[present[0]], present[0]))
    layered = _cutout(foreground, "foreground")
    if 1 < num_foregrounds < len(layered.foregrounds):
        raise InputError(
            f"The model draws {num_foregrounds} foregrounds and {len(layered.foregrounds)} were "
            "given; merge some of them."
        )
    alpha = layered.mask
    if not alpha.any():
        raise InputError(
            "The given foreground is empty: its alpha is 0 everywhere, so there is nothing to keep."
        )
    if (alpha == 255).all():
        raise InputError(
            "The given foreground has no transparency, so no background would be seen; give a "
            "cut-out with an alpha channel."
        )
    colour = _in_own_colours(layered).foreground
    return Given("foreground", colour, alpha, layered.foregrounds)


def _reference(value: Any) -> Given:
    """Check a reference; what its picture's metadata will say of it is its name, hash and rights.

    The hash is the SHA-256 of width, height (4 bytes each, little endian) and RGBA of the cut-out
    trimmed to what is not transparent, colour 0 where alpha is.
    """
    layered = _cutout(value, "reference")
    layer = Layer(_in_own_colours(layered).foreground, layered.mask)
    if layer.box is None:
        raise InputError(
            "The given reference is empty: its alpha is 0 everywhere, so it shows no object."
        )
    if (layer.alpha == 255).all():
        raise InputError(
            "The given reference has no transparency, so its object cannot be told from what is "
            "behind it; give a cut-out with an alpha channel."
        )
    layer = layer.trimmed()
    seen = np.where(layer.alpha[..., None] > 0, layer.colour, np.uint8(0))
    pixels = np.dstack([seen, layer.alpha]).tobytes()
    digest = hashlib.sha256(np.array(layer.size, "<u4").tobytes() + pixels).hexdigest()
    metadata: dict[str, Any] = {
        "name": ", ".join(one.name for one in layered.foregrounds), "sha256": digest
    }  # fmt: skip
    if len(layered.foregrounds) == 1:
        said = layered.foregrounds[0].metadata
        metadata |= {name: said[name] for name in RIGHTS if said.get(name)}
    return Given("reference", layer.colour, layer.alpha, metadata=metadata)


def _in_own_colours(layered: LayeredImage) -> LayeredImage:
    """Without blend modes, which would mix in the background that is to be replaced."""
    layers = (layer.replace(blend_mode=NORMAL) for layer in layered.foregrounds)
    return layered.replace(foregrounds=tuple(layers))


def _in_canonical_place(cutout: Layer, canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Colour (H, W, 3) and alpha (H, W) of a cut-out on a canvas of (width, height)."""
    empty = LayeredImage(np.zeros((canvas[1], canvas[0], 3), np.uint8))
    return empty.on_canvas(cutout.fitted(canonical_box(canvas)))


def _cutout(value: Any, part: str) -> LayeredImage:
    """Return a given foreground or reference as layers over a background of no meaning."""
    if isinstance(value, LayeredImage):
        if not value.foregrounds:
            raise InputError(f"The picture given as {part} has no foreground layer.")
        return value
    if isinstance(value, Image.Image):
        colour, alpha = _pixels(value, part)
        value = value if alpha is None else np.dstack([colour, alpha])
    if not isinstance(value, Layer):
        rgba = np.asarray(value)
        if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
            raise InputError(
                f"A given {part} must be a Layer or an RGBA picture (height, width, 4) of 8 "
                f"bits, got {_describe(value)}."
            )
        value = Layer.from_rgba(rgba)
    return LayeredImage(np.zeros_like(value.colour), (value.replace(offset=(0, 0)),))


def _picture(value: Any, name: str) -> np.ndarray:
    """Return (H, W, 3) uint8 of a given picture."""
    if isinstance(value, LayeredImage):
        return value.composite
    if isinstance(value, Image.Image):
        colour, alpha = _pixels(value, name)
        if alpha is None:
            return colour
        flat: np.ndarray = composite_over(np.full_like(colour, 255), colour, alpha)
        return flat
    is_array = isinstance(value, np.ndarray) and value.dtype == np.uint8
    if is_array and value.shape[2:] == (3,) and value.size:
        plain: np.ndarray = value
        return plain
    raise InputError(
        f"A given {name} must be a picture (PIL, or uint8 (height, width, 3)), "
        f"got {_describe(value)}."
    )


def _pixels(value: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and alpha of a given Pillow picture, as a file of it would be read."""
    try:
        return upright_srgb(value, f"The given {name}")
    except (InputError, FormatError, MemoryError):
        raise
    except Exception as error:  # a file that is damaged further on is decoded only now
        raise InputError(
            f"The given {name} is damaged or cut short ({error}); give another picture."
        ) from None


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None) or getattr(value, "size", None)
    return f"{type(value).__name__}{f' of shape {shape}' if shape is not None else ''}"
