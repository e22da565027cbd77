"""Draw a sheet without captions and its key, so that somebody else can say what is drawn.

    python recipes/naming_sheet.py SHEET.png KEY.json [--model DIR] [--size 256]
    python recipes/naming_sheet.py --check LIBRARY --drawings LIST [--model DIR]

Whoever names the objects is shown the sheet alone: the composites of recipes/prompts.txt, each
prompt once, seed = its number, nothing left out. The key says what each cell was asked for and must
lie in another folder. `--check` holds that every prompt pairs a concept of the list with a scene
that training never shows it before, and says which of them the model has not learnt.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from text2layer.data.captions import with_article
from text2layer.data.contact_sheet import GAP, INK, PAPER
from text2layer.data.grounds import PLACES, SCENES
from text2layer.data.library import BackgroundRecord, ForegroundRecord, Library
from text2layer.data.world import concept_name, is_held_out, read_drawings, usual_names
from text2layer.errors import InputError
from text2layer.files import writing
from text2layer.pipelines import Text2LayerPipeline, released_model
from text2layer.pipelines.loading import read_learnt

HERE = Path(__file__).parent
COLUMNS = 6
STRIP = 24  # pixels above a cell, for its number
TIMES = ("night", "sunset")


@dataclass(frozen=True)
class Asked:
    """What a prompt says.

    Attributes:
        thing: how it calls the object, with its style if it is said.
        scene: of `grounds.SCENES`.
        time: night, sunset or "".
    """

    thing: str
    scene: str
    time: str


def read_prompts(path: Path) -> list[str]:
    """Return the lines of a file that are neither empty nor comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def take_apart(prompt: str) -> Asked:
    """Split a prompt into its thing and its scene.

    Raises:
        InputError: it ends in no scene that captions know.
    """
    endings = [(f" in front of {words}", scene) for scene in SCENES for words in SCENES[scene]]
    endings += [(f" {words}", scene) for scene, words in PLACES.items()]
    time = next((time for time in TIMES if prompt.endswith(f" at {time}")), "")
    rest = prompt.removesuffix(f" at {time}") if time else prompt
    fitting = [(words, scene) for words, scene in endings if rest.endswith(words)]
    if not fitting:
        raise InputError(f"The prompt {prompt!r} ends in no scene that training knows.")
    words, scene = max(fitting, key=lambda pair: len(pair[0]))
    return Asked(rest.removesuffix(words), scene, time)


def drawing_of(thing: str, records: Sequence[ForegroundRecord]) -> ForegroundRecord:
    """The drawing that a prompt's thing means.

    Raises:
        InputError: no drawing is called so.
    """
    named = {record.id: record for record in records}
    if (found := usual_names(records).get(thing)) is not None:
        return named[found]
    for record in records:
        style = f"{with_article(record.style)} of "
        if thing in (style + record.caption, style + concept_name(record)):
            return record
    raise InputError(f"No drawing of the list is called {thing!r}.")


def check(
    prompts: Sequence[str],
    drawings: Sequence[ForegroundRecord],
    backgrounds: Sequence[BackgroundRecord],
) -> list[str]:
    """What is wrong with the prompts, a sentence each; nothing when all is well.

    Args:
        prompts: to check.
        drawings: that the model learns.
        backgrounds: of the training split.
    """
    wrong = []
    seen = {(background.scene, background.time) for background in backgrounds}
    for number, prompt in enumerate(prompts, start=1):
        try:
            asked = take_apart(prompt)
            concept = drawing_of(asked.thing, drawings).concept
        except InputError as error:
            wrong.append(f"{number}: {error}")
            continue
        if not is_held_out(concept, asked.scene):
            wrong.append(f"{number}: {concept} before {asked.scene} is a pairing of training.")
        if (asked.scene, asked.time or "day") not in seen:
            wrong.append(f"{number}: no training background is {asked.scene}, {asked.time}.")
    return wrong


