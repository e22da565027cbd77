"""Captions for composed pictures: many wordings, none that contradicts what is shown."""

import random
import re
from collections.abc import Sequence
from typing import Protocol

from text2layer.data.grounds import (
    PLACES,
    SCENES,
    SEEN_SAID,
    TIME_SAID,
    TIMELESS,
    TIMES,
    listed,
    seen_caption,
)
from text2layer.data.library import BackgroundRecord, ForegroundRecord


class Placed(Protocol):
    """The part of a placement that words can tell."""

    @property
    def centre_x(self) -> float: ...


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DROP_PROBABILITY = 0.10
POSITION_PROBABILITY = 0.15
COLOUR_PROBABILITY = 0.5
CONCEPT_PROBABILITY = 0.12
ROOM_PROBABILITY = 0.12
STYLED_OBJECTS = 3  # styles of more would make a caption longer than a prompt may be

DETERMINERS = ("a", "an", "some", "two", "three", "four")
COLOURS = _words(
    "red orange yellow green blue purple pink brown black white grey gray teal beige golden gold "
    "silver cyan magenta violet turquoise cream tan blond blonde dark colourful colorful rainbow "
    "ginger bronze copper lime navy maroon"
)
SIZES = _words(
    "large small big tall high low long short tiny huge wide narrow little giant old new modern "
    "classic simple double single open closed round"
)
PEOPLE = _words(
    "man woman men women person people human boy girl child kid baby adult lady gentleman guy "
    "face characters head hand worker"
)
ROOMS = {
    "kitchen": "kitchen",
    "bathroom": "bathroom",
    "bedroom": "bedroom",
    "living room": "living room",
    "office": "office",
    "garden": "garden",
    "outdoor": "outdoor",
}
STYLES: dict[str, tuple[tuple[str, ...], float]] = {  # wordings, and how often none is said
    "3d render": (("a 3d render of", "a 3d model of", "a render of"), 0.65),
    "3d icon": (("a 3d icon of", "a glossy 3d icon of", "a rounded 3d icon of"), 0.2),
    "flat icon": (("a flat icon of", "a simple flat icon of", "a flat drawing of"), 0.2),
    "clip art": (("clip art of", "a clip art picture of", "a clip art drawing of"), 0.25),
    "low-poly 3d render": (("a low-poly 3d render of", "a low-poly model of"), 0.4),
    "outline icon": (("an outline icon of", "a line drawing of"), 0.2),
}
DIRECTION = re.compile(r"\b(left|right|leftwards|rightwards|clockwise|counterclockwise)\b", re.I)
JOINING = re.compile(r"\b(of|and|with|on|in|behind|for|by|over|under)\b")
LETTERING = re.compile(
    r"\b(letters?|text|word|words|lettering|signs?|button|number|numbers|digits?|calendar|"
    r"newspaper|keyboard|alphabet|question mark|stop sign|symbol)\b|\b[A-Z]{2,}\b"
)


def every_word() -> list[str]:
    """Texts with all words of captions but the names of objects, for whoever asks what is known."""
    wordings = [*SCENES.values(), *TIMES.values(), *(words for words, _ in STYLES.values())]
    return [
        *DETERMINERS, *COLOURS, *SIZES, *ROOMS, *PLACES.values(), "in front of", "and", "with",
        "under",
        *(text for texts in wordings for text in texts),
    ]  # fmt: skip


def caption(
    placement: Placed,
    foreground: ForegroundRecord,
    background: BackgroundRecord,
    rng: random.Random,
    above: Sequence[ForegroundRecord] = (),
) -> str:
    """A caption of a composed picture, e.g. "a flat icon of a fox in front of a forest at night".

    Args:
        placement: where the object is; only its horizontal centre is told.
        foreground: what the object is.
        background: what is behind it.
        rng: source of the wording.
        above: further objects over the first, bottom first, as in "a red ball and a blue cup in
            front of a beach"; of several objects no position is told.

    Returns:
        Text that is never empty. One in ten names only the objects or only the background.
    """
    thing = foregrounds_caption([foreground, *above], rng)
    if rng.random() < DROP_PROBABILITY:
        return thing if rng.random() < 0.5 else background_caption(background, rng)
    where = "" if above else _position(placement, foreground, rng)
    if background.scene in PLACES and rng.random() < 0.15:
        return f"{thing}{where} {PLACES[background.scene]}{_time(background, '', rng)}"
    place = background_caption(background, rng)
    patterns: tuple[str, ...]
    if where:
        patterns = ("{thing}{where} in front of {place}", "{place} with {thing}{where}",
                    "{thing}{where}, {place} behind", "{place}, {thing}{where}")  # fmt: skip
    else:
        patterns = ("{thing} in front of {place}", "{thing} in front of {place}",
                    "{thing} against {place}", "{thing} with {place} in the background",
                    "{thing} with {place} behind", "{place} with {thing} in the foreground",
                    "{thing}, {place} in the background", "{place} behind {thing}")  # fmt: skip
    fitting = [words for words in patterns if not _stutters(words, thing, place)]
    return rng.choice(fitting).format(thing=thing, where=where, place=place)


