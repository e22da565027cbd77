"""What the API takes and gives, as strict models: unknown fields, NaN and wrong types are errors.

A picture is a layered picture that the server keeps: uploaded, made by a job, or arranged from
others. Requests name pictures by id, so that nothing that a client sends is ever a path.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from text2layer.errors import InputError
from text2layer.pipelines.placement import SCALES, WORDS

MAX_COUNT = 8  # candidates of one job
MAX_STEPS = 1000
MAX_PROMPT = 2000  # characters; the model's own limit, in tokens, is lower
MAX_SIDE = 2048  # pixels that are drawn
MAX_DRAWN = 4 * 1024 * 1024  # pixels of all candidates of a job together
MAX_SEED = 2**53 - 1  # what every reader of JSON holds exactly
MAX_LAYERS = 64  # of an arranged picture
MAX_CANVAS = 8192  # pixels a side of an arranged picture's layers


class Strict(BaseModel):
    """A model without leniency."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def readable(text: str) -> str:
    """Refuse text that no encoder and no database reads: NUL, halves of characters."""
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise ValueError("it holds characters that are no text")
    return text


def not_blank(text: str) -> str:
    """Refuse text of spaces."""
    if not text.strip():
        raise ValueError("it is empty; say what to draw")
    return text


def is_place(at: str | list[int]) -> str | list[int]:
    """Refuse a word that is no place."""
    if isinstance(at, str) and at not in (*WORDS, "center"):
        raise ValueError(f"it must be {', '.join(WORDS)}, or [x, y, width, height] in pixels")
    return at


Pixel = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Id = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="Of a picture or a job.")]
Text = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(readable)]
Prompt = Annotated[Text, AfterValidator(not_blank)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(readable)]
Place = Annotated[
    str | Annotated[list[Pixel], Field(min_length=4, max_length=4)],
    AfterValidator(is_place),
    Field(description="A word such as left or top-right, or [x, y, width, height] in pixels."),
]
BlendMode = Literal["normal", "multiply", "screen", "overlay", "darken", "lighten", "add"]
Side = Annotated[int, Field(ge=16, le=MAX_SIDE)]


def check_pixels(width: int | None, height: int | None, count: int) -> None:
    """Refuse candidates that are too large together."""
    if (width or 0) * (height or 0) * count > MAX_DRAWN:
        raise ValueError(
            f"all candidates together may have {MAX_DRAWN} pixels; ask for fewer or smaller"
        )


class Drawn(Strict):
    """What every drawn picture can be asked for with."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    negative_prompt: Text | None = None


class Drawing(Drawn):
    """What pictures of the server's own model can be asked for with."""

    fast: bool = False


class Generate(Drawing):
    """Text, and at most one given layer, to layered pictures: the candidates of one batch.

    Candidate k has the seed `seed + k`. A given foreground or background comes back unchanged; an
    image is taken apart by the model; of a reference nothing is kept.
    """

    prompt: Text
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    width: Side | None = None
    height: Side | None = None
    foreground: Id | None = None
    background: Id | None = None
    image: Id | None = None
    reference: Id | None = None
    at: Place | None = None
    scale: Annotated[float, Field(ge=SCALES[0], le=SCALES[1])] | None = None

    @property
    def given(self) -> dict[str, str]:
        """Ids of what is given, by kind."""
        kinds = ("foreground", "background", "image", "reference")
        return {kind: one for kind in kinds if (one := getattr(self, kind)) is not None}

    @model_validator(mode="after")
    def _fits_together(self) -> Generate:
        if len(self.given) > 1:
            raise ValueError(f"give only one of {' and '.join(self.given)}; the rest is drawn")
        if not self.prompt.strip() and self.image is None:
            raise ValueError("the prompt is empty; say what to draw")
        check_pixels(self.width, self.height, self.count)
        return self


class Add(Drawing):
    """One more layer on top of a picture."""

    picture: Id
    prompt: Prompt
    at: Place | None = None


class Replace(Drawing):
    """One layer of a picture drawn anew; without a prompt another version of the same."""

    picture: Id
    layer: Name
    prompt: Prompt | None = None
    at: Place | None = None


class TakingApart(Strict):
    """How networks take a picture apart."""

    max_layers: Annotated[int, Field(ge=1, le=16)] = 4
    saliency: Literal["u2net", "u2netp", "isnet"] = "u2net"
    inpainter: Literal["migan", "opencv"] = "migan"


class Decompose(TakingApart):
    """A photograph taken apart: each subject a layer, the background filled behind them."""

    picture: Id


