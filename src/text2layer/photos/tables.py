"""Photos in tables: Parquet, and the Arrow files of a Hugging Face data set that was saved to disk.

A table names files, or holds the pictures themselves: a column of bytes, or of structs with bytes
and path as `datasets.Image` has it. Rows are read in batches, pictures when they are asked for.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from threading import Lock
from typing import Any

from text2layer.data.places import (
    Address,
    Place,
    check_there,
    is_address,
    place_of,
    read_bytes,
    size_of,
)
from text2layer.errors import DataError, InputError
from text2layer.options import require
from text2layer.photos.counting import Counting, photo_in_file, photo_key
from text2layer.photos.photo import PhotoRef
from text2layer.photos.provenance import (
    FILE_NAMES,
    KNOWN,
    field_name,
    file_column,
    known_fields,
)

ROWS = 1024  # of a table, read at a time
# columns of pictures by name; any other column of bytes is taken where it is the only one
PICTURE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "bytes")
KEY, STATUS, SUCCESS = "key", "status", "success"  # columns of img2dataset
MAX_GROUP = 2**31  # bytes of pictures in a row group: it is read whole for one of them
_reading = Lock()


class _TableSource(Counting):
    """Photos of tables; a subclass gives the tables."""

    def _of_table(
        self, path: Place, label: str, schema: Any, batches: Callable[[list[str]], Iterable[Any]]
    ) -> Iterator[PhotoRef]:
        """Photos of one table.

        Args:
            path: of the table.
            label: the same for people and keys, relative to the source.
            schema: of pyarrow.
            batches: gives the record batches of the columns that it is told.
        """
        pictures = picture_column(schema)
        files = "" if pictures else file_column(schema.names, path)
        known = {*KNOWN, KEY, STATUS}  # only these: such tables may hold embeddings too
        wanted = [name for name in schema.names
                  if name != pictures and (name == files or field_name(name) in known)]  # fmt: skip
        number = 0
        for batch in batches(wanted):
            for row in batch.to_pylist() if wanted else ({} for _ in range(batch.num_rows)):
                yield from self._of_row(row, number, path, label, pictures, files)
                number += 1

    def _of_row(
        self, row: dict[str, Any], number: int, path: Place, label: str, pictures: str, files: str
    ) -> Iterator[PhotoRef]:
        status = row.get(STATUS)
        if pictures and isinstance(status, str) and status != SUCCESS:
            self.skip("not downloaded", f"Row {number} of '{label}' has status '{status[:50]}'.")
            return
        fields = {k: v for k, v in row.items() if k != files}
        if pictures:
            place = f"{label}#{number}"
            stem = str(row.get(KEY) or f"{path.stem}-{number}")
            said = known_fields(fields, place)
            yield PhotoRef(photo_key(stem, place), str(path), number, -1, **said, column=pictures)
            return
        place = str(row.get(files) or "").strip()
        found = file_of(place, path.parent)
        if found is None:
            missing = f"'{path.name}' names '{place[:200]}', which is not there."
            self.skip("file missing", missing)
            return
        yield photo_in_file(found[0], place, found[1], known_fields(fields, f"{path.stem}/{place}"))


class ParquetSource(_TableSource):
    """Photos that Parquet tables name or hold, read in batches of rows."""

    def __init__(self, paths: list[Place]) -> None:
        super().__init__()
        self.paths = paths

    def __iter__(self) -> Iterator[PhotoRef]:
        self.skip.clear()
        _arrow("Reading Parquet")
        from pyarrow import ArrowException, parquet

        for path in self.paths:
            check_there(path)
            try:
                with path.open("rb") as file, parquet.ParquetFile(file) as table:
                    _check_groups(table, path)

                    def batches(names: list[str], table: Any = table) -> Iterator[Any]:
                        return table.iter_batches(ROWS, columns=names)

                    yield from self._of_table(path, path.name, table.schema_arrow, batches)
            except (ArrowException, OSError) as error:
                check_there(path)
                self.skip("list not readable", _not_read(path.name, error))


class ArrowSource(_TableSource):
    """A data set that `datasets.Dataset.save_to_disk` wrote, or several splits of one.

    Raises:
        DataError: its JSON files cannot be read.
        InputError: its rows were chosen or shuffled without being written anew.
    """

    def __init__(self, root: Place) -> None:
        super().__init__()
        self.root = root
        self.files = list(self._files())

    def __iter__(self) -> Iterator[PhotoRef]:
        self.skip.clear()
        _arrow("Reading Arrow")
        from pyarrow import ArrowException

        for label in self.files:
            path = self.root / label
            check_there(path)
            try:
                table = _arrow_table(str(path))

                def batches(names: list[str], table: Any = table) -> Iterator[Any]:
                    return iter((table.select(names) if names else table).to_batches(ROWS))

                yield from self._of_table(path, label, table.schema, batches)
            except (ArrowException, OSError) as error:
                check_there(path)
                self.skip("table not readable", _not_read(label, error))

    def _files(self) -> Iterator[str]:
        """The Arrow files in order, relative to the root."""
        splits = [""]
        if (self.root / "dataset_dict.json").exists():
            splits = [f"{name}/" for name in self._said("dataset_dict.json", "splits")]
        for split in splits:
            if self._said(f"{split}state.json", "_indices_files", []):
                raise InputError(
                    f"The rows of '{self.root / split}' were chosen or shuffled in memory; call "
                    "flatten_indices() on the data set and save it again."
                )
            for file in self._said(f"{split}state.json", "_data_files"):
                yield f"{split}{file['filename']}"

    def _said(self, name: str, field: str, default: Any = None) -> Any:
        path = self.root / name
        try:
            with path.open("rb") as file:
                said = json.load(file)
            return said[field] if default is None else said.get(field, default) or default
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f"'{path}' is not what datasets.save_to_disk writes; save the data set again."
            ) from None


def picture_column(schema: Any) -> str:
    """The column of a pyarrow schema that holds pictures; "" if there is none."""
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            place = kind.get_field_index("bytes")
            return place >= 0 and holds_bytes(kind.field(place).type)
        return types.is_binary(kind) or types.is_large_binary(kind)

    found = [field.name for field in schema if holds_bytes(field.type)]
    named = [name for name in found if field_name(name) in PICTURE_NAMES]
    if len(found) == 1:
        return str(found[0])
    return str(named[0]) if named else ""


def picture_of_row(location: str, column: str, row: int) -> bytes:
    """The bytes of a picture in a table.

    One row group of a Parquet file, or one Arrow file, is kept: photos come in order.

    Raises:
        OSError: the row has no picture, or the table cannot be read.
        DataError: the table is gone.
    """
    _arrow("Reading tables")
    from pyarrow import ArrowException

    place = place_of(location)
    try:
        with _reading:
            if location.endswith(".arrow"):
                value = _arrow_table(location).column(column)[row].as_py()
            else:
                group, first = _group_of(location, row)
                value = _pictures(location, column, group)[row - first].as_py()
    except (ArrowException, IndexError, KeyError) as error:
        check_there(place)
        raise OSError(f"row {row} of {location} cannot be read: {error}") from None
    except OSError:
        check_there(place)
        raise
    file = ""
    if isinstance(value, dict):
        file, value = str(value.get("path") or ""), value.get("bytes")
    if value is None and file:
        beside = place.parent / file if not is_address(file) else place_of(file)
        return read_bytes(str(beside))
    if value is None:
        raise OSError(f"row {row} of {location} has no picture")
    return bytes(value)


def holds_photos(lists: list[Place]) -> bool:
    """Whether the first table that can be read names files or holds pictures, or none can be."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return True  # ParquetSource says what to install
    for path in lists:
        try:
            with path.open("rb") as file:
                schema = parquet.read_schema(file)
        except (ArrowException, OSError):
            continue
        names = any(field_name(name) in FILE_NAMES for name in schema.names)
        return names or bool(picture_column(schema))
    return True


