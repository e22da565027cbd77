"""What is seen in a background, in captions."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2layer.data.captions import background_caption, caption
from text2layer.data.full_captions import full_caption
from text2layer.data.grounds import MOST_SEEN, SCENES, SEEN_SAID, TIMES, seen_caption, seen_in
from text2layer.data.library import BackgroundRecord, ForegroundRecord
from text2layer.data.source import Part, Placement

ORIGIN = {"license": "CC0-1.0", "source": "test", "split": "train"}
FOX = ForegroundRecord("x", "x.webp", "a fox", style="3d icon", concept="fox", **ORIGIN)  # type: ignore[arg-type]
STANDING = Placement(0, 0, 0.5, 0.5, 0.7, False, 0.5, 0.5, 1.0, False, canonical=True)
FOREST = ("tree trunks", "green trees", "mist", "dark clouds")
FULL = [  # of a forest without the field, seed 7
    "a 3d icon of a fox in front of the woods at night", "a dark pine wood",
    "a 3d icon of a fox in a forest at night", "a dark pine wood",
    "a fox in front of a dark pine wood", "a dark pine wood", "a fox", "a dark pine wood",
]  # fmt: skip
WIDE = [
    "a fox in front of a forest at night",
    "a rounded 3d icon of a fox with a dark pine wood behind",
    "a dark pine wood, a fox in the middle",
    "a 3d icon of a fox, a dark pine wood in the background",
    "a dark pine wood behind a rounded 3d icon of a fox",
    "the woods behind a 3d icon of a fox",
]
LAKE = ("pine trees", "a lake", "snow-capped peaks", "grey clouds", "a low horizon")


def place(
    scene: str, seen: tuple[str, ...] = (), time: str = "day", text: str = "a place"
) -> BackgroundRecord:
    return BackgroundRecord(
        id="y", file="y.jpg", caption=text, scene=scene, time=time, seen=seen,
        **ORIGIN,  # type: ignore[arg-type]
    )  # fmt: skip


def whole(background: BackgroundRecord, rng: random.Random, part: Part = "whole") -> str:
    return full_caption([STANDING], [FOX], background, {"a fox": "x"}, rng, part)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*SCENES, "other", ""]),
    st.lists(
        st.sampled_from(["green hills", "the sea", "sand dunes", "a starry sky", "waves", "snow",
                         "grey clouds", "low clouds", "a round tunnel", "tree trunks"]),
        min_size=1, max_size=7, unique=True,
    ),
    st.sampled_from([*TIMES, ""]),
    st.integers(),
)  # fmt: skip
def test_captions_of_what_is_seen_are_well_formed(
    scene: str, seen: list[str], time: str, seed: int
) -> None:
    record = place(scene, tuple(seen), time)
    words = seen_caption(record, random.Random(seed))
    assert words.strip() == words != ""
    assert "  " not in words
    told = [thing for thing in seen if thing in words]
    named = [wording for wording in SCENES.get(scene, ()) if words.startswith(wording)]
    assert told or named
    assert len(told) <= MOST_SEEN
    rest = re.sub("|".join(sorted([*seen, *named], key=len, reverse=True)), "#", words)
    assert re.fullmatch(
        r"#( at (night|sunset))?(, #)?( (and|with) #)?( and #)?( under #)?( at (night|sunset))?",
        rest,
    ), words
    if time not in ("night", "sunset"):
        assert " at " not in words
    assert words.count(" at ") <= 1


def test_a_thing_that_is_the_scene_stands_for_its_word() -> None:
    rng = random.Random(0)
    hills = [seen_caption(place("hills", ("green hills", "mist")), rng) for _ in range(200)]
    assert "green hills with mist" in hills
    assert not any(text.startswith("hills") or "landscape" in text for text in hills)
    peaks = place("snowy mountains", ("snow-capped peaks", "snow", "pine trees"))
    texts = [seen_caption(peaks, rng) for _ in range(400)]
    with_scene = [text for text in texts if "mountains" in text]
    assert any("pine trees" in text for text in with_scene)
    assert not any(re.search("with.*snow", text) for text in with_scene)
    rooms = [seen_caption(place("building interior", ("an empty hall", "a grey floor")), rng)
             for _ in range(200)]  # fmt: skip
    assert not any("building" in text for text in rooms)


def test_scene_and_seen_things_are_told_together() -> None:
    rng = random.Random(0)
    texts = {seen_caption(place("forest", FOREST, "night"), rng) for _ in range(600)}
    assert {
        "a forest at night with tree trunks and mist",
        "the woods at night with green trees and mist",
        "a forest at night with tree trunks under dark clouds",
        "tree trunks and mist at night",
        "tree trunks and green trees under dark clouds at night",
    } <= texts
    skies = [seen_caption(place("sky", ("a pink sky", "dark clouds")), rng) for _ in range(200)]
    assert not any("under" in text for text in skies)
    beach = place("beach", ("a pink sky", "wet sand", "dark clouds"))
    evening = [seen_caption(beach, rng) for _ in range(300)]
    assert not any(re.search("pink.*under", text) for text in evening)
    assert "wet sand under dark clouds" in evening
    starry = [seen_caption(place("dunes", ("sand dunes", "a starry sky"), "night"), rng)
              for _ in range(200)]  # fmt: skip
    assert not any("starry" in text and "night" in text for text in starry)
    assert any(text == "sand dunes at night" for text in starry)


def test_the_first_things_are_told_most() -> None:
    rng = random.Random(0)
    texts = [seen_caption(place("", LAKE), rng) for _ in range(3000)]
    first, *others = [sum(thing in text for text in texts) / 3000 for thing in LAKE]
    assert first == pytest.approx(1 / 3 + 2 / 3 * 0.8, abs=0.04)
    assert all(0.15 < share < 0.4 for share in others)
    assert all(len(seen_in(place("lake", LAKE), "a lake", rng)) in (1, 2) for _ in range(50))
    assert not any("a lake" in seen_in(place("lake", LAKE), "a lake", rng) for _ in range(50))


@pytest.mark.parametrize("part", ["whole", "background"])
def test_a_third_of_full_captions_tell_what_is_seen(part: Part) -> None:
    rng = random.Random(0)
    texts = [whole(place("forest", FOREST), rng, part) for _ in range(4000)]
    things = "|".join(FOREST)
    assert sum(bool(re.search(things, text)) for text in texts) / 4000 == pytest.approx(
        SEEN_SAID, abs=0.03
    )
    assert not any(re.search(things, whole(place("forest", FOREST), rng, "foreground"))
                   for _ in range(50))  # fmt: skip
    if part == "whole":
        assert any(text.endswith("a fox in a forest with tree trunks and mist") for text in texts)
        assert any("in front of tree trunks" in text for text in texts)


def test_wide_captions_tell_what_is_seen() -> None:
    rng = random.Random(0)
    texts = [background_caption(place("lake", LAKE), rng) for _ in range(4000)]
    told = sum(bool(re.search("|".join(LAKE[2:] + LAKE[:1]), text)) for text in texts) / 4000
    assert told == pytest.approx(SEEN_SAID, abs=0.04)
    texts = [caption(STANDING, FOX, place("lake", LAKE), rng) for _ in range(4000)]
    assert any("in front of pine trees" in text for text in texts)
    assert any(re.search("a lake with pine trees", text) for text in texts)


def test_without_the_field_captions_are_those_of_before() -> None:
    rng = random.Random(7)
    plain = place("forest", time="night", text="a dark pine wood")
    parts: list[Part] = ["whole", "background"]
    assert [whole(plain, rng, part) for part in parts * 4] == FULL
    assert [caption(STANDING, FOX, plain, rng) for _ in range(6)] == WIDE
