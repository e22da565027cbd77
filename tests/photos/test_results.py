"""Builds whose results go to an address: the same as on disk, whatever fails, whoever is killed."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.photos import shelf as shelves
from tests.photos.deadly_stages import NAME as DEADLY
from tests.photos.test_run import PHOTOS, assert_same, done_chunks, quick, verdicts, wait_for_chunks
from tests.photos.toy_photos import write_photos
from text2layer.data import retries
from text2layer.data.indexing import index_shards
from text2layer.data.places import Address, on_this_machine, writing_to
from text2layer.data.shard_tools import merge_shards, shard_statistics
from text2layer.data.shards import ShardComposer
from text2layer.errors import DataError, InputError, Text2LayerError, WriteError
from text2layer.photos import hold, index, run
from text2layer.photos.folder import BuildFolder
from text2layer.photos.hold import held
from text2layer.photos.report import write_report

OUT = "shelf://bucket/out"
PROGRAM = """
import sys
from text2layer.photos import hold, run
from text2layer.photos.settings import BuildSettings
hold.RENEWED, hold.SILENT, hold.SETTLED = 0.1, 0.8, 0.05
settings = BuildSettings(photos_per_shard=5, min_size=1, duplicate_distance=0)
summary = run.build(sys.argv[1], sys.argv[2], settings, workers=2,
                    stages="tests.photos.toy_stages:make_stages", report=False, progress=False)
sys.exit(130 if summary.interrupted else 0)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("results") / "photos", PHOTOS)


@pytest.fixture(scope="module")
def whole(photos: Path) -> Path:
    """A build on disk that nothing disturbed."""
    quick(photos, photos.parent / "whole")
    return photos.parent / "whole"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder behind OUT's `shelf://`; what is temporary goes into one that is empty after."""
    folder = shelves.install(tmp_path, monkeypatch)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(retries, "FIRST_DELAY", 0.001)
    for name, seconds in (("RENEWED", 0.1), ("SILENT", 0.8), ("SETTLED", 0.05)):
        monkeypatch.setattr(hold, name, seconds)
    return folder


def fail(call: str, error: str | int, times: int = 1) -> None:
    """Let so many calls fail; 0: all."""
    for number in range(times or 1):
        name = f"{call}-{number}" if times else f"{call}-always"
        (shelves.faults() / name).write_text(str(error))


def left(shelf: Path) -> list[str]:
    """What a build that has ended should not leave: at the address, and on this machine."""
    names = [path.name for path in (shelf / "bucket").rglob("*")]
    temporary = (shelf.parent / "temporary").iterdir()
    return [name for name in names if name.startswith(".") or "unfinished" in name] + [
        path.name for path in temporary if "text2layer" in path.name
    ]


def test_results_at_an_address_are_those_on_disk(photos, whole, shelf: Path) -> None:
    out = shelf / "bucket" / "out"
    first = quick(photos, OUT, workers=2, report=True)
    assert (first.processed, str(first.out)) == (PHOTOS, OUT)
    assert first.to_json()["out"] == OUT
    assert_same(out, whole)
    assert left(shelf) == []
    names = {path.name for path in out.iterdir() if path.suffix != ".tar"}
    assert names == {"build.json", "examples", "index.sqlite", "journal",
                     "report.html", "report.json"}  # fmt: skip
    kinds = [path.name.partition("--")[0] for path in (out / "examples").iterdir()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"kept": 6, "bright-nothing_found": 6}
    figures = json.loads((out / "report.json").read_text())
    assert figures["complete"]
    assert figures["storage"] == {
        "shards": 7, "bytes": sum(path.stat().st_size for path in out.glob("*.tar")),
    }  # fmt: skip
    assert (out / "report.html").read_text().count("data:image/jpeg") == 12
    assert quick(photos, OUT).processed == 0  # another machine would find the same
    (out / "shard-000002.tar").unlink()
    (out / "journal" / "000004.jsonl").unlink()
    assert quick(photos, OUT).processed == 10
    assert_same(out, whole)


