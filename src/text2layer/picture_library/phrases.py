"""Noun phrases: their article, their number, and the noun that they are about."""

from __future__ import annotations

import re

from text2layer.data.captions import COLOURS, with_article
from text2layer.picture_library.tables import column

DETERMINER = re.compile(r"^(?:a|an|the|some|two|three|four)\s+")
# words after which a phrase no longer says what the thing is, but what is with it
JOINING = re.compile(
    r"\s+(?:with|without|in|on|and|from|at|behind|between|seen|holding|showing|under|over|full|"
    r"wearing|riding|playing|getting|fluttering|facing|covering|making|pointing|taking|landing|"
    r"lying|lifting|rowing|raising|feeding|doing|running|walking|kneeling|throwing|driving|biking|"
    r"reading|opening|blowing|savoring|screaming|biting|bouncing|spouting|pouring|carrying|for|to|"
    r"by|that)(?=\s|$)|,"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# "a bowl of rice" is rice, "a crate of carrots" is a crate: these words measure or pack
MEASURES = _words(
    "ball bar bouquet bowl box bulb bunch can cup cut drop glass group head loaf mug pair "
    "pan piece pile plate portion pot roll row sheaf sheet six-pack slice spool stack strip strips "
    "wheel"
)
ONE_S = _words("canvas gas lens rhinoceros")  # singular, though they end like a plural
ALWAYS_S = _words(  # plural, though they name one thing
    "briefs clothes fries glasses goggles jeans scissors shorts skis sunglasses"
)
PAIRS = ALWAYS_S - _words("clothes fries") | _words(
    "chopsticks eyes gloves headphones lungs maracas shoes slippers sneakers socks"
)
SINGULAR = {"children": "child", "feet": "foot", "leaves": "leaf", "shelves": "shelf",
            "men": "man", "women": "woman", "people": "person", "teeth": "tooth",
            "knives": "knife", "cookies": "cookie", "loaves": "loaf"}  # fmt: skip
UNCOUNTED = _words("hair rain snow lightning fire joy water food fruit ice")
# "a man juggling" is about a man; of a thing the word before belongs to its name: "a rocking chair"
ACTING = re.compile(r"\b(man|men|woman|women|person|people|face)\s+(?:mountain )?\w+ing\b.*$")


def is_plural(noun: str) -> bool:
    """Whether a word looks like a plural."""
    if noun in ONE_S:
        return False
    return noun in SINGULAR or (noun.endswith("s") and not noun.endswith(("ss", "us", "is")))


def singular(noun: str) -> str:
    """The singular of an English noun.

    Example:
        >>> singular("cherries"), singular("leaves"), singular("glass"), singular("jeans")
        ('cherry', 'leaf', 'glass', 'jeans')
    """
    if noun in SINGULAR:
        return SINGULAR[noun]
    if noun in ALWAYS_S or not is_plural(noun):
        return noun
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if re.search(r"(?:sh|ch|x|ss|\w[dgrt]o)es$", noun):
        return noun[:-2]
    return noun[:-1]


def concept_of(caption: str) -> str:
    """The noun that a caption is about, under the name that drawings of it share.

    The last word before a word that joins; of what is measured or packed, the thing; `nouns.tsv`
    maps words to the concept that they belong to.

    Example:
        >>> concept_of("a red apple with a leaf"), concept_of("a pair of warm socks")
        ('apple', 'sock')
    """
    whole = column("nouns", "word", "concept").get(caption)
    if whole:
        return whole
    phrase = ACTING.sub(r"\1", DETERMINER.sub("", caption))
    while True:
        before, of, thing = phrase.partition(" of ")
        if not of or JOINING.search(before) or before.split()[-1] not in MEASURES:
            phrase = before
            break
        phrase = DETERMINER.sub("", thing)
    phrase = _without_colours(phrase)
    joined = JOINING.search(phrase)
    return _named((phrase[: joined.start()] if joined else phrase).split() or caption.split())


def _without_colours(phrase: str) -> str:
    """Drop "red and yellow" before a noun: its "and" joins no things."""
    colour = "|".join(sorted(COLOURS))
    return re.sub(rf"\b(?:{colour}) and (?:{colour})\s+", "", phrase)


def _named(words: list[str]) -> str:
    """The concept of a noun phrase: of its last two words if the table has them, or of its last."""
    nouns = column("nouns", "word", "concept")
    pair = " ".join(words[-2:])
    last = words[-1]
    return nouns.get(pair) or nouns.get(last) or nouns.get(singular(last)) or singular(last)


def counted(phrase: str) -> str:
    """The phrase with "a" or "an"; if its noun is a plural with "some" or "a pair of".

    Example:
        >>> counted("onion"), counted("peanuts"), counted("blue jeans")
        ('an onion', 'some peanuts', 'a pair of blue jeans')
    """
    joined = JOINING.search(phrase)
    head = (phrase[: joined.start()] if joined else phrase).partition(" of ")[0].split()
    noun = head[-1] if head else ""
    if noun in PAIRS:
        return f"a pair of {phrase}"
    return f"some {phrase}" if is_plural(noun) else with_article(phrase)
