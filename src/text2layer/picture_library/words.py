"""Captions, concepts and tags of the library's pictures, by rules and by tables that people edit.

    names = EmojiNames.read(emojibase, icon_sets)                    # emoji.py
    facts = names.facts("noto", "red-apple")
    describe("noto", "red-apple", **facts).caption                   # 'a red apple'

The tables lie in `tables/`; docs/picture-library-words.md says which one decides what.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from text2layer.errors import InputError
from text2layer.picture_library.emoji import TAGS, emoji_caption
from text2layer.picture_library.phrases import concept_of, counted
from text2layer.picture_library.tables import column, rows

EMOJI_SETS = {  # source -> style
    "noto": "flat icon",
    "fluent-emoji-3d": "3d icon",
    "twemoji": "flat icon",
    "noto-v1": "flat icon",
    "emojione": "flat icon",
    "fxemoji": "flat icon",
    "fluent-emoji-flat": "flat icon",
    "streamline-emojis": "outline icon",
}
FURNITURE, CLIP_ART, MODELS = "sweethome3d-furniture", "openclipart-svg", "model-packs"
STYLES = {
    **EMOJI_SETS, FURNITURE: "3d render", CLIP_ART: "clip art", MODELS: "low-poly 3d render",
}  # fmt: skip
WITH_SIGNS = ("noto", "fluent-emoji-3d")  # sets that give also what nobody can name
HELD_OUT_SET = "emojione"  # another hand's drawings of concepts that training knows
# groups of emojibase whose emoji show people, faces, signs
PERSONAL = ("face-", "cat-face", "monkey-face", "heart", "emotion", "hand", "body-parts", "person",
            "family")  # fmt: skip
SIGNS = ("emotion", "skin-tone", "hair-style", "transport-sign", "warning", "arrow", "religion",
         "zodiac", "av-symbol", "gender", "math", "punctuation", "currency", "other-symbol",
         "keycap", "alphanum", "geometric", "flag", "country-flag", "subdivision-flag")  # fmt: skip
NO_TAGS = frozenset(("blend swap", "scpts", "adjustable", "unsorted"))  # of makers and packagers
FIXTURES = frozenset(("electricity", "money"))  # plugs and switches in a wall; banknotes
CLIP_ART_TAGS = 6
PARTED = re.compile(r"(?<=[a-z])(?=[A-Z])|[\W_\d]+")  # words of `treePine_small02`
HELD_OUT_SHARE = 0.05  # of val, and of test, among concepts that the table does not know


@dataclass(frozen=True)
class Words:
    """What a record says of its picture.

    Attributes:
        caption: a noun phrase with its article, lower case.
        tags: further words.
        concept: the noun that the caption is about, singular.
        nameable: whether a person can name the thing from the picture.
        group: the same for pictures of one thing: `emoji:1f34e`, `furn:MODEL`, `oca:FILE`,
            `model:PATH`.
        style: of the source: "flat icon", "3d render", ...
        split: train, val or test; the same for all pictures of a concept.
        held_out_drawing: a drawing of a known concept that training leaves out.
        left_out: why the picture should not enter the library, in a few words; "" if it may.
    """

    caption: str
    tags: tuple[str, ...]
    concept: str
    nameable: bool
    group: str
    style: str
    split: str
    held_out_drawing: bool = False
    left_out: str = ""

    def record(self) -> dict[str, Any]:
        """The fields of a library's record that say this."""
        fields = {name: value for name, value in asdict(self).items() if name != "left_out"}
        return fields | {"tags": list(self.tags)}


def describe(
    source: str,
    name: str,
    *,
    code: str = "",
    label: str = "",
    subgroup: str = "",
    category: str = "",
    tags: Sequence[str] = (),
) -> Words:
    """Words of one picture.

    Args:
        source: a key of STYLES.
        name: an icon's key; of fluent-emoji-3d the file name without suffix; of furniture the
            model with its catalogue, as in `Scopia/scopia/bed1/bed1.obj`; of clip art the path
            below `svg/`; of a pack of models the path of the model in the pack.
        code: of an emoji, as `EmojiNames.facts` gives it.
        label: emojibase's name of an emoji; the catalogue's name of a piece of furniture.
        subgroup: emojibase's, of an emoji.
        category: the catalogue's, of a piece of furniture.
        tags: what the package says: emojibase's and the catalogue's tags, the keywords of a
            drawing's metadata.

    Raises:
        InputError: the source is none of STYLES; an emoji or a piece of furniture has no label.

    Example:
        >>> describe("noto", "pear", code="1f350", label="pear", subgroup="food-fruit").caption
        'a pear'
    """
    if not label and source in (*EMOJI_SETS, FURNITURE):
        raise InputError(f"'{name}' of {source} has no label; give what its package calls it.")
    if source in EMOJI_SETS:
        return _of_emoji(source, name, code, label, subgroup, tags)
    if source == FURNITURE:
        return _of_furniture(name, label, category, tags)
    if source == CLIP_ART:
        return _of_clip_art(name, tags)
    if source == MODELS:
        return _of_model(name)
    raise InputError(f"'{source}' is no source with words; there are {', '.join(STYLES)}.")


