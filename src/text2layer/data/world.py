"""The world that pictures are composed from: what is drawn how often, where, and with which words.

A small model learns a small world. The default is the wide one: every cut-out alike, any place and
size, many wordings that leave much unsaid. A narrow one draws most objects in one canonical place,
chooses its drawings by a list, shows few windows of each background and says all that varies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from text2layer.data.library import BackgroundRecord, ForegroundRecord
from text2layer.errors import DataError, InputError

HELD_OUT_EVERY = 10  # one in so many pairs of concept and scene is left out of training
# which drawing a name without a style means, the first of these that there is
USUAL_STYLES = (
    "3d icon", "low-poly 3d render", "3d render", "flat icon", "clip art", "outline icon",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """How pictures are composed.

    Attributes:
        canonical: share of pictures whose object stands in the canonical place (module
            `canonical`); the others are placed freely.
        drawings: how often each cut-out is drawn, by id; those without a weight are never drawn.
            None draws all alike.
        even_concepts: divide a concept's weight among its drawings, so that concepts are drawn
            alike.
        background_crops: windows that a background is seen through: so many, of its full height
            and side by side, never mirrored; 0 takes any window.
        scene_weights: how often backgrounds of a scene are drawn, relative to those of scenes that
            are not named; None draws all alike.
        full_captions: say all that varies (`data.full_captions`), and neither mirror an object, cut
            it at the border nor give it a shadow, for which there are no words.
        hold_out_pairings: leave one in HELD_OUT_EVERY pairs of concept and scene out of training.
    """

    canonical: float = 0.0
    drawings: Mapping[str, float] | None = None
    even_concepts: bool = False
    background_crops: int = 0
    scene_weights: Mapping[str, float] | None = None
    full_captions: bool = False
    hold_out_pairings: bool = False

    def shares(self, records: Sequence[ForegroundRecord], given: Sequence[float]) -> list[float]:
        """How often each record is drawn, relative to one another, from shares without a world.

        Raises:
            DataError: nothing of `drawings` is among the records.
        """
        shares = list(given)
        if self.drawings is not None:
            shares = [
                share * self.drawings.get(record.id, 0.0)
                for share, record in zip(shares, records, strict=True)
            ]
        if not any(shares):
            raise DataError("None of the listed drawings is in the library; check their ids.")
        if self.even_concepts:
            concepts: dict[str, float] = {}
            for share, record in zip(shares, records, strict=True):
                concepts[record.concept] = concepts.get(record.concept, 0.0) + share
            shares = [
                share and share / concepts[record.concept]
                for share, record in zip(shares, records, strict=True)
            ]
        return shares


def is_held_out(concept: str, scene: str) -> bool:
    """Whether a pair of concept and scene is one that training leaves out.

    Decided by SHA-256 of both, so that it holds for every library and every run.

    Example:
        >>> is_held_out("fox", "beach"), is_held_out("fox", "meadow")
        (False, False)
    """
    digest = hashlib.sha256(f"{concept}|{scene}".encode()).hexdigest()
    return int(digest[:8], 16) % HELD_OUT_EVERY == 0


def pairings(concept: str, backgrounds: Sequence[BackgroundRecord], held_out: bool) -> list[int]:
    """Indices of the backgrounds that a concept is, or is not, held out from.

    A concept that would be held out from all of them is held out from none: it would not be learnt.
    """
    held = [is_held_out(concept, background.scene) for background in backgrounds]
    if all(held):
        held = [False] * len(held)
    return [index for index, left_out in enumerate(held) if left_out == held_out]


def usual_names(records: Sequence[ForegroundRecord]) -> dict[str, str]:
    """Which drawing a name without a style means: id by caption and by plain concept.

    Of several drawings of a name it is the one of the first of USUAL_STYLES, then of the shortest
    caption, then the first of the list. A concept is a name when a caption ends with it.
    """
    order = {style: place for place, style in enumerate(USUAL_STYLES)}
    ranked = sorted(
        records, key=lambda record: (order.get(record.style, len(order)), len(record.caption))
    )
    names: dict[str, str] = {}
    for record in ranked:
        for name in {record.caption, concept_name(record)} - {""}:
            names.setdefault(name, record.id)
    return names


def concept_name(record: ForegroundRecord) -> str:
    """The bare concept as a noun phrase, "an apple" of "a red apple"; "" where it is no name.

    It is one when the caption is an article, some words and the concept, and none of the words
    joins two things ("a bowl of rice" is no bowl alone).
    """
    from text2layer.data.captions import JOINING, with_article

    article, _, rest = record.caption.partition(" ")
    if article not in ("a", "an") or JOINING.search(rest):
        return ""
    return with_article(record.concept) if rest.split()[-1:] == [record.concept] else ""


def read_drawings(path: str | Path) -> dict[str, float]:
    """Read a list of cut-outs: an id a line, then a tab and its weight if it is not 1.

    Lines that are empty or begin with # are left out.

    Raises:
        InputError: the file cannot be read, a weight is no number of 0 or more, or it lists none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list of drawings {str(path)!r} cannot be read ({error}).") from error
    drawings: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, weight = line.strip().partition("\t")
        try:
            drawings[name] = float(weight or 1)
        except ValueError:
            drawings[name] = -1.0
        if not 0 <= drawings[name] < float("inf"):
            raise InputError(
                f"{path} line {number}: the weight {weight!r} is no number of 0 or more."
            )
    if not any(drawings.values()):
        raise InputError(f"{path} lists no drawing; write an id of foregrounds.jsonl a line.")
    return drawings


def learnt_world(drawings: Mapping[str, float]) -> World:
    """The world in which a model shows what it has learnt: those drawings, each as likely."""
    return World(
        canonical=1.0, drawings=dict.fromkeys(drawings, 1.0), background_crops=3, full_captions=True
    )


def world_of(settings: Any) -> World:
    """The world that the settings of a trainer describe; the wide one where they describe none.

    Raises:
        InputError: their list of drawings or their weights cannot be read.
    """
    listed: str = getattr(settings, "drawings", "")
    weights: str = getattr(settings, "scene_weights", "")
    values: dict[str, Any] = {
        item.name: getattr(settings, item.name, item.default) for item in fields(World)
    }
    values["drawings"] = read_drawings(listed) if listed else None
    values["scene_weights"] = read_weights(weights, "scene_weights")
    return World(**values)


def read_weights(text: str, setting: str) -> dict[str, float] | None:
    """Read "3d icon=2, flat icon=1" into weights by name; None for an empty text.

    Args:
        text: names and weights of 0 or more.
        setting: what a message calls it.

    Raises:
        InputError: it cannot be read so.

    Example:
        >>> read_weights("3d icon=2, flat icon=1", "style_weights")
        {'3d icon': 2.0, 'flat icon': 1.0}
    """
    if not text.strip():
        return None
    try:
        pairs = (item.split("=") for item in text.split(","))
        weights = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        weights = {}
    if not weights or not all(0 <= weight < math.inf for weight in weights.values()):
        raise InputError(f"{setting} cannot be read: {text!r}; write it like 'hills=2,sea=0.5'.")
    return weights
