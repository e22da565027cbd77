"""Text2LayerPipeline: give what you have, get what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from text2layer.errors import InputError, WeightsError
from text2layer.files import weights_hash
from text2layer.layers import LayeredImage
from text2layer.models.autoencoder import CaT2IAutoencoder, LayerComponents, part_of
from text2layer.models.denoiser import (
    GIVEN,
    condition_latents,
    denoise,
    flag_channels,
    flag_tensor,
    is_flow,
    patch_size,
    set_steps,
)
from text2layer.models.matting import MattingNetwork
from text2layer.models.plain_autoencoder import PlainAutoencoder  # or diffusers refuses to load it
from text2layer.models.text_encoder import (
    MAX_PROMPT_TOKENS,
    check_tokenizer,
    encode_prompts,
)
from text2layer.pipelines import editing, inputs, loading
from text2layer.pipelines.assemble import assemble, moved
from text2layer.pipelines.attempts import STEPS, best_attempts
from text2layer.pipelines.frame import frame_for
from text2layer.pipelines.placement import check_moved
from text2layer.pipelines.rough_layers import rough_layers
from text2layer.tensors import padded, tensor_to_colour


@dataclass
class Text2LayerPipelineOutput(BaseOutput):
    """What one call gives.

    Attributes:
        layers: one `LayeredImage` per picture, or, for output_type "pt", the decoded
            `LayerComponents`; for "latent", latents (N, C, h, w) in the denoiser's space.
        predicted_images: the auxiliary head's pictures, (H, W, 3) uint8 each; empty without it.
    """

    layers: Any
    predicted_images: list[np.ndarray]


class Text2LayerPipeline(DiffusionPipeline):
    """Generate foreground, background, mask and composite in one diffusion pass.

    How many foregrounds there are, the autoencoder decides; with several, all come in that pass,
    named Foreground 1, Foreground 2, ..., bottom first.

    Args:
        autoencoder: turns latents into layers.
        denoiser: a stock diffusers network built by `models.denoiser.build_denoiser`.
        text_encoder: gives token states; see `models.text_encoder`.
        tokenizer: its tokenizer.
        scheduler: a stock diffusers scheduler.
        default_size: side of a picture in pixels when none is asked for.
        default_steps: sampling steps when none are asked for.
        default_guidance_scale: guidance scale when none is asked for.
        max_prompt_tokens: longest prompt.
        text_encoder_name: weights name or path, for models saved without their text encoder.
        matting: gives pictures that are taken apart their masks; None leaves them to the decoder.

    Example:
        >>> pipe = Text2LayerPipeline.from_pretrained(released_model())  # doctest: +SKIP
        >>> layered = pipe("a red apple in front of a snowy mountain").layers[0]  # doctest: +SKIP
        >>> layered.size  # doctest: +SKIP
        (256, 256)
    """

    model_cpu_offload_seq = "text_encoder->denoiser->matting->autoencoder"
    _optional_components: ClassVar[list[str]] = ["matting"]
    _callback_tensor_inputs = ("latents", "prompt_embeds")

    def __init__(
        self,
        autoencoder: CaT2IAutoencoder | PlainAutoencoder,
        denoiser: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: SchedulerMixin,
        default_size: int = 256,
        default_steps: int = 20,
        default_guidance_scale: float = 3.0,
        max_prompt_tokens: int = MAX_PROMPT_TOKENS,
        text_encoder_name: str = "minilm",
        matting: MattingNetwork | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            denoiser=denoiser,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            matting=matting,
        )
        self.register_to_config(
            default_size=default_size,
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
            max_prompt_tokens=max_prompt_tokens,
            text_encoder_name=text_encoder_name,
        )
        self.model_name = ""
        self.model_hash = ""
        self.matting_hash = ""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        fast: bool = False,
        **kwargs: Any,
    ) -> Text2LayerPipeline:
        """Load a model folder (default: the released model that ships with the package).

        A folder without a text encoder names one in its config; that is found by
        `pretrained.resolve`. A matting network lies in the folder MODEL-matting beside it, or in
        MODEL/matting; `matting=None` does without.

        Args:
            pretrained_model_name_or_path: the folder, MODEL.
            fast: add the adapter of the folder MODEL-fast beside it: the model then draws in the
                few steps that it was taught, without guidance.
            kwargs: those of `DiffusionPipeline.from_pretrained`.

        Raises:
            WeightsError: when the folder is missing, damaged or not a text2layer model, or its
                adapter is asked for and missing, damaged or another model's.
        """
        if pretrained_model_name_or_path is None:
            from text2layer.pipelines import released_model

            pretrained_model_name_or_path = released_model()
        folder = Path(pretrained_model_name_or_path)
        index = loading.read_index(folder)
        kwargs = {
            "use_safetensors": True,  # never a pickle
            **loading.text_encoder_components(folder, index, kwargs),
            **kwargs,
        }
        matting = loading.matting_folder(folder) if "matting" not in kwargs else None
        if matting is not None:
            dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
            kwargs["matting"] = loading.load_matting(matting, dtype)
        with loading.one_sentence(folder):
            pipeline = super().from_pretrained(folder, **kwargs)
            for name in loading.COMPONENTS[:2]:
                if name not in kwargs:
                    loading.check_weights(folder / name, getattr(pipeline, name))
            check_tokenizer(pipeline.tokenizer)
        adapter = loading.folder_beside(folder, "fast") if fast else None
        if adapter is not None:
            pipeline._add_fast_adapter(adapter, folder)
        pipeline.model_name = (adapter or folder.resolve()).name
        pipeline.model_hash = loading.model_hash(folder, adapter)
        if matting is not None:
            pipeline.matting_hash = weights_hash(matting)
        return pipeline

    def _add_fast_adapter(self, adapter: Path, model: Path) -> None:
        """Merge the adapter of a folder into the denoiser of this model; see `from_pretrained`."""
        from text2layer.models.adapter import merge_adapter, read_note

        note = read_note(adapter, model / "denoiser")
        merge_adapter(self.denoiser, adapter)
        self.register_to_config(default_steps=note.steps, default_guidance_scale=1.0)

    @property
    def size_multiple(self) -> int:
        """Widths and heights must be multiples of this many pixels."""
        return self.autoencoder.latent_factor

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        foreground: Any = None,
        background: Any = None,
        image: Any = None,
        reference: Any = None,
        at: str | Sequence[int] | None = None,
        scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        attempts: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "layered",
        callback_on_step_end: Callable[..., dict[str, Tensor] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Text2LayerPipelineOutput:
        """Generate layered pictures.

        Args:
            prompt: what the pictures show; one text or a list. With `image` it may be empty.
            foreground: a cut-out that is given (RGBA picture, `Layer`, or the foregrounds of a
                `LayeredImage`) and comes back unchanged; a background is generated. A model of
                several foregrounds takes up to so many, bottom first; the rest are empty.
            background: a picture that is given and comes back unchanged; a foreground that belongs
                there is generated.
            image: a picture to take apart into foreground, background and mask; the composite of
                the result is this picture exactly.
            reference: a cut-out, given as `foreground` is, that shows what the object looks like;
                nothing of it is kept, and everything is drawn. Its name and hash are in the
                picture's metadata. Only models trained with references (`job_reference`) take one.
            at: where the drawn object goes, as in `add_layer`: a word such as "left", or a box in
                pixels. The layer is cut to its object, made to fill the box and moved there; see
                `placement.place`. None leaves it where it was drawn.
            scale: how large the object becomes, relative to what was drawn; at the place of a word,
                or standing where it stood.
            height: pixels that the network draws, a multiple of `size_multiple`; by default the
                model's size, in the shape of what is given. Where something is given, the result
                has its size whatever is drawn; see `pipelines.frame` for how it is fitted.
            width: likewise.
            num_inference_steps: network calls; default from the model, at most
                `pipelines.attempts.STEPS` where a picture is taken apart by rectified flow.
            guidance_scale: classifier-free guidance; 1 or less turns it off (half the time). By
                default the model's own, and none where a picture is taken apart.
            negative_prompt: what to steer away from; default the empty caption.
            num_images_per_prompt: pictures for each prompt.
            attempts: with `image`: how often it is taken apart; the layers that make it best are
                kept. By default as `pipelines.attempts` says, or 1 with given `latents`.
            generator: one, or one per picture; each picture's seed is in its metadata.
            latents: starting noise (N, C, h, w) instead of the generators'; of a picture taken
                apart (N * attempts, C, h, w).
            output_type: "layered", "pt" (`LayerComponents` in [-1, 1] and [0, 1]) or "latent".
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step; a
                returned dict replaces tensors. Set `pipeline._interrupt = True` to stop early.
            callback_on_step_end_tensor_inputs: names of `tensors`: latents, prompt_embeds.

        Returns:
            Pictures in the order of the prompts, all pictures of one prompt together.

        Raises:
            InputError: for anything that cannot be used; see `pipelines.inputs`.
            WeightsError: the network gave NaN or infinity.
        """
        # 1. Check inputs
        num_foregrounds = self.autoencoder.config.num_foregrounds
        given = inputs.check_given(foreground, background, image, num_foregrounds, reference)
        self._check_known(given)
        window = given.square_window() if num_foregrounds == 1 else None
        if window is not None and output_type == "layered" and width is None and height is None:
            asked = check_moved(at, scale, given.kind, window.size, num_foregrounds, output_type)
            made = self(
                prompt, background=window.inside, num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale, negative_prompt=negative_prompt,
                num_images_per_prompt=num_images_per_prompt, attempts=attempts,
                generator=generator, latents=latents, callback_on_step_end=callback_on_step_end,
                callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            )  # fmt: skip
            made.layers = [moved(window.whole(one, asked), at, scale) for one in made.layers]
            return made
        frame = frame_for((width, height), self.config.default_size, self.size_multiple, given.size)
        width, height = frame.canvas
        steps = self._default_steps(given) if num_inference_steps is None else num_inference_steps
        guidance = self._default_guidance(given) if guidance_scale is None else guidance_scale
        asked = check_moved(at, scale, given.kind, frame.size, num_foregrounds, output_type)
        prompts = inputs.check_prompts(prompt, may_be_empty=given.kind == "image")
        negatives = inputs.check_negative(negative_prompt, len(prompts))
        prompts = [text for text in prompts for _ in range(num_images_per_prompt)]
        negatives = [text for text in negatives for _ in range(num_images_per_prompt)]
        attempts = inputs.check_attempts(attempts, given, latents, self.matting is not None)
        inputs.check_numbers(steps, guidance, len(prompts))
        if output_type not in ("layered", "pt", "latent"):
            raise InputError(f"output_type must be layered, pt or latent, got {output_type!r}.")
        inputs.check_names(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        generators = inputs.check_generators(generator, len(prompts))

        # 2. Encode the prompts (and what guidance steers away from)
        guided = guidance > 1
        texts = negatives + prompts if guided else prompts
        states, mask = encode_prompts(
            self.tokenizer, self.text_encoder, texts, self.config.max_prompt_tokens
        )
        device, dtype = self._execution_device, self.denoiser.dtype
        states, mask = (
            rows.repeat_interleave(attempts, 0)
            for rows in (states.to(device, dtype), mask.to(device))
        )

        # 3. Timesteps: of a picture with a mask, the last of a layout of one more (SDEdit)
        matting = self.matting if given.kind == "image" else None
        begin = int(matting is not None and is_flow(self.scheduler))
        set_steps(self.scheduler, steps + begin, device)
        timesteps = self.scheduler.timesteps[begin:]

        # 4. Latents: noise, and the encoding of what is given
        repeated = [one for one in generators for _ in range(attempts)]
        latents = self._prepare_latents(latents, repeated, width, height, device, dtype)
        tensors = given.as_tensors(frame, num_foregrounds)
        condition, flags = self._prepare_condition(given.kind, tensors, latents)
        picture, matted = tensors.get("image"), None
        if picture is not None and matting is not None:
            matted = matting(picture.to(device, matting.dtype)).float()  # (1, 1, H, W)
            if begin:
                rough = self._rough_latents(picture.to(device), matted).to(latents)
                self.scheduler.set_begin_index(begin)
                latents = self.scheduler.scale_noise(rough, timesteps[:1], latents)
            matted = matted.expand(len(prompts), -1, -1, -1)

        # 5. Denoise
        self._interrupt = False
        for index, timestep in enumerate(self.progress_bar(timesteps)):
            stacked = torch.cat([latents, latents]) if guided else latents
            stacked = self._scale_model_input(stacked, timestep)
            output = denoise(
                self.denoiser, stacked,
                torch.cat([condition, condition]) if guided else condition,
                torch.cat([flags, flags]) if guided else flags,
                timestep, states, mask,
            )  # fmt: skip
            if guided:
                without, with_prompt = output.chunk(2)
                output = without + guidance * (with_prompt - without)
            latents = self.scheduler.step(output, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                held = {"latents": latents, "prompt_embeds": states}
                chosen = {name: held[name] for name in callback_on_step_end_tensor_inputs}
                changed = callback_on_step_end(self, index, timestep, chosen) or {}
                latents = changed.get("latents", latents)
                states = changed.get("prompt_embeds", states)
            if self._interrupt:
                break

        # 6. Decode into layers
        if not torch.isfinite(latents).all():
            raise WeightsError(
                "The denoiser gave values that are no numbers (NaN or infinite): its weights are "
                "damaged, or half precision overflowed; use another checkpoint, or float32."
            )
        if output_type == "latent" and attempts == 1:
            return Text2LayerPipelineOutput(latents, [])
        parts = self._decode(latents, width, height)
        if picture is not None and attempts > 1:
            best = best_attempts(parts, picture.to(device), attempts, matted)
            latents, parts = latents[best], part_of(parts, best)
        if matted is not None:
            parts.mask = matted
        if output_type == "latent":
            return Text2LayerPipelineOutput(latents, [])
        if output_type == "pt":
            return Text2LayerPipelineOutput(parts, [])
        provenance = [
            {
                "prompt": prompts[i],
                "negative_prompt": negatives[i],
                "seed": generators[i].initial_seed(),
                "steps": steps,
                "guidance_scale": float(guidance),
                "given": given.kind,
                **({"reference": given.metadata} if given.metadata else {}),
                **asked,
                **({"attempts": attempts} if given.kind == "image" else {}),
                **({"matting_hash": self.matting_hash} if matted is not None else {}),
                **self._model_metadata(),
            }
            for i in range(len(prompts))
        ]
        predicted = parts.predicted_image
        return Text2LayerPipelineOutput(
            layers=[moved(made, at, scale) for made in assemble(parts, given, frame, provenance)],
            predicted_images=[] if predicted is None else list(tensor_to_colour(predicted)),
        )

    def add_layer(
        self,
        layered: LayeredImage,
        prompt: str,
        at: str | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> LayeredImage:
        """Draw one more foreground over a layered picture and return it with the new layer on top.

        Args:
            layered: the picture; its composite is the given background. Nothing in it changes.
            prompt: what the new layer shows.
            at: where; see `placement.box_at`. The model then sees the surroundings of that box
                alone, and what it draws is made to fill the box. None draws on the whole canvas.
            kwargs: those of a call.

        Raises:
            InputError: see a call; or the place cannot be used.
        """
        return editing.add_layer(self, layered, prompt, at, **kwargs)

    def replace_layer(
        self,
        layered: LayeredImage,
        layer: str | int,
        prompt: str | None = None,
        at: str | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> LayeredImage:
        """Draw one layer of a picture anew; the others stay as they are.

        Args:
            layered: the picture. What lies below the layer is the given background.
            layer: name, "#1" (the lowest foreground), "#2" ..., or index from 0; or the name of the
                background, which is then drawn behind all visible layers.
            prompt: what the new layer shows; by default the prompt that the old one was made from,
                so that another generator gives another version of it, under the same name.
            at: where; by default the box of the old layer.
            kwargs: those of a call.

        Raises:
            InputError: see a call; or there is no such layer, or it names no prompt.
        """
        return editing.replace_layer(self, layered, layer, prompt, at, **kwargs)

    def _prepare_latents(
        self,
        latents: Tensor | None,
        generators: list[torch.Generator],
        width: int,
        height: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Tensor:
        """Starting noise (N, C, h, w), its sides rounded up to the network's patches."""
        patch = patch_size(self.denoiser)
        sides = [-(-side // self.size_multiple // patch) * patch for side in (height, width)]
        shape = (len(generators), self.autoencoder.config.latent_channels, *sides)
        if latents is None:
            latents = randn_tensor(shape, generator=generators, device=device, dtype=dtype)
        elif tuple(latents.shape) != shape:
            raise InputError(f"latents must have shape {shape}, got {tuple(latents.shape)}.")
        return latents.to(device, dtype) * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def _default_steps(self, given: inputs.Given) -> int:
        """The model's own; few are enough where a picture is given."""
        steps = int(self.config.default_steps)
        return min(steps, STEPS) if given.kind == "image" and is_flow(self.scheduler) else steps

    def _default_guidance(self, given: inputs.Given) -> float:
        """The model's own; none where a picture is given, which says more than its caption."""
        return 1.0 if given.kind == "image" else float(self.config.default_guidance_scale)

    def _check_known(self, given: inputs.Given) -> None:
        """Raise InputError where the network has no flag for what is given."""
        known = GIVEN[: flag_channels(self.denoiser, self.autoencoder.config.latent_channels)]
        if given.kind is not None and given.kind not in known:
            raise InputError(
                f"This model does not know {given.kind}s: it was trained without them; use a model "
                f"that was trained with job_{given.kind}, or leave the {given.kind} out."
            )

    def _prepare_condition(
        self, kind: str | None, tensors: dict[str, Tensor], latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Condition latents like `latents`, and flags (N, 4)."""
        flags = flag_tensor([kind] * latents.shape[0], latents)
        condition = torch.zeros_like(latents)
        if tensors:
            to = {"device": self.autoencoder.device, "dtype": self.autoencoder.dtype}
            tensors = {name: tensor.to(**to) for name, tensor in tensors.items()}
            encoded = condition_latents(self.autoencoder, **tensors).to(latents)
            condition[:, :, : encoded.shape[-2], : encoded.shape[-1]] = encoded
        return condition, flags

    def _rough_latents(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Latents (1, C, h, w) of what a picture and its mask alone give: where sampling begins."""
        multiple = self.size_multiple * patch_size(self.denoiser)
        parts = (
            padded(part.to(self.autoencoder.dtype), multiple)
            for part in (*rough_layers(picture, mask), mask)
        )
        return self.autoencoder.scale_latents(self.autoencoder.encode(*parts).mode())

    def _scale_model_input(self, latents: Tensor, timestep: Tensor) -> Tensor:
        if hasattr(self.scheduler, "scale_model_input"):
            return self.scheduler.scale_model_input(latents, timestep)
        return latents

    def _decode(self, latents: Tensor, width: int, height: int) -> LayerComponents:
        unscaled = self.autoencoder.unscale_latents(latents.to(self.autoencoder.dtype))
        parts = self.autoencoder.decode(unscaled)
        return LayerComponents(**{k: v[..., :height, :width].float() for k, v in parts.items()})

    def _model_metadata(self) -> dict[str, Any]:
        from text2layer import __version__

        return {
            "model": self.model_name,
            "model_hash": self.model_hash,
            "generator": f"text2layer {__version__}",
        }
