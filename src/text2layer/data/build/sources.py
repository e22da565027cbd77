"""Where photos come from: a folder, a CSV of files, shards (WebDataset, img2dataset), Parquet.

A source gives `PhotoRef`s one by one, always in the same order, and reads no pixel.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from text2layer.data.build.photo import PhotoRef
from text2layer.errors import DataError, InputError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
LISTS = {".csv": ",", ".tsv": "\t"}
MESSAGES_KEPT = 10
MAX_TEXT = 2**20  # bytes of a caption or of a picture's JSON; more is taken for damage
ROWS = 1024  # of a Parquet file, read at a time
# what fields are called by img2dataset, by data sets on hubs and by people; the first found counts
NAMES = {
    "caption": ("caption", "text", "alt", "description", "title"),
    "license": ("license", "licence", "rights"),
    "author": ("author", "creator", "artist", "photographer", "credit"),
    "source": ("source", "url", "original_url", "page"),
}
FILE_NAMES = ("file", "path", "filename", "file_name", "image", "image_path")
OPT_OUT_NAMES = ("opt_out", "noai", "noimageai", "x-robots-tag", "robots", "tdm-reservation")
OPT_OUT_WORDS = re.compile(r"\b(noai|noimageai|noindex|noimageindex)\b", re.I)
NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_-]+")


class PhotoSource(Protocol):
    """Gives photos.

    Attributes:
        skipped: how many entries could not be used, by reason; filled while iterating.
        messages: one sentence for each of the first few.
    """

    skipped: Counter[str]
    messages: list[str]

    def __iter__(self) -> Iterator[PhotoRef]:
        """Photos in an order that does not change."""
        ...


def open_photos(path: str | Path, captions: str | Path | None = None) -> PhotoSource:
    """Open what a person names as photos.

    Args:
        path: a folder of pictures (searched through all its subfolders), a folder of .tar shards
            or one shard, a CSV or TSV with a column of files, a Parquet file or a folder of them.
        captions: a CSV or TSV that names the files of a folder and their captions; only files in
            it are taken, in its order.

    Raises:
        DataError: there is nothing at the path.
        InputError: it is none of these, or captions were given for something else than a folder.
    """
    place = Path(path)
    if not place.exists():
        raise DataError(f"There is nothing at '{path}'; name a folder of photos, shards or a list.")
    if captions is not None:
        if not place.is_dir():
            raise InputError(f"--captions goes with a folder of pictures, but '{path}' is a file.")
        return ListSource(Path(captions), place)
    if place.is_dir():
        if any(place.glob("*.tar")):
            return ShardSource(sorted(place.glob("*.tar")))
        if any(place.glob("*.parquet")):
            return ParquetSource(sorted(place.glob("*.parquet")))
        return FolderSource(place)
    suffix = place.suffix.lower()
    if suffix == ".tar":
        return ShardSource([place])
    if suffix == ".parquet":
        return ParquetSource([place])
    if suffix in LISTS:
        return ListSource(place, place.parent)
    raise InputError(
        f"'{path}' is no folder, .tar, .parquet, .csv or .tsv; name one of those as photos."
    )


class _Counting:
    """Counts what a source leaves out."""

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        self.messages: list[str] = []

    def _begin(self) -> None:
        self.skipped.clear()
        self.messages.clear()

    def _skip(self, reason: str, message: str) -> None:
        self.skipped[reason] += 1
        if len(self.messages) < MESSAGES_KEPT:
            self.messages.append(message)

    def _text(self, data: bytes, where: str) -> str:
        """A caption's bytes as text; what is not UTF-8 or UTF-16 is read as Windows-1252."""
        if len(data) > MAX_TEXT:
            self._skip("text too long", f"'{where}' has {len(data):,} bytes of text; left out.")
            return ""
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            return data.decode(encoding).strip()
        except UnicodeDecodeError:
            self._skip("text not UTF-8", f"'{where}' is not UTF-8; it was read as Windows-1252.")
            return data.decode("cp1252", errors="replace").strip()

    def _fields(self, data: bytes, where: str) -> dict[str, Any]:
        """A picture's JSON object; {} when it cannot be read."""
        try:
            fields = json.loads(self._text(data, where) or "{}")
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            return fields
        self._skip("JSON not readable", f"'{where}' holds no JSON object; it was passed over.")
        return {}