def sheet_of(pictures: Sequence[np.ndarray], columns: int = COLUMNS) -> Image.Image:
    """Pictures (H, W, 3) uint8 of one size in rows, each with its number above it."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    step_x, step_y = width + GAP, height + STRIP + GAP
    size = (min(columns, len(pictures)) * step_x + GAP, rows * step_y + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(STRIP - 6)
    for place, picture in enumerate(pictures):
        left, top = GAP + place % columns * step_x, GAP + place // columns * step_y
        draw.text((left, top), str(place + 1), fill=INK, font=font)
        sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (left, top + STRIP))
    return sheet


def draw_sheet(
    pipe: Text2LayerPipeline, prompts: Sequence[str], sheet: Path, key: Path, size: int
) -> None:
    """Draw every prompt once and write the sheet and, elsewhere, what it shows.

    Raises:
        InputError: both would lie in one folder, or a prompt has no known scene.
    """
    if sheet.resolve().parent == key.resolve().parent:
        raise InputError(f"The key must not lie beside the sheet; give another folder than {key}.")
    apart = [take_apart(prompt) for prompt in prompts]
    pictures = []
    for seed, prompt in enumerate(prompts, start=1):
        generator = torch.Generator().manual_seed(seed)
        made = pipe(prompt, generator=generator, width=size, height=size).layers[0]
        pictures.append(made.composite)
    about = {
        "model": pipe.model_name,
        "model_hash": pipe.model_hash,
        "size": size,
        "steps": made.metadata["steps"],
        "guidance_scale": made.metadata["guidance_scale"],
        "cells": [
            {"number": number, "seed": number, "prompt": prompt, "object": asked.thing,
             "ground": " at ".join(filter(None, (asked.scene, asked.time)))}
            for number, (prompt, asked) in enumerate(zip(prompts, apart, strict=True), start=1)
        ],
    }  # fmt: skip
    for file in (sheet, key):
        file.parent.mkdir(parents=True, exist_ok=True)
    with writing(sheet) as stream:
        sheet_of(pictures).save(stream, "PNG")
    with writing(key) as stream:
        stream.write(json.dumps(about, indent=2).encode() + b"\n")


def main() -> None:
    """Draw the sheet, or check the prompts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sheet", type=Path, nargs="?", help="PNG, shown to whoever names")
    parser.add_argument("key", type=Path, nargs="?", help="JSON, in another folder")
    parser.add_argument("--model", type=Path, default=released_model())
    parser.add_argument("--prompts", type=Path, default=HERE / "prompts.txt")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--check", type=Path, metavar="LIBRARY", help="check the prompts")
    parser.add_argument("--drawings", type=Path, help="list of what the model learns")
    options = parser.parse_args()
    prompts = read_prompts(options.prompts)
    try:
        if options.check:
            raise SystemExit(_report(prompts, options.check, options.drawings, options.model))
        if not options.sheet or not options.key:
            parser.error("name SHEET.png and KEY.json, or --check LIBRARY")
        pipe = Text2LayerPipeline.from_pretrained(options.model)
        draw_sheet(pipe, prompts, options.sheet, options.key, options.size)
        print(options.sheet)
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None


def _report(prompts: list[str], root: Path, listed: Path | None, model: Path) -> int:
    """Print what is wrong with the prompts; 1 if anything is."""
    library = Library(root)
    drawings = library.foregrounds_of("train")
    if listed:
        weights = read_drawings(listed)
        drawings = [record for record in drawings if weights.get(record.id, 0) > 0]
    wrong = check(prompts, drawings, library.backgrounds_of("train"))
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print(f"{len(prompts)} prompts, all in pairings that training leaves out")
        learnt = read_learnt(model)
        if learnt is not None:
            sure = [thing for thing in learnt if thing.is_learnt]
            known = {(thing.concept, thing.style) for thing in sure}
            meant = [drawing_of(take_apart(prompt).thing, drawings) for prompt in prompts]
            missing = [r.caption for r in meant if (r.concept, r.style) not in known]
            print(f"not learnt: {', '.join(missing) or 'none'}")
    return int(bool(wrong))


if __name__ == "__main__":
    main()
