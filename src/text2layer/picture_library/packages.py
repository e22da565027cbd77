"""Packages of registries, fetched by the client that each registry has, checked, unpacked.

npm packages and Debian packages; no address is written here, the clients bring their own
configuration. What was unpacked stays in a folder and is not fetched again.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from text2layer.errors import DataError, WeightsError
from text2layer.files import file_sha256
from text2layer.picture_library.offer import slug
from text2layer.pretrained.sources import CLIENT_TIMEOUT, download_packages, unpack
from text2layer.pretrained.table import PackageSource

LARGEST = 4 * 2**30  # bytes that an archive may unpack to


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, which never changes a version.

    Attributes:
        name: such as `@iconify-json/noto`.
        version: exact.
        sha256: of its tarball.
    """

    name: str
    version: str
    sha256: str

    @property
    def title(self) -> str:
        """How records name it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class DebianPackage:
    """A package of Debian and the systems made from it; the version is that of the system.

    apt checks what it downloads by the signed index of the distribution.

    Attributes:
        name: such as `openclipart-svg`.
        sha256: of archives by version, as far as they were looked at; others are taken, too.
    """

    name: str
    sha256: Mapping[str, str] = field(default_factory=dict)


def fetch_npm(package: NpmPackage, packages: Path) -> Path:
    """The folder of an npm package, fetched unless it is there.

    Raises:
        DataError: npm is missing or failed, or the tarball has another hash.
    """
    folder = packages / slug(package.title)
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=packages, prefix=".text2layer-", suffix=".part") as own:
        try:
            wanted = PackageSource("npm", (f"{package.name}@{package.version}",))
            (archive,) = download_packages(wanted, Path(own), show_progress=False)
            if file_sha256(archive) != package.sha256:
                raise DataError(
                    f"The npm package {package.title} has another content than the one that was "
                    "looked at (its hash differs); ask your registry's mirror for the original."
                )
            unpacked = Path(own) / "unpacked"
            unpack(archive, unpacked, lambda name: True, drop_top_level=True, size_limit=LARGEST)
        except WeightsError as error:
            raise DataError(f"npm did not give {package.title}: {error}") from None
        unpacked.rename(folder)
    return folder


def fetch_debian(package: DebianPackage, packages: Path) -> tuple[Path, str]:
    """The files of a Debian package, fetched unless they are there, and its version.

    Raises:
        DataError: apt-get or dpkg-deb is missing or failed, or the archive of a known version has
            another hash.
    """
    found = sorted(packages.glob(f"debian-{package.name}_*"))
    if found:
        return found[-1], found[-1].name.partition("_")[2]
    for client in ("apt-get", "dpkg-deb"):
        if shutil.which(client) is None:
            raise DataError(
                f"The Debian package {package.name} needs {client}, which this system has not; "
                "make this source on Debian or Ubuntu."
            )
    with tempfile.TemporaryDirectory(dir=packages, prefix=".text2layer-", suffix=".part") as own:
        _run(["apt-get", "download", package.name], Path(own), package.name)
        archives = list(Path(own).glob("*.deb"))
        if len(archives) != 1:
            raise DataError(f"apt-get left {len(archives)} archives of {package.name}, not one.")
        told = _run(["dpkg-deb", "--field", str(archives[0]), "Version"], Path(own), package.name)
        version = told.strip().rpartition(":")[2]  # without the epoch, which files do not have
        known = package.sha256.get(version)
        if known and file_sha256(archives[0]) != known:
            raise DataError(
                f"The Debian package {package.name} {version} has another content than the one "
                "that was looked at (its hash differs); use an archive of the distribution."
            )
        unpacked = Path(own) / "unpacked"
        _run(["dpkg-deb", "--extract", str(archives[0]), str(unpacked)], Path(own), package.name)
        folder = packages / f"debian-{package.name}_{version}"
        unpacked.rename(folder)
    return folder, version


def _run(command: list[str], folder: Path, package: str) -> str:
    """What a client writes to stdout; DataError with the last line of its complaint."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=CLIENT_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(f"{command[0]} gave no {package} within {CLIENT_TIMEOUT} s.") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.startswith("E:")]
        why = " ".join((lines or done.stderr.splitlines() or [""])[-1].split())
        raise DataError(
            f"{command[0]} did not give {package} ({why or f'exit code {done.returncode}'}); "
            "run apt-get update, or see whether your distribution has the package."
        )
    return done.stdout
