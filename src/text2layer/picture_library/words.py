"""Captions, concepts and tags of the library's pictures, by rules and by tables that people edit.

    facts = EmojiNames.read(emojibase, chars_of_noto).facts("fxemoji", "chilipepper")
    describe("fxemoji", "chilipepper", **facts).caption        'a hot pepper'
"""

from __future__ import annotations

from dataclasses import dataclass

EMOJI_SETS = {  # source -> style
    "noto": "flat icon",
    "noto-v1": "flat icon",
    "twemoji": "flat icon",
    "emojione": "flat icon",
    "fxemoji": "flat icon",
    "fluent-emoji-flat": "flat icon",
    "fluent-emoji-3d": "3d icon",
    "streamline-emojis": "outline icon",
}
FURNITURE, CLIP_ART = "sweethome3d-furniture", "openclipart-svg"
STYLES = {**EMOJI_SETS, FURNITURE: "3d render", CLIP_ART: "clip art"}


@dataclass(frozen=True)
class Words:
    """What a record says of its picture.

    Attributes:
        caption: a noun phrase with its article, lower case.
        tags: further words, sorted; at most eight of an emoji.
        concept: the noun that the caption is about, singular.
        nameable: whether a person can name the thing from the picture.
        group: the same for pictures of one thing: `emoji:1f34e`, `furn:MODEL`, `oca:FILE`.
        style: of the source: "flat icon", "3d render", ...
        split: train, val or test; the same for all pictures of a concept.
        held_out_drawing: a drawing of a known concept that training leaves out.
        left_out: why the picture should not enter the library; "" if it should.
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


def describe(source: str, name: str, **facts: str) -> Words:
    """Words of one picture.

    Args:
        source: a key of STYLES.
        name: an icon's key; of fluent-emoji-3d the file name without suffix; of furniture the
            model's path `CATALOGUE/folder/model.obj`; of clip art the path below `svg/`.
        **facts: what the package says. Of an emoji those of `EmojiNames.facts`. Of furniture
            `name`, `tags`, `category`. Of clip art `title`, `keywords` (comma between them).
    """
    raise NotImplementedError
