"""The index of shards: what readers need to know of every sample, in memory or mapped from a file.

`text2layer dataset index` writes it once. The file is in the safetensors format: named arrays after
a JSON header, each mapped as it is, so that all processes of a machine share its pages. Of sample
number i, in the order of the shards:

    blocks, sizes  (N, 5) where its members lie: offset / 512 in the tar, bytes
    kinds          (N,)   its split, whether it opted out, whether its pictures are JPEG or WebP
    crcs           (N,)   CRC-32 of its five members
    words          bytes  key, a zero byte, caption; those of i lie at word_ends[i]:word_ends[i + 1]
    order_SPLIT    (M,)   the samples of a split that can be drawn; left out where all can be

and of each shard its name, size, time, SHA-256, first sample, and what damage took.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from text2layer.data.schema import BACKGROUNDS, FOREGROUND, IMAGES, METADATA, SPLITS, TEXT
from text2layer.data.shard_index import BLOCK, Places, hash_shards, members_crc, read_members
from text2layer.errors import DataError

FORMAT = "text2layer shards 1"
OPT_OUT, JPEG_BACKGROUND, JPEG_IMAGE = 4, 8, 16  # bits of `kinds`; the lowest two are the split
SPLIT_BITS = 3
ALL = "all"  # stands for a split: every sample that has not opted out
# columns by type, the widest first, so that each is aligned
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "word_ends": ("<u8", ()),
    "firsts": ("<u8", ()),
    "name_ends": ("<u8", ()),
    "file_sizes": ("<u8", ()),
    "times": ("<i8", ()),
    "blocks": ("<u4", (5,)),
    "sizes": ("<u4", (5,)),
    "crcs": ("<u4", ()),
    "found": ("<u4", ()),
    "lost": ("<u4", ()),
    **{f"order_{split}": ("<u4", ()) for split in (*SPLITS, ALL)},
    "kinds": ("|u1", ()),
    "damaged": ("|u1", ()),
    "sha256": ("|u1", (32,)),
    "words": ("|u1", ()),
    "names": ("|u1", ()),
    "notes": ("|u1", ()),
}
BY_SAMPLE = (
    "word_ends", "blocks", "sizes", "crcs", "kinds", "words",
    *(name for name in COLUMNS if name.startswith("order_")),
)  # fmt: skip
AGAIN = "run text2layer dataset index again, or delete the file"
MAX_HEADER = 100 * 2**20  # bytes, as the safetensors library has it


@dataclass(frozen=True)
class FileState:
    """By what a shard is known again: bytes, time of its last change in ns, SHA-256 (hex)."""

    size: int = 0
    time: int = 0
    sha256: str = ""


@dataclass
class ShardColumns:
    """The part of an index that belongs to one shard: its columns, and what is left out of it."""

    name: str
    state: FileState
    columns: dict[str, np.ndarray]
    words: bytes
    found: int = 0
    lost: int = 0
    damaged: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    cases: list[tuple[str, str]] = field(default_factory=list)


class ShardIndex:
    """Random access to what an index says; made by `IndexBuilder` or mapped from its file.

    Attributes:
        root: folder that the names of shards are relative to.
        counts: how much was left out, by reason.
        messages: one sentence for each; they name every sample that damage took.
        found: (S,) samples of each shard, with those that cannot be used.
        lost: (S,) of those, how many damage took.
        damaged: (S,) whether more of the shard may be missing than is known.
    """

    def __init__(
        self,
        root: Path,
        arrays: Mapping[str, np.ndarray],
        counts: Mapping[str, int],
        messages: Sequence[str],
        *,
        checked: bool,
        complete: Sequence[str] = (),
        folders: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.counts, self.messages = dict(counts), list(messages)
        self.found, self.lost, self.damaged = arrays["found"], arrays["lost"], arrays["damaged"]
        self.folders = list(folders)
        self._arrays, self._checked, self._complete = arrays, checked, complete

    @classmethod
    def open(cls, path: Path, *, at_random: bool = False) -> ShardIndex:
        """Map an index file; nothing of it is read but the header.

        Args:
            path: of the file.
            at_random: samples will be looked up in any order, so the system should not read ahead:
                a look-up needs a few pages, and reading ahead brings megabytes.

        Raises:
            DataError: it is cut short, damaged, or no such index.
        """
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = path.stat().st_size
                header = json.loads(file.read(length)) if length < min(size, MAX_HEADER) else {}
            said = header.pop("__metadata__")
            if said["format"] != FORMAT:
                raise DataError(
                    f"'{path}' is an index of another release ({said['format']!r}, not "
                    f"{FORMAT!r}); {AGAIN}."
                )
            if size != 8 + length + max(column["data_offsets"][1] for column in header.values()):
                raise ValueError("its length is wrong")
            with path.open("rb") as file:
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped = np.frombuffer(pages, np.uint8)
            arrays = {}
            for name, (kind, more) in COLUMNS.items():
                begin, end = (8 + length + edge for edge in header[name]["data_offsets"])
                arrays[name] = mapped[begin:end].view(kind).reshape(-1, *more)
                if at_random and name in BY_SAMPLE:
                    _do_not_read_ahead(pages, begin, end)
            facts = json.loads(said["text2layer"])
            samples, shards = len(arrays["kinds"]), len(arrays["times"])
            whole = (
                len(arrays["word_ends"]) == samples + 1 and len(arrays["firsts"]) == shards + 1
                and len(arrays["name_ends"]) == shards + 1
                and int(arrays["firsts"][-1]) == samples
                and int(arrays["word_ends"][-1]) == len(arrays["words"])
                and int(arrays["name_ends"][-1]) == len(arrays["names"])
            )  # fmt: skip
            if not whole:
                raise ValueError("its columns do not fit each other")
            return cls(
                path.parent, arrays, facts["counts"], facts["messages"], checked=True,
                complete=facts["complete"], folders=facts["folders"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"'{path}' is cut short or no index of shards ({said}); {AGAIN}."
            ) from None

    def __len__(self) -> int:
        """Samples, with those that have opted out."""
        return len(self._arrays["kinds"])

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self._arrays["times"])

    def order(self, split: str | None) -> Sequence[int] | np.ndarray:
        """Numbers of the samples that can be drawn, of one split or of all."""
        name = split or ALL
        return range(len(self)) if name in self._complete else self._arrays[f"order_{name}"]

    def of_split(self, shard: int, split: str | None) -> Iterator[int]:
        """Numbers of a shard's samples of a split, with those that have opted out."""
        first, end = (int(edge) for edge in self._arrays["firsts"][shard : shard + 2])
        for number in range(first, end):
            if split is None or SPLITS[self._arrays["kinds"][number] & SPLIT_BITS] == split:
                yield number

    def path(self, shard: int) -> Path:
        """Where a shard lies."""
        return self.root / self.name(shard)

    def name(self, shard: int) -> str:
        """A shard's path, relative to `root`."""
        return self._text("names", "name_ends", shard).decode("utf-8", "surrogateescape")

    def state(self, shard: int) -> FileState:
        """By what a shard is known again."""
        return FileState(
            int(self._arrays["file_sizes"][shard]), int(self._arrays["times"][shard]),
            self._arrays["sha256"][shard].tobytes().hex(),
        )  # fmt: skip

    def key(self, number: int) -> str:
        """Key of a sample."""
        return self._words(number)[0]

    def caption(self, number: int) -> str:
        """Caption of a sample's whole picture; "" where it was not read."""
        return self._words(number)[1]

    def place(self, number: int) -> tuple[Path, Places]:
        """The shard of a sample, and where in it the sample's members lie."""
        # of the array's own type, or all of it would be converted
        shard = int(np.searchsorted(self._arrays["firsts"], np.uint64(number), "right")) - 1
        kind = int(self._arrays["kinds"][number])
        suffixes = (
            FOREGROUND, BACKGROUNDS[bool(kind & JPEG_BACKGROUND)], IMAGES[bool(kind & JPEG_IMAGE)],
            TEXT, METADATA,
        )  # fmt: skip
        offsets = (self._arrays["blocks"][number].astype(np.int64) * BLOCK).tolist()
        sizes = self._arrays["sizes"][number].tolist()
        return self.path(shard), dict(zip(suffixes, zip(offsets, sizes, strict=True), strict=True))

    def read(self, number: int) -> tuple[Path, dict[str, bytes]]:
        """The shard and the members of a sample.

        Raises:
            DataError: they are not those that were indexed.
            OSError: the shard cannot be read.
        """
        path, places = self.place(number)
        members = read_members(path, places)
        if self._checked and members_crc(members) != int(self._arrays["crcs"][number]):
            raise DataError(
                f"Sample '{self.key(number)}' cannot be used: its bytes are not those that were "
                "indexed."
            )
        return path, members

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the content of all shards, in order."""
        if not self._checked:
            return hash_shards([self.path(shard) for shard in range(self.shards)])
        return hashlib.sha256(np.ascontiguousarray(self._arrays["sha256"]).data).hexdigest()

    def names(self) -> list[str]:
        """The paths of all shards, relative to `root`."""
        text, ends = self._arrays["names"].tobytes(), self._arrays["name_ends"].tolist()
        return [text[begin:end].decode("utf-8", "surrogateescape") for begin, end in pairwise(ends)]

    def states(self) -> list[tuple[int, int]]:
        """Size and time of all shards."""
        sizes, times = self._arrays["file_sizes"].tolist(), self._arrays["times"].tolist()
        return list(zip(sizes, times, strict=True))

    def part(self, shard: int) -> ShardColumns:
        """What the index says of a shard, as `IndexBuilder.add` takes it."""
        begin, end = (int(edge) for edge in self._arrays["firsts"][shard : shard + 2])
        ends = self._arrays["word_ends"][begin : end + 1]
        columns = {
            name: self._arrays[name][begin:end] for name in ("blocks", "sizes", "crcs", "kinds")
        }
        counts, cases = self._notes.get(shard, (Counter(), []))
        return ShardColumns(
            self.name(shard), self.state(shard), columns | {"word_ends": ends[1:] - ends[0]},
            self._arrays["words"][int(ends[0]) : int(ends[-1])].tobytes(),
            int(self.found[shard]), int(self.lost[shard]), bool(self.damaged[shard]),
            counts, cases,
        )  # fmt: skip

    def left_out(self, shard: int) -> list[tuple[str, str]]:
        """(reason, sentence) of what a shard lacks; of those that opted out the first few."""
        return self._notes.get(shard, (Counter(), []))[1]

    @cached_property
    def _notes(self) -> dict[int, tuple[Counter[str], list[tuple[str, str]]]]:
        """By shard how much was left out, by reason, and the sentences."""
        notes = {}
        for line in self._arrays["notes"].tobytes().splitlines():
            shard, counts, cases = json.loads(line)
            notes[int(shard)] = Counter[str](counts), [(reason, said) for reason, said in cases]
        return notes

    def _words(self, number: int) -> tuple[str, str]:
        key, _, caption = self._text("words", "word_ends", number).decode().partition("\0")
        return key, caption

    def _text(self, column: str, ends: str, number: int) -> bytes:
        begin, end = (int(edge) for edge in self._arrays[ends][number : number + 2])
        return self._arrays[column][begin:end].tobytes()


def _do_not_read_ahead(pages: mmap.mmap, begin: int, end: int) -> None:
    """Advise the system so about the whole pages of these bytes, where it can be advised."""
    first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    last = end // mmap.PAGESIZE * mmap.PAGESIZE
    if hasattr(mmap, "MADV_RANDOM") and last > first:
        pages.madvise(mmap.MADV_RANDOM, first, last - first)
