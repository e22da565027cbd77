"""What a small world draws: its list, its pairings, its canonical place, its references."""

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.toy_library import build_toy_library
from text2layer.canonical import FOOT, LONGEST
from text2layer.data.composer import Composer
from text2layer.data.library import BackgroundRecord, Library
from text2layer.data.references import choose_references, turn_hues
from text2layer.data.world import (
    World,
    concept_name,
    is_held_out,
    pairings,
    read_drawings,
    read_weights,
    usual_names,
    world_of,
)
from text2layer.errors import DataError, InputError
from text2layer.training.settings import DenoiserSettings

SMALL = World(canonical=0.75, background_crops=2, full_captions=True, hold_out_pairings=True)


def composer_in(root: Path, world: World, split: str = "train", **more: object) -> Composer:
    return Composer(Library(root), split, 64, progress=False, world=world, **more)  # type: ignore[arg-type]


def test_canonical_objects_stand_in_one_place_and_the_others_do_not(toy_root: Path) -> None:
    composer = composer_in(toy_root, SMALL, shadow_probability=1.0)
    placements = composer.draw(400, torch.Generator().manual_seed(0))
    canonical = [placement for placement in placements if placement.canonical]
    assert len(canonical) / 400 == pytest.approx(0.75, abs=0.07)
    for placement in canonical:
        left, top, width, height = composer.box(placement)
        assert max(width, height) == pytest.approx(LONGEST)
        assert left + width / 2 == pytest.approx(0.5)
        assert top + height == pytest.approx(FOOT)
    free = [placement for placement in placements if not placement.canonical]
    assert len({placement.centre_x for placement in free}) == len(free)
    for placement in free:  # there are no words for a part that is cut off
        left, top, width, height = composer.box(placement)
        assert min(left, top) >= -1e-9
        assert max(left + width, top + height) <= 1 + 1e-9
    assert not any(placement.flipped or placement.shadow for placement in placements)
    assert {placement.crop_x for placement in placements} == {0.0, 1.0}
    assert {placement.crop_scale for placement in placements} == {1.0}


@pytest.mark.parametrize("hold_out", [False, True])
def test_scene_weights_say_how_often_a_scene_is_drawn(toy_root: Path, hold_out: bool) -> None:
    def drawn(weights: dict[str, float] | None) -> Counter[str]:
        world = World(scene_weights=weights, hold_out_pairings=hold_out)
        composer = composer_in(toy_root, world)
        placements = composer.draw(1000, torch.Generator().manual_seed(3))
        return Counter(composer.backgrounds[item.background].scene for item in placements)

    even = drawn(None)
    first, second = even
    assert drawn({first: 2.0, second: 2.0}) == even
    less = drawn({first: 0.25})  # the second is not named: 1
    share = less[first] / less[second] / (even[first] / even[second])
    assert 0.2 < share < (0.9 if hold_out else 0.3)  # a concept may be left with one scene alone
    assert set(drawn({first: 0.0})) == {second}
    with pytest.raises(DataError, match="background that it may stand before"):
        drawn({first: 0.0, second: 0.0})


def test_weights_are_read_by_name() -> None:
    assert read_weights(" ", "scene_weights") is None
    assert read_weights("building interior=.3, sea=2", "x") == {"building interior": 0.3, "sea": 2}
    settings = DenoiserSettings(scene_weights="sea=0.5", background_crops=1)
    assert world_of(settings).scene_weights == {"sea": 0.5}
    assert world_of(DenoiserSettings()).scene_weights is None


@pytest.mark.parametrize("text", ["sea", "sea=", "sea=-1", "sea=inf", "sea=nan", "sea=1=2", ","])
def test_weights_that_cannot_be_read_are_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="scene_weights cannot be read") as error:
        read_weights(text, "scene_weights")
    assert "\n" not in str(error.value)


def test_the_mask_of_a_canonical_object_lies_in_its_place(toy_root: Path) -> None:
    composer = composer_in(toy_root, replace(SMALL, canonical=1.0))
    batch = composer.compose(8, torch.Generator().manual_seed(1))
    rows, columns = (batch.mask > 0.5).any(3)[:, 0], (batch.mask > 0.5).any(2)[:, 0]
    for row, column in zip(rows, columns, strict=True):
        bottom = int(row.nonzero().max()) + 1
        assert bottom == pytest.approx(FOOT * 64, abs=2)
        inside = column.nonzero()
        assert float(inside.double().mean()) == pytest.approx(31.5, abs=1.5)