def test_killed_again_and_again_it_loses_and_doubles_nothing(photos, whole, shelf, monkeypatch):
    """Each file takes a while, so that some kills fall into the middle of one."""
    out, rng = shelf / "bucket" / "out", random.Random(3)
    monkeypatch.setenv(shelves.SLOW, "0.03")
    command = [sys.executable, "-c", PROGRAM, str(photos), OUT]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in range(2):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        if attempt:
            wait_for_chunks(process, out, done_chunks(out) + 1)
        else:
            while not (out / "build.json").exists():
                time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said
    assert 1 <= done_chunks(out) < 7
    monkeypatch.delenv(shelves.SLOW)
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert_same(out, whole)
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_a_line_that_fails_for_a_moment_costs_nothing(photos, whole, shelf: Path) -> None:
    fail("put", "ConnectionError", 4)
    fail("get", "TimeoutError", 3)
    quick(photos, OUT, workers=2)
    assert not list(shelves.faults().iterdir())
    assert_same(shelf / "bucket" / "out", whole)
    assert left(shelf) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("ConnectionError", r"could not be written after 6 tries .*; when it is back, the same"),
        (errno.ENOSPC, "no space left .*; free some, then the same command goes on"),
        ("PermissionError", "refused .*; give credentials that may write to it"),
    ],
)
def test_a_line_that_fails_in_mid_build_ends_it_and_the_same_command_goes_on(
    photos, whole, shelf: Path, monkeypatch, error, says: str
) -> None:
    out = shelf / "bucket" / "out"
    real, chunks = shelves.Shelf.put_file, []

    def failing(self, lpath, rpath, **more):
        if rpath.startswith(f"{out}/journal/"):
            chunks.append(rpath)
        if len(chunks) == 3:
            fail("put", error, 0)
        return real(self, lpath, rpath, **more)

    with monkeypatch.context() as patch:
        patch.setattr(shelves.Shelf, "put_file", failing)
        patch.setattr(run, "run_in_pool", _in_this_process)
        with pytest.raises(WriteError, match=says) as caught:
            quick(photos, OUT)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in (out / "journal").glob("*.jsonl")) == [
        "000000.jsonl", "000001.jsonl",
    ]  # fmt: skip
    assert (out / "shard-000002.tar").exists()  # whole, and not committed
    (shelves.faults() / "put-always").unlink()
    assert left(shelf) == []
    assert quick(photos, OUT).processed == PHOTOS - 10
    assert_same(out, whole)


def _in_this_process(guards, tasks, stop):
    """Instead of a pool, so that a test sees every call to the file system."""
    from tests.photos.toy_stages import make_stages
    from text2layer.photos.chunk import process_chunk

    setup = guards[0].setup
    stages = make_stages(setup.settings, 1)
    for number, entries in tasks:
        yield process_chunk(number, entries, stages, setup.settings, setup.out)


def test_two_builds_into_one_address(photos, shelf: Path, monkeypatch, capfd) -> None:
    lock = Address(f"{OUT}/.lock")
    with monkeypatch.context() as patch:
        patch.setattr(hold, "SILENT", 20)  # a busy machine may let the holder wait
        with held(lock), pytest.raises(InputError, match=rf"build \(process {os.getpid()} on"):
            quick(photos, OUT)
    assert "watching" in capfd.readouterr().err
    assert not (shelf / "bucket" / "out" / "build.json").exists()
    with writing_to(lock) as file:  # of one that was killed
        file.write(b'{"holder": "process 1 on gone", "token": "x", "count": 7}')
    assert quick(photos, OUT).processed == PHOTOS
    assert left(shelf) == []


def test_a_build_that_was_taken_over_ends_and_leaves_the_other_alone(photos, whole, shelf) -> None:
    """It was silent for too long: its machine slept. The other has its token there."""
    out = shelf / "bucket" / "out"

    def take_over() -> None:
        while done_chunks(out) < 1:
            time.sleep(0.005)
        (out / ".lock").write_text('{"holder": "process 2 on other", "token": "y", "count": 0}')

    other = threading.Thread(target=take_over, daemon=True)
    other.start()
    os.environ["TOY_STAGES_SECONDS"] = "0.3"
    try:
        with pytest.raises(InputError, match=r"Another build \(process 2 on other\)"):
            quick(photos, OUT)
    finally:
        del os.environ["TOY_STAGES_SECONDS"]
    other.join()
    assert "process 2 on other" in (out / ".lock").read_text()
    assert 1 <= done_chunks(out) < 7
    assert quick(photos, OUT).done_before >= 5  # the other has died too
    assert_same(out, whole)


