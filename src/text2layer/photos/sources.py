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

from text2layer.data.shard_index import read_members, tar_members
from text2layer.errors import DataError, InputError, Skipped
from text2layer.options import require
from text2layer.photos.photo import PhotoRef
from text2layer.photos.provenance import (
    FILE_NAMES,
    KNOWN,
    clean_text,
    field_name,
    file_column,
    known_fields,
    repaired,
    windows_text,
)

PICTURES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp",
    ".gif",
)  # fmt: skip
# pictures too, which the builder does not decode: counted, not passed over
OTHER_PICTURES = (
    ".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng",
    ".orf", ".raf", ".rw2",
)  # fmt: skip
LISTS = (".csv", ".tsv")
DELIMITERS = ",\t;"
MAX_TEXT = 2**20  # bytes of a caption or of a picture's JSON; more is taken for damage
ROWS = 1024  # of a Parquet file, read at a time
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
    place = Path(path).absolute()  # photos are read later, by other processes
    if not place.exists():
        raise DataError(f"There is nothing at '{path}'; name a folder of photos, shards or a list.")
    if captions is not None:
        if not place.is_dir():
            raise InputError(f"--captions goes with a folder of pictures, but '{path}' is a file.")
        return ListSource(Path(captions).absolute(), place)
    if place.is_dir():
        if any(place.glob("*.tar")):
            return ShardSource(sorted(place.glob("*.tar")), beside=place)
        lists = sorted(place.glob("*.parquet"))
        if lists and _names_files(lists):  # img2dataset puts others next to its pictures
            return ParquetSource(lists)
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
        self._skip = Skipped()
        self.skipped, self.messages = self._skip.counts, self._skip.messages

    def _text(self, data: bytes, where: str) -> str:
        """A caption's bytes as text; what is not UTF-8 or UTF-16 is read as Windows-1252.

        Nearly any bytes are Windows-1252, so it is only believed where most are plain letters.
        """
        if len(data) > MAX_TEXT:
            self._skip("text too long", f"'{where}' has {len(data):,} bytes of text; left out.")
            return ""
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = "" if sum(byte > 127 for byte in data) > len(data) * 0.3 else windows_text(data)
            if text:
                said = f"'{where}' is not UTF-8; it was read as Windows-1252."
                self._skip("text not UTF-8", said)
                return text
        if "\0" in text or (data and not text):
            self._skip("text not readable", f"'{where}' is in no known encoding; left out.")
            return ""
        return text.strip()

    def _fields(self, data: bytes, where: str) -> dict[str, Any]:
        """A picture's JSON object; {} when it cannot be read."""
        try:
            fields = json.loads(data) if data.strip() else {}
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            return fields
        self._skip("JSON not readable", f"'{where}' holds no JSON object; it was passed over.")
        return {}

    def _unread(self, where: str) -> None:
        """Count a picture of a format that the builder does not decode."""
        said = f"'{where}' is not decoded; save it as JPEG, PNG or TIFF."
        self._skip("format not read", said)

    def _listed(
        self, place: str, root: Path, fields: Mapping[str, Any], table: Path, where: str
    ) -> Iterator[PhotoRef]:
        """The photo that a row of a table names, or nothing where there is no such file."""
        path = root / place
        if not place or not _is_file(path):
            self._skip("file missing", f"{where} names '{place[:200]}', which is not there.")
            return
        said = known_fields(fields, f"{table.stem}/{place}")
        yield PhotoRef(key=photo_key(path.stem, place), location=str(path), **said)


