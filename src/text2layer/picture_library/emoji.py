"""Emoji: which one an icon draws, and the caption of it.

An emoji's code point is its identity across icon sets. Names, tags and groups are those of the npm
package `emojibase-data` (MIT), in English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2layer.errors import DataError
from text2layer.picture_library.phrases import (
    JOINING,
    UNCOUNTED,
    counted,
    is_plural,
)
from text2layer.picture_library.tables import column, rows

TAGS = 8
ROLES = ("person-role", "person-fantasy")
SEXES = {"man": "male", "woman": "female"}
# of several people in one emoji the label gives no number
SEVERAL = ("people", "men", "women")
# words after which a label leaves out an article: "bowl with spoon"
ARTICLE_AFTER = re.compile(
    r"\b(with|without|wearing|in|behind|getting|taking|rowing|bouncing|raising|feeding)"
    r" ((?:[\w'-]+ ?)+)$"
)


@dataclass(frozen=True)
class Emoji:
    """What emojibase says of an emoji.

    Attributes:
        code: code points in hexadecimal, lower case, "-" between, without variation selectors.
        label: its name, as in "red apple".
        tags: words that people look for it with.
        subgroup: such as "animal-bird"; "" for what stands in no group.
    """

    code: str
    label: str
    tags: tuple[str, ...]
    subgroup: str


class EmojiNames:
    """Finds the emoji that an icon draws.

    Args:
        emoji: by code.
        names: names of icons, plain, to codes.
        chars: source to its own names, plain, to codes; these win over `names`.
        hidden: (source, key) of icons that a set keeps for old names; they draw no emoji anew.
    """

    def __init__(
        self,
        emoji: Mapping[str, Emoji],
        names: Mapping[str, str],
        chars: Mapping[str, Mapping[str, str]],
        hidden: Set[tuple[str, str]] = frozenset(),
    ) -> None:
        self.emoji, self.names, self.chars, self.hidden = emoji, names, chars, hidden

    @classmethod
    def read(cls, emojibase: Path, icon_sets: Mapping[str, Path]) -> EmojiNames:
        """Read unpacked npm packages.

        Args:
            emojibase: the folder `package` of `emojibase-data`.
            icon_sets: source (`noto`, `twemoji`, ...) to the folder `package` of its
                `@iconify-json/SOURCE`, which has `chars.json` (may be empty) and `icons.json`.

        Raises:
            DataError: a file is missing or is not what the package has.
        """
        emoji = {one.code: one for one in _emoji(emojibase / "en")}
        names: dict[str, str] = {}
        for code, one in emoji.items():
            names.setdefault(plain(one.label), code)
        chars: dict[str, dict[str, str]] = {}
        for source, folder in icon_sets.items():
            own = chars.setdefault(source, {})
            for code, icon in _json(folder / "chars.json").items():
                if plain_code(code) in emoji:
                    own.setdefault(plain(icon), plain_code(code))
            for icon, code in own.items():
                names.setdefault(icon, code)
        hidden = set()
        for source, folder in icon_sets.items():
            icons = _json(folder / "icons.json")
            hidden |= {(source, key) for key, icon in icons["icons"].items() if "hidden" in icon}
            for alias, icon in icons.get("aliases", {}).items():
                one_way, other = plain(alias), plain(icon["parent"])
                if icon.keys() == {"parent"}:  # not turned or flipped
                    for new, known in ((one_way, other), (other, one_way)):
                        if known in names:
                            names.setdefault(new, names[known])
        return cls(emoji, names, chars, hidden)

    def find(self, source: str, icon: str) -> Emoji | None:
        """The emoji that an icon draws; None for no emoji, a skin tone, or a hidden icon.

        Args:
            source: icon set, or `fluent-emoji-3d`, whose files are named by code.
            icon: key of the icon, or the file name without suffix.
        """
        if source == "fluent-emoji-3d":
            return self.emoji.get(plain_code(icon))
        if (source, icon) in self.hidden:
            return None
        for row in rows("icons"):
            if row["source"] == source and row["icon"] == icon:
                return self.emoji.get(self.names.get(plain(row["emoji"]), ""))
        unnumbered = re.sub(r"-\d+$", "", icon)  # streamline draws some twice: cactus-1, cactus-2
        for name in (plain(icon), plain(unnumbered)):
            code = self.chars.get(source, {}).get(name) or self.names.get(name)
            if code:
                return self.emoji.get(code)
        return None

    def facts(self, source: str, icon: str) -> dict[str, Any] | None:
        """What `describe` asks of an emoji; None as in `find`."""
        one = self.find(source, icon)
        if one is None:
            return None
        return {
            "code": one.code, "label": one.label, "tags": one.tags, "subgroup": one.subgroup,
        }  # fmt: skip


def plain(name: str) -> str:
    """Letters and digits of a name, lower case: `Red Apple`, `red-apple` and `redapple` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def plain_code(code: str) -> str:
    """A code as `Emoji.code` has it."""
    return code.lower().replace("-fe0f", "").replace("-fe0e", "")


