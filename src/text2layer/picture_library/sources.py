"""The public sources of a library, in the order of its lists."""

from __future__ import annotations

from collections.abc import Sequence

from text2layer.errors import InputError
from text2layer.picture_library.clip_art import ClipArt
from text2layer.picture_library.furniture import Furniture
from text2layer.picture_library.icons import icon_sources
from text2layer.picture_library.offer import Source
from text2layer.picture_library.places import place_sources

ALL = "all"


def public_sources(names: Sequence[str]) -> list[Source]:
    """The sources of these names; ALL are those that package registries have.

    Raises:
        InputError: a name is unknown.
    """
    every: list[Source] = [*icon_sources(), ClipArt(), *place_sources(), Furniture()]
    known = {source.name: source for source in every}
    wrong = [name for name in names if name not in known and name != ALL]
    if wrong:
        raise InputError(f"There is no source '{wrong[0]}'; there are {ALL}, {', '.join(known)}.")
    if ALL in names:
        return list(known.values())
    return [source for name, source in known.items() if name in names]
