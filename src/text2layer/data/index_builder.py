"""Makes an index of shards: shard after shard taken in, then a file or an index in memory."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from text2layer.data.index_file import (
    ALL,
    COLUMNS,
    FORMAT,
    JPEG_BACKGROUND,
    JPEG_IMAGE,
    OPT_OUT,
    SPLIT_BITS,
    FileState,
    ShardColumns,
    ShardIndex,
)
from text2layer.data.schema import BACKGROUNDS, IMAGES, SPLITS
from text2layer.data.shard_index import BLOCK, DAMAGE, IndexedShard
from text2layer.errors import MESSAGES_KEPT, Skipped
from text2layer.files import writing

SAFETENSORS_TYPES = {"<u8": "U64", "<i8": "I64", "<u4": "U32", "|u1": "U8"}


def columns_of(name: str, state: FileState, shard: IndexedShard) -> ShardColumns:
    """The columns of a shard that was scanned."""
    samples = shard.samples
    spans = np.array([list(one.places.values()) for one in samples], np.int64)
    spans = spans.reshape(len(samples), 5, 2)
    kinds = [
        SPLITS.index(one.split) | OPT_OUT * one.opt_out
        | JPEG_BACKGROUND * (BACKGROUNDS[1] in one.places)
        | JPEG_IMAGE * (IMAGES[1] in one.places)
        for one in samples
    ]  # fmt: skip
    texts = [f"{one.key}\0{one.caption}".encode(errors="replace") for one in samples]
    kept = Counter[str]()
    cases = []
    for reason, message in shard.cases:  # a million that opted out need no sentence each
        kept[reason] += 1
        if reason in DAMAGE or kept[reason] <= MESSAGES_KEPT:
            cases.append((reason, message))
    return ShardColumns(
        name, state,
        {
            "blocks": (spans[..., 0] // BLOCK).astype("<u4"),
            "sizes": spans[..., 1].astype("<u4"),
            "crcs": np.array([one.crc for one in samples], "<u4"),
            "kinds": np.array(kinds, "|u1"),
            "word_ends": np.cumsum([len(text) for text in texts], dtype="<u8"),
        },
        b"".join(texts), shard.found, shard.lost, shard.damaged, kept, cases,
    )  # fmt: skip


class IndexBuilder:
    """Takes in shard after shard; memory does not grow if the columns go to temporary files.

    Args:
        spool: gives a place for one column: memory, or a temporary file.

    Attributes:
        skipped: what the shards leave out.
    """

    def __init__(self, spool: Callable[[], BinaryIO] = io.BytesIO) -> None:
        self._spools = {name: spool() for name in COLUMNS}
        self.skipped = Skipped(every=DAMAGE)
        self._samples = self._shards = self._words = self._names = 0
        for name in ("word_ends", "firsts", "name_ends"):
            self._put(name, np.zeros(1, "<u8"))

    def add(self, shard: ShardColumns) -> None:
        """Append a shard."""
        for reason, message in shard.cases:
            self.skipped(reason, message)
        for reason, count in shard.counts.items():
            self.skipped.counts[reason] += count - sum(one == reason for one, _ in shard.cases)
        for column in ("blocks", "sizes", "crcs", "kinds"):
            self._put(column, shard.columns[column])
        self._put("word_ends", shard.columns["word_ends"] + np.uint64(self._words))
        self._spools["words"].write(shard.words)
        kinds = shard.columns["kinds"]
        usable = (kinds & OPT_OUT) == 0
        for number, split in enumerate(SPLITS):
            self._order(split, usable & ((kinds & SPLIT_BITS) == number))
        self._order(ALL, usable)
        self._samples += len(kinds)
        self._words += len(shard.words)
        name = shard.name.encode("utf-8", "surrogateescape")
        self._names += len(name)
        self._spools["names"].write(name)
        digest = bytes.fromhex(shard.state.sha256) or bytes(32)
        for column, value in (
            ("firsts", self._samples), ("name_ends", self._names),
            ("file_sizes", shard.state.size), ("times", shard.state.time),
            ("found", shard.found), ("lost", shard.lost), ("damaged", shard.damaged),
        ):  # fmt: skip
            self._put(column, np.array([value], COLUMNS[column][0]))
        self._spools["sha256"].write(digest)
        if shard.cases:
            note = [self._shards, dict(shard.counts), shard.cases]
            self._spools["notes"].write(json.dumps(note).encode() + b"\n")
        self._shards += 1

    def in_memory(self, root: Path) -> ShardIndex:
        """The index of what was added; names of shards are relative to `root`."""
        arrays = {}
        for name, spool in self._spools.items():
            spool.seek(0)
            kind, more = COLUMNS[name]
            arrays[name] = np.frombuffer(spool.read(), kind).reshape(-1, *more)
        return ShardIndex(root, arrays, self.skipped.counts, self.skipped.messages, checked=False)

    def write(self, path: Path, folders: Sequence[str]) -> None:
        """Write the file, whole or not at all.

        Args:
            path: of the index; names of shards are relative to its folder.
            folders: those of which every shard is in the index, relative as well.
        """
        lengths = {}
        for name in COLUMNS:
            spool = self._spools[name]
            spool.flush()
            lengths[name] = spool.seek(0, os.SEEK_END)
            if name.startswith("order_") and lengths[name] == 4 * self._samples:
                lengths[name] = 0  # all of them: a range says the same
        said = {
            "counts": self.skipped.counts, "messages": self.skipped.messages,
            "folders": list(folders),
            "complete": [s for s in (*SPLITS, ALL) if self._drawn(s) == self._samples],
        }  # fmt: skip
        header: dict[str, Any] = {
            "__metadata__": {"format": FORMAT, "text2layer": json.dumps(said, ensure_ascii=True)}
        }
        offset = 0
        for name, (kind, more) in COLUMNS.items():
            width = int(np.dtype(kind).itemsize * np.prod(more, dtype=int))
            header[name] = {
                "dtype": SAFETENSORS_TYPES[kind],
                "shape": [lengths[name] // width, *more],
                "data_offsets": [offset, offset + lengths[name]],
            }
            offset += lengths[name]
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        with writing(path) as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for name, spool in self._spools.items():
                spool.seek(0)
                if lengths[name]:
                    shutil.copyfileobj(spool, file, 2**22)

    def _drawn(self, split: str) -> int:
        return self._spools[f"order_{split}"].seek(0, os.SEEK_END) // 4

    def _order(self, split: str, chosen: np.ndarray) -> None:
        self._put(f"order_{split}", np.flatnonzero(chosen).astype("<u4") + np.uint32(self._samples))

    def _put(self, name: str, values: np.ndarray) -> None:
        self._spools[name].write(np.ascontiguousarray(values, COLUMNS[name][0]).tobytes())


def temporary_files(folder: Path) -> Callable[[], BinaryIO]:
    """Places for columns that take no memory: nameless files in a folder, gone when closed."""
    return lambda: tempfile.TemporaryFile(dir=folder)
