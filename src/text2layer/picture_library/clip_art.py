"""Clip art of Debian's `openclipart-svg`: drawings of many people, in the public domain."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from text2layer.errors import DataError
from text2layer.picture_library.offer import FOREGROUND, LeftOut, Offer, Taken
from text2layer.picture_library.package_facts import drawing_facts
from text2layer.picture_library.packages import DebianPackage, fetch_debian
from text2layer.picture_library.svg import Svg, check_svg
from text2layer.picture_library.words import CLIP_ART, describe

OPENCLIPART = DebianPackage(
    "openclipart-svg",
    {"0.18+dfsg-19": "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"},
)
STATED = "public domain dedication"  # of the package's copyright file
DRAWINGS = "usr/share/openclipart/svg"
CREATOR = re.compile(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>", re.DOTALL)
MAIL = re.compile(r"[(<]?[^\s(<]+@[^\s)>]+[)>]?")
LICENCE = re.compile(r"<cc:license\b[^>]*rdf:resource=\"([^\"]*)\"")


@dataclass(frozen=True)
class ClipArt:
    """The drawings that somebody has written a caption for, in `tables/clip_art.tsv`."""

    name: str = "openclipart"
    own: bool = False
    notices: dict[str, str] = field(default_factory=dict)

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """See `Source`."""
        check_svg()
        folder, version = fetch_debian(OPENCLIPART, packages)
        stated = (folder / "usr/share/doc/openclipart-svg/copyright").read_text(errors="replace")
        if STATED not in " ".join(stated.split()).lower():
            raise DataError(
                f"openclipart-svg {version} states no public domain dedication any more; look at "
                "its copyright file before its pictures are used."
            )
        taken = Taken()
        for path in sorted((folder / DRAWINGS).rglob("*.svg")):
            inner = path.relative_to(folder / DRAWINGS).as_posix()
            unread = describe(CLIP_ART, inner)
            if unread.left_out:
                yield LeftOut(self.name, inner, unread.left_out)
                continue
            content = path.read_bytes()
            text = content.decode("utf-8", errors="replace")
            words = describe(CLIP_ART, inner, **drawing_facts(content))
            creator = CREATOR.search(text)
            yield Offer(
                FOREGROUND, self.name, taken(inner.removesuffix(".svg")),
                hashlib.sha256(content).hexdigest(),
                {
                    **words.record(),
                    "source": f"{OPENCLIPART.name}=={version}",
                    "source_file": f"{DRAWINGS}/{inner}", "license": licence_of(text),
                    "author": _maker(creator[1]) if creator else "",
                },
                Svg(text),
            )  # fmt: skip


def _maker(stated: str) -> str:
    """A name without addresses; "" where only an address is stated."""
    return " ".join(MAIL.sub(" ", html.unescape(stated)).split())


def licence_of(svg: str) -> str:
    """The licence that a drawing's metadata states, else that of the package.

    Example:
        >>> licence_of('<cc:license rdf:resource="http://creativecommons.org/licenses/GPL/2.0/"/>')
        'creativecommons.org/licenses/GPL/2.0'
    """
    stated = LICENCE.search(svg)
    if stated is None or re.search("public-?domain", stated[1], re.IGNORECASE):
        return "public-domain"
    return stated[1].partition("://")[2].strip("/") or stated[1]