def foreground_caption(record: ForegroundRecord, rng: random.Random) -> str:
    """A noun phrase for the object alone, with its style: "a 3d icon of a brown bear"."""
    phrase = _noun(record, rng)
    if record.style in STYLES:
        wordings, plain = STYLES[record.style]
    else:
        wordings, plain = (f"{with_article(record.style)} of",), 0.5
    if rng.random() < plain:
        return phrase
    return f"{rng.choice(wordings)} {phrase}"


def foregrounds_caption(records: Sequence[ForegroundRecord], rng: random.Random) -> str:
    """The objects of a picture, one or more, bottom first: "a red ball and a blue cup".

    Of more than STYLED_OBJECTS no style is told.
    """
    phrase = foreground_caption if len(records) <= STYLED_OBJECTS else _noun
    return listed([phrase(record, rng) for record in records])


def background_caption(record: BackgroundRecord, rng: random.Random) -> str:
    """A noun phrase for the background alone: its caption, its scene or what is seen, and its time.

    The time is said at times.
    """
    if record.seen and rng.random() < SEEN_SAID:
        return seen_caption(record, rng)
    phrase = record.caption.strip()
    if record.scene in SCENES and rng.random() < 0.25:
        phrase = rng.choice(SCENES[record.scene])
    return phrase + _time(record, phrase, rng)


def may_be_flipped(record: ForegroundRecord) -> bool:
    """Whether the mirrored object still fits its words: no direction, no lettering."""
    return not (DIRECTION.search(record.caption) or LETTERING.search(record.caption))


def with_article(noun: str) -> str:
    """The noun with "a" or "an" before it."""
    sounds_like_consonant = re.match(
        r"(?:uni(?![nm])|us[eu]|uku|ute|ufo|eu|ewe|uri|one\b|u-)", noun, re.I
    )
    vowel = noun[:1].lower() in "aeiou" and not sounds_like_consonant
    silent = re.match(r"(?:hour|honest|heir)", noun, re.I)
    return f"{'an' if vowel or silent else 'a'} {noun}"


def _noun(record: ForegroundRecord, rng: random.Random) -> str:
    """The object in words: caption or concept, with its colour or its room at times."""
    phrase = record.caption.strip()
    determiner, _, rest = phrase.partition(" ")
    plain = rest
    if determiner in ("a", "an") and rest:
        simple = JOINING.search(rest) is None
        if simple and rest != record.concept and rest.split()[-1] == record.concept:
            if rng.random() < CONCEPT_PROBABILITY:
                rest = record.concept
        elif rest == record.concept and rng.random() < ROOM_PROBABILITY:
            rest = _with_room(rest, record, rng)
    if determiner not in DETERMINERS or not rest:
        return phrase
    if rest != plain:
        phrase = with_article(rest) if determiner in ("a", "an") else f"{determiner} {rest}"
    if colour_fits(record) and rng.random() < COLOUR_PROBABILITY:
        return coloured(phrase, record)
    return phrase


def coloured(phrase: str, record: ForegroundRecord) -> str:
    """The noun phrase with the record's measured colour, "a red apple"; see `colour_fits`."""
    determiner, _, rest = phrase.partition(" ")
    if determiner not in DETERMINERS or not rest:
        return phrase
    first, _, others = rest.partition(" ")
    if others and first in SIZES:
        rest = f"{first} {record.color} {others}"
    else:
        rest = f"{record.color} {rest}"
    return with_article(rest) if determiner in ("a", "an") else f"{determiner} {rest}"


def _with_room(noun: str, record: ForegroundRecord, rng: random.Random) -> str:
    rooms = [ROOMS[tag] for tag in record.tags if tag in ROOMS]
    return f"{rng.choice(rooms)} {noun}" if rooms and record.style == "3d render" else noun


def colour_fits(record: ForegroundRecord) -> bool:
    """Whether the measured colour may be said: known, not named yet, and not of a person."""
    words = set(re.findall(r"[a-z]+", record.caption.lower()))
    if not record.color or words & COLOURS or {"and", "behind"} & words:
        return False
    return not PEOPLE & ({record.concept} | words | set(record.tags))


def _stutters(pattern: str, thing: str, place: str) -> bool:
    """Whether a pattern would repeat a joining word: "a hut with a door with hills behind"."""
    joined = f"{thing} {place}"
    return any(f" {word}" in pattern and f" {word} " in joined for word in ("with", "behind"))


def _position(placement: Placed, record: ForegroundRecord, rng: random.Random) -> str:
    """ " on the left" and the like where it is true, else nothing."""
    if rng.random() >= POSITION_PROBABILITY or DIRECTION.search(record.caption):
        return ""
    if placement.centre_x < 0.4:
        return " on the left"
    if placement.centre_x > 0.6:
        return " on the right"
    if abs(placement.centre_x - 0.5) < 0.06:
        return rng.choice((" in the centre", " in the middle"))
    return ""


def _time(record: BackgroundRecord, phrase: str, rng: random.Random) -> str:
    """ " at night" and the like where it is known and not said yet, else nothing."""
    if record.time not in TIMES or record.scene in TIMELESS or TIME_SAID.search(phrase):
        return ""
    said = 0.5 if record.time != "day" else 0.04
    return f" {rng.choice(TIMES[record.time])}" if rng.random() < said else ""
