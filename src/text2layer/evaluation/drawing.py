"""Lets a model draw for a score: whole batches of prompts, or one sample with a part given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from text2layer.errors import InputError
from text2layer.parts import Parts
from text2layer.pipelines.photo_layers import PhotoLayers
from text2layer.pipelines.text2layer import Text2LayerPipeline


class Drawer:
    """A pipeline with its settings; the same number always draws the same picture.

    A flat model (`PlainAutoencoder` of the whole picture) draws pictures, and networks of others
    take them apart: what a user would do today.

    Args:
        pipeline: a whole model.
        size: pixels; the model's own when 0.
        steps: sampling steps; the model's own when 0.
        guidance: guidance scale; the model's own for what is given when None.
        take_apart: for flat models.

    Attributes:
        seconds: spent in drawing so far.
        guidance: guidance scale of the last pictures.
        steps: sampling steps of the last pictures.
        attempts: of the last pictures, which the best was kept of.
        matting_hash: of the network that gave the last pictures their masks, or "".
        is_flat: whether layers come from networks of others.

    Raises:
        InputError: the model draws several foregrounds, or is flat and nothing takes it apart.
    """

    def __init__(
        self,
        pipeline: Text2LayerPipeline,
        size: int = 0,
        steps: int = 0,
        guidance: float | None = None,
        take_apart: PhotoLayers | None = None,
    ) -> None:
        layers = pipeline.autoencoder.config.num_foregrounds
        if layers > 1:
            raise InputError(
                f"Scores are defined for one foreground per picture; this model draws {layers}."
            )
        self.pipeline = pipeline
        self.size = size or int(pipeline.config.default_size)
        self.asked_steps = steps or None
        self.steps = steps or int(pipeline.config.default_steps)
        self.asked_guidance = guidance
        scale = pipeline.config.default_guidance_scale
        self.guidance = float(scale if guidance is None else guidance)
        self.is_flat = bool(getattr(pipeline.autoencoder, "is_flat", False))
        if self.is_flat and take_apart is None:
            raise InputError("A flat model needs networks that take its pictures apart.")
        self.take_apart = take_apart
        self.attempts = 1
        self.matting_hash = ""
        self.seconds = 0.0
        pipeline.set_progress_bar_config(disable=True)

    def __call__(self, prompts: Sequence[str], numbers: Sequence[int], **given: Any) -> Parts:
        """Draw one picture per prompt.

        Args:
            prompts: B texts.
            numbers: B numbers, which are the seeds.
            given: foreground, background or image for a single prompt, as the pipeline takes it.

        Returns:
            Pictures of one foreground each, uint8. The image is what the model itself drew as a
            whole: of the auxiliary head, or of a flat model; None without.
        """
        begun = time.perf_counter()
        made = self.pipeline(
            list(prompts),
            generator=[torch.Generator().manual_seed(int(number)) for number in numbers],
            width=self.size,
            height=self.size,
            num_inference_steps=self.asked_steps,
            guidance_scale=self.asked_guidance,
            **given,
        )
        layers, pictures = made.layers, made.predicted_images
        self.guidance = layers[0].metadata["guidance_scale"]
        self.steps = layers[0].metadata["steps"]
        self.attempts = layers[0].metadata.get("attempts", 1)
        self.matting_hash = layers[0].metadata.get("matting_hash", "")
        if self.take_apart is not None and self.is_flat:
            layers = [self.take_apart(picture) for picture in pictures]
        self.seconds += time.perf_counter() - begun
        return Parts.from_layered(layers, pictures)


@torch.no_grad()
def reconstructed(autoencoder: Any, parts: Parts) -> Parts:
    """Layers that went through an autoencoder of any dtype.

    Args:
        autoencoder: on its device.
        parts: foreground, background and mask, float32; on any device.

    Returns:
        The same three and the picture that it predicts, float32, on the autoencoder's device.
    """
    layers = (parts.foreground, parts.background, parts.mask)
    made = autoencoder(*(layer.to(autoencoder.device, autoencoder.dtype) for layer in layers))
    image = None if made.image is None else made.image.float()
    return Parts(made.foreground.float(), made.background.float(), made.mask.float(), image)