def emoji_caption(label: str, subgroup: str) -> str:
    """A noun phrase for an emoji: of `tables/emoji.tsv` if it has one, else by rule.

    Args:
        label: emojibase's English name.
        subgroup: emojibase's subgroup.

    Example:
        >>> emoji_caption("apple", "food-fruit"), emoji_caption("man judge", "person-role")
        ('an apple', 'a male judge')
    """
    written = column("emoji", "label", "caption").get(label)
    if written:
        return written
    phrase = label.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if subgroup.startswith("face-") and "face" in phrase:
        return counted(phrase.replace("face", "emoji face", 1))
    if subgroup.startswith("person") or subgroup == "family":
        phrase = _of_people(phrase, subgroup)
        if phrase.startswith(SEVERAL):
            return f"two {phrase}"
    first, _, rest = phrase.partition(" ")
    if first == "oncoming":
        phrase = f"{rest} seen from the front"
    return counted(_with_articles(phrase))


def _of_people(phrase: str, subgroup: str) -> str:
    """ "man: bald" is a bald man, "man judge" a male judge, "man: beard" a man with a beard."""
    who, colon, what = phrase.partition(": ")
    if what == "bald":
        return f"bald {who}"
    if colon:
        return f"{who} {what}" if what.startswith("facing") else f"{who} with {what}"
    who, _, role = phrase.partition(" ")
    if subgroup in ROLES and who in SEXES and role and not JOINING.match(f" {role}"):
        return f"{SEXES[who]} {role}"
    return phrase


def _with_articles(phrase: str) -> str:
    """Give what follows "with", "in" and such words an article where it takes one."""
    phrase, facing, side = phrase.partition(" facing ")
    found = ARTICLE_AFTER.search(phrase)
    if found:
        thing = found[2].split()[-1]
        bare = thing not in UNCOUNTED and not is_plural(thing) and " of " not in found[2]
        if bare and not re.match(r"(?:a|an|the)\b", found[2]):
            phrase = f"{phrase[: found.start(2)]}{counted(found[2])}"
    return phrase + facing + side


def _emoji(folder: Path) -> list[Emoji]:
    """The emoji of a language, without skin tones; subgroups by name instead of number."""
    try:
        groups = {
            one["order"]: str(one["key"]) for one in _json(folder / "messages.json")["subgroups"]
        }
        return [
            Emoji(
                plain_code(one["hexcode"]),
                str(one["label"]),
                tuple(map(str, one.get("tags", ()))),
                groups.get(one.get("subgroup"), ""),
            )
            for one in _json(folder / "data.json")
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"'{folder}' is not the English part of emojibase-data ({error!r}); fetch it anew."
        ) from None


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}' cannot be read ({error}); fetch the package anew.") from None
