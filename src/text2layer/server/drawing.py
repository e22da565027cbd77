"""What jobs do: the model and the networks behind them, loaded once, used by one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from text2layer.errors import InputError
from text2layer.layers import LayeredImage
from text2layer.server.schema import (
    Add,
    Decompose,
    Drawing,
    Generate,
    ModelInfo,
    Replace,
    Request,
    TakingApart,
    TextToImage,
    TextToImageInfo,
)

if TYPE_CHECKING:
    from text2layer.pipelines import PhotoLayers, Text2LayerPipeline, TextToImageLayers

Preview = Callable[[], list[np.ndarray]]  # composites (H, W, 3) uint8 as they are expected
Step = Callable[[int, int, Preview | None], bool]  # (steps done, in all, ...) -> whether to stop
Load = Callable[[str], LayeredImage]  # the picture of an id


class Studio:
    """The released model, or another, and what takes photographs apart.

    Args:
        model: folder of a text2layer model; None is the released one.
        device: auto, cpu or cuda.
        take_apart: takes (saliency, inpainter) and gives what takes photographs apart; None is
            `PhotoLayers`.
        text_to_image: folder or hub id of a text-to-image pipeline, if there is to be one.
        dtype: of that one; see `pipelines.opening.open_pipeline`.
        offload: likewise.
    """

    def __init__(
        self,
        model: Path | None = None,
        device: str = "auto",
        take_apart: Callable[[str, str], PhotoLayers] | None = None,
        text_to_image: str | None = None,
        dtype: str = "auto",
        offload: str = "none",
    ) -> None:
        self.model, self.device = model, device
        self._source, self._dtype, self._offload = text_to_image, dtype, offload
        self._text_to_image: TextToImageLayers | None = None
        self._build_take_apart = take_apart
        self._pipelines: dict[bool, Text2LayerPipeline] = {}  # by whether it is the fast one
        self._photo_layers: tuple[tuple[str, str], PhotoLayers] | None = None
        self.info: ModelInfo | None = None

    def load(self) -> None:
        """Load the model.

        Raises:
            InputError: there is no such device.
            WeightsError: the model is missing or damaged.
        """
        import torch

        from text2layer.pipelines.loading import folder_beside, read_learnt

        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("This machine has no CUDA device; use --device cpu.")
        pipe = self.pipeline(fast=False)
        folder = self._folder()
        source = None
        if self._source is not None:
            from text2layer.pipelines import TextToImageLayers

            drawer = TextToImageLayers.from_pretrained(
                self._source, device=self.device, dtype=self._dtype, offload=self._offload
            )
            drawer.pipeline.set_progress_bar_config(disable=True)
            self._text_to_image = drawer
            here = Path(self._source).expanduser()
            source = TextToImageInfo(
                name=here.name if here.exists() else self._source,
                pipeline=type(drawer.pipeline).__name__,
                size_multiple=drawer.size_multiple,
            )
        self.info = ModelInfo(
            name=pipe.model_name,
            hash=pipe.model_hash,
            size=pipe.config.default_size,
            size_multiple=pipe.size_multiple,
            steps=pipe.config.default_steps,
            guidance_scale=pipe.config.default_guidance_scale,
            fast=folder_beside(folder, "fast").is_dir(),
            device=self.device,
            things=[thing.name for thing in read_learnt(folder) or () if thing.is_learnt],
            text_to_image=source,
        )

    def pipeline(self, fast: bool) -> Text2LayerPipeline:
        """The model, or the same with its adapter for few steps, which shares what is the same."""
        if fast not in self._pipelines:
            from diffusers.utils import logging

            from text2layer.pipelines import Text2LayerPipeline

            logging.disable_progress_bar()
            shared: dict[str, Any] = {}
            if plain := self._pipelines.get(not fast):
                names = ("autoencoder", "text_encoder", "tokenizer", "matting")
                shared = {name: getattr(plain, name) for name in names}
            pipe = Text2LayerPipeline.from_pretrained(self._folder(), fast=fast, **shared)
            if plain:
                pipe.matting_hash = plain.matting_hash
            pipe.set_progress_bar_config(disable=True)
            self._pipelines[fast] = pipe.to(self.device)
        return self._pipelines[fast]

    def check(self, request: Request) -> None:
        """Refuse at once what this model cannot do; nothing while it still loads."""
        if self.info is None:
            return
        if isinstance(request, TextToImage):
            self._drawer().check(**_asked(request))
        if isinstance(request, Drawing) and request.fast and not self.info.fast:
            raise InputError(f"The model {self.info.name} has no fast version; leave fast out.")
        if isinstance(request, Generate):
            for name in ("width", "height"):
                side = getattr(request, name)
                if side is not None and side % self.info.size_multiple:
                    raise InputError(
                        f"{name} must be a multiple of {self.info.size_multiple} pixels, got "
                        f"{side}."
                    )

    def draw(self, request: Request, load: Load, on_step: Step) -> list[LayeredImage]:
        """Do a job.

        Args:
            request: what is asked for, its seed chosen.
            load: gives pictures that it names.
            on_step: called after each denoising step of a model with steps done, steps in all, and
                what draws previews (None where they cannot be told); True stops after it. Networks
                that take photographs apart know no steps.

        Returns:
            The pictures; without meaning if `on_step` stopped it.

        Raises:
            Text2LayerError: it cannot be done, in one sentence.
        """
        if isinstance(request, TextToImage):
            return self._draw_flat(request, on_step)
        if isinstance(request, Decompose):
            return [self._decompose(request, load(request.picture))]
        pipe = self.pipeline(request.fast)
        options = _options(request, on_step)
        if isinstance(request, Add):
            layered = load(request.picture)
            return [pipe.add_layer(layered, request.prompt, request.at, **options)]
        if isinstance(request, Replace):
            layered = load(request.picture)
            return [
                pipe.replace_layer(layered, request.layer, request.prompt, request.at, **options)
            ]
        given: dict[str, Any] = {kind: load(picture) for kind, picture in request.given.items()}
        made = pipe(
            request.prompt,
            **given,
            at=request.at,
            scale=request.scale,
            width=request.width,
            height=request.height,
            num_images_per_prompt=request.count,
            **options,
        )
        return list(made.layers)

    def _decompose(self, request: Decompose, picture: LayeredImage) -> LayeredImage:
        from text2layer.pipelines.photo_layers import with_provenance

        layered = self._networks(request)(picture.composite)
        if not any(layer.alpha.any() for layer in layered.foregrounds):
            raise InputError(
                f"{request.saliency} finds no subject in the picture; try another saliency."
            )
        return with_provenance(layered, picture)

    def _networks(self, request: TakingApart) -> PhotoLayers:
        """What takes pictures apart as a request wants it; the last ones used stay loaded."""
        names = request.saliency, request.inpainter
        if self._photo_layers is None or self._photo_layers[0] != names:
            from text2layer.pipelines import PhotoLayers

            build = self._build_take_apart or PhotoLayers
            self._photo_layers = names, build(*names)
        take_apart = self._photo_layers[1]
        take_apart.max_layers = request.max_layers
        return take_apart

    def _drawer(self) -> TextToImageLayers:
        if self._text_to_image is None:
            raise InputError(
                "This server has no text-to-image pipeline; start it with --text-to-image MODEL."
            )
        return self._text_to_image

    def _draw_flat(self, request: TextToImage, on_step: Step) -> list[LayeredImage]:
        """Draw one candidate after another, each taken apart."""
        import torch

        from text2layer.pipelines.photo_layers import with_provenance

        drawer, take_apart = self._drawer(), self._networks(request)
        made: list[LayeredImage] = []
        stopped = False

        def stepped(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> Any:
            nonlocal stopped
            steps = pipe.num_timesteps
            done, total = len(made) * steps + index + 1, request.count * steps
            stopped = on_step(done, total, None)
            pipe._interrupt = stopped
            return tensors

        for index in range(request.count):
            generator = torch.Generator("cpu").manual_seed((request.seed or 0) + index)
            flat = drawer.draw(
                request.prompt,
                **_asked(request),
                generator=generator if drawer.takes_seed else None,
                callback_on_step_end=stepped,
            )
            if stopped:
                break
            made.append(with_provenance(take_apart(flat.background), flat))
        return made

    def _folder(self) -> Path:
        from text2layer.pipelines import released_model

        return self.model or released_model()


def _asked(request: TextToImage) -> dict[str, Any]:
    """Keyword arguments of `TextToImageLayers.draw` and `check`."""
    return {
        "negative_prompt": request.negative_prompt,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "height": request.height,
        "width": request.width,
    }


def _options(request: Generate | Add | Replace, on_step: Step) -> dict[str, Any]:
    """Keyword arguments of a pipeline's call."""
    import torch

    from text2layer.models.denoiser import is_flow

    count = request.count if isinstance(request, Generate) else 1
    first = request.seed or 0

    last: list[Any] = []  # latents of the step before

    def stepped(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        now = tensors["latents"]
        draw = (
            partial(_composites, pipe, last[0], now) if last and is_flow(pipe.scheduler) else None
        )
        pipe._interrupt = on_step(index + 1, pipe.num_timesteps, draw)
        last[:] = [now]
        return {}

    generators = [torch.Generator("cpu").manual_seed(first + k) for k in range(count)]
    return {
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "negative_prompt": request.negative_prompt,
        "generator": generators,
        "callback_on_step_end": stepped,
    }


def _composites(pipe: Any, before: Any, now: Any) -> list[np.ndarray]:
    """What the pictures are expected to become, from the latents (N, C, h, w) of two steps.

    A flow moves on x = (1 - s) x0 + s noise with the velocity v = noise - x0, which two steps tell:
    v = (x2 - x1) / (s2 - s1). So x0 = x2 - s2 v.
    """
    import torch

    from text2layer.tensors import composite, tensor_to_colour

    index = pipe.scheduler.step_index
    first, second = (float(pipe.scheduler.sigmas[k]) for k in (index - 1, index))
    expected = now - second * (now - before) / (second - first)
    with torch.no_grad():
        network = pipe.autoencoder
        parts = network.decode(network.unscale_latents(expected.to(network.dtype)))
        layers = (parts.foreground, parts.background, parts.mask)
        return list(tensor_to_colour(composite(*(layer.float() for layer in layers))))
