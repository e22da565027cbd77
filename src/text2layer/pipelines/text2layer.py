"""Text2LayerPipeline: give what you have, get what is missing."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, PixArtTransformer2DModel, UNet2DConditionModel
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from text2layer.errors import InputError, WeightsError
from text2layer.files import CHECKSUMS, verify_weights
from text2layer.layers import LayeredImage
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.denoiser import (
    GIVEN,
    condition_latents,
    denoise,
    flag_channels,
    flag_tensor,
    is_flow,
    patch_size,
    predicts_velocity,
    set_steps,
)
from text2layer.models.matting import MattingNetwork
from text2layer.models.plain_autoencoder import PlainAutoencoder  # or diffusers refuses to load it
from text2layer.models.text_encoder import (
    MAX_PROMPT_TOKENS,
    Texts,
    check_tokenizer,
    encode_prompts,
)
from text2layer.models.transformer import LayerTransformer2DModel
from text2layer.parts import Parts
from text2layer.pipelines import editing, inputs, loading
from text2layer.pipelines.assemble import STEPS, assemble, best_attempts, moved, rough_layers
from text2layer.pipelines.frame import frame_for
from text2layer.pipelines.placement import check_moved
from text2layer.tensors import padded, tensor_to_colour

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Text2LayerPipelineOutput(BaseOutput):
    """What one call gives.

    Attributes:
        layers: one `LayeredImage` per picture, or, for output_type "pt", the decoded
            `Parts`; for "latent", latents (N, C, h, w) in the denoiser's space.
        predicted_images: the auxiliary head's pictures, (H, W, 3) uint8 each; empty without it.
        images: the composites: for output_type "pil" a list of PIL pictures, for "np" an array
            (N, H, W, 3) float32 in [0, 1]; None for the others.
    """

    layers: list[LayeredImage]
    predicted_images: list[np.ndarray]
    images: list[Image.Image] | np.ndarray | None = None


class _CallLock:
    """A lock that a copied pipeline gets anew."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[type[_CallLock], tuple[()]]:
        return _CallLock, ()


def _one_at_a_time(call: Callable[P, R]) -> Callable[P, R]:
    """Let one call of a pipeline run at a time; a call within a call may."""

    @functools.wraps(call)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        pipeline = cast("Text2LayerPipeline", args[0])
        with pipeline._call_lock.lock:
            return call(*args, **kwargs)

    return locked


def _output(
    made: Any, predicted: list[np.ndarray], output_type: str, return_dict: bool
) -> Text2LayerPipelineOutput:
    """The output of a call, or its tuple."""
    images: Any = None
    if output_type in ("pil", "np"):
        images = [one.to_pil() for one in made]
    if output_type == "np":
        images = np.stack([np.asarray(one, np.float32) / 255 for one in images])
    output = Text2LayerPipelineOutput(made, predicted, images)
    return output if return_dict else cast("Text2LayerPipelineOutput", output.to_tuple())


