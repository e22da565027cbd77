"""Things by their names: which there are, how they are asked for; a sample stays itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toy_library import build_toy_library
from text2layer.data.library import ForegroundRecord, Library
from text2layer.data.named_things import AskedThings, name_of, open_things, things_of
from text2layer.data.world import is_held_out
from text2layer.errors import DataError, InputError
from text2layer.tensors import mask_to_bytes

FOX = ForegroundRecord("1", "1.webp", "a fox", "flat icon", "fox", "CC0-1.0", "toy", "train")
RECORDS = [
    FOX,
    replace(FOX, id="2", style="3d icon"),
    replace(FOX, id="3", style="3d icon"),
    replace(FOX, id="4", caption="An arctic fox"),
    replace(FOX, id="5", caption="the fox"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build_toy_library(tmp_path_factory.mktemp("things") / "library")


def test_a_name_has_no_article():
    assert name_of("a fox") == name_of("The fox") == name_of(" fox") == "fox"
    assert name_of("an anchor") == "anchor"
    assert name_of("a slice of pizza") == "slice of pizza"
    assert name_of("two bells") == "two bells"  # another thing than a bell


def test_things_are_pairs_of_name_and_style_and_say_the_style_where_they_must():
    things = things_of(RECORDS)
    assert [(thing.name, thing.style, thing.drawings) for thing in things] == [
        ("fox", "flat icon", (0, 4)),
        ("fox", "3d icon", (1, 2)),
        ("arctic fox", "flat icon", (3,)),
    ]
    # a name alone means the 3d icon (`world.USUAL_STYLES`)
    assert [thing.phrase for thing in things] == [
        "a flat icon of a fox", "a fox", "An arctic fox",
    ]  # fmt: skip


def test_the_drawings_are_those_of_the_list_or_all_that_can_be_named(library, tmp_path):
    every = {record.id for record in Library(library).foregrounds_of("train")}
    assert {record.id for record in open_things(library, None, 32).foregrounds} == every
    some = {"circle-000": 1.0, "ring-002": 0.5, "square-001": 0.0, "diamond-004": 1.0}
    chosen = open_things(library, some, 32).foregrounds
    assert [record.id for record in chosen] == ["circle-000", "ring-002"]  # one is of split test
    with pytest.raises(DataError, match="none of the drawings"):
        open_things(library, {"fox": 1.0}, 32)

    unnamed = tmp_path / "unnamed"
    build_toy_library(unnamed)
    lines = (unnamed / "foregrounds.jsonl").read_text().splitlines()
    records = [json.loads(line) | {"nameable": "ring" not in line} for line in lines]
    records[0]["held_out_drawing"] = True
    text = "".join(json.dumps(record) + "\n" for record in records)
    (unnamed / "foregrounds.jsonl").write_text(text)
    found = open_things(unnamed, None, 32).foregrounds
    assert {record.concept for record in found} == {"circle", "square"}
    assert "circle-000" not in {record.id for record in found}


def test_every_thing_is_asked_for_so_often_before_backgrounds_of_its_own(library):
    asked = AskedThings(open_things(library, None, 32), seeds=3)
    assert len(asked.things) == 6  # three shapes in two styles
    assert asked.names == ["circle", "square", "ring"]
    assert len(asked) == 18
    batch = asked.batch(range(18))
    assert len(set(batch.captions["whole"])) > 6  # other backgrounds for other times
    for number, text in enumerate(batch.captions["whole"]):
        assert text.startswith(f"{asked.thing(number).phrase} in front of soft ")
    for name in ("foreground", "image"):
        assert getattr(batch, name).shape == (18, 3, 32, 32)
    assert asked.answer([0, 17]).tolist() == [
        asked.names.index(asked.thing(number).name) for number in (0, 17)
    ]
    # a thing of several drawings is shown by several, all in the canonical place
    assert len({asked.placement(number).foreground for number in range(3)}) == 3
    for mask in batch.mask[:, 0].numpy():
        rows, columns = np.nonzero(mask > 127)
        assert abs(columns.min() + columns.max() - 31) <= 1
        assert abs(rows.max() + 1 - 0.92 * 32) <= 1


def test_a_sample_does_not_depend_on_the_others(library):
    composer = open_things(library, None, 32)
    every = AskedThings(composer, seeds=3)
    few = AskedThings(composer, seeds=2, limit=2)
    fewer = AskedThings(composer, seeds=2, limit=1)
    assert fewer.things[0] in few.things  # what a lower limit asks for, a higher one asks for too
    assert few.names == every.names  # the gallery is the same
    assert len(few) == 4
    for number in range(len(few)):
        same = every.things.index(few.thing(number)) * 3 + number % 2
        assert few.prompt(number) == every.prompt(same)
        assert few.picture_seed(number) == every.picture_seed(same)
        assert few.placement(number) == every.placement(same)
    seeds = {every.picture_seed(number) for number in range(len(every))}
    assert len(seeds) == len(every)
    assert max(seeds) < 2**32
    other = AskedThings(composer, seeds=3, seed=1)
    assert {other.picture_seed(number) for number in range(len(other))}.isdisjoint(seeds)


def test_the_pairing_is_one_that_training_leaves_out_where_there_is_one(library):
    composer = open_things(library, None, 32)
    asked = AskedThings(composer, seeds=6)
    scenes = {background.scene for background in composer.backgrounds}
    seen = {True: 0, False: 0}
    for number in range(len(asked)):
        concept = asked.thing(number).concept
        scene = composer.backgrounds[asked.placement(number).background].scene
        possible = any(is_held_out(concept, one) for one in scenes)
        assert is_held_out(concept, scene) == possible
        seen[possible] += 1
    assert seen[False]  # the toy library has concepts of both kinds, or the test says nothing


def test_the_gallery_shows_every_drawing_once_whatever_the_batches(library):
    asked = AskedThings(open_things(library, None, 32), limit=1)
    (whole,) = asked.gallery(100)
    parts = list(asked.gallery(4))
    assert len(whole.mask) == len(asked.owners) == 15
    for name in ("foreground", "background", "mask"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(getattr(whole, name), joined)
    assert torch.equal(whole.background, whole.background[:1].expand_as(whole.background))
    number = 0
    shown = asked.placement(number).foreground
    assert torch.equal(mask_to_bytes(whole.mask)[shown], asked.batch([number]).mask[0])


def test_what_cannot_be_asked_is_one_sentence(library):
    with pytest.raises(InputError, match="cannot be asked for"):
        AskedThings(open_things(library, None, 32), seeds=0)
    with pytest.raises(InputError, match="have one: circle"):
        AskedThings(open_things(library, {"circle-000": 1.0}, 32))
