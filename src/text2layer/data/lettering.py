"""A font that has the letters of a text, and the text as that font can show it.

Pillow brings a font with plain Latin letters. For others one of the machine is looked for, by the
names of fonts with many scripts; what none of them has is written without its accents, or as the
number of the character (`\\u4e2d`), never as an empty box.
"""

import os
import sys
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# beginnings of the names of fonts with many scripts, in the order in which they are tried
WIDE_FONTS = (
    "dejavusans.", "notosans-regular.", "notosans-vf.", "arial.", "segoeui.", "helveticaneue.",
    "freesans.", "liberationsans-regular.", "notosanscjk-regular.", "notosanscjksc-regular.",
    "notosanssc-", "sourcehansans", "wqy-", "droidsansfallback", "pingfang.", "hiragino sans gb.",
    "msyh.", "yugothm.", "arial unicode.", "arialuni.", "malgun.", "nirmala.", "unifont",
)  # fmt: skip
SUFFIXES = (".ttf", ".otf", ".ttc")
NO_CHARACTER = "\U0010ffff"  # of which no font has a letter


def lettered(text: str, size: int) -> tuple[str, Font]:
    """A text as it can be drawn, and the font for it.

    Args:
        text: in any script.
        size: of the font, pixels.

    Returns:
        The text, of which every character has a letter in the font, and the font.
    """
    usual: Font = ImageFont.load_default(size)
    characters = {letter for letter in text if not letter.isspace()}
    lacking = {letter for letter in characters if not has_letter(usual, letter)}
    font, least = usual, len(lacking)
    for file in wide_fonts() if least else ():
        other = _opened(file, size)
        count = sum(not has_letter(other, letter) for letter in characters) if other else least
        if other and count < least:
            font, least = other, count
        if not least:
            break
    shown = {letter: _shown(letter, font) for letter in characters}
    return "".join(shown.get(letter, letter) for letter in text), font


def has_letter(font: Font, letter: str) -> bool:
    """Whether a font has a letter for a character; what it draws instead is the same for all."""
    try:
        drawn, box = font.getmask(letter), font.getmask(NO_CHARACTER)
    except (UnicodeError, OSError):  # a font of pixels, which has Latin letters only
        return letter.isascii()
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))


@lru_cache(maxsize=1)
def wide_fonts() -> tuple[Path, ...]:
    """The fonts of this machine that are named as those of many scripts, the first ones first."""
    found: dict[int, Path] = {}
    for folder in _font_folders():
        for root, _, names in os.walk(folder):
            for name in names:
                lower = name.lower()
                rank = next((n for n, one in enumerate(WIDE_FONTS) if lower.startswith(one)), None)
                if rank is not None and lower.endswith(SUFFIXES):
                    found.setdefault(rank, Path(root) / name)
    return tuple(found[rank] for rank in sorted(found))


def _font_folders() -> list[Path]:
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        folders = [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
    elif sys.platform == "darwin":
        folders = [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    else:
        folders = [home / ".local/share/fonts", home / ".fonts", Path("/usr/local/share/fonts"),
                   Path("/usr/share/fonts")]  # fmt: skip
    matplotlib = find_spec("matplotlib")  # brings DejaVu Sans; it need not be imported
    if matplotlib and matplotlib.origin:
        folders.append(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf")
    return folders


@lru_cache(maxsize=32)
def _opened(file: Path, size: int) -> Font | None:
    try:
        return ImageFont.truetype(str(file), size)
    except OSError:  # damaged, or Pillow was built without FreeType
        return None


def _shown(letter: str, font: Font) -> str:
    """A character, or without its accents, or its number."""
    if has_letter(font, letter):
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    if plain != letter and all(part.isspace() or has_letter(font, part) for part in plain):
        return plain
    return letter.encode("ascii", "backslashreplace").decode()