class Text2LayerPipeline(DiffusionPipeline):
    """Generate foreground, background, mask and composite in one diffusion pass.

    How many foregrounds there are, the autoencoder decides; with several, all come in that pass,
    named Foreground 1, Foreground 2, ..., bottom first.

    One call runs at a time: threads that share a pipeline wait for one another, because callbacks
    see and change its state. Give each thread a pipeline of its own (`copy.deepcopy`, or
    `from_pipe`, which shares the weights) where they must not wait.

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
        rectified_flow: whether the denoiser gives a velocity; None says what the scheduler wants.

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
        denoiser: LayerTransformer2DModel | PixArtTransformer2DModel | UNet2DConditionModel,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: SchedulerMixin,
        default_size: int = 256,
        default_steps: int = 20,
        default_guidance_scale: float = 3.0,
        max_prompt_tokens: int = MAX_PROMPT_TOKENS,
        text_encoder_name: str = "minilm",
        matting: MattingNetwork | None = None,
        rectified_flow: bool | None = None,
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
            rectified_flow=predicts_velocity(scheduler)
            if rectified_flow is None
            else rectified_flow,
        )
        self.model_name = ""
        self.model_hash = ""
        self.matting_hash = ""
        self._call_lock = _CallLock()
        self._guidance_scale = float(default_guidance_scale)
        self._num_timesteps = 0
        self._interrupt = False

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
            pretrained_model_name_or_path: the folder, MODEL, or a hub id, "owner/name", of such a
                folder; hub ids know no MODEL-fast and no MODEL-matting beside them.
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
        folder = loading.find_folder(pretrained_model_name_or_path, kwargs)
        index = loading.read_index(folder)
        if index.get("rectified_flow") is None and "scheduler" in kwargs:
            kwargs["rectified_flow"] = loading.trained_with_flow(folder)
        kwargs = {
            "use_safetensors": True,  # never a pickle
            **loading.text_encoder_components(folder, index, kwargs),
            **kwargs,
        }
        matting = loading.matting_folder(folder) if "matting" not in kwargs else None
        if matting is not None:
            dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
            kwargs["matting"] = loading.load_matting(matting, dtype)
        verify_weights(folder)
        with loading.one_sentence(folder):
            pipeline = super().from_pretrained(folder, **kwargs)
            for name in loading.COMPONENTS[:2]:
                if name not in kwargs:
                    loading.check_weights(folder / name, getattr(pipeline, name))
            check_tokenizer(pipeline.tokenizer)
        adapter = loading.folder_beside(folder, "fast") if fast else None
        if adapter is not None:
            verify_weights(adapter)
            pipeline._add_fast_adapter(adapter, folder)
        pipeline.model_name = (adapter or folder.resolve()).name
        pipeline.model_hash = loading.model_hash(folder, adapter)
        if matting is not None:
            pipeline.matting_hash = loading.tensors_hash(matting)
        return pipeline

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Text2LayerPipeline:
        """A pipeline of the same parts, of which `kwargs` replace some; nothing is copied."""
        made: Text2LayerPipeline = super().from_pipe(pipeline, **kwargs)
        for name in ("model_name", "model_hash", "matting_hash"):
            setattr(made, name, getattr(pipeline, name, ""))
        return made

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write the model; checksums of another one that lay there are removed."""
        super().save_pretrained(save_directory, **kwargs)
        (Path(save_directory) / CHECKSUMS).unlink(missing_ok=True)

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

    @property
    def guidance_scale(self) -> float:
        """Of the running or last call; a callback sets `_guidance_scale` for the next steps."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the next step asks the network twice."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Steps of the running or last call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback asked to stop, by setting `_interrupt`."""
        return self._interrupt

    def encode_prompt(self, prompt: str | Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states (N, L, D) and mask (N, L) of prompts; a call takes them as `prompt_embeds`.

        Raises:
            InputError: a prompt is no text, or too long.
        """
        prompts = inputs.check_prompts(prompt, may_be_empty=True)
        limit = self.config.max_prompt_tokens
        return encode_prompts(self.tokenizer, self.text_encoder, prompts, limit)

    @_one_at_a_time
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
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
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        output_type: str = "layered",
        return_dict: bool = True,
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
                `pipelines.assemble.STEPS` where a picture is taken apart by rectified flow.
            guidance_scale: classifier-free guidance; 1 or less turns it off (half the time). By
                default the model's own, and none where a picture is taken apart.
            negative_prompt: what to steer away from; default the empty caption.
            num_images_per_prompt: pictures for each prompt.
            attempts: with `image`: how often it is taken apart; the layers that make it best are
                kept. By default as `pipelines.assemble` says, or 1 with given `latents`.
            generator: one, or one per picture, read and advanced; each picture's seed is in its
                metadata, unless it cannot be made again from it: with given `latents` or
                `prompt_embeds`, or where a callback changed something. See
                `inputs.check_generators`.
            latents: starting noise (N, C, h, w) instead of the generators'; of a picture taken
                apart (N * attempts, C, h, w).
            prompt_embeds: token states (N, L, D) instead of prompts; see `encode_prompt`.
            prompt_attention_mask: (N, L) of `prompt_embeds`; by default all tokens count.
            negative_prompt_embeds: likewise instead of `negative_prompt`, (N, L, D) or (1, L, D).
            negative_prompt_attention_mask: of `negative_prompt_embeds`.
            output_type: "layered"; "pil" or "np", the same and the composites as `images`; "pt"
                (`Parts` in [-1, 1] and [0, 1]) or "latent".
            return_dict: False gives the fields of the output that are not None as a tuple.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step; a
                returned dict replaces tensors. It may set `pipeline._guidance_scale`, and
                `pipeline._interrupt = True` to stop early; diffusers' callbacks work.
            callback_on_step_end_tensor_inputs: names of `tensors`: latents, prompt_embeds.

        Returns:
            Pictures in the order of the prompts, all pictures of one prompt together.

        Raises:
            InputError: for anything that cannot be used; see `pipelines.inputs`.
            WeightsError: the network gave NaN or infinity.
        """
        # 1. Check inputs
        self._check_scheduler()
        num_foregrounds = self.autoencoder.config.num_foregrounds
        given = inputs.check_given(foreground, background, image, num_foregrounds, reference)
        self._check_known(given)
        window = given.square_window() if num_foregrounds == 1 else None
        inputs.check_output_type(output_type)
        layered = output_type in ("layered", "pil", "np")
        if window is not None and layered and width is None and height is None:
            asked = check_moved(at, scale, given.kind, window.size, num_foregrounds, output_type)
            made = self(
                prompt, background=window.inside, num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale, negative_prompt=negative_prompt,
                num_images_per_prompt=num_images_per_prompt, attempts=attempts,
                generator=generator, latents=latents, prompt_embeds=prompt_embeds,
                prompt_attention_mask=prompt_attention_mask,
                negative_prompt_embeds=negative_prompt_embeds,
                negative_prompt_attention_mask=negative_prompt_attention_mask,
                callback_on_step_end=callback_on_step_end,
                callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            )  # fmt: skip
            made.layers = [moved(window.whole(one, asked), at, scale) for one in made.layers]
            return _output(made.layers, made.predicted_images, output_type, return_dict)
        frame = frame_for((width, height), self.config.default_size, self.size_multiple, given.size)
        width, height = frame.canvas
        steps = self._default_steps(given) if num_inference_steps is None else num_inference_steps
        guidance = self._default_guidance(given) if guidance_scale is None else guidance_scale
        asked = check_moved(at, scale, given.kind, frame.size, num_foregrounds, output_type)
        inputs.check_count(num_images_per_prompt)
        if prompt_embeds is None:
            prompts = inputs.check_prompts(prompt, may_be_empty=given.kind == "image")
        else:
            prompts = inputs.check_embeds(prompt, prompt_embeds)
        negatives = inputs.check_negative(negative_prompt, len(prompts))
        attempts = inputs.check_attempts(attempts, given, latents, self.matting is not None)
        count = len(prompts) * num_images_per_prompt
        inputs.check_numbers(steps, guidance, count)
        inputs.check_names(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        generators = inputs.check_generators(generator, count)

        # 2. Encode the prompts (and what guidance steers away from)
        self._guidance_scale = float(guidance)
        guided = self.do_classifier_free_guidance
        wanted = self._embeds(prompts, prompt_embeds, prompt_attention_mask)
        texts = Texts(*wanted)
        if guided:
            unwanted = self._embeds(
                negatives, negative_prompt_embeds, negative_prompt_attention_mask
            )
            texts = texts.against(*unwanted)
        device, dtype = self._execution_device, self.denoiser.dtype
        texts = texts.repeated(num_images_per_prompt * attempts).to(device, dtype)

        # 3. Timesteps: of a picture with a mask, the last of a layout of one more (SDEdit)
        matting = self.matting if given.kind == "image" else None
        begin = int(matting is not None and is_flow(self.scheduler))
        set_steps(self.scheduler, steps + begin, device)
        timesteps = self.scheduler.timesteps[begin:]
        self._num_timesteps = len(timesteps)

        # 4. Latents: noise, and the encoding of what is given
        repeated = [one for one in generators for _ in range(attempts)]
        from_seed = latents is None and prompt_embeds is None and negative_prompt_embeds is None
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
            matted = matted.expand(count, -1, -1, -1)

        # 5. Denoise
        self._interrupt = False
        random = inputs.step_options(self.scheduler, repeated)
        done = 0
        for index, timestep in enumerate(self.progress_bar(timesteps)):
            guided = self.do_classifier_free_guidance
            states, mask = texts.rows(guided, len(latents))
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
                output = without + self._guidance_scale * (with_prompt - without)
            latents = self.scheduler.step(output, timestep, latents, return_dict=False, **random)[0]
            done = index + 1
            if callback_on_step_end is not None:
                held = {"latents": latents, "prompt_embeds": texts.states}
                chosen = {name: held[name] for name in callback_on_step_end_tensor_inputs}
                changed = callback_on_step_end(self, index, timestep, chosen) or {}
                latents = changed.get("latents", latents)
                texts = texts.replaced(changed.get("prompt_embeds", texts.states), len(latents))
                from_seed &= latents is held["latents"] and texts.states is held["prompt_embeds"]
                from_seed &= self._guidance_scale == float(guidance)
            if self._interrupt:
                break

        # 6. Decode into layers
        if not torch.isfinite(latents).all():
            raise WeightsError(
                "The denoiser gave values that are no numbers (NaN or infinite): its weights are "
                "damaged, or half precision overflowed; use another checkpoint, or float32."
            )
        if output_type == "latent" and attempts == 1:
            return _output(latents, [], output_type, return_dict)
        parts = self._decode(latents, width, height)
        if picture is not None and attempts > 1:
            best = best_attempts(parts, picture.to(device), attempts, matted)
            latents, parts = latents[best], parts.rows(best)
        if matted is not None:
            parts = replace(parts, mask=matted)
        if output_type in ("latent", "pt"):
            plain = latents if output_type == "latent" else parts
            return _output(plain, [], output_type, return_dict)
        provenance = [
            {
                "prompt": prompts[i // num_images_per_prompt],
                "negative_prompt": negatives[i // num_images_per_prompt] if guidance > 1 else "",
                **({"seed": generators[i].initial_seed()} if from_seed else {}),
                "steps": steps,
                **({"steps_done": done} if done < len(timesteps) else {}),
                "guidance_scale": float(guidance),
                "given": given.kind,
                **({"reference": given.metadata} if given.metadata else {}),
                **asked,
                **({"attempts": attempts} if given.kind == "image" else {}),
                **({"matting_hash": self.matting_hash} if matted is not None else {}),
                **self._model_metadata(),
            }
            for i in range(count)
        ]
        predicted = parts.image
        pictures = [moved(made, at, scale) for made in assemble(parts, given, frame, provenance)]
        heads = [] if predicted is None else list(tensor_to_colour(predicted))
        return _output(pictures, heads, output_type, return_dict)

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

    def _check_scheduler(self) -> None:
        """Raise InputError for a scheduler that samples another kind of network."""
        wanted, given = self.config.rectified_flow, type(self.scheduler).__name__
        if wanted == predicts_velocity(self.scheduler):
            return
        if wanted:
            raise InputError(
                f"The model gives a flow's velocity and {given} wants noise: use "
                "FlowMatchEulerDiscreteScheduler or FlowMatchHeunDiscreteScheduler, or "
                "DPMSolverMultistepScheduler or UniPCMultistepScheduler with "
                'use_flow_sigmas=True and prediction_type="flow_prediction".'
            )
        raise InputError(
            f"The model gives noise and {given} wants a flow's velocity: use DDIMScheduler or "
            "another scheduler of Stable Diffusion."
        )

    def _embeds(
        self, prompts: list[str], embeds: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Token states and mask of as many prompts, encoded or as they are given."""
        if embeds is None:
            if mask is not None:
                raise InputError("An attention mask belongs to prompt_embeds; give both or none.")
            return self.encode_prompt(prompts)
        return inputs.checked_embeds(embeds, mask, len(prompts), self.text_encoder)

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

    def _decode(self, latents: Tensor, width: int, height: int) -> Parts:
        unscaled = self.autoencoder.unscale_latents(latents.to(self.autoencoder.dtype))
        parts = self.autoencoder.decode(unscaled)
        return parts.each(lambda tensor: tensor[..., :height, :width].float())

    def _model_metadata(self) -> dict[str, Any]:
        from text2layer import __version__

        return {
            "model": self.model_name,
            "model_hash": self.model_hash,
            "generator": f"text2layer {__version__}",
        }


# so that diffusers' own DiffusionPipeline.from_pretrained(FOLDER) finds the class by its name
diffusers.Text2LayerPipeline = Text2LayerPipeline