def test_training_and_held_out_pairings_share_none(toy_root: Path) -> None:
    composer = composer_in(toy_root, SMALL)

    def pairs(source: Composer) -> set[tuple[str, str]]:
        return {
            (source.foregrounds[p.foreground].concept, source.backgrounds[p.background].scene)
            for p in source.draw(600, torch.Generator().manual_seed(2))
        }

    trained, held_out = pairs(composer), pairs(composer.held_out_pairings())
    assert trained
    assert held_out
    assert not trained & held_out
    assert all(is_held_out(*pair) for pair in held_out)
    assert pairs(composer_in(toy_root, replace(SMALL), "pairings")) == held_out


def test_one_pair_in_ten_is_held_out() -> None:
    held_out = sum(is_held_out(f"thing {a}", f"scene {b}") for a in range(60) for b in range(30))
    assert held_out / 1800 == pytest.approx(0.1, abs=0.02)


def test_only_listed_drawings_are_drawn_as_often_as_their_weights_say(toy_root: Path) -> None:
    ids = [record.id for record in Library(toy_root).foregrounds_of("train")]
    composer = composer_in(toy_root, World(drawings={ids[0]: 3.0, ids[1]: 1.0, "gone": 9.0}))
    drawn = Counter(
        composer.foregrounds[p.foreground].id
        for p in composer.draw(800, torch.Generator().manual_seed(3))
    )
    assert set(drawn) == set(ids[:2])
    assert drawn[ids[0]] / 800 == pytest.approx(0.75, abs=0.05)
    with pytest.raises(DataError, match="None of the listed drawings"):
        composer_in(toy_root, World(drawings={"gone": 1.0}))


def test_concepts_are_drawn_alike_however_many_drawings_they_have(toy_root: Path) -> None:
    records = Library(toy_root).foregrounds_of("train")
    circles = [record.id for record in records if record.concept == "circle"]
    square = next(record.id for record in records if record.concept == "square")
    world = World(drawings=dict.fromkeys([*circles, square], 1.0), even_concepts=True)
    composer = composer_in(toy_root, world)
    drawn = Counter(
        composer.foregrounds[p.foreground].concept
        for p in composer.draw(800, torch.Generator().manual_seed(4))
    )
    assert len(circles) > 2
    assert drawn["square"] / 800 == pytest.approx(0.5, abs=0.05)


def test_a_held_out_drawing_is_in_no_training_and_in_the_split_drawings(toy_root: Path) -> None:
    library = Library(toy_root)
    first = library.foregrounds_of("train")[0]
    library.foregrounds = [
        replace(record, held_out_drawing=record == first) for record in library.foregrounds
    ]
    assert first.id not in {record.id for record in library.foregrounds_of("train")}
    assert [record.id for record in library.foregrounds_of("drawings")] == [first.id]
    source = Composer(library, "drawings", 64, progress=False, world=World(drawings={"x": 1.0}))
    assert {record.id for record in source.foregrounds} == {first.id}