class FolderSource(_Counting):
    """Pictures of a folder and its subfolders, by name.

    Beside `a.jpg`, the text of `a.txt` is its caption and the object in `a.json` may say caption,
    licence, author, source and opt-out. A folder is read name by name, so memory grows with the
    largest single folder, not with the number of photos.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __iter__(self) -> Iterator[PhotoRef]:
        self._begin()
        yield from self._walk(self.root)

    def _walk(self, folder: Path) -> Iterator[PhotoRef]:
        try:
            with os.scandir(folder) as entries:
                names = sorted((entry.name, entry.is_dir()) for entry in entries)
        except OSError as error:
            self._skip("folder not readable", f"'{folder}' cannot be read: {error.strerror}.")
            return
        for name, is_folder in names:
            path = folder / name
            if name.startswith("."):
                continue
            if is_folder:
                yield from self._walk(path)
            elif path.suffix.lower() in PICTURES:
                yield self._ref(path)

    def _ref(self, path: Path) -> PhotoRef:
        fields: dict[str, Any] = {}
        described = path.with_suffix(".json")
        if described.is_file():
            fields = self._fields(_read(described), str(described))
        said = known_fields(fields)
        written = path.with_suffix(".txt")
        if written.is_file():
            said["caption"] = self._text(_read(written), str(written)) or said["caption"]
        place = path.relative_to(self.root).as_posix()
        return PhotoRef(key=photo_key(path.stem, place), location=str(path), **said)


class ListSource(_Counting):
    """Files that a CSV or TSV names, with their captions; paths are relative to `root`."""

    def __init__(self, table: Path, root: Path) -> None:
        super().__init__()
        if table.suffix.lower() not in LISTS:
            raise InputError(f"Captions come as .csv or .tsv, not '{table.name}'.")
        if not table.is_file():
            raise DataError(f"There is no list at '{table}'.")
        self.table, self.root = table, root

    def __iter__(self) -> Iterator[PhotoRef]:
        self._begin()
        encoding = _encoding(self.table)
        with self.table.open(encoding=encoding, errors="replace", newline="") as file:
            rows = csv.DictReader(file, delimiter=LISTS[self.table.suffix.lower()])
            column = _file_column(rows.fieldnames or [], self.table)
            for row in rows:
                place = (row.get(column) or "").strip()
                path = self.root / place
                if not place or not path.is_file():
                    self._skip("file missing", f"Line {rows.line_num} of '{self.table.name}' "
                               f"names '{place}', which is not there.")  # fmt: skip
                    continue
                said = known_fields({str(k): v for k, v in row.items() if k != column})
                yield PhotoRef(key=photo_key(path.stem, place), location=str(path), **said)


class ShardSource(_Counting):
    """Pictures in tars, as WebDataset and img2dataset write them: key.jpg, key.txt, key.json."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self.paths = paths

    def __iter__(self) -> Iterator[PhotoRef]:
        self._begin()
        for path in self.paths:
            try:
                tar = tarfile.open(path, "r:")  # noqa: SIM115  (closed below)
            except (tarfile.TarError, OSError, EOFError) as error:
                self._skip("shard not readable", f"'{path.name}' cannot be read: {error}.")
                continue
            with tar:
                yield from self._of_tar(tar, path)

    def _of_tar(self, tar: tarfile.TarFile, path: Path) -> Iterator[PhotoRef]:
        stem, members = "", dict[str, tarfile.TarInfo]()
        try:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                first, _, suffix = name.partition(".")
                own = f"{folder}/{first}"
                if own != stem and members:
                    yield from self._of_members(tar, path, stem, members)
                    members = {}
                stem = own
                members[f".{suffix.lower()}"] = member
        except (tarfile.TarError, OSError, EOFError) as error:
            self._skip("shard cut short", f"'{path.name}' cannot be read to its end: {error}.")
        if members:
            yield from self._of_members(tar, path, stem, members)

    def _of_members(
        self, tar: tarfile.TarFile, path: Path, stem: str, members: dict[str, tarfile.TarInfo]
    ) -> Iterator[PhotoRef]:
        picture = next((members[suffix] for suffix in PICTURES if suffix in members), None)
        if picture is None:
            self._skip("no picture", f"'{stem.strip('/')}' in '{path.name}' has no picture.")
            return
        fields = {}
        if ".json" in members:
            fields = self._fields(_member(tar, members[".json"]), members[".json"].name)
        said = known_fields(fields)
        if ".txt" in members:
            written = self._text(_member(tar, members[".txt"]), members[".txt"].name)
            said["caption"] = written or said["caption"]
        place = f"{path.name}/{picture.name}"
        yield PhotoRef(
            key=photo_key(stem.rpartition("/")[2], place), location=str(path),
            offset=picture.offset_data, size=picture.size, **said,
        )  # fmt: skip


