"""Captions that leave nothing unsaid that varies: one caption stands for one kind of picture.

A small model that sees three pictures under one caption learns none of them. So the style is told
always, except of the drawing that a name without a style means (`data.world.usual_names`); the time
of a background unless it is day; place and size of an object that is not in the canonical place;
the side that a render is seen from unless it is the usual, from the front and a little aside.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from text2layer.data.captions import colour_fits, coloured, with_article
from text2layer.data.grounds import (
    PLACES,
    SCENES,
    SEEN_SAID,
    TIME_SAID,
    TIMELESS,
    listed,
    seen_caption,
    seen_in,
    seen_time,
    with_seen,
)
from text2layer.data.library import BackgroundRecord, ForegroundRecord
from text2layer.data.source import Part, Placement
from text2layer.data.world import concept_name

STYLE_SAID = 0.5  # share of captions that name the style where it could be left out
CONCEPT_SAID = 0.3  # share of captions that say the bare concept where it means this drawing
COLOUR_SAID = 0.15
SCENE_SAID = 0.5  # share of captions that name the scene rather than describe the photograph
SEEN_IN_PLACE = 0.2  # of captions that tell what is seen, the same: "in a forest with tree trunks"
IN_PLACE = 0.4  # of those, share that put the object into the scene: "in a forest"
ALONE = 0.05  # share of captions of whole pictures that name the object alone
SMALL, LARGE = 0.6, 0.76  # of the frame's shorter side, see `placing.OBJECT_SCALE`
MIDDLE = 0.08  # half the width of the band that counts as the middle
ASIDE = 65  # degrees: the most that a usual view is turned by
BEHIND = 115


def full_caption(
    placements: Sequence[Placement],
    foregrounds: Sequence[ForegroundRecord],
    background: BackgroundRecord,
    usual: Mapping[str, str],
    rng: random.Random,
    part: Part = "whole",
) -> str:
    """A caption of a composed picture, of its objects or of its background.

    Args:
        placements: where the objects are, bottom first.
        foregrounds: what they are.
        background: what is behind them.
        usual: see `world.usual_names`.
        rng: source of the wording.
        part: what to describe.

    Example:
        "a small 3d icon of a fox on the left in front of a forest at night"
    """
    if part == "background":
        return _ground(background, rng)
    things = listed(
        [_thing(*pair, usual, rng) for pair in zip(placements, foregrounds, strict=True)]
    )
    if part == "foreground" or rng.random() < ALONE:
        return things
    if background.seen and rng.random() < SEEN_SAID:
        if background.scene in PLACES and rng.random() < SEEN_IN_PLACE:
            where = PLACES[background.scene]
            told = seen_in(background, where, rng)
            where += seen_time(background, told)
            return f"{things} {where}{with_seen(told, background, rng)}"
        return f"{things} in front of {seen_caption(background, rng)}"
    if rng.random() < SCENE_SAID and background.scene in SCENES:
        if background.scene in PLACES and rng.random() < IN_PLACE:
            return f"{things} {PLACES[background.scene]}{_time(background, '')}"
        return f"{things} in front of {_scene(background, rng)}"
    ground = described(background)
    return rng.choice(
        (f"{things} in front of {ground}", f"{things} in front of {ground}",
         f"{things}, {ground} behind", f"{things}, {ground} in the background")
    )  # fmt: skip


def _thing(
    placement: Placement, record: ForegroundRecord, usual: Mapping[str, str], rng: random.Random
) -> str:
    phrase, bare = record.caption.strip(), concept_name(record)
    if usual.get(bare) == record.id and rng.random() < CONCEPT_SAID:
        phrase = bare
    if colour_fits(record) and rng.random() < COLOUR_SAID:
        phrase = coloured(phrase, record)
    place = "" if placement.canonical else _place(placement)
    means_this = usual.get(phrase, usual.get(record.caption)) == record.id
    phrase += _view(record)
    size = "" if placement.canonical else _size(placement)
    if means_this and not size and rng.random() >= STYLE_SAID:
        return phrase + place
    return f"{with_article(size + record.style)} of {phrase}{place}"


def _view(record: ForegroundRecord) -> str:
    turned = abs((record.view or {}).get("azimuth", 30.0))
    if turned > BEHIND:
        return " seen from behind"
    return " seen from the side" if turned > ASIDE else ""


def _size(placement: Placement) -> str:
    if placement.scale < SMALL:
        return "small "
    return "large " if placement.scale > LARGE else ""


def _place(placement: Placement) -> str:
    """ " on the left" and the like; "" in the middle."""
    across = placement.centre_x - 0.5
    down = placement.centre_y - 0.5
    side = "left" if across < -MIDDLE else "right" if across > MIDDLE else ""
    height = "top" if down < -MIDDLE else "bottom" if down > MIDDLE else ""
    if height:
        return f" at the {height}{' ' + side if side else ''}"
    return f" on the {side}" if side else " in the middle"


def _ground(background: BackgroundRecord, rng: random.Random) -> str:
    if background.seen and rng.random() < SEEN_SAID:
        return seen_caption(background, rng)
    if background.scene in SCENES and rng.random() < SCENE_SAID:
        return _scene(background, rng)
    return described(background)


def _scene(background: BackgroundRecord, rng: random.Random) -> str:
    phrase = rng.choice(SCENES[background.scene])
    return phrase + _time(background, phrase)


def described(background: BackgroundRecord) -> str:
    """The background by its own caption, with its time: "a quiet bay at sunset"."""
    phrase = background.caption.strip()
    return phrase + _time(background, phrase)


def _time(background: BackgroundRecord, phrase: str) -> str:
    """ " at night" or " at sunset" where it is known and not said; day is the usual time."""
    if background.time not in ("night", "sunset") or background.scene in TIMELESS:
        return ""
    return "" if TIME_SAID.search(phrase) else f" at {background.time}"
