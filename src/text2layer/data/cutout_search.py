"""Finding the cut-out of a library that shows what a prompt asks for.

    >>> object_phrase("a flat icon of a red fox in front of a forest")
    ('a red fox', 'flat icon')

A cut-out that is called what the prompt says is taken first: its caption, or its concept as the
last word or words of the prompt's object. Only where there is none do captions near in meaning
count, by the cosine between mean token states.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from text2layer.data.captions import COLOURS, STYLES, with_article
from text2layer.data.library import ForegroundRecord
from text2layer.data.world import USUAL_STYLES
from text2layer.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Embed = Callable[[list[str]], "Tensor"]  # N texts to (N, D) vectors of length 1

# With MiniLM and the 1,859 captions of the project's library, two captions of one concept reach a
# median of 0.82, the nearest of another concept 0.64 (docs/layers.md has words on either side).
LEAST_COSINE = 0.7
BATCH = 128
PLACE = re.compile(
    r",| (?:in front of|against|before|among|inside|under|next to|near|in|on|at|by) "
    r"| with (?!.* with )(?=.*\b(?:behind|in the background)\b)"
)
IN_FRONT = re.compile(r"^.* with (.+) in the foreground$")
ARTICLES = frozenset(("a", "an", "the", "some", "one"))
PICTURE = re.compile(r"^(?:an?|the) (?:picture|photo|photograph|drawing|image|icon|render) of ")


def find_cutout(
    records: Sequence[ForegroundRecord], prompt: str, embed: Embed
) -> tuple[ForegroundRecord, float]:
    """Return the cut-out that is nearest to what a prompt asks for, and its cosine.

    Of those that are called what the prompt says, one of the style that it names is preferred. Of
    equally near ones, one of the prompt's colour comes first, then the styles in USUAL_STYLES.
    Records that are not `nameable` are left out.

    Args:
        records: of a library.
        prompt: what is to be drawn; its place and style do not count as the object.
        embed: encodes texts; see `caption_vectors`.

    Raises:
        InputError: nothing is nearer than LEAST_COSINE.
    """
    phrase, style = object_phrase(prompt)
    bare = without_article(phrase)
    wanted_colours = set(bare.split()) & COLOURS
    usable = [record for record in records if record.nameable]
    styled = [record for record in usable if record.style == style]
    called = _called(styled, bare) or _called(usable, bare)
    candidates = called or usable
    told = bool(called) and bool(wanted_colours)  # whether a record's colour counts
    texts = list(dict.fromkeys(_text(record, told) for record in candidates))
    cosines: dict[str, float] = {}
    if texts and bare:
        vectors = embed([phrase, *texts])
        cosines = dict(zip(texts, (vectors[1:] @ vectors[0]).tolist(), strict=True))

    def rank(record: ForegroundRecord) -> tuple[float, bool, bool, int]:
        order = (
            USUAL_STYLES.index(record.style) if record.style in USUAL_STYLES else len(USUAL_STYLES)
        )
        return (
            round(cosines[_text(record, told)], 4),
            record.color in wanted_colours,
            record.style == style,
            -order,
        )

    best = max(candidates, key=rank) if cosines else None
    cosine = 0.0 if best is None else cosines[_text(best, told)]
    if best is None or (not called and cosine < LEAST_COSINE):
        nearest = f" (the nearest is {best.caption!r})" if best is not None else ""
        raise InputError(
            f"The library has nothing like {phrase!r}{nearest}; name the object in other words, "
            "or give a cut-out as reference."
        )
    return best, cosine


def object_phrase(prompt: str) -> tuple[str, str]:
    """The object that a prompt asks for, in small letters, and the style that it names or ""."""
    phrase = " ".join(prompt.lower().split()).rstrip(".")
    phrase = IN_FRONT.sub(r"\1", phrase)
    style = ""
    for name, wording in _WORDINGS:
        match = re.match(rf"(?:(?:an?|the) )?(?:[\w-]+ ){{0,2}}?{re.escape(wording)} of ", phrase)
        if match:
            phrase, style = phrase[match.end() :], name
            break
    phrase = PICTURE.sub("", phrase)
    found = PLACE.search(phrase)
    return (phrase[: found.start()].strip() if found else phrase), style


def without_article(phrase: str) -> str:
    """ "a red fox" -> "red fox"."""
    first, _, rest = phrase.strip().partition(" ")
    return rest if first in ARTICLES and rest else phrase.strip()


def caption_vectors(tokenizer: Any, encoder: Any, texts: list[str]) -> Tensor:
    """Mean token states of N texts, (N, D), each of length 1."""
    import torch

    from text2layer.models.text_encoder import encode_prompts
    from text2layer.models.transformer import pooled_text

    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    vectors: list[Any] = [None] * len(texts)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        states, mask = encode_prompts(tokenizer, encoder, [texts[row] for row in rows], cut=True)
        for row, vector in zip(rows, pooled_text(states, mask), strict=True):
            vectors[row] = vector
    return torch.nn.functional.normalize(torch.stack(vectors), dim=1)


def _called(records: Sequence[ForegroundRecord], bare: str) -> list[ForegroundRecord]:
    """Records whose caption is the object, else those whose concept is its last words."""
    named = [record for record in records if without_article(record.caption.lower()) == bare]
    if named:
        return named
    words = re.split(r" (?:of|with|and|wearing|holding) ", bare)[0].split()
    for start in range(len(words)):
        tail = " ".join(words[start:])
        forms = {tail, tail.removesuffix("s"), tail.removesuffix("es")}
        found = [record for record in records if record.concept.lower() in forms]
        if found:
            return found
    return []


def _text(record: ForegroundRecord, coloured: bool) -> str:
    """A record in words, with its colour if that is to be told and its caption does not."""
    bare = without_article(record.caption.lower())
    if coloured and record.color and not set(bare.split()) & COLOURS:
        bare = f"{record.color} {bare}"
    return with_article(bare)


def _wordings() -> list[tuple[str, str]]:
    """(style, words that stand for it), the longest first."""
    pairs = [(style, style) for style in (*STYLES, *USUAL_STYLES)]
    for style, (wordings, _) in STYLES.items():
        pairs += [(style, without_article(wording).removesuffix(" of")) for wording in wordings]
    return sorted(pairs, key=lambda pair: -len(pair[1]))


_WORDINGS = _wordings()
