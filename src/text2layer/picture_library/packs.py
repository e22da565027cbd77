"""Packs of 3D models that a person downloaded, such as those of Kenney and KayKit.

A pack is a zip or a folder with glTF or OBJ files and the text of its licence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from text2layer.errors import InputError
from text2layer.files import file_sha256
from text2layer.picture_library.furniture import unpacked_models, views
from text2layer.picture_library.models import View, check_models
from text2layer.picture_library.offer import FOREGROUND, LeftOut, Offer, Taken, slug
from text2layer.picture_library.own import caption_of
from text2layer.picture_library.words import MODELS, describe

FORMATS = ((".glb", ".gltf"), (".obj",))  # of a pack with both the first
AZIMUTHS = (-42, 38, 158)  # degrees; the last one is a back view
LICENCE_FILE = re.compile(r"licen[cs]e|readme|copying", re.IGNORECASE)
LICENCES = (
    (re.compile(r"\bCC-?0\b|Creative Commons Zero|publicdomain/zero", re.IGNORECASE), "CC0-1.0"),
    (re.compile(r"CC[- ]BY[- ]SA|ShareAlike|licenses/by-sa", re.IGNORECASE), "CC-BY-SA-4.0"),
    (re.compile(r"CC[- ]BY[- ]4|licenses/by/4", re.IGNORECASE), "CC-BY-4.0"),
    (re.compile(r"Permission is hereby granted, free of charge"), "MIT"),
)
MAKER = re.compile(r"(?:created|made|distributed)(?:/\w+)*\s+by:?\s+([^\n(]{2,60})", re.IGNORECASE)


@dataclass(frozen=True)
class Pack:
    """A pack as a source.

    Attributes:
        path: zip or folder.
        license: where the pack's own file states none that is known; "" refuses its pictures.
        author: where its file names nobody.
    """

    path: Path
    license: str = ""
    author: str = ""
    own: bool = False
    notices: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """See `Source`."""
        return f"pack-{slug(self.path.stem)}"

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """Three views of every model; see `Source`."""
        check_models()
        if not self.path.exists():
            raise InputError(f"There is no pack '{self.path}'; give a zip or a folder.")
        folder = self.path if self.path.is_dir() else unpacked_models(self.path, packages)
        license_name, author = stated(folder)
        models: list[Path] = []
        for suffixes in FORMATS:
            models = models or sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)
        if not models:
            raise InputError(f"'{self.path}' holds no glTF or OBJ file; give a pack of 3D models.")
        taken = Taken()
        for model in models:
            inner = model.relative_to(folder).as_posix()
            words = describe(MODELS, inner)
            if not caption_of(model.stem):
                yield LeftOut(self.name, inner, "no caption", f"'{inner}' has no word in its name.")
                continue
            unique = taken(model.name.partition(".")[0])
            stamp = hashlib.sha256(f"{file_sha256(model)}{inner}".encode()).hexdigest()
            for number, (azimuth, elevation) in enumerate(views(inner, AZIMUTHS)):
                record = {
                    **words.record(), "group": f"{self.name}:{inner}",
                    "source": self.path.stem, "source_file": inner,
                    "license": license_name or self.license, "author": author or self.author,
                    "view": {"azimuth": azimuth, "elevation": elevation},
                }  # fmt: skip
                yield Offer(
                    FOREGROUND, self.name, f"{unique}-v{number}",
                    stamp, record, View(model, azimuth, elevation), may_be_opaque=True,
                )  # fmt: skip


def stated(folder: Path) -> tuple[str, str]:
    """Licence and maker that the text files of a pack state; "" where they state none."""
    for file in sorted(folder.rglob("*")):
        if not (LICENCE_FILE.search(file.name) and file.suffix.lower() in ("", ".txt", ".md")):
            continue
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        for pattern, name in LICENCES:
            if pattern.search(text):
                maker = MAKER.search(text)
                return name, maker[1].strip(" .,") if maker else ""
    return "", ""