def test_a_list_of_drawings_is_read_with_weights_and_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# a comment\nfox\t2.5\n\nowl\n", encoding="utf-8")
    assert read_drawings(file) == {"fox": 2.5, "owl": 1.0}
    assert world_of(DenoiserSettings(drawings=str(file), canonical=0.5)) == World(
        canonical=0.5, drawings={"fox": 2.5, "owl": 1.0}
    )
    assert world_of(object()) == World()
    for text, message in (("fox\t-1\n", "line 1"), ("fox\tmany\n", "line 1"), ("# none\n", "no")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_drawings(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_drawings(tmp_path / "nowhere.txt")


def test_a_name_without_a_style_means_the_usual_drawing(toy_root: Path) -> None:
    record = replace(Library(toy_root).foregrounds[0], caption="a red apple", concept="apple")
    flat = replace(record, id="flat", style="flat icon")
    icon = replace(record, id="icon", style="3d icon")
    bowl = replace(record, id="bowl", caption="a bowl of soup", concept="bowl", style="3d icon")
    names = usual_names([flat, bowl, icon])
    assert names == {"a red apple": "icon", "an apple": "icon", "a bowl of soup": "bowl"}
    assert concept_name(bowl) == ""


def captions_of(composer: Composer, count: int, seed: int = 5) -> list[tuple[object, str]]:
    batch = composer.compose(count, torch.Generator().manual_seed(seed))
    return list(zip(batch.placements, composer.captions(batch, random.Random(0)), strict=True))


def test_full_captions_say_style_time_place_and_size(toy_root: Path) -> None:
    composer = composer_in(toy_root, replace(SMALL, canonical=0.5))
    texts = captions_of(composer, 300)
    usual = set(usual_names(composer.foregrounds).values())
    place = re.compile(r" (on the (left|right)|in the middle|at the (top|bottom)( left| right)?)\b")
    for placement, text in texts:
        record = composer.foregrounds[placement.foreground]  # type: ignore[attr-defined]
        canonical = placement.canonical  # type: ignore[attr-defined]
        assert bool(place.search(text)) is not canonical
        if canonical:
            assert "small" not in text
            assert "large" not in text
        if record.id not in usual:
            assert f"{record.style} of" in text
        background = composer.backgrounds[placement.background]  # type: ignore[attr-defined]
        if re.search(r" in front of |, .* (behind|in the background)$", text):
            assert (background.time == "day") or background.time in text, text
    assert any(" of a " not in text for _, text in texts)  # the usual drawing without its style


def test_the_same_seed_gives_the_same_full_captions(toy_root: Path) -> None:
    composer = composer_in(toy_root, SMALL)
    assert captions_of(composer, 20) == captions_of(composer, 20)
    batch = composer.compose(20, torch.Generator().manual_seed(5))
    for part in ("foreground", "background"):
        texts = composer.captions(batch, random.Random(1), part)  # type: ignore[arg-type]
        assert all(" in front of " not in text for text in texts)


def test_references_show_the_same_concept_but_not_the_same_picture(toy_root: Path) -> None:
    composer = composer_in(toy_root, replace(SMALL, canonical=1.0))
    batch = composer.compose(40, torch.Generator().manual_seed(6))
    generators = [torch.Generator().manual_seed(number) for number in range(40)]
    chosen, mirrored, turns = choose_references(batch.placements, composer.twins, generators)
    for placement, index, turn in zip(batch.placements, chosen, turns, strict=True):
        record = composer.foregrounds[placement.foreground]
        assert composer.foregrounds[index].concept == record.concept
        assert (index == placement.foreground) == (turn > 0)
    assert 10 < sum(turn > 0 for turn in turns) < 30
    assert 10 < sum(mirrored) < 30
    generators = [torch.Generator().manual_seed(number) for number in range(40)]
    colour, mask = composer.references(batch, generators)
    assert colour.shape == batch.foreground.shape
    assert mask.shape == batch.mask.shape
    assert (colour - batch.foreground).abs().mean((1, 2, 3)).min() > 0.005


def test_hues_turn_and_luma_stays() -> None:
    colour = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
    turned = turn_hues(colour, torch.tensor([0.0, 120.0, 360.0]))
    assert torch.equal(turned[0], colour[0])
    torch.testing.assert_close(turned[2], colour[2], atol=1e-5, rtol=0)
    assert (turned[1] - colour[1]).abs().max() > 0.05
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((turned * luma).sum(1), (colour * luma).sum(1), atol=1e-4, rtol=0)


def test_a_concept_of_one_scene_is_never_held_out_whole():
    places = [
        BackgroundRecord(f"p{n}", "p.jpg", "a beach", "CC0-1.0", "toy", "train", scene="beach")
        for n in range(3)
    ]
    held = next(c for c in map("thing{}".format, range(100)) if is_held_out(c, "beach"))
    assert pairings(held, places, held_out=False) == [0, 1, 2]
    assert pairings(held, places, held_out=True) == []
    meadow = replace(places[0], scene="meadow")
    free = not is_held_out(held, "meadow")
    assert pairings(held, [*places, meadow], held_out=False) == ([3] if free else [0, 1, 2, 3])


def test_a_library_without_held_out_pairings_says_so(tmp_path):
    build_toy_library(tmp_path / "library", 1, 1)
    composer = composer_in(tmp_path / "library", World(hold_out_pairings=True))
    assert composer.held_out_pairings() is None
