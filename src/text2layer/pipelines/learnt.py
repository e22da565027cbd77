"""The things that a model was taught: MODEL/concepts.json, so that one knows what to ask.

    {"things": [{"name": "a fox", "style": "3d icon", "concept": "fox", "top1": 3, "seeds": 3}]}

`name` is what a prompt says, `top1` how many of `seeds` pictures were nearest to the thing that was
asked for (`text2layer evaluate --protocols objects`). The list is made by recipes/learnt_things.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from text2layer.errors import WeightsError
from text2layer.files import writing

CONCEPTS = "concepts.json"
COUNTS = ("top1", "seeds")
SHARE = 2 / 3  # of a thing's pictures that must be right for it to be learnt


@dataclass(frozen=True)
class LearntThing:
    """One thing in one style.

    Attributes:
        name: what a prompt says, with its article, and its style where the name means another.
        style: of the drawings that it was learnt from.
        concept: head noun.
        top1: pictures that were nearest to it.
        seeds: pictures that it was asked for in.
    """

    name: str
    style: str
    concept: str
    top1: int
    seeds: int

    @property
    def is_learnt(self) -> bool:
        """Whether at least two of three pictures are right."""
        return self.top1 >= SHARE * self.seeds - 1e-9


def write_learnt(model: Path, things: Iterable[LearntThing]) -> Path:
    """Write the things that a model was taught beside it, by style and name."""
    taught = sorted(things, key=lambda thing: (thing.style, thing.name))
    lines = ",\n".join(f"  {json.dumps(asdict(thing))}" for thing in taught)
    with writing(model / CONCEPTS) as file:
        file.write(f'{{"things": [\n{lines}\n]}}\n'.encode())
    return model / CONCEPTS


def read_learnt(model: Path) -> list[LearntThing] | None:
    """What a model was taught, learnt or not, or None where its folder does not say.

    Raises:
        WeightsError: the list cannot be read.
    """
    file = model / CONCEPTS
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["things"]
        return [_thing(item) for item in stored]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{str(file)!r} is no list of things that can be read ({reason}); copy the model again."
        ) from error


def unknown_pieces(
    prompts: Iterable[str], known: Iterable[str], tokenizer: Any
) -> list[tuple[list[str], int]]:
    """For each prompt its word pieces that none of the known texts has, and how many it has in all.

    Args:
        prompts: what is asked for.
        known: texts such as those that a model was trained on.
        tokenizer: that of the model's text encoder.
    """
    vocabulary = {piece for pieces in _pieces(known, tokenizer) for piece in pieces}
    vocabulary.discard(tokenizer.unk_token_id)
    found = []
    for pieces in _pieces(prompts, tokenizer):
        unknown = [piece for piece in pieces if piece not in vocabulary]
        found.append((tokenizer.convert_ids_to_tokens(unknown), len(pieces)))
    return found


def _pieces(texts: Iterable[str], tokenizer: Any) -> list[list[int]]:
    """Word pieces of each text, by number, without special tokens."""
    given = list(texts)
    if not given:
        return []
    ids: list[list[int]] = tokenizer(given, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _thing(item: dict[str, Any]) -> LearntThing:
    """Build one; KeyError or TypeError says what is wrong."""
    values = {field.name: item[field.name] for field in fields(LearntThing)}
    for name, value in values.items():
        if not isinstance(value, int if name in COUNTS else str):
            raise TypeError(f"{name} is {value!r}")
    return LearntThing(**values)
