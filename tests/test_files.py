"""Whole files or none: full disks, Ctrl-C and places that cannot be written."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.io.stacks import rich
from text2layer import io
from text2layer.cli.outputs import in_folder
from text2layer.errors import FormatError, InputError, WriteError
from text2layer.files import try_lock, writing, writing_folder, writing_path
from text2layer.io import pictures
from text2layer.layers import Layer, LayeredImage

NAMES = ("a.psd", "a.ora", "a.png", "a.webp", "a.layers")

# Runs with a limit on the size of files, which the system answers as it does a full disk
LIMITED = """
import resource, sys
import numpy as np
from text2layer import io
from text2layer.errors import FormatError
from text2layer.layers import LayeredImage
noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for path in sys.argv[1:]:
    try:
        io.save(LayeredImage(noise), path)
    except FormatError as error:
        print(error)
"""


def content(path):
    """Every file under a path with its bytes."""
    files = sorted(path.rglob("*"))
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_a_write_that_the_disk_refuses_leaves_the_old_file_alone(tmp_path):
    for name in NAMES:
        io.save(rich(), tmp_path / name)
    before = content(tmp_path)
    paths = [str(tmp_path / name) for name in NAMES]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, check=True
    )
    assert [line.split(" could not")[0] for line in run.stdout.splitlines()] == paths
    assert run.stdout.count("size limit") == len(NAMES)
    assert run.stderr == ""
    assert content(tmp_path) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    real = os.open
    full = lambda path, flags, *rest: real(  # noqa: E731
        "/dev/full" if flags & os.O_CREAT else path, flags & ~(os.O_CREAT | os.O_EXCL), *rest
    )
    monkeypatch.setattr(os, "open", full)
    for name in NAMES[:4]:
        with pytest.raises(WriteError, match="disk is full"):
            io.save(rich(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path, monkeypatch, name, interruption
):
    io.save(rich(), tmp_path / name)
    before = content(tmp_path)
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        raise interruption

    monkeypatch.setattr(os, "fsync", interrupted)  # the last step before the rename
    with pytest.raises(interruption):
        io.save(LayeredImage(np.zeros((9, 9, 3), np.uint8)), tmp_path / name)
    assert calls
    assert content(tmp_path) == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_interruption_between_two_pictures_of_a_folder_leaves_nothing(tmp_path, monkeypatch):
    real, calls = pictures.write_png, []

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(pictures, "write_png", second_fails)
    with pytest.raises(KeyboardInterrupt):
        io.save(rich(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_rename_fails_is_put_back(tmp_path, monkeypatch):
    io.save(rich(), tmp_path / "a")
    before = content(tmp_path)
    real, calls = os.rename, []

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(WriteError, match="disk is full"):
        io.save(LayeredImage(np.zeros((9, 9, 3), np.uint8)), tmp_path / "a")
    assert len(calls) == 3
    assert content(tmp_path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_replaced_only_if_nothing_else_would_be_lost(tmp_path):
    io.save(rich(), tmp_path / "a")
    smaller = LayeredImage(np.zeros((9, 9, 3), np.uint8))
    io.save(smaller, tmp_path / "a")
    assert io.load(tmp_path / "a") == smaller
    assert len(list((tmp_path / "a").iterdir())) == 3
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match=r"holds notes\.txt"):
        io.save(rich(), tmp_path / "a")
    (tmp_path / "b").mkdir()
    io.save(smaller, tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("mine")
    with pytest.raises(FormatError, match=r"without a manifest\.json"):
        io.save(smaller, tmp_path / "c")
    (tmp_path / "d").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        io.save(smaller, tmp_path / "d")
    assert (tmp_path / "d").read_text() == "mine"


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "folder.layers").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for path, word in (
        ("missing/a.psd", "does not exist"),
        ("missing/a", "does not exist"),
        ("pipe.png", "regular file"),
        ("x" * 300 + ".png", "name is too long"),
    ):
        with pytest.raises((FormatError, InputError), match=word):
            io.save(rich(), tmp_path / path)
    with pytest.raises(InputError, match="is a folder"), writing(tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WriteError, match="permission"):
        io.save(rich(), tmp_path / "a.png")


def test_links_and_permissions_of_a_replaced_file_stay(tmp_path):
    layer = Layer(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8))
    layered = LayeredImage(np.zeros((2, 2, 3), np.uint8), (layer,))
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "real.png").chmod(0o640)
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    io.save(layered, tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").stat().st_mode & 0o777 == 0o640
    assert io.load(tmp_path / "real.png").size == (2, 2)
    mask = os.umask(0o022)
    try:
        io.save(layered, tmp_path / "new.png")
    finally:
        os.umask(mask)
    assert (tmp_path / "new.png").stat().st_mode & 0o777 == 0o644


def test_what_another_library_writes_is_whole_or_not_there(tmp_path):
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"old")
    target.chmod(0o640)

    def fill_the_disk():
        with writing_path(target) as file:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match="disk is full"):
        fill_the_disk()
    assert content(tmp_path) == {str(target): b"old"}
    with writing_path(target) as file:
        file.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert content(tmp_path) == {str(target): b"new"}
    assert target.stat().st_mode & 0o777 == 0o640
    with pytest.raises(InputError, match="is a folder"), writing_path(tmp_path):
        pass


KILLED = """
import sys, time
from typer import Typer
from text2layer.cli import OneSentenceGroup
from text2layer.files import writing, writing_folder

