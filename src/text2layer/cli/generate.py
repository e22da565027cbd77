"""`text2layer generate`: text in, layers out."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from text2layer.cli.outputs import To, in_folder, slug
from text2layer.errors import InputError

if TYPE_CHECKING:
    from text2layer import LayeredImage
    from text2layer.pipelines import Text2LayerPipeline

AT_ONCE = 4  # pictures of one prompt that are drawn as one batch
ANY_CANVAS = (10**9, 10**9)  # the model says later how large it is
KEPT = ("foreground", "background", "image")  # of what is given: it decides the size
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".heic", ".heif", ".avif")  # cameras write these
Prompt = Annotated[str, typer.Argument(help="What to draw, in English.", show_default=False)]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Where to write; the suffix chooses the format.",
                 show_default=False),
]  # fmt: skip
Seed = Annotated[
    int | None,
    typer.Option(help="Same seed, same picture; without one it is drawn and printed.",
                 min=0, max=2**63 - 1),
]  # fmt: skip
Steps = Annotated[int | None, typer.Option(help="Denoising steps [the model's own].", min=1)]
Guidance = Annotated[
    float | None, typer.Option(help="How closely to follow the prompt [the model's own].")
]
Side = Annotated[int | None, typer.Option(help="Pixels to draw [the model's own].", min=1)]
Negative = Annotated[str | None, typer.Option(help="What not to draw.")]
ModelFolder = Annotated[Path | None, typer.Option(help="Folder of a model [the released one].")]
Fast = Annotated[
    bool, typer.Option("--fast", help="Few steps without guidance: five times as fast.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Of diffusers pipelines: float32, float16, bfloat16 or auto [auto: float32 on a CPU, "
        "else bfloat16].",
    ),
]
Offload = Annotated[
    str | None,
    typer.Option(
        help="Of diffusers pipelines: none, model or sequential: keep networks in the computer's "
        "memory, and on the GPU what computes [none].",
    ),
]
Preview = Annotated[
    Path | None, typer.Option(help="Also write a PNG that shows all parts side by side.")
]


def generate(
    out: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="<path>",
            show_default=False,
            help="Where to write; the suffix chooses the format. FOLDER/ with --prompts.",
        ),
    ],
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw, in English.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A prompt on each line; -o is a folder then, see --to."),
    ] = None,
    to: To = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    width: Side = None,
    height: Side = None,
    negative_prompt: Negative = None,
    num_images: Annotated[
        int,
        typer.Option(
            help="How many; FILE-1, FILE-2, ... with seeds SEED, SEED+1, ...", min=1, max=100_000
        ),
    ] = 1,
    model: ModelFolder = None,
    fast: Fast = False,
    foreground: Annotated[
        Path | None,
        typer.Option(help="A cut-out with alpha, or a layered file: draw the background behind."),
    ] = None,
    background: Annotated[
        Path | None, typer.Option(help="A picture: draw the foreground that belongs on it.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="A picture: take it apart into foreground and background.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option(help="With --image: how often; the best is kept [4].", min=1)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A cut-out with alpha: draw an object that looks like it."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A picture library: take its cut-out that is nearest to the prompt as reference.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Where the object goes: left, centre, right, top, bottom, top-left, ...: a square "
            "of half the shorter side, which it fills; or a box x,y,width,height in pixels.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR", help="How large the object becomes, relative to what was drawn."
        ),
    ] = None,
    preview: Preview = None,
    device: Device = "auto",
    text_to_image: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Folder or hub id of a diffusers text-to-image pipeline: it draws a flat picture, "
            "which is taken apart as text2layer decompose does, or by --model.",
        ),
    ] = None,
    saliency: Annotated[
        str | None,
        typer.Option(metavar="NETWORK", help="With --text-to-image: as of decompose [u2net]."),
    ] = None,
    inpainter: Annotated[
        str | None,
        typer.Option(metavar="NETWORK", help="With --text-to-image: as of decompose [migan]."),
    ] = None,
    max_layers: Annotated[
        int | None,
        typer.Option(help="With --text-to-image: maximum number of subjects [4].", min=1),
    ] = None,
    dtype: Dtype = None,
    offload: Offload = None,
) -> None:
    """Draw a layered picture from text: foreground, soft mask and background.

    At most one part is given; it comes back unchanged, pixel for pixel, and the file has its size.
    The model sees it at its own working size (--width, --height), stretched by 7 % at most, else
    padded, never cropped; of a background that is far from square it sees a square window in the
    middle. A picture taken apart is what its layers make when laid over one another.
    Of a reference nothing is kept. --at and --scale move the drawn object, as a layer.

    With --prompts every line is drawn with the same seeds, by a model that is loaded once, into
    001-first-words.psd, ...; lines that fail are named in the end. The folder gets manifest.jsonl
    and contact-sheet.png. The same command again draws only what is missing, damaged, or was made
    with other settings; without --seed it goes on with the folder's seed.

    With --text-to-image there is a layer for each subject that is found in what the pipeline drew.
    Its weights are read from safetensors alone, and code that comes with it is never run.
    """
    from text2layer.cli.manifest import draw_all, hashes_of
    from text2layer.cli.outputs import check_outputs, check_picture, numbered
    from text2layer.cli.sources import reference_from
    from text2layer.cli.text_to_image import FlatSource, check_options
    from text2layer.pipelines.placement import check_moved

    if (prompt is None) == (prompts is None):
        raise InputError("Give a prompt, or --prompts FILE, one of the two.")
    if to and prompts is None:
        raise InputError("--to goes with --prompts.")
    if prompts and preview:
        raise InputError("--preview goes with one prompt.")
    own = {"fast": fast, "foreground": foreground, "background": background, "image": image,
           "attempts": attempts, "reference": reference, "library": library, "at": at,
           "scale": scale}  # fmt: skip
    others = {"saliency": saliency, "inpainter": inpainter, "max-layers": max_layers,
              "dtype": dtype, "offload": offload}  # fmt: skip
    check_options(text_to_image, model, own, others)
    output = Path(out)
    lines = read_prompts(prompts) if prompts else [str(prompt)]
    if prompts:
        stems = (slug(number, line) for number, line in enumerate(lines, start=1))
        results = in_folder(out, stems, to or ".psd")
    else:
        results = [output]
    for path in results:
        check_outputs(numbered(path, num_images))
    previews = numbered(preview, num_images) if preview else [None] * num_images
    for path in filter(None, previews):
        check_picture(path)
    asked: dict[str, Any] = {
        "negative_prompt": negative_prompt, "num_inference_steps": steps,
        "guidance_scale": guidance_scale, "height": height, "width": width,
    }  # fmt: skip
    draw = partial(draw_all, lines, results, num_images, previews)
    if text_to_image:
        source = FlatSource(text_to_image, model, device, asked, others)
        if seed is not None and not source.takes_seed:
            raise InputError(f"{text_to_image} takes no seed; leave --seed out.")
        if not source.takes_seed:
            seed = 0
        by = {"model": model and str(model), **others}
        draw(source.make, 1, seed, output if prompts else None, asked | by,
             json.dumps(source.identity, sort_keys=True))  # fmt: skip
        return
    given = _given(foreground, background, image, reference, library)
    check_moved(at, scale, next(iter(given), None), ANY_CANVAS, 1, "layered")  # before it loads
    _check_numbers(model, given, lines, (width, height), steps, guidance_scale)
    if image and image.suffix.lower() in PHOTO_SUFFIXES:
        typer.echo(
            "note: --image is for drawings and renders; for a photograph use text2layer decompose",
            err=True,
        )
    pipe = load_pipeline(model, device, fast)
    if negative_prompt and not _is_guided(pipe, guidance_scale, image):
        typer.echo("note: without guidance the negative prompt has no effect", err=True)
    _note_unknown_words(model, lines, pipe)
    asked |= {"at": at, "scale": scale, "attempts": attempts}

    def make(line: str, seeds: Sequence[int]) -> "list[LayeredImage]":
        parts = given
        if "library" in given:
            parts = {"reference": reference_from(given["library"], line, pipe)}
        made = pipe(
            line, **parts, **asked, num_images_per_prompt=len(seeds),
            generator=[seeded(number) for number in seeds],
        )  # fmt: skip
        return list(made.layers)

    sources = {"foreground": foreground, "background": background, "image": image,
               "reference": reference, "library": library}  # fmt: skip
    draw(make, AT_ONCE, seed, output if prompts else None,
         asked | {"fast": fast} | hashes_of(sources), pipe.model_hash)  # fmt: skip


def _check_numbers(
    model: Path | None,
    given: Mapping[str, Any],
    lines: Sequence[str],
    asked: tuple[int | None, int | None],
    steps: int | None,
    guidance_scale: float | None,
) -> None:
    """Raise InputError for what can be checked before a model is loaded."""
    from text2layer.pipelines import inputs, loading, released_model
    from text2layer.pipelines.frame import frame_for

    inputs.check_prompts(lines, may_be_empty="image" in given)
    inputs.check_numbers(1 if steps is None else steps, guidance_scale or 0.0, 1)
    folder = model or released_model()
    if folder.is_dir():
        index = loading.read_index(folder)
        part = next((given[name] for name in KEPT if name in given), None)
        frame_for(
            asked, index.get("default_size", 256), loading.size_multiple(folder),
            part.size if part is not None else None,
        )  # fmt: skip


def _is_guided(pipe: Any, guidance_scale: float | None, image: Path | None) -> bool:
    """Whether a call steers away from the negative prompt."""
    own = 1.0 if image else pipe.config.default_guidance_scale
    return (own if guidance_scale is None else guidance_scale) > 1


def _note_unknown_words(model: Path | None, lines: Sequence[str], pipe: Any) -> None:
    """Say on stderr which prompts are made mostly of words that the model was never trained on."""
    from text2layer.data import captions
    from text2layer.pipelines import released_model
    from text2layer.pipelines.loading import read_grounds, read_learnt, unknown_pieces

    folder = model or released_model()
    things = read_learnt(folder) if folder.is_dir() else None
    if things is None:
        return
    known = [*captions.every_word(), *read_grounds(folder), *(thing.name for thing in things)]
    found = unknown_pieces(lines, known, pipe.tokenizer)
    for line, (pieces, count) in zip(lines, found, strict=True):
        if 2 * len(pieces) > count:
            typer.echo(
                f"note: most of {line[:60]!r} is in no caption that the model was "
                f"trained on; text2layer info {model or 'base'} lists what it can draw",
                err=True,
            )


def read_prompts(path: Path) -> list[str]:
    """The lines of a UTF-8 text, empty ones left out; InputError if there is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8; save it as such.") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{path} has no prompt: write one on each line.")
    return prompts


