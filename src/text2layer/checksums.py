"""SHA256SUMS of a model folder, in the form that `sha256sum --check` reads too."""

from __future__ import annotations

from pathlib import Path

from text2layer.errors import WeightsError
from text2layer.io.atomic import writing
from text2layer.pretrained.store import file_sha256

CHECKSUMS = "SHA256SUMS"


def write_checksums(folder: Path) -> Path:
    """Write the hashes of all files of a model folder beside them; return the file."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS
    )
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    with writing(folder / CHECKSUMS) as file:
        file.write("".join(lines).encode())
    return folder / CHECKSUMS


def verify_checksums(folder: Path) -> int:
    """Compare every file that SHA256SUMS names with its hash; return how many there are.

    Raises:
        WeightsError: the folder has no readable SHA256SUMS, a file is missing or has another hash,
            or weights lie there that it does not name.
    """
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{str(folder)!r} has no readable {CHECKSUMS}; give the folder of an exported model."
        ) from error
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file():
            raise WeightsError(f"{str(file)!r} is missing; copy the model again.")
        if file_sha256(file) != digest:
            raise WeightsError(f"{str(file)!r} is not the file that was released; copy it again.")
    for file in sorted(folder.rglob("*.safetensors")):
        if file.relative_to(folder).as_posix() not in expected:
            raise WeightsError(f"{str(file)!r} is no part of this model; remove it.")
    return len(expected)
