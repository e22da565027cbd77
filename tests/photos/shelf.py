"""A file system for tests at addresses `shelf://...`: a folder, seen by all processes, that fails.

fsspec finds it in every process by an entry point on the path; SHELF names the folder. A file in
the folder `SHELF`.faults whose name begins with `put` or `get` makes one such call fail, and is
gone then; with `always` in its name it stays. It names the error: a class, or a number of `errno`.
A file that is being put fails in its middle.
"""

import builtins
import os
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

SLOW = "SHELF_SECONDS"  # that each file takes to be put


class Shelf(LocalFileSystem):
    protocol = "shelf"

    @classmethod
    def _strip_protocol(cls, path):
        path = os.fspath(path)
        if path.startswith("shelf://"):
            path = f"{os.environ['SHELF']}/{path.removeprefix('shelf://')}"
        return path.rstrip("/")

    def put_file(self, lpath, rpath, **more):
        error = met("put")
        data = Path(lpath).read_bytes()
        with open(rpath, "wb") as file:  # byte by byte: it has its name before it is whole
            file.write(data[: len(data) // 2])
            file.flush()
            if os.environ.get(SLOW):
                time.sleep(float(os.environ[SLOW]))
            if error is not None:
                raise error
            file.write(data[len(data) // 2 :])

    def get_file(self, rpath, lpath, **more):
        error = met("get")
        if error is not None:
            raise error
        Path(lpath).write_bytes(Path(rpath).read_bytes())

    def cat_file(self, path, start=None, end=None, **more):
        error = met("get")
        if error is not None:
            raise error
        return super().cat_file(path, start=start, end=end, **more)


def met(call: str) -> Exception | None:
    """The error that a call meets."""
    for file in sorted(faults().glob(f"{call}*")):
        try:
            said = file.read_text()
            if "always" not in file.name:
                file.unlink()
        except FileNotFoundError:  # another process met it
            continue
        if said.isdigit():
            return OSError(int(said), os.strerror(int(said)))
        return getattr(builtins, said)("as it was told")
    return None


def faults() -> Path:
    return Path(os.environ["SHELF"] + ".faults")


def install(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """The folder behind `shelf://`, for this process and those that it starts."""
    shelf, found = folder / "shelf", folder / "found"
    for made in (shelf, folder / "shelf.faults", found / "shelf-1.dist-info"):
        made.mkdir(parents=True)
    (found / "shelf-1.dist-info" / "METADATA").write_text("Name: shelf\nVersion: 1\n")
    (found / "shelf-1.dist-info" / "entry_points.txt").write_text(
        "[fsspec.specs]\nshelf = tests.photos.shelf:Shelf\n"
    )
    patch.syspath_prepend(found)
    patch.setenv("SHELF", str(shelf))
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    Shelf.clear_instance_cache()
    return shelf