app = Typer(cls=OneSentenceGroup)

@app.command()
def first() -> None:
    with writing(sys.argv[1] + "/a.psd") as file:
        with writing_folder(sys.argv[1] + "/b.layers", lambda folder: None):
            file.write(b"half")
            print("writing", flush=True)
            time.sleep(60)

@app.command()
def second() -> None: ...

app(["first"])
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_no_unfinished_file(tmp_path, name, code):
    import signal

    run = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert run.stdout.readline() == b"writing\n"
        assert len(list(tmp_path.iterdir())) == 2
        run.send_signal(getattr(signal, name))
        assert run.wait(timeout=30) == code
    finally:
        run.kill()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [writing, writing_path, writing_folder])
def test_what_a_killed_process_left_a_day_ago_is_removed(tmp_path, write):
    old, new = (tmp_path / f".text2layer-{name}.part" for name in ("old", "new"))
    used, unused = (tmp_path / f".text2layer-{name}-folder.part" for name in ("used", "unused"))
    for file in (old, new, used / "inside", unused / "inside"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    yesterday = time.time() - 25 * 3600
    for path in (old, unused / "inside", unused, used):
        os.utime(path, (yesterday, yesterday))
    more = (lambda folder: None,) if write is writing_folder else ()
    with write(tmp_path / "a", *more) as made:
        if write is writing_path:
            made.write_bytes(b"whole")
    assert set(tmp_path.iterdir()) == {new, used, tmp_path / "a"}


CLOCK_AHEAD = """
import sys, time
from pathlib import Path
right = time.time
time.time = lambda: right() + 2 * 24 * 3600
from text2layer.files import writing
with writing(Path(sys.argv[1]) / "mine") as file:
    file.write(b"whole")
"""


def test_a_machine_whose_clock_is_ahead_removes_nothing_that_another_writes(tmp_path):
    with writing(tmp_path / "theirs") as file:
        file.write(b"half")
        subprocess.run([sys.executable, "-c", CLOCK_AHEAD, str(tmp_path)], check=True)
        file.write(b" and half")
    assert (tmp_path / "theirs").read_bytes() == b"half and half"
    assert (tmp_path / "mine").read_bytes() == b"whole"


@pytest.mark.parametrize("write", [writing, writing_path, writing_folder])
def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch, write):
    synced, fsync = [], os.fsync

    def noting(handle):
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), (tmp_path / "a").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    more = (lambda folder: None,) if write is writing_folder else ()
    with write(tmp_path / "a", *more) as made:
        if write is not writing:
            (made if write is writing_path else made / "inside").write_bytes(b"whole")
    before = [name for name, named in synced if not named]
    assert any(name.endswith((".part", "inside")) for name in before)
    assert (str(tmp_path), True) in synced


@pytest.mark.parametrize("code", ["EROFS", "ENOSPC"])
@pytest.mark.parametrize("way", [writing, writing_path])
def test_a_disk_that_refuses_the_cleaning_up_too_is_named(tmp_path, monkeypatch, way, code):
    def refuse(*_, **__):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(Path, "unlink", refuse)
    with (
        pytest.raises(WriteError, match=r"x\.json could not be written: the disk is"),
        way(tmp_path / "x.json"),
    ):
        refuse()


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_disk_without_locks_is_named(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl", reason="Windows locks in another way")

    def refuse(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"cannot lock files .* choose a folder on another disk"):
        try_lock(tmp_path / ".lock")


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs a folder nobody can fill")
def test_a_folder_that_takes_no_files_is_said_to_be_one():
    with pytest.raises(WriteError, match=r"could not be written: .*takes no files"):
        io.save(rich(), "/proc/x.ora")
    with (
        pytest.raises(WriteError, match=r"could not be written: .*takes no files"),
        writing_folder("/proc/x", lambda _: None),
    ):
        pass
    with pytest.raises(WriteError, match=r"could not be written: .*takes no files"):
        in_folder("/proc/x", ["a"], ".ora")