def rows_by_key(path: Place, skip: Callable[[str, str], None]) -> dict[str, dict[str, Any]]:
    """What an img2dataset table beside a shard says, by the key of its samples."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return {}
    try:
        with path.open("rb") as file, parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            wanted = [name for name in names if name == KEY or field_name(name) in KNOWN]
            if KEY not in names:
                return {}
            rows = table.read(columns=wanted).to_pylist()
    except (ArrowException, OSError) as error:
        skip("list not readable", _not_read(path.name, error))
        return {}
    return {str(row.pop(KEY)): row for row in rows}


def file_of(place: str, root: Place) -> tuple[Place, int] | None:
    """The file that a table names, relative to `root`, and the size of a remote one.

    None where there is none. Pages of the web are not files: img2dataset fetches those.
    """
    if not place or place.startswith(("http://", "https://")):
        return None
    try:
        path = place_of(place) if is_address(place) else root / place
        size = size_of(path)
        return (path, size) if isinstance(path, Address) or path.is_file() else None
    except (OSError, ValueError):
        return None  # names that are too long, too


def _check_groups(table: Any, path: Place) -> None:
    """InputError if one picture could only be read with a great part of the file."""
    column = picture_column(table.schema_arrow)
    if not column:
        return
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        own = [group.column(place) for place in range(group.num_columns)]
        size = sum(one.total_uncompressed_size for one in own
                   if one.path_in_schema.split(".")[0] == column)  # fmt: skip
        if size > MAX_GROUP:
            raise InputError(
                f"'{path}' has {size / 1e9:.1f} GB of pictures in one row group; write it again "
                "with smaller ones (row_group_size=1000)."
            )


@lru_cache(maxsize=4)
def _group_starts(location: str) -> list[int]:
    """The first row of each row group, and the number of rows."""
    from pyarrow import parquet

    with place_of(location).open("rb") as file, parquet.ParquetFile(file) as table:
        starts = [0]
        for number in range(table.num_row_groups):
            starts.append(starts[-1] + table.metadata.row_group(number).num_rows)
    return starts


def _group_of(location: str, row: int) -> tuple[int, int]:
    """The row group of a row, and its first row."""
    starts = _group_starts(location)
    group = bisect_right(starts, row) - 1
    return group, starts[group]


@lru_cache(maxsize=1)
def _pictures(location: str, column: str, group: int) -> Any:
    from pyarrow import parquet

    with place_of(location).open("rb") as file, parquet.ParquetFile(file) as table:
        return table.read_row_group(group, columns=[column]).column(column)


@lru_cache(maxsize=1)
def _arrow_table(location: str) -> Any:
    """An Arrow file: mapped where it lies on this machine, else read whole."""
    import pyarrow as pa

    place = place_of(location)
    if isinstance(place, Address):
        source = pa.BufferReader(place.read(0, place.size()))
    else:
        source = pa.memory_map(str(place))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


def _not_read(name: str, error: Exception) -> str:
    """The first line of what pyarrow says, whose sentences may end in a full stop or hold none."""
    first = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    return f"'{name}' cannot be read: {first}."


def _arrow(what: str) -> None:
    require("pyarrow", "pyarrow", what)
