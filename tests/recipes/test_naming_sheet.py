"""The naming sheet: prompts are taken apart and checked, and the sheet gives nothing away."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.recipe import RECIPES, recipe
from text2layer.data.library import BackgroundRecord, ForegroundRecord
from text2layer.data.world import is_held_out
from text2layer.errors import InputError

sheet = recipe("naming_sheet")
APPLE = ForegroundRecord(
    "1", "1.webp", "a red apple", "3d icon", "apple", "CC0-1.0", "toy", "train"
)
DRAWINGS = [
    APPLE,
    replace(APPLE, id="2", caption="a fox", concept="fox"),
    replace(APPLE, id="3", style="flat icon"),
]
PLACE = BackgroundRecord("1", "1.jpg", "a town", "CC0-1.0", "toy", "train", time="day")
SCENES = ("city skyline", "meadow", "dunes", "snow field")
BACKGROUNDS = [replace(PLACE, id=scene, scene=scene) for scene in SCENES]


def test_prompts_are_taken_apart():
    assert sheet.take_apart("a fox in a meadow") == sheet.Asked("a fox", "meadow", "")
    assert sheet.take_apart("a bow and an arrow in front of the skyline of a city at night") == (
        sheet.Asked("a bow and an arrow", "city skyline", "night")
    )
    # "snowy mountains" ends in "mountains"; "a field of snow" holds "fields"
    assert sheet.take_apart("a cat in front of snowy mountains").scene == "snowy mountains"
    assert sheet.take_apart("a cat in front of a field of snow").scene == "snow field"
    with pytest.raises(InputError, match="no scene"):
        sheet.take_apart("a cat in front of a mirror")


def test_a_name_means_one_drawing():
    assert sheet.drawing_of("a red apple", DRAWINGS).id == "1"
    assert sheet.drawing_of("an apple", DRAWINGS).id == "1"
    assert sheet.drawing_of("a flat icon of a red apple", DRAWINGS).id == "3"
    assert sheet.drawing_of("a flat icon of an apple", DRAWINGS).id == "3"
    with pytest.raises(InputError, match="called 'a pear'"):
        sheet.drawing_of("a pear", DRAWINGS)


def test_every_fault_of_a_prompt_is_found():
    assert is_held_out("apple", "city skyline")
    assert not is_held_out("fox", "meadow")
    good = ["a red apple in front of a city skyline", "an apple among sand dunes"]
    assert sheet.check(good, DRAWINGS, BACKGROUNDS) == []
    faults = {
        "a fox in a meadow": "a pairing of training",
        "a pear in a meadow": "called 'a pear'",
        "an apple in front of a mirror": "no scene",
        "an apple in front of a city skyline at night": "no training background",
    }
    found = sheet.check([*good, *faults], DRAWINGS, BACKGROUNDS)
    assert [line.split(":")[0] for line in found] == ["3", "4", "5", "6"]
    for line, words in zip(found, faults.values(), strict=True):
        assert words in line


def test_the_prompts_that_ship_are_24_and_in_pairings_left_out():
    """The concept is the thing's last word here; with the library, `--check` looks it up."""
    prompts = sheet.read_prompts(RECIPES / "prompts.txt")
    assert len(prompts) == len(set(prompts)) == 24
    things = [sheet.take_apart(prompt) for prompt in prompts]
    assert len({asked.thing for asked in things}) == 24
    for asked in things:
        assert is_held_out(asked.thing.split()[-1], asked.scene), asked
    said = [asked.thing for asked in things if " of a " in asked.thing and "3d" in asked.thing]
    assert 4 <= len(said) <= 20  # styles are said in some, and not in others
    assert len({asked.scene for asked in things}) >= 8


def test_the_sheet_is_numbered_pictures_and_the_key_lies_elsewhere(pipeline, tmp_path):
    prompts = ["a red apple in front of a city skyline", "a cat in a meadow", "a dog in the snow"]
    out, key = tmp_path / "shown" / "sheet.png", tmp_path / "kept" / "key.json"
    sheet.draw_sheet(pipeline, prompts, out, key, 64)
    with Image.open(out) as picture:
        assert picture.info == {}  # no text that could tell
        pixels = np.asarray(picture)
    assert pixels.shape == (64 + sheet.STRIP + 2 * sheet.GAP, 3 * (64 + sheet.GAP) + sheet.GAP, 3)
    second = pipeline(prompts[1], generator=torch.Generator().manual_seed(2)).layers[0]
    left, top = sheet.GAP + 64 + sheet.GAP, sheet.GAP + sheet.STRIP
    assert np.array_equal(pixels[top : top + 64, left : left + 64], second.composite)
    stored = json.loads(key.read_text())
    assert [cell["prompt"] for cell in stored["cells"]] == prompts
    assert stored["cells"][2] == {
        "number": 3, "seed": 3, "prompt": prompts[2], "object": "a dog", "ground": "snow field",
    }  # fmt: skip
    with pytest.raises(InputError, match="must not lie beside"):
        sheet.draw_sheet(pipeline, prompts, out, out.with_name("key.json"), 64)