def split_of(concept: str) -> str:
    """The split of a concept: of `held_out.tsv`, else train.

    Whole concepts are held out, so a model is asked for what it never saw. They were drawn by
    chance once, and are written down: a concept keeps its split when others come or go.
    """
    return column("held_out", "concept", "split").get(concept, "train")


def hashed_split(concept: str) -> str:
    """A split for concepts of a library of one's own: 90 % train, 5 % val, 5 % test by a hash.

    Example:
        >>> [hashed_split(word) for word in ("apple", "kettle", "sofa")]
        ['train', 'train', 'train']
    """
    share = share_of(concept)
    if share < HELD_OUT_SHARE:
        return "test"
    return "val" if share < 2 * HELD_OUT_SHARE else "train"


def share_of(text: str) -> float:
    """A number in [0, 1) that stays the same for a text, by a hash."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def _words(
    source: str, caption: str, tags: Sequence[str], group: str, nameable: bool, left_out: str = ""
) -> Words:
    concept = concept_of(caption)
    split = split_of(concept)
    return Words(
        caption=caption,
        tags=tuple(tags),
        concept=concept,
        nameable=nameable,
        group=group,
        style=STYLES[source],
        split=split,
        held_out_drawing=source == HELD_OUT_SET and split == "train",
        left_out=left_out,
    )


def _of_emoji(
    source: str, name: str, code: str, label: str, subgroup: str, tags: Sequence[str]
) -> Words:
    use = column("emoji", "label", "use").get(label, "")
    nameable = use == "nameable" or not (use or subgroup.startswith(PERSONAL))
    left_out = ""
    if use == "left out" or not subgroup or subgroup in SIGNS:
        left_out = "a sign, or a scene without one thing in it"
    elif not nameable and source not in WITH_SIGNS:
        left_out = "nothing that a person can name, and other sets draw it too"
    elif any(row["source"] == source and row["icon"] == name for row in rows("dropped_icons")):
        left_out = "a drawing that does not show what its name says"
    caption = emoji_caption(label, subgroup)
    return _words(source, caption, tags[:TAGS], f"emoji:{code}", nameable, left_out)


def _of_furniture(name: str, label: str, category: str, tags: Sequence[str]) -> Words:
    model = PurePosixPath(name).stem
    captions = column("furniture", "name", "caption")
    # a row of a model, which is written with its catalogue, wins over one of a name
    written = captions.get(f"{name.partition('/')[0]}/{model}") or captions.get(label)
    caption = written or counted(label.lower())
    told = [tag.strip().lower() for tag in (*tags, category)]
    kept = [tag for tag in dict.fromkeys(told) if tag and tag not in NO_TAGS]
    left_out = ""
    if caption == "-" or not FIXTURES.isdisjoint(kept):
        left_out, caption = "no thing by itself, or a poor model", counted(label.lower())
    nameable = _not_nameable(FURNITURE).isdisjoint((caption, concept_of(caption)))
    return _words(FURNITURE, caption, kept, f"furn:{name}", nameable, left_out)


def _of_clip_art(name: str, tags: Sequence[str]) -> Words:
    written = column("clip_art", "file", "caption").get(name)
    caption = written or counted(re.sub(r"[\W_\d]+", " ", PurePosixPath(name).stem).strip())
    told = [tag.strip().lower() for tag in tags]
    kept = [tag for tag in told if 0 < len(tag.split()) < 3 and tag not in NO_TAGS]
    nameable = _not_nameable(CLIP_ART).isdisjoint((caption, concept_of(caption)))
    return _words(
        CLIP_ART, caption, kept[:CLIP_ART_TAGS], f"oca:{_slug(name)}", nameable,
        "" if written else "nobody has looked at it and written a caption",
    )  # fmt: skip


def _of_model(name: str) -> Words:
    stem = PurePosixPath(name).name.partition(".")[0]
    words = [word.lower() for word in PARTED.split(stem) if len(word) > 1]
    caption = column("models", "model", "caption").get(stem) or counted(" ".join(words) or stem)
    return _words(MODELS, caption, (), f"model:{name}", True)


@cache
def _not_nameable(source: str) -> frozenset[str]:
    """Concepts and captions of `not_nameable.tsv`."""
    return frozenset(row["words"] for row in rows("not_nameable") if row["source"] == source)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.removesuffix(".svg").lower()).strip("-")
