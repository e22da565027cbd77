"""Photos in tars, as WebDataset and img2dataset write them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from text2layer.data.places import Address, Place, check_there, listed
from text2layer.data.shard_index import read_members, tar_members
from text2layer.photos.counting import (
    ARCHIVES,
    MAX_TEXT,
    OTHER_PICTURES,
    PICTURES,
    Counting,
    photo_key,
)
from text2layer.photos.photo import PhotoRef
from text2layer.photos.provenance import clean_text, known_fields
from text2layer.photos.tables import rows_by_key


class ShardSource(Counting):
    """Pictures in tars, as WebDataset and img2dataset write them: key.jpg, key.txt, key.json.

    WebDataset ends a key at the first dot of a name, so `key.mask.png` is a part of a sample; names
    that people give to photos have dots of their own (`IMG.v2.jpg`). A picture of a longer name is
    a photo where it has a text or JSON of its own, or where no other file bears the short key.

    Where a sample has no JSON, the row of its key in a Parquet file beside the tar (img2dataset
    writes one) says what a JSON would.
    """

    def __init__(self, paths: list[Place], beside: Place | None = None) -> None:
        super().__init__()
        self.paths, self.beside = paths, beside

    def __iter__(self) -> Iterator[PhotoRef]:
        self.skip.clear()
        if self.beside is not None:
            for entry in listed(self.beside):
                if Path(entry.name).suffix.lower() in (*PICTURES, *OTHER_PICTURES):
                    said = f"'{entry.name}' lies beside shards; name a folder without any for it."
                    self.skip("picture beside shards", said)
                elif entry.kind == "link" and entry.name.endswith(".tar"):
                    self.skip("link not followed", f"'{entry.name}' links to no file.")
                elif Path(entry.name).suffix.lower() in ARCHIVES and ".t" in entry.name.lower():
                    self.packed(entry.name)
        for path in self.paths:
            check_there(path)
            self._rows: dict[str, dict[str, Any]] | None = None
            yield from self._of_tar(path)
            check_there(path)  # else its end may be missing

    def _of_tar(self, path: Place) -> Iterator[PhotoRef]:
        key, members = "", dict[str, tarfile.TarInfo]()  # by name
        for member in tar_members(path, self.skip):
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
        self, path: Place, key: str, members: Mapping[str, tarfile.TarInfo]
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
                self.unread(f"{path.name}/{unread[0].name}")
                found += 1
            for picture in pictures if found or key not in by_stem else ():
                said = f"'{picture.name}' in '{path.name}' is not the picture of its sample."
                self.skip("second picture", said)
        if not found:
            self.skip("no picture", f"'{key.strip('/')}' in '{path.name}' has no picture.")

    def _of_members(
        self, path: Place, stem: str, picture: tarfile.TarInfo, own: Mapping[str, tarfile.TarInfo]
    ) -> PhotoRef:
        if ".json" in own:
            fields = self.fields(_member(path, own[".json"]), own[".json"].name)
        else:
            fields = self._row(path, stem.rpartition("/")[2])
        place = f"{path.name}/{picture.name}"
        said = known_fields(fields, place)
        if ".txt" in own:
            written = self.text(_member(path, own[".txt"]), own[".txt"].name)
            said["caption"] = clean_text(written) or said["caption"]
        return PhotoRef(
            key=photo_key(stem.rpartition("/")[2], place), location=str(path),
            offset=picture.offset_data, size=picture.size, **said,
        )  # fmt: skip

    def _row(self, path: Place, key: str) -> dict[str, Any]:
        """What the Parquet file beside a tar says of a sample; {} where there is none."""
        if self._rows is None:
            beside = path.with_suffix(".parquet")
            self._rows = rows_by_key(beside, self.skip) if beside.exists() else {}
        return self._rows.get(key, {})


def _member(path: Place, member: tarfile.TarInfo) -> bytes:
    """A text of a tar, b"" where the tar ends inside it; no more than MAX_TEXT + 1 bytes."""
    size = min(member.size, MAX_TEXT + 1)
    if isinstance(path, Address):
        return path.read(member.offset_data, size)
    return read_members(path, {"": (member.offset_data, size)}).get("", b"")