def _given(
    foreground: Path | None,
    background: Path | None,
    image: Path | None,
    reference: Path | None,
    library: Path | None,
) -> dict[str, Any]:
    """Open what was given, by the name of its option."""
    from text2layer.cli.sources import open_layered, open_reference
    from text2layer.data.library import Library

    named: dict[str, tuple[Path | None, Callable[[Path], Any]]] = {
        "foreground": (foreground, open_layered),
        "background": (background, open_layered),
        "image": (image, open_layered),
        "reference": (reference, open_reference),
        "library": (library, Library),
    }
    present = [name for name, (path, _) in named.items() if path is not None]
    if len(present) > 1:
        raise InputError(f"Give only one of --{' and --'.join(present)}; the rest is drawn.")
    given = {name: read(path) for name, (path, read) in named.items() if path is not None}
    if "foreground" in given and not given["foreground"].foregrounds:
        raise InputError(f"{foreground} has no transparency; give a cut-out with an alpha channel.")
    return given


def load_pipeline(model: Path | None, device: str, fast: bool = False) -> "Text2LayerPipeline":
    from diffusers.utils import logging

    from text2layer.cli.sources import choose_device
    from text2layer.pipelines import Text2LayerPipeline, released_model

    device = choose_device(device)
    logging.disable_progress_bar()  # of loading; drawing has a bar of its own
    pipe = Text2LayerPipeline.from_pretrained(model or released_model(), fast=fast)
    pipe.set_progress_bar_config(disable=None)  # a bar on a terminal, nothing in a log
    return pipe.to(device)


def chosen_seed(seed: int | None) -> int:
    """Return the seed, or draw one and say which, so that the picture can be made again."""
    if seed is None:
        seed = secrets.randbelow(2**31)
        typer.echo(f"seed {seed}", err=True)
    return seed


def seeded(seed: int) -> Any:
    import torch

    return torch.Generator("cpu").manual_seed(seed % 2**63)