class TextToImage(Drawn, TakingApart):
    """Text to flat pictures by the server's text-to-image pipeline, each taken apart by networks.

    Candidate k has the seed `seed + k`. A picture in which no subject is found is a background
    alone.
    """

    prompt: Prompt
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    width: Side | None = None
    height: Side | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> TextToImage:
        check_pixels(self.width, self.height, self.count)
        return self


class ArrangedLayer(Strict):
    """A layer of a kept picture, and how it lies on the new canvas.

    `layer` is its number in `picture`, from 0, lowest first. `size` scales it, `mirror` flips it
    left to right; both about its own box, whose top-left corner is `offset`.
    """

    picture: Id
    layer: Annotated[int, Field(ge=0, le=1000)]
    name: Name | None = None
    offset: Annotated[list[Pixel], Field(min_length=2, max_length=2)] | None = None
    size: (
        Annotated[
            list[Annotated[int, Field(ge=1, le=MAX_CANVAS)]], Field(min_length=2, max_length=2)
        ]
        | None
    ) = None
    mirror: bool = False
    opacity: Annotated[float, Field(ge=0, le=1)] | None = None
    visible: bool | None = None
    blend_mode: BlendMode | None = None


class Arrange(Strict):
    """A new picture from the background of one and layers of any, lowest first."""

    background: Id
    layers: Annotated[list[ArrangedLayer], Field(max_length=MAX_LAYERS)] = []


REQUESTS: dict[str, type[Generate | Add | Replace | Decompose | TextToImage]] = {
    "generate": Generate,
    "add": Add,
    "replace": Replace,
    "decompose": Decompose,
    "text-to-image": TextToImage,
}
Request = Generate | Add | Replace | Decompose | TextToImage
State = Literal["queued", "running", "done", "failed", "cancelled"]
Kind = Literal["generate", "add", "replace", "decompose", "text-to-image"]
FileFormat = Literal["psd", "ora", "zip", "png", "webp", "sprites", "parallax"]
Part = Literal["composite", "foreground", "background", "mask"]


class Job(BaseModel):
    """A job and how far it is. Times are seconds since 1970, UTC."""

    id: str
    kind: Kind
    state: State
    request: dict[str, Any]
    created: float
    started: float | None = None
    finished: float | None = None
    step: int = 0
    steps: int = 0
    previews: int = Field(0, description="How often its previews were drawn, while it runs.")
    position: int | None = Field(None, description="Jobs before it, while it is queued.")
    error: str | None = None
    pictures: list[str] = Field([], description="Ids of what it made.")


class LayerInfo(BaseModel):
    """A layer of a kept picture. `png` is its RGBA PNG in base64, where it was asked for."""

    name: str
    offset: tuple[int, int]
    size: tuple[int, int]
    opacity: float
    visible: bool
    blend_mode: str
    metadata: dict[str, Any]
    png: str | None = None


class PictureInfo(BaseModel):
    """A kept picture: size (width, height), layers lowest first, how it was made."""

    id: str
    created: float
    expires: float
    size: tuple[int, int]
    background: str = Field(description="Name of the background.")
    layers: list[LayerInfo]
    metadata: dict[str, Any]
    background_png: str | None = None
    composite_png: str | None = None


class TextToImageInfo(BaseModel):
    """The text-to-image pipeline that the server was started with."""

    name: str
    pipeline: str = Field(description="Its class in diffusers.")
    size_multiple: int


class ModelInfo(BaseModel):
    """The model that draws."""

    name: str
    hash: str
    size: int
    size_multiple: int
    steps: int
    guidance_scale: float
    fast: bool
    device: str
    things: list[str] = Field(description="What it has learnt to draw, where its folder says so.")
    text_to_image: TextToImageInfo | None = None


class Health(BaseModel):
    """Whether the server works: model is loading, ready, or failed."""

    status: Literal["ok"] = "ok"
    version: str
    model: Literal["loading", "ready", "failed"]
    error: str | None = None
    queued: int
    queue: int


class ErrorAnswer(BaseModel):
    """What every 4xx and 5xx carries: one sentence, and the fields that it is about."""

    error: str
    fields: list[str] = []


def request_of(kind: str, stored: str) -> Request:
    """The request of a stored job.

    Raises:
        InputError: it is another version's.
    """
    try:
        return REQUESTS[kind].model_validate_json(stored)
    except (KeyError, ValueError):
        raise InputError(
            "The job was stored by another version and cannot be read; ask for it again."
        ) from None
