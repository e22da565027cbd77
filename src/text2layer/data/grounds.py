"""Words for grounds: scenes, times, and what is seen in a background.

One word for a scene stands for photographs that differ much. What is seen in one (`seen` of a
background's record: "pine trees", "a lake", "grey clouds") says how it differs, and a phrase that
several photographs share can be learnt.
"""

import random
import re
from collections.abc import Sequence

from text2layer.data.library import BackgroundRecord

SCENES: dict[str, tuple[str, ...]] = {
    "building interior": ("the inside of a building", "a building interior"),
    "planet surface": ("the surface of a planet", "an alien planet"),
    "mountains": ("mountains", "a mountain landscape"),
    "snowy mountains": ("snowy mountains", "snow-capped mountains"),
    "sea": ("the sea", "the ocean"),
    "lake": ("a lake",),
    "city skyline": ("a city skyline", "the skyline of a city"),
    "hills": ("hills", "a hilly landscape"),
    "sky": ("the sky",),
    "fields": ("fields", "open fields"),
    "desert": ("a desert",),
    "dunes": ("sand dunes", "dunes"),
    "forest": ("a forest", "the woods"),
    "badlands": ("badlands",),
    "canyon": ("a canyon",),
    "lava field": ("a lava field",),
    "snow field": ("a snow field", "a field of snow"),
    "meadow": ("a meadow", "a grassy meadow"),
    "beach": ("a beach",),
    "river": ("a river",),
    "night sky": ("a night sky",),
    "garden": ("a garden",),
    "outer space": ("outer space",),
    "fog": ("fog",),
    "waterfall": ("a waterfall",),
    "city street": ("a city street",),
    "tunnel": ("a tunnel", "the inside of a tunnel"),
    "gas giant": ("a gas giant", "the clouds of a gas giant"),
}
PLACES = {  # scenes that an object can be said to be in or on
    "forest": "in a forest",
    "desert": "in a desert",
    "dunes": "among sand dunes",
    "meadow": "in a meadow",
    "fields": "in the fields",
    "beach": "on a beach",
    "garden": "in a garden",
    "snow field": "in the snow",
    "city street": "in a city street",
    "building interior": "inside a building",
    "mountains": "in the mountains",
    "hills": "in the hills",
    "canyon": "in a canyon",
    "planet surface": "on an alien planet",
    "outer space": "in outer space",
    "tunnel": "in a tunnel",
}
TIMELESS = frozenset(
    ("building interior", "tunnel", "planet surface", "gas giant", "outer space", "night sky",
     "other")
)  # fmt: skip
TIMES = {"night": ("at night",), "sunset": ("at sunset",), "day": ("by day", "in daylight")}
TIME_SAID = re.compile(
    r"\b(night|day|daylight|sun|sunset|sunrise|sunny|dusk|dawn|evening|morning|noon|moon|moonlit|"
    r"stars?|starry|dark)\b",
    re.I,
)
SEEN_SAID = 1 / 3  # share of captions that tell what is seen, where that is known
WITH_SCENE = 0.6  # of those, share that name the scene too
UNDER = 0.5  # share of skies and clouds that the rest is said to be "under"
MOST_SEEN = 3
FIRST_LEFT_OUT = 0.2
PARTS = {
    "building interior": ("room", "hall", "corridor", "tunnel")
}  # what such a scene is also called
LONG = re.compile(r"\w{4,}")
NIGHT_SAID = re.compile(r"\b(night|starry|moon)\b")
OVERHEAD = re.compile(r"^(?!low |one )(?!.*\bswirling ).*\b(clouds|sky)$")
SKIES = frozenset(("sky", "night sky", "gas giant", "outer space"))  # nothing lies under them


def seen_caption(record: BackgroundRecord, rng: random.Random) -> str:
    """A background by one to three things that are seen in it, often with its scene.

    The first things of the list are told most often. A thing that is the scene itself stands for
    its word: "green hills under grey clouds", not "hills with green hills".

    Args:
        record: of a background whose `seen` is not empty.
        rng: source of the choice and the wording.

    Example:
        "a forest at night with tree trunks and mist", "pine trees and a lake under grey clouds"
    """
    if record.scene in SCENES and rng.random() < WITH_SCENE:
        named = [thing for thing in record.seen if _names(thing, record.scene)]
        scene = named[0] if named else rng.choice(SCENES[record.scene])
        others = seen_in(record, scene, rng)
        return scene + seen_time(record, [scene, *others]) + with_seen(others, record, rng)
    *rest, last = told = _some(record.seen, MOST_SEEN, rng)
    if rest and _is_over(last, rest, record) and rng.random() < UNDER:
        words = f"{listed(rest)} under {last}"
    else:
        words = listed(told)
    return words + seen_time(record, told)


def seen_in(record: BackgroundRecord, scene: str, rng: random.Random) -> list[str]:
    """One or two things that are seen and do not repeat the words for the scene, in their order."""
    others = [
        thing for thing in record.seen
        if not (_names(thing, record.scene) or _repeats(thing, scene))
    ]  # fmt: skip
    return _some(others, MOST_SEEN - 1, rng)


def with_seen(things: Sequence[str], record: BackgroundRecord, rng: random.Random) -> str:
    """What follows the word for a scene: " with tree trunks and mist", " under a pale sky"."""
    if not things:
        return ""
    *rest, last = things
    if _is_over(last, rest, record) and rng.random() < UNDER:
        return (f" with {listed(rest)}" if rest else "") + f" under {last}"
    return f" with {listed(things)}"


def seen_time(record: BackgroundRecord, told: Sequence[str]) -> str:
    """ " at night" or " at sunset" where it is known and what is told does not say it."""
    if record.time not in ("night", "sunset") or record.scene in TIMELESS:
        return ""
    said = record.time == "night" and any(NIGHT_SAID.search(thing) for thing in told)
    return "" if said else f" at {record.time}"


def listed(phrases: Sequence[str]) -> str:
    """Phrases as an English list.

    Example:
        >>> listed(["a fox", "a cup", "a red ball"])
        'a fox, a cup and a red ball'
    """
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _some(things: Sequence[str], most: int, rng: random.Random) -> list[str]:
    """One to `most` of the things, in their order; of several, the first is left out at times."""
    if not things:
        return []
    count = min(rng.randint(1, most), len(things))
    first = count == 1 or rng.random() >= FIRST_LEFT_OUT
    chosen = rng.sample(range(1, len(things)), min(count - first, len(things) - 1))
    return [thing for n, thing in enumerate(things) if (first if n == 0 else n in chosen)]


def _is_over(last: str, rest: Sequence[str], record: BackgroundRecord) -> bool:
    """Whether the last thing is overhead, and it alone: no sky lies under another."""
    if record.scene in SKIES:
        return False
    return [thing for thing in (*rest, last) if OVERHEAD.match(thing)] == [last]


def _names(thing: str, scene: str) -> bool:
    """Whether a thing is the scene, by its noun: "sand dunes" of dunes, "the sea" of the sea."""
    wordings = (scene, *SCENES.get(scene, ()), *PARTS.get(scene, ()))
    return _noun(thing) in {_noun(wording) for wording in wordings}


def _noun(phrase: str) -> str:
    """The last word, without a plural s."""
    return phrase.split()[-1].removesuffix("s")


def _repeats(thing: str, scene: str) -> bool:
    """Whether a word of the thing is one of the scene's in another form: "snow" of "snowy"."""
    return bool({word[:4] for word in thing.split()} & {word[:4] for word in LONG.findall(scene)})
