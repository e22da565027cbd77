import random
import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2layer.data.captions import (
    DROP_PROBABILITY,
    STYLES,
    background_caption,
    caption,
    foreground_caption,
    foregrounds_caption,
    may_be_flipped,
    with_article,
)
from text2layer.data.grounds import SCENES, TIMES, listed
from text2layer.data.library import BackgroundRecord, ForegroundRecord

ORIGIN = {"license": "CC0-1.0", "source": "test", "split": "train"}


@dataclass
class At:
    centre_x: float


def thing(text: str, color: str = "", style: str = "flat icon", **more: object) -> ForegroundRecord:
    concept = str(more.pop("concept", text.split()[-1]))
    return ForegroundRecord(
        id="x", file="x.webp", caption=text, style=style, concept=concept, color=color,
        **ORIGIN, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def place(text: str = "green hills", scene: str = "hills", time: str = "day") -> BackgroundRecord:
    return BackgroundRecord(
        id="y", file="y.jpg", caption=text, scene=scene, time=time, **ORIGIN
    )  # fmt: skip


THINGS = st.sampled_from(
    ["a fox", "an owl", "an open umbrella", "some keys", "two penguins", "the eiffel tower",
     "a ball of yarn", "a large stove", "a hut with a door", "a red apple", "santa claus",
     "a hand pointing left", "an suv", "a unicycle", "a sun behind a rain cloud"]
)  # fmt: skip
COLOURS = st.sampled_from(["", "red", "orange", "grey", "white"])
PLACES = st.builds(
    place,
    st.sampled_from(["green hills", "a lake with boats", "the sea at sunset", "dark clouds"]),
    st.sampled_from([*SCENES, "other", ""]),
    st.sampled_from([*TIMES, ""]),
)


@settings(max_examples=400, deadline=None)
@given(
    THINGS,
    COLOURS,
    st.sampled_from([*STYLES, "oil painting"]),
    PLACES,
    st.floats(0, 1),
    st.integers(),
)
def test_every_caption_is_whole_and_well_formed(
    text: str, color: str, style: str, background: BackgroundRecord, centre_x: float, seed: int
) -> None:
    words = caption(At(centre_x), thing(text, color, style), background, random.Random(seed))
    assert words.strip() == words != ""
    assert "  " not in words
    assert "{" not in words
    assert not re.search(r"\b(\w+) \1\b", words), words  # "a a", "with with"
    assert not re.search(r"\ba [aeio]\w", words), words
    assert not re.search(r"\ban [bcdfghjklmnpqrtvwxz]\w", words), words
    assert words.count(" with ") + words.count(" behind ") <= 3


@settings(max_examples=300, deadline=None)
@given(THINGS, st.floats(0, 1), st.integers())
def test_position_words_are_true(text: str, centre_x: float, seed: int) -> None:
    words = caption(At(centre_x), thing(text), place(), random.Random(seed))
    if "on the left" in words:
        assert centre_x < 0.5
    if "on the right" in words:
        assert centre_x > 0.5
    if "in the centre" in words or "in the middle" in words:
        assert abs(centre_x - 0.5) < 0.1


@settings(max_examples=200, deadline=None)
@given(PLACES, st.integers())
def test_the_time_is_never_contradicted(background: BackgroundRecord, seed: int) -> None:
    words = background_caption(background, random.Random(seed))
    for time, wordings in TIMES.items():
        if time != background.time:
            for wording in wordings:
                assert wording not in words.removeprefix(background.caption)


def test_words_vary_and_parts_are_dropped_as_often_as_promised() -> None:
    rng = random.Random(0)
    fox, hills = thing("a fox", "orange", concept="fox"), place()
    words = [caption(At(0.5), fox, hills, rng) for _ in range(4000)]
    assert len(set(words)) > 100
    without_fox = sum("fox" not in text for text in words) / 4000
    without_hills = sum("hill" not in text for text in words) / 4000
    assert without_fox == pytest.approx(DROP_PROBABILITY / 2, abs=0.015)
    assert without_hills == pytest.approx(DROP_PROBABILITY / 2, abs=0.015)
    assert 0.35 < sum("orange" in text for text in words) / 4000 < 0.6


def test_several_objects_are_listed_bottom_first_before_one_background() -> None:
    rng = random.Random(0)
    ball, cup, fox = (thing(text, concept=text[2:]) for text in ("a ball", "a cup", "a fox"))
    words = [caption(At(0.1), ball, place(), rng, [cup, fox]) for _ in range(1000)]
    named = [text for text in words if "ball" in text]
    for text in named:
        assert 0 <= text.index("ball") < text.index("cup") < text.index("fox")
        assert "on the left" not in text  # whose position it would be is not clear
    assert 1 - len(named) / 1000 == pytest.approx(DROP_PROBABILITY / 2, abs=0.02)
    without_hills = sum("hill" not in text for text in words) / 1000
    assert without_hills == pytest.approx(DROP_PROBABILITY / 2, abs=0.02)
    assert "a ball, a cup and a fox in front of green hills" in words
    assert listed(["a fox"]) == "a fox"
    assert listed(["a ball", "a cup"]) == "a ball and a cup"


def test_of_many_objects_no_style_is_told() -> None:
    rng = random.Random(0)
    few, many = ([thing("a fox")] * count for count in (3, 4))
    assert any("icon of" in foregrounds_caption(few, rng) for _ in range(50))
    assert {foregrounds_caption(many, rng) for _ in range(50)} == {"a fox, a fox, a fox and a fox"}


def test_a_list_of_one_object_is_its_caption() -> None:
    fox = thing("a fox", "orange", concept="fox")
    alone = [foreground_caption(fox, random.Random(seed)) for seed in range(50)]
    assert alone == [foregrounds_caption([fox], random.Random(seed)) for seed in range(50)]


def test_a_style_is_named_truly() -> None:
    rng = random.Random(0)
    for style in STYLES:
        words = {foreground_caption(thing("a fox", style=style), rng) for _ in range(300)}
        assert "a fox" in words
        for other in STYLES:
            if other not in style:
                assert not any(f"{other} of" in text for text in words)
    assert any("an oil painting of" in foreground_caption(thing("a fox", style="oil painting"), rng)
               for _ in range(50))  # fmt: skip


@pytest.mark.parametrize(
    ("record", "forbidden"),
    [
        (thing("a red apple", "orange"), "orange"),
        (thing("a woman dancing", "blue"), "blue"),
        (thing("a boy", "grey", tags=("people",)), "grey"),
        (thing("santa claus", "red"), "red"),
        (thing("a fox", ""), "  "),
    ],
)
def test_a_colour_is_left_out_where_it_would_mislead(
    record: ForegroundRecord, forbidden: str
) -> None:
    rng = random.Random(0)
    assert all(forbidden not in foreground_caption(record, rng) for _ in range(300))


def test_colour_follows_a_size_and_turns_the_article() -> None:
    rng = random.Random(0)
    stove = thing("a large stove", "black", "3d render")
    assert any("a large black stove" in foreground_caption(stove, rng) for _ in range(100))
    owl = thing("an owl", "grey")
    assert any("a grey owl" in foreground_caption(owl, rng) for _ in range(100))
    cat = thing("a cat", "orange")
    assert any("an orange cat" in foreground_caption(cat, rng) for _ in range(100))


def test_directions_and_lettering_are_not_mirrored() -> None:
    assert may_be_flipped(thing("a fox"))
    assert may_be_flipped(thing("a bright lamp"))
    for text in ("a man running facing right", "a left-facing fist", "a bus stop sign",
                 "a calendar"):  # fmt: skip
        assert not may_be_flipped(thing(text))
    pointing = thing("a hand pointing right")
    rng = random.Random(0)
    words = [caption(At(0.2), pointing, place(), rng) for _ in range(500)]
    assert not any("on the left" in text for text in words)


def test_same_seed_same_words() -> None:
    args = (At(0.3), thing("a fox", "red"), place())
    first = [caption(*args, random.Random(seed)) for seed in range(50)]
    assert first == [caption(*args, random.Random(seed)) for seed in range(50)]
    plain = replace(args[1], color="")
    assert any("red" in text for text in first)
    assert not any("red" in caption(args[0], plain, args[2], random.Random(s)) for s in range(50))


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("owl", "an owl"), ("unicorn", "a unicorn"), ("hourglass", "an hourglass"),
     ("umbrella", "an umbrella"), ("unmade bed", "an unmade bed"), ("fox", "a fox"),
     ("one-way street", "a one-way street"), ("onion", "an onion"), ("horse", "a horse")],
)  # fmt: skip
def test_articles(noun: str, expected: str) -> None:
    assert with_article(noun) == expected