def test_two_that_come_in_one_moment_do_not_both_stay(shelf: Path) -> None:
    lock, ended = Address(f"{OUT}/.lock"), []
    barrier = threading.Barrier(2)

    def come() -> None:
        barrier.wait()
        try:
            with held(lock) as lost:
                until = time.monotonic() + 3
                while not lost() and time.monotonic() < until:
                    time.sleep(0.01)
            ended.append("")
        except InputError as error:
            ended.append(str(error))

    both = [threading.Thread(target=come) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(map(bool, ended)) == [False, True]


def test_an_index_that_was_begun_goes_on_from_another_machine(shelf, tmp_path, monkeypatch) -> None:
    """The copy of an unfinished index is at the address when its builder is stopped or killed."""
    photos, out = write_photos(tmp_path / "some", 20), shelf / "bucket" / "out"
    monkeypatch.setattr(run, "SAVED", -1.0)
    monkeypatch.setattr(index, "BATCH", 8)
    looked: list[int] = []
    real = run.Guard.look

    def look(self, refs):
        looked.append(len(refs))
        if len(looked) == 3:
            raise DataError("the machine has gone")
        return real(self, refs)

    monkeypatch.setattr(run.Guard, "look", look)
    with pytest.raises(DataError, match="has gone"):
        quick(photos, OUT)
    assert (out / "index.unfinished.sqlite").exists()
    assert not (out / "index.sqlite").exists()
    quick(photos, OUT)
    assert looked == [8, 8, 4, 4]
    assert BuildFolder(OUT).read_record()["index"]["photos"] == 20
    assert left(shelf) == []


def test_photos_set_aside_are_tried_again_at_an_address_too(shelf, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "some", 5), shelf / "bucket" / "out"
    (photos / "photo0003.txt").write_text("act: segfault")
    assert quick(photos, OUT, stages=DEADLY).processed == 5
    aside = [line for line in verdicts(out) if line.get("stage") == "worker"]
    assert [line["reason"] for line in aside] == ["killed its worker: signal 11"]
    assert not list((out / "journal").glob("*.aside.json"))
    assert quick(photos, OUT, stages=DEADLY, retry_set_aside=True).processed == 5


@pytest.mark.parametrize(
    "address", ["shelf://bucket/photos", "shelf://bucket/photos/photo0001.png"]
)
def test_an_address_of_something_else_is_left_alone(photos, shelf: Path, address: str) -> None:
    write_photos(shelf / "bucket" / "photos", 2)
    before = sorted((shelf / "bucket").rglob("*"))
    with pytest.raises(InputError, match=r"holds files of another kind|is a file"):
        quick(photos, address)
    assert sorted((shelf / "bucket").rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (FileNotFoundError("no such bucket"), WriteError, "make its bucket or folder first"),
        (NotImplementedError(), InputError, "Nothing can be written to 'shelf://b/x'"),
        (OSError("507 XMinioStorageFull"), WriteError, "no space left"),
        (PermissionError("403"), WriteError, "credentials that may write"),
    ],
)
def test_what_no_other_try_mends_is_said_at_once(shelf, monkeypatch, error, kind, says) -> None:
    asked = []

    def failing(*_, **more):
        asked.append(1)
        raise error

    monkeypatch.setattr(shelves.Shelf, "put_file", failing)
    with pytest.raises(kind, match=says), writing_to(Address("shelf://b/x")) as file:
        file.write(b"x")
    assert asked == [1]
    assert not list((shelf / "b").iterdir())
    assert not list((shelf.parent / "temporary").iterdir())


def test_a_file_that_fails_leaves_the_one_before(shelf: Path) -> None:
    place = Address("shelf://b/deep/x")
    with writing_to(place) as file:
        file.write(b"first")
    with pytest.raises(ValueError, match="could not convert"), writing_to(place) as file:
        file.write(str(float("not a number")).encode())
    fail("put", "ConnectionError", 6)
    with pytest.raises(WriteError), writing_to(place) as file:
        file.write(b"second")
    assert place.read_bytes() == b"first"
    assert [path.name for path in (shelf / "b" / "deep").iterdir()] == ["x"]


def test_shards_at_an_address_are_read_whole_or_refused(photos, whole, shelf, tmp_path) -> None:
    quick(photos, OUT)
    here, there = (shard_statistics(str(one), progress=False)[0] for one in (whole, OUT))
    assert there == here
    merged = [merge_shards(str(one), tmp_path / name, progress=False).paths
              for one, name in ((OUT, "there"), (whole, "here"))]  # fmt: skip
    assert [path.read_bytes() for path in merged[0]] == [path.read_bytes() for path in merged[1]]
    with on_this_machine(Address(f"{OUT}/shard-000000.tar")) as path:
        assert path.read_bytes() == (whole / "shard-000000.tar").read_bytes()
    assert not path.exists()
    for refused in (
        lambda: ShardComposer(OUT, size=64),
        lambda: index_shards(OUT),
    ):
        with pytest.raises(Text2LayerError, match=rf"'{OUT}' cannot be used from there.*copy them"):
            refused()
    with pytest.raises(DataError, match="no shard at 'shelf://bucket/none'"):
        shard_statistics("shelf://bucket/none")


def test_the_report_of_an_address_is_written_again(photos, shelf: Path) -> None:
    quick(photos, OUT)
    assert not (shelf / "bucket" / "out" / "report.html").exists()
    assert write_report(OUT, progress=False)["kept"] == PHOTOS - PHOTOS // 5
    assert (shelf / "bucket" / "out" / "report.html").exists()
    with pytest.raises(DataError, match="no build in 'shelf://bucket/none'"):
        write_report("shelf://bucket/none")
