"""Where photos come from: folders, lists of files, shards, Parquet, data sets of Hugging Face.

Each may be a path or an address that fsspec opens. A source gives `PhotoRef`s one by one, always in
the same order, and reads no pixel.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from text2layer.data.places import Listed, Place, check_there, listed, place_of
from text2layer.errors import DataError, InputError
from text2layer.photos.counting import (
    ARCHIVES,
    MAX_TEXT,
    OTHER_PICTURES,
    PICTURES,
    Counting,
    photo_in_file,
)
from text2layer.photos.photo import PhotoRef
from text2layer.photos.provenance import clean_text, file_column, known_fields, repaired
from text2layer.photos.tables import ArrowSource, ParquetSource, file_of, holds_photos
from text2layer.photos.tars import ShardSource

LISTS = (".csv", ".tsv")
OF_A_BUILD = {"build.json", "index.sqlite"}  # files of a folder that `dataset build` writes
DELIMITERS = ",\t;"


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
            or one shard, a CSV or TSV with a column of files, a Parquet file or a folder of them
            with a column of files or of pictures, or a folder that `datasets.save_to_disk` wrote.
            Each may be an address that fsspec opens: "s3://bucket/folder".
        captions: a CSV or TSV that names the files of a folder and their captions; only files in
            it are taken, in its order.

    Raises:
        DataError: there is nothing at the path, it cannot be reached or access is refused.
        InputError: it is none of these, captions were given for something else than a folder, or
            a package that opens it is not installed.
    """
    place = place_of(path)  # photos are read later, by other processes
    if not place.exists():
        raise DataError(f"There is nothing at '{path}'; name a folder of photos, shards or a list.")
    is_folder = place.is_dir()
    if captions is not None:
        if not is_folder:
            raise InputError(f"--captions goes with a folder of pictures, but '{path}' is a file.")
        return ListSource(place_of(captions), place)
    if is_folder:
        return _open_folder(place)
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


def _open_folder(place: Place) -> PhotoSource:
    try:
        names = [entry.name for entry in listed(place) if entry.kind == "file"]
    except OSError as error:
        raise DataError(f"'{place}' cannot be read: {error.strerror}.") from None
    if "dataset_dict.json" in names or "state.json" in names:
        return ArrowSource(place)
    tars = [place / name for name in names if name.endswith(".tar")]
    if tars:
        return ShardSource(tars, beside=place)
    lists = [place / name for name in names if name.endswith(".parquet")]
    if lists and holds_photos(lists):  # img2dataset puts others next to its pictures
        return ParquetSource(lists)
    return FolderSource(place)


class FolderSource(Counting):
    """Pictures of a folder and its subfolders, by name.

    Beside `a.jpg`, the text of `a.txt` is its caption and the object in `a.json` may say caption,
    licence, author, source and opt-out. A folder is read name by name, so memory grows with the
    largest single folder, not with the number of photos. Links to folders are not followed.
    """

    def __init__(self, root: Place) -> None:
        super().__init__()
        self.root = root

    def __iter__(self) -> Iterator[PhotoRef]:
        self.skip.clear()
        yield from self._walk(self.root, "")
        check_there(self.root)  # else its end may be missing

    def _walk(self, folder: Place, inside: str) -> Iterator[PhotoRef]:
        """Photos of a folder that is `inside` the root: "" or "a/b/"."""
        try:
            entries = {entry.name: entry for entry in listed(folder)}
        except FileNotFoundError:
            check_there(folder)
            raise
        except OSError as error:
            self.skip("folder not readable", f"'{folder}' cannot be read: {error.strerror}.")
            return
        if inside and entries.keys() >= OF_A_BUILD:  # its examples are pictures, but no photos
            self.skip("folder of a build", f"'{folder}' is what a build has written.")
            return
        for name, entry in entries.items():
            path, suffix = folder / name, Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if entry.kind == "folder":
                yield from self._walk(path, f"{inside}{name}/")
            elif entry.kind == "link":
                said = f"'{path}' links to no file; links to folders are not followed."
                self.skip("link not followed", said)
            elif entry.kind == "other":
                self.skip("not a file", f"'{path}' is a pipe or device, which is not opened.")
            elif suffix in PICTURES:
                yield self._ref(path, f"{inside}{name}", entries)
            elif suffix in OTHER_PICTURES:
                self.unread(str(path))
            elif suffix in ARCHIVES:
                self.packed(str(path))

    def _ref(self, path: Place, place: str, beside: Mapping[str, Listed]) -> PhotoRef:
        def read(suffix: str) -> tuple[bytes, str] | None:
            name = Path(path.name).with_suffix(suffix).name
            if name not in beside or beside[name].kind != "file":
                return None
            return _read(path.with_suffix(suffix)), str(path.with_suffix(suffix))

        described, written = read(".json"), read(".txt")
        fields = self.fields(*described) if described else {}
        said = known_fields(fields, f"{self.root.name}/{place}")
        if written:
            said["caption"] = clean_text(self.text(*written)) or said["caption"]
        return photo_in_file(path, place, beside[path.name].size, said)


class ListSource(Counting):
    """Files that a CSV or TSV names, with their captions; paths are relative to `root`."""

    def __init__(self, table: Place, root: Place) -> None:
        super().__init__()
        if table.suffix.lower() not in LISTS:
            raise InputError(f"Captions come as .csv or .tsv, not '{table.name}'.")
        if not table.is_file():
            raise DataError(f"There is no list at '{table}'.")
        self.table, self.root = table, root

    def __iter__(self) -> Iterator[PhotoRef]:
        self.skip.clear()
        csv.field_size_limit(MAX_TEXT)  # 131,072 by default
        try:
            # bytes that are not UTF-8 are kept as they are, and judged field by field
            with io.TextIOWrapper(
                self.table.open("rb"), _encoding(self.table), "surrogateescape", newline=""
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
        found = file_of(place, self.root)
        if found is None:
            self.skip("file missing", f"{where} names '{place[:200]}', which is not there.")
            return
        said = known_fields(fields, f"{self.table.stem}/{place}")
        yield photo_in_file(found[0], place, found[1], said)


def _encoding(table: Place) -> str:
    with table.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _read(path: Place) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT + 1)
    except OSError:
        return b""