class ParquetSource(_Counting):
    """Local files that Parquet tables name, read in batches of rows."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self.paths = paths

    def __iter__(self) -> Iterator[PhotoRef]:
        self._begin()
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise InputError(
                "Parquet lists need pyarrow; run pip install 'text2layer[build]'."
            ) from None
        for path in self.paths:
            try:
                with parquet.ParquetFile(path) as table:
                    column = _file_column(table.schema_arrow.names, path)
                    for batch in table.iter_batches(ROWS):
                        for row in batch.to_pylist():
                            yield from self._of_row(row, column, path)
            except (ArrowException, OSError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self._skip("list not readable", f"'{path.name}' cannot be read: {reason}.")

    def _of_row(self, row: dict[str, Any], column: str, table: Path) -> Iterator[PhotoRef]:
        place = str(row.get(column) or "").strip()
        path = table.parent / place
        if not place or not path.is_file():
            self._skip("file missing", f"'{table.name}' names '{place}', which is not there.")
            return
        said = known_fields({k: v for k, v in row.items() if k != column})
        yield PhotoRef(key=photo_key(path.stem, place), location=str(path), **said)


def known_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Caption, license, author, source and opt_out of a row or JSON object, by any known name.

    Example:
        >>> known_fields({"TEXT": "a cat", "licence": "CC0-1.0", "x-robots-tag": "noai"})["opt_out"]
        True
    """
    lower = {str(name).lower(): value for name, value in fields.items()}
    said: dict[str, Any] = {}
    for name, aliases in NAMES.items():
        found = (lower[alias] for alias in aliases if isinstance(lower.get(alias), str))
        said[name] = next((text.strip() for text in found if text.strip()), "")
    said["opt_out"] = any(_asks_to_stay_out(lower.get(name)) for name in OPT_OUT_NAMES)
    return said


def _asks_to_stay_out(value: Any) -> bool:
    """Whether the value of an opt-out field says yes."""
    if isinstance(value, str):
        word = value.strip().lower()
        return word in ("1", "true", "yes") or bool(OPT_OUT_WORDS.search(word))
    if isinstance(value, list | tuple):
        return any(_asks_to_stay_out(item) for item in value)
    return bool(value)


def photo_key(stem: str, place: str) -> str:
    """Name of a photo, unique by its place in the source: "red-fox-1f3a9c2e04b7"."""
    readable = NOT_IN_KEYS.sub("_", stem).strip("_")[:150] or "photo"
    return f"{readable}-{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def _file_column(names: list[str] | Any, table: Path) -> str:
    by_lower = {str(name).lower(): str(name) for name in names}
    for name in FILE_NAMES:
        if name in by_lower:
            return by_lower[name]
    raise InputError(
        f"'{table}' has no column of files (one of {', '.join(FILE_NAMES)}); it has "
        f"{', '.join(map(str, names)) or 'none'}."
    )


def _encoding(table: Path) -> str:
    with table.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT + 1)
    except OSError:
        return b""


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    try:
        file = tar.extractfile(member)
        return file.read(MAX_TEXT + 1) if file else b""
    except (tarfile.TarError, OSError, EOFError):  # cut short inside this member
        return b""
