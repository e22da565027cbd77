"""Many drawn pictures: each prompt with its seeds; of a folder the manifest, and what is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from text2layer.errors import FormatError, InputError
from text2layer.files import file_sha256, writing

if TYPE_CHECKING:
    import numpy as np

    from text2layer.layers import LayeredImage

MANIFEST = "manifest.jsonl"
SHEET = "contact-sheet"
PER_SHEET = 120  # pictures
SIDE = 160  # pixels of a picture on a sheet
SAME = ("prompt", "seed", "settings", "model_hash")  # what makes a picture the one that is wanted


class Batch:
    """The pictures of a folder, each with a line of JSON in `manifest.jsonl`.

    A line has file, prompt, seed, settings, model_hash and sha256; it is written when the picture
    is there. A picture whose line says what is wanted, and which can be read, is kept.

    Args:
        folder: it exists; an earlier manifest in it is read, a last line cut short is left out.
        count: how many pictures there will be.
        settings: JSON values that all pictures are drawn with.
        model_hash: names the model.

    Raises:
        InputError: the folder has a file of this name that is no such manifest.
    """

    def __init__(self, folder: Path, count: int, settings: dict[str, Any], model_hash: str) -> None:
        self._path = folder / MANIFEST
        self._common = {"settings": settings, "model_hash": model_hash}
        self._entries: dict[str, dict[str, Any]] = {}
        self._sheets = _Sheets(folder, several=count > PER_SHEET)
        self._kept = 0
        if self._path.exists():
            self._entries = _read_manifest(self._path)
            self._write()  # without a line cut short, to which the next would be joined

    def first_seed(self) -> int | None:
        """The seed that the pictures were begun with; None if there are none."""
        return min((entry["seed"] for entry in self._entries.values()), default=None)

    def has(self, path: Path, prompt: str, seed: int) -> bool:
        """Whether a picture is whole and made as wanted; if so it is kept and on the sheet.

        One that has been changed since, but can be read, is somebody's work: it is kept too.
        """
        from text2layer import io

        entry = self._entries.get(path.name)
        wanted = {"prompt": prompt, "seed": seed, **self._common}
        if entry is None or any(entry[name] != wanted[name] for name in SAME):
            return False
        digest = content_sha256(path)
        if digest is None:
            return False
        try:
            picture = io.load(path, merge=True)
        except FormatError:
            return False
        if digest != entry["sha256"]:
            typer.echo(f"note: {path} was changed after it was drawn: kept", err=True)
        self._sheets.add(picture.composite, path.stem)
        self._kept += 1
        return True

    def add(self, path: Path, prompt: str, seed: int, made: LayeredImage) -> None:
        """Note a picture that has been written."""
        entry = {"file": path.name, "prompt": prompt, "seed": seed, **self._common,
                 "sha256": content_sha256(path)}  # fmt: skip
        self._entries[path.name] = entry
        with self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._sheets.add(made.composite, path.stem)

    def finish(self) -> None:
        """Order the manifest by files, write the sheet, and say how many pictures were kept."""
        if self._entries:
            self._write()
        self._sheets.write()
        if self._kept:
            typer.echo(f"{self._kept} were there already, made with the same settings", err=True)

    def _write(self) -> None:
        entries = sorted(self._entries.values(), key=lambda entry: str(entry["file"]))
        with writing(self._path) as file:
            file.writelines(json.dumps(entry).encode("ascii") + b"\n" for entry in entries)


def draw_all(
    lines: Sequence[str],
    results: Sequence[Path],
    num_images: int,
    previews: Sequence[Path | None],
    make: Callable[[str, Sequence[int]], Sequence[LayeredImage]],
    at_once: int,
    seed: int | None,
    folder: Path | None,
    settings: dict[str, Any],
    model_hash: str,
) -> None:
    """Draw each prompt with its seeds and write the pictures.

    Args:
        lines: the prompts; `results` has a path for each.
        num_images: pictures of a prompt; `previews` has a path or None for each.
        make: draws a prompt with some seeds, as one batch.
        at_once: how many.
        seed: the first of each prompt; None takes the folder's, or a new one.
        folder: of a file's prompts: it gets a manifest, and what is whole in it is kept; prompts
            that fail are named in the end. None draws one prompt, whose error is the command's.
        settings: JSON values that decide the pictures.
        model_hash: names what draws.
    """
    from text2layer.cli.generate import chosen_seed
    from text2layer.cli.outputs import deliver, each, numbered

    batch = Batch(folder, len(lines) * num_images, settings, model_hash) if folder else None
    first = chosen_seed(batch.first_seed() if batch and seed is None else seed)

    def one(line: str, result: Path) -> None:
        paths = zip(numbered(result, num_images), previews, strict=True)
        wanted = [
            (number, *pair)
            for number, pair in enumerate(paths, start=first)
            if not (batch and batch.has(pair[0], line, number))
        ]
        for start in range(0, len(wanted), at_once):
            rows = wanted[start : start + at_once]
            made = make(line, [number for number, _, _ in rows])
            for (number, path, preview), layered in zip(rows, made, strict=True):
                deliver(layered, path, preview)
                if batch:
                    batch.add(path, line, number, layered)

    if batch is None:
        one(lines[0], results[0])
        return
    try:
        each(list(zip(lines, results, strict=True)), one)
    finally:
        batch.finish()


class _Sheets:
    """Contact sheets of pictures that come one by one: one, or several with numbers."""

    def __init__(self, folder: Path, several: bool) -> None:
        self._folder = folder
        self._several = several
        self._number = 0
        self._pictures: list[tuple[np.ndarray, str]] = []

    def add(self, picture: np.ndarray, caption: str) -> None:
        """Put a picture (H, W, 3) uint8 on the sheet; a full sheet is written."""
        import numpy as np
        from PIL import Image

        image = Image.fromarray(picture)
        image.thumbnail((SIDE, SIDE))
        self._pictures.append((np.asarray(image), caption))
        if len(self._pictures) == PER_SHEET:
            self.write()

    def write(self) -> None:
        """Write the sheet begun, if there is one."""
        from text2layer.data.contact_sheet import thumbnails

        if not self._pictures:
            return
        self._number += 1
        name = f"{SHEET}-{self._number}.png" if self._several else f"{SHEET}.png"
        pictures, captions = zip(*self._pictures, strict=True)
        self._pictures = []
        with writing(self._folder / name) as file:
            thumbnails(pictures, captions).save(file, "PNG")


def hashes_of(sources: Mapping[str, Path | None]) -> dict[str, str | None]:
    """Hashes of the files that were given, by their options; of a library its lists alone."""
    return {
        name: content_sha256(path, "*.jsonl" if name == "library" else "*")
        for name, path in sources.items()
        if path is not None
    }


def content_sha256(path: Path, pattern: str = "*") -> str | None:
    """SHA-256 of a file, or of the names and hashes of a folder's files; None if there is none."""
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        return None
    files = sorted(file for file in path.glob(pattern) if file.is_file())
    lines = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Entries by file. The last line counts only if it is whole."""
    entries = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is not None:
            entries[str(entry["file"])] = entry
        elif line.strip() and number < len(lines):
            raise InputError(
                f"Line {number} of {path} is none of a text2layer manifest: choose another folder, "
                "or move that file away."
            )
    return entries


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(entry, dict) and entry.keys() >= {"file", "sha256", *SAME}
    return entry if known and isinstance(entry["seed"], int) else None
