"""Any text-to-image pipeline of diffusers as a source of layers: it draws, the picture is taken
apart.

    >>> pipe = TextToImageLayers.from_pretrained("stabilityai/sd-turbo")   # doctest: +SKIP
    >>> layered = pipe("a red fox in the snow").layers[0]                  # doctest: +SKIP
    >>> [layer.name for layer in layered.foregrounds]                      # doctest: +SKIP
    ['Subject 1']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from text2layer.errors import InputError
from text2layer.io.xmp import TRAINED_ALGORITHMIC_MEDIA
from text2layer.layers import LayeredImage
from text2layer.pipelines import inputs
from text2layer.pipelines.opening import (
    calling,
    check_finite,
    default_of,
    open_pipeline,
    takes,
)
from text2layer.pipelines.photo_layers import PhotoLayers, with_provenance
from text2layer.pipelines.text2layer import Text2LayerPipelineOutput

MAX_SIDE = 4096  # pixels of a picture's width or height; the largest that such pipelines draw
MAX_LAYERS = 4  # subjects that become layers
# parameters that no text-to-image pipeline has, and what a pipeline with them is for
OTHER_JOBS = {
    "mask_image": "inpainting",
    "strength": "changing a given picture",
    "controlnet_conditioning_scale": "drawing after a control picture",
    "num_frames": "video",
}


class TextToImageLayers:
    """Text in, layers out, by two models of others: one draws, the others take apart.

    Args:
        pipeline: a text-to-image pipeline of diffusers, loaded and on its device.
        take_apart: makes layers of a picture (H, W, 3) uint8; by default `PhotoLayers`, the
            networks of the command decompose, with `MAX_LAYERS`, loaded by the first call.
        identity: what names the pipeline in metadata; see `opening.open_pipeline`.

    Raises:
        InputError: the pipeline is for something else than text to image.
    """

    def __init__(
        self,
        pipeline: Any,
        take_apart: Callable[[np.ndarray], LayeredImage] | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:
        kind = type(pipeline).__name__
        other = next((job for name, job in OTHER_JOBS.items() if takes(pipeline, name)), None)
        if not takes(pipeline, "prompt") or other:
            raise InputError(
                f"{kind} is for {other or 'drawing without a prompt'}; give a text-to-image "
                "pipeline."
            )
        self.pipeline = pipeline
        self.take_apart = take_apart
        self.identity = identity or {"model": pipeline.name_or_path, "pipeline": kind}

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        take_apart: Callable[[np.ndarray], LayeredImage] | None = None,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        offload: str = "none",
    ) -> TextToImageLayers:
        """Open a folder or hub id; arguments and errors as of `opening.open_pipeline`."""
        pipeline, identity = open_pipeline(name, device, dtype, offload)
        return cls(pipeline, take_apart, identity)

    @property
    def takes_seed(self) -> bool:
        """Whether the same seed gives the same picture."""
        return takes(self.pipeline, "generator")

    def is_guided(self, guidance_scale: float | None) -> bool:
        """Whether a call with this scale, or the pipeline's own, heeds a negative prompt."""
        if guidance_scale is None or takes(self.pipeline, "true_cfg_scale"):
            own = default_of(self.pipeline, "true_cfg_scale")
            guidance_scale = default_of(self.pipeline, "guidance_scale") if own is None else own
        return guidance_scale is None or guidance_scale > 1

    @property
    def size_multiple(self) -> int:
        """Widths and heights are multiples of this many pixels."""
        processor = getattr(self.pipeline, "image_processor", None)
        factor = getattr(self.pipeline, "vae_scale_factor", 1)
        return int(processor.config.get("vae_scale_factor", factor) if processor else factor)

    def check(
        self,
        *,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        """Raise InputError for what this pipeline does not take; see `__call__`."""
        kind = type(self.pipeline).__name__
        asked: dict[str, Any] = {
            "negative_prompt": negative_prompt,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "height": height,
            "width": width,
        }
        for name, value in asked.items():
            if value is not None and not takes(self.pipeline, name):
                raise InputError(f"{kind} takes no {name.replace('_', ' ')}; leave it out.")
        if (
            negative_prompt is not None
            and takes(self.pipeline, "true_cfg_scale")
            and not self.is_guided(None)
        ):
            raise InputError(
                f"{kind} uses a negative prompt with a true_cfg_scale above 1 alone, and its own "
                f"is {default_of(self.pipeline, 'true_cfg_scale'):g}; leave it out."
            )
        steps = 1 if num_inference_steps is None else num_inference_steps
        inputs.check_numbers(steps, guidance_scale or 0.0, 1)
        factor = self.size_multiple
        for name, side in (("width", width), ("height", height)):
            if side is None:
                continue
            whole = isinstance(side, int) and not isinstance(side, bool)
            if not whole or side % factor or not factor <= side <= MAX_SIDE:
                raise InputError(
                    f"The {name} of {kind} must be a multiple of {factor} from {factor} to "
                    f"{MAX_SIDE} pixels, got {side!r}."
                )

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> Text2LayerPipelineOutput:
        """Draw pictures and take each apart.

        Pictures are drawn one after another, each from its own seed, so that each can be drawn
        again alone, and memory is that of one.

        Args:
            prompt: what the pictures show; one text or a list.
            negative_prompt: what to steer away from.
            num_inference_steps: network calls; by default the pipeline's own.
            guidance_scale: as the pipeline understands it; by default its own.
            height: pixels, a multiple of `size_multiple`; by default the pipeline's own.
            width: likewise.
            num_images_per_prompt: pictures for each prompt.
            generator: one, or one per picture; see `inputs.check_generators`.
            callback_on_step_end: as diffusers has it, called after each step.

        Returns:
            `layers`, in the order of the prompts: the layers of `take_apart`, with the metadata of
            both models; a picture in which it found nothing is a background alone. `images` are
            the pictures as they were drawn.

        Raises:
            InputError: the pipeline does not take an option, or cannot use it.
            WeightsError: the pipeline gave NaN or infinity, or `PhotoLayers` lacks weights.
        """
        prompts = inputs.check_prompts(prompt)
        inputs.check_count(num_images_per_prompt)
        count = len(prompts) * num_images_per_prompt
        generators = inputs.check_generators(generator, count)
        if self.take_apart is None:  # weights that are missing are named before long work
            self.take_apart = PhotoLayers(max_layers=MAX_LAYERS)
        drawn = [
            self.draw(
                prompts[index // num_images_per_prompt],
                negative_prompt=negative_prompt,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                height=height,
                width=width,
                generator=one,
                callback_on_step_end=callback_on_step_end,
            )
            for index, one in enumerate(generators)
        ]
        layers = [with_provenance(self.take_apart(flat.background), flat) for flat in drawn]
        images = [Image.fromarray(flat.background) for flat in drawn]
        return Text2LayerPipelineOutput(layers, [], images)

    @torch.no_grad()
    def draw(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> LayeredImage:
        """Draw one picture and take nothing apart: a background alone, with its metadata.

        Arguments and errors as of `__call__`.
        """
        kind = type(self.pipeline).__name__
        asked: dict[str, Any] = {
            "negative_prompt": negative_prompt,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "height": height,
            "width": width,
        }
        self.check(**asked)
        text = inputs.check_prompts(prompt)[0]
        options = {name: value for name, value in asked.items() if value is not None}
        own = inputs.check_generators(generator, 1)[0]
        extra = {
            "output_type": "np", "generator": own, "callback_on_step_end": callback_on_step_end
        }  # fmt: skip
        if callback_on_step_end is None:
            del extra["callback_on_step_end"]
        known = {name: value for name, value in extra.items() if takes(self.pipeline, name)}
        advice = "a smaller picture, or for offloading (model, or sequential)"
        with calling("draw this", kind, advice):
            made = self.pipeline(prompt=text, **options, **known)
        pixels = _pixels(made, kind)
        return LayeredImage(pixels, metadata=self._metadata(text, options, own))

    def _metadata(
        self, prompt: str, options: dict[str, Any], generator: torch.Generator
    ) -> dict[str, Any]:
        from text2layer import __version__

        steps = options.get("num_inference_steps", default_of(self.pipeline, "num_inference_steps"))
        guidance = options.get("guidance_scale", default_of(self.pipeline, "guidance_scale"))
        return {
            "prompt": prompt,
            "negative_prompt": options.get("negative_prompt", ""),
            **({"seed": generator.initial_seed()} if self.takes_seed else {}),
            **({} if steps is None else {"steps": int(steps)}),
            **({} if guidance is None else {"guidance_scale": float(guidance)}),
            **self.identity,
            "generator": f"text2layer {__version__}",
            "digital_source_type": TRAINED_ALGORITHMIC_MEDIA,
        }


def _pixels(made: Any, kind: str) -> np.ndarray:
    """The first picture of a pipeline's output: (H, W, 3) uint8."""
    if not hasattr(made, "images"):
        raise InputError(f"{kind} gives no pictures; give a text-to-image pipeline.")
    if any(getattr(made, "nsfw_content_detected", None) or ()):
        raise InputError(
            f"The safety checker of {kind} withheld the picture; try another seed or prompt."
        )
    first = made.images[0]
    if isinstance(first, Image.Image):
        return np.array(first.convert("RGB"))
    check_finite(first, kind)
    return np.rint(np.asarray(first)[..., :3].clip(0, 1) * 255).astype(np.uint8)