class FolderSource(_Counting):
    """Pictures of a folder and its subfolders, by name.

    Beside `a.jpg`, the text of `a.txt` is its caption and the object in `a.json` may say caption,
    licence, author, source and opt-out. A folder is read name by name, so memory grows with the
    largest single folder, not with the number of photos. Links to folders are not followed.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __iter__(self) -> Iterator[PhotoRef]:
        self._skip.clear()
        yield from self._walk(self.root)

    def _walk(self, folder: Path) -> Iterator[PhotoRef]:
        try:
            with os.scandir(folder) as entries:
                names = sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file())
                    for entry in entries
                )
        except OSError as error:
            self._skip("folder not readable", f"'{folder}' cannot be read: {error.strerror}.")
            return
        for name, is_folder, is_file in names:
            path = folder / name
            if name.startswith("."):
                continue
            if is_folder:
                yield from self._walk(path)
            elif not is_file and path.is_symlink():
                said = f"'{path}' links to no file; links to folders are not followed."
                self._skip("link not followed", said)
            elif not is_file:
                self._skip("not a file", f"'{path}' is a pipe or device, which is not opened.")
            elif path.suffix.lower() in PICTURES:
                yield self._ref(path)
            elif path.suffix.lower() in OTHER_PICTURES:
                self._unread(str(path))

    def _ref(self, path: Path) -> PhotoRef:
        fields: dict[str, Any] = {}
        described = path.with_suffix(".json")
        if described.is_file():
            fields = self._fields(_read(described), str(described))
        place = path.relative_to(self.root).as_posix()
        said = known_fields(fields, f"{self.root.name}/{place}")
        written = path.with_suffix(".txt")
        if written.is_file():
            text = clean_text(self._text(_read(written), str(written)))
            said["caption"] = text or said["caption"]
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
        self._skip.clear()
        csv.field_size_limit(MAX_TEXT)  # 131,072 by default
        try:
            # bytes that are not UTF-8 are kept as they are, and judged field by field
            with self.table.open(
                encoding=_encoding(self.table), errors="surrogateescape", newline=""
            ) as file:
                header = file.readline(MAX_TEXT)
                file.seek(0)
                rows = csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count))
                column = file_column(rows.fieldnames or [], self.table)
                for row in rows:
                    yield from self._of_row(row, column, rows.line_num)
        except (csv.Error, UnicodeError, OSError) as error:
            raise DataError(f"'{self.table}' cannot be read as a table: {error}.") from None

    def _of_row(self, row: Mapping[str, Any], column: str, line: int) -> Iterator[PhotoRef]:
        place = (row.get(column) or "").strip()
        fields = {str(k): repaired(v) for k, v in row.items() if k != column}
        where = f"Line {line} of '{self.table.name}'"
        yield from self._listed(place, self.root, fields, self.table, where)


class ShardSource(_Counting):
    """Pictures in tars, as WebDataset and img2dataset write them: key.jpg, key.txt, key.json.

    WebDataset ends a key at the first dot of a name, so `key.mask.png` is a part of a sample; names
    that people give to photos have dots of their own (`IMG.v2.jpg`). A picture of a longer name is
    a photo where it has a text or JSON of its own, or where no other file bears the short key.
    """

    def __init__(self, paths: list[Path], beside: Path | None = None) -> None:
        super().__init__()
        self.paths, self.beside = paths, beside

    def __iter__(self) -> Iterator[PhotoRef]:
        self._skip.clear()
        if self.beside is not None:
            for path in sorted(self.beside.iterdir()):
                if path.suffix.lower() in (*PICTURES, *OTHER_PICTURES):
                    said = f"'{path.name}' lies beside shards; name a folder without any for it."
                    self._skip("picture beside shards", said)
        for path in self.paths:
            yield from self._of_tar(path)

    def _of_tar(self, path: Path) -> Iterator[PhotoRef]:
        key, members = "", dict[str, tarfile.TarInfo]()  # by name
        for member in tar_members(path, self._skip):
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            own = f"{folder}/{name.partition('.')[0]}"
            if members and (own != key or member.name in members):
                yield from self._of_key(path, key, members)
                members = {}
            key = own
            members[member.name] = member
        if members:
            yield from self._of_key(path, key, members)

    def _of_key(
        self, path: Path, key: str, members: Mapping[str, tarfile.TarInfo]
    ) -> Iterator[PhotoRef]:
        """The photos among members whose names agree up to the first dot."""
        by_stem: dict[str, dict[str, tarfile.TarInfo]] = {}
        for name, member in members.items():
            folder, _, last = name.rpartition("/")
            stem, _, suffix = last.rpartition(".")
            by_stem.setdefault(f"{folder}/{stem}", {})[f".{suffix.lower()}"] = member
        found = 0
        for stem, own in by_stem.items():
            pictures = [own[suffix] for suffix in PICTURES if suffix in own]
            unread = [own[suffix] for suffix in OTHER_PICTURES if suffix in own]
            described = ".txt" in own or ".json" in own
            if pictures and (stem == key or described or key not in by_stem):
                yield self._of_members(path, stem, pictures[0], own)
                pictures = pictures[1:]
                found += 1
            elif unread:
                self._unread(f"{path.name}/{unread[0].name}")
                found += 1
            for picture in pictures if found or key not in by_stem else ():
                said = f"'{picture.name}' in '{path.name}' is not the picture of its sample."
                self._skip("second picture", said)
        if not found:
            self._skip("no picture", f"'{key.strip('/')}' in '{path.name}' has no picture.")

    def _of_members(
        self, path: Path, stem: str, picture: tarfile.TarInfo, own: Mapping[str, tarfile.TarInfo]
    ) -> PhotoRef:
        fields = {}
        if ".json" in own:
            fields = self._fields(_member(path, own[".json"]), own[".json"].name)
        place = f"{path.name}/{picture.name}"
        said = known_fields(fields, place)
        if ".txt" in own:
            written = self._text(_member(path, own[".txt"]), own[".txt"].name)
            said["caption"] = clean_text(written) or said["caption"]
        return PhotoRef(
            key=photo_key(stem.rpartition("/")[2], place), location=str(path),
            offset=picture.offset_data, size=picture.size, **said,
        )  # fmt: skip


class ParquetSource(_Counting):
    """Local files that Parquet tables name, read in batches of rows."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self.paths = paths

    def __iter__(self) -> Iterator[PhotoRef]:
        self._skip.clear()
        require("pyarrow", "pyarrow", "Reading Parquet lists")
        from pyarrow import ArrowException, parquet

        for path in self.paths:
            try:
                with parquet.ParquetFile(path) as table:
                    names = table.schema_arrow.names
                    column = file_column(names, path)
                    # only what is known: such lists may hold embeddings and whole pictures too
                    wanted = [name for name in names if name == column or field_name(name) in KNOWN]
                    for batch in table.iter_batches(ROWS, columns=wanted):
                        for row in batch.to_pylist():
                            yield from self._of_row(row, column, path)
            except (ArrowException, OSError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self._skip("list not readable", f"'{path.name}' cannot be read: {reason}.")

    def _of_row(self, row: dict[str, Any], column: str, table: Path) -> Iterator[PhotoRef]:
        place = str(row.get(column) or "").strip()
        fields = {k: v for k, v in row.items() if k != column}
        yield from self._listed(place, table.parent, fields, table, f"'{table.name}'")


def photo_key(stem: str, place: str) -> str:
    """Name of a photo, unique by its place in the source: "red-fox-1f3a9c2e04b7"."""
    readable = NOT_IN_KEYS.sub("_", stem).strip("_")[:150] or "photo"
    return f"{readable}-{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def _names_files(lists: list[Path]) -> bool:
    """Whether the first list that can be read has a column of files, or none can be."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return True  # ParquetSource says what to install
    for path in lists:
        try:
            names = parquet.read_schema(path).names
        except (ArrowException, OSError):
            continue
        return any(field_name(name) in FILE_NAMES for name in names)
    return True


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # where Path raises to names that are too long


def _encoding(table: Path) -> str:
    with table.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT + 1)
    except OSError:
        return b""


def _member(path: Path, member: tarfile.TarInfo) -> bytes:
    """A text of a tar, b"" where the tar ends inside it; no more than MAX_TEXT + 1 bytes."""
    size = min(member.size, MAX_TEXT + 1)
    return read_members(path, {"": (member.offset_data, size)}).get("", b"")
