"""Builds with toy stages: resumed, killed, stopped, refused; the shards are always the same."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from tests.photos.toy_photos import draw_photo, shards_in, write_photos
from tests.photos.toy_stages import NAME
from text2layer.data.shard_index import index_shard
from text2layer.errors import DataError, InputError
from text2layer.photos.chunk import DEFAULT_STAGES, FORMER_STAGES, read_journal
from text2layer.photos.folder import BuildFolder
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings

# no hash looks at the toy photos, they are grounds of noise: every one is its own
SETTINGS = BuildSettings(photos_per_shard=5, min_size=1, duplicate_distance=0)
PHOTOS = 33  # seven chunks, the last one short
PROGRAM = """
import sys
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings
settings = BuildSettings(photos_per_shard=5, min_size=1, duplicate_distance=0)
summary = build(sys.argv[1], sys.argv[2], settings, workers=int(sys.argv[3]),
                stages="tests.photos.toy_stages:make_stages", report=False, progress=False)
sys.exit(130 if summary.interrupted else 0)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("runner") / "photos", PHOTOS)


@pytest.fixture(scope="module")
def whole(photos: Path) -> Path:
    """A build that nothing disturbed."""
    out = photos.parent / "whole"
    quick(photos, out)
    return out


def quick(photos: Path, out: Path, settings: BuildSettings = SETTINGS, **more):
    options = {"workers": 1, "stages": NAME, "report": False, "progress": False} | more
    return build(photos, out, settings, **options)


def started(photos: Path, out: Path, workers: int, seconds: float) -> subprocess.Popen:
    """A build in a process of its own, slow enough to be disturbed."""
    environment = os.environ | {"TOY_STAGES_SECONDS": str(seconds)}
    command = [sys.executable, "-c", PROGRAM, str(photos), str(out), str(workers)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def done_chunks(out: Path) -> int:
    return len(list((out / "journal").glob("*.jsonl")))


def wait_for_chunks(process: subprocess.Popen, out: Path, count: int) -> None:
    while done_chunks(out) < count and process.poll() is None:
        time.sleep(0.005)


def indexed(out: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{out / 'index.sqlite'}?mode=ro", uri=True)) as base:
            return base.execute("SELECT count(*) FROM photos").fetchone()[0]
    except sqlite3.OperationalError:  # not yet there
        return 0


def verdicts(out: Path) -> list[dict]:
    """Journals without what differs from run to run."""
    lines = []
    for path in sorted((out / "journal").iterdir()):
        lines += [{k: v for k, v in line.items() if k != "seconds"} for line in read_journal(path)]
    return lines


def assert_same(out: Path, whole: Path) -> None:
    """Byte for byte the same shards, the same verdicts, each photo once, nothing temporary."""
    assert shards_in(out) == shards_in(whole)
    assert verdicts(out) == verdicts(whole)
    keys = Counter(line["key"] for line in verdicts(out))
    assert len(keys) == PHOTOS
    assert set(keys.values()) == {1}
    assert not list(out.rglob("*.part"))


def test_a_build_looks_at_every_photo_once(photos: Path, whole: Path) -> None:
    lines = verdicts(whole)
    assert len(lines) == PHOTOS
    kept = [line["key"] for line in lines if line["kept"]]
    stored = [
        key
        for path in sorted(whole.glob("shard-*.tar"))
        for key, _ in index_shard(path, lambda *_: pytest.fail("damaged"))
    ]
    assert stored == kept
    reasons = Counter(line["reason"] for line in lines if not line["kept"])
    assert reasons == {"nothing found": PHOTOS // 5}


def test_the_same_again_does_nothing(photos: Path, tmp_path: Path) -> None:
    first = quick(photos, tmp_path / "out")
    assert (first.photos, first.processed, first.done_before) == (PHOTOS, PHOTOS, 0)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    again = quick(photos, tmp_path / "out")
    assert (again.photos, again.processed, again.done_before) == (PHOTOS, 0, PHOTOS)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_pool_gives_the_same(photos: Path, whole: Path, tmp_path: Path) -> None:
    summary = quick(photos, tmp_path / "out", workers=2)
    assert summary.kept == PHOTOS - PHOTOS // 5
    assert_same(tmp_path / "out", whole)


def test_a_shard_that_was_deleted_is_made_again(photos: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quick(photos, out)
    BuildFolder(out).shard(2).unlink()
    assert quick(photos, out).processed == 5
    assert_same(out, whole)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_loses_and_doubles_nothing(
    photos: Path, whole: Path, tmp_path: Path, workers: int
) -> None:
    out, rng = tmp_path / "out", random.Random(workers)
    kills = 0
    for attempt in range(3):
        process = started(photos, out, workers, 0.05)
        # the first is killed somewhere in its start, the others around the end of some chunk
        if attempt:
            wait_for_chunks(process, out, done_chunks(out) + 1)
        else:
            while not (out / "build.json").exists():
                time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.06))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills == 3
    assert done_chunks(out) < 7
    process = started(photos, out, workers, 0)
    assert process.wait() == 0, process.communicate()
    assert_same(out, whole)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_asked_to_stop_it_ends_between_chunks(
    photos: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = started(photos, out, 1, 0.2)
    wait_for_chunks(process, out, 1)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "same command" in said
    assert "Traceback" not in said
    assert 1 <= done_chunks(out) < 7
    assert not list(out.rglob("*.part"))
    quick(photos, out)
    assert_same(out, whole)


def test_two_builds_into_one_folder(photos: Path, tmp_path: Path) -> None:
    folder = BuildFolder(tmp_path / "out")
    folder.prepare()
    with folder.locked(), pytest.raises(InputError, match=rf"Another build.*{os.getpid()}"):
        quick(photos, folder.root)
    assert quick(photos, folder.root).processed == PHOTOS  # the lock file stays, the lock does not


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"settings": BuildSettings(size=64, photos_per_shard=5, min_size=1)},
            "size was 512, is 64",
        ),
        ({"stages": f"{NAME}_of_another_kind"}, "stages was"),
        ({"photos": "elsewhere"}, "source was"),
    ],
)
def test_a_build_goes_on_only_with_the_same(photos, tmp_path: Path, change, says: str) -> None:
    out = tmp_path / "out"
    quick(photos, out)
    before = {path: path.read_bytes() for path in out.glob("*.tar")}
    if "photos" in change:
        change = {"photos": write_photos(tmp_path / change["photos"], 3)}
    with pytest.raises(InputError, match=says) as caught:
        quick(**({"photos": photos, "out": out} | change))
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.glob("*.tar")} == before


def test_the_former_name_of_the_stages_is_still_that_of_the_same(photos, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quick(photos, out)
    record = json.loads((out / "build.json").read_text())
    for before, now in ((FORMER_STAGES, DEFAULT_STAGES), (DEFAULT_STAGES, FORMER_STAGES)):
        (out / "build.json").write_text(json.dumps(record | {"stages": before}))
        assert quick(photos, out, stages=now).done_before == PHOTOS


def test_other_models_are_refused(photos: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    quick(photos, out)
    BuildFolder(out).shard(0).unlink()
    monkeypatch.setenv("TOY_STAGES_MODEL", "another")
    with pytest.raises(InputError, match=r"other models.*saliency"):
        quick(photos, out)


def test_errors_of_a_pool_come_out_as_they_are(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no_such_function"):
        quick(photos, tmp_path / "out", stages="tests.photos.toy_stages:no_such_function",
              workers=2)  # fmt: skip


def test_photos_added_later_do_not_move_the_chunks(whole: Path, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", PHOTOS), tmp_path / "out"
    quick(photos, out)
    BuildFolder(out).journal(0).unlink()
    Image.fromarray(draw_photo(77)).save(photos / "a-new-first-one.png")
    quick(photos, out)
    assert len(verdicts(out)) == PHOTOS


def test_photos_that_vanish_are_not_rejected_for_it(whole: Path, tmp_path: Path) -> None:
    """A disk that is gone while a build runs: it ends, commits nothing of it, and goes on after."""
    photos, out = write_photos(tmp_path / "photos", PHOTOS), tmp_path / "out"
    process = started(photos, out, 1, 0.2)
    wait_for_chunks(process, out, 1)
    photos.rename(tmp_path / "unplugged")
    (tmp_path / "photos").mkdir()  # where it was mounted
    _, said = process.communicate()
    assert "have vanished; bring them back, then the same command goes on" in said
    assert 1 <= done_chunks(out) < 7
    photos.rmdir()
    (tmp_path / "unplugged").rename(photos)
    quick(photos, out)
    assert [line["kept"] for line in verdicts(out)] == [line["kept"] for line in verdicts(whole)]


def test_photos_that_vanish_before_they_are_indexed(tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 280), tmp_path / "out"
    process = started(photos, out, 1, 0)
    while indexed(out) < 256 and process.poll() is None:  # a first transaction
        time.sleep(0.002)
    photos.rename(tmp_path / "unplugged")
    _, said = process.communicate()
    # a single photo is missed first, or the folder as a whole
    assert "have vanished; bring them back" in said or "is not there any more" in said
    (tmp_path / "unplugged").rename(photos)
    quick(photos, out)
    assert Counter(line["kept"] for line in verdicts(out)) == {True: 224, False: 56}


def test_a_folder_of_something_else_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match="another kind"):
        quick(photos, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        quick(photos, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        quick(photos, tmp_path / "out")


@pytest.mark.skipif(
    not Path("/proc/version").exists(), reason="needs a folder that nobody can fill"
)
def test_a_folder_that_cannot_be_made(photos: Path) -> None:
    with pytest.raises(InputError, match=r"/proc.*cannot be written to"):
        quick(photos, Path("/proc/text2layer-build"))


def test_a_source_without_photos(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="photos"):
        quick(tmp_path / "photos", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*")) or not (tmp_path / "out/build.json").exists()


@pytest.mark.parametrize("change", [{"index": {}}, {"index": 3}, {"settings": 7}, {"runs": {}}])
def test_a_record_of_another_shape_is_named(
    whole: Path, photos: Path, tmp_path: Path, change: dict
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    record = json.loads((out / "build.json").read_text())
    (out / "build.json").write_text(json.dumps(record | change))
    with pytest.raises(DataError, match=r"build\.json' is damaged"):
        quick(photos, out)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_an_index_that_is_lost_is_made_again(
    whole: Path, photos: Path, tmp_path: Path, damage
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    damage(out / "index.sqlite")
    (out / "journal" / "000002.jsonl").unlink()
    assert quick(photos, out).processed == 5
    assert_same(out, whole)


def test_a_lost_index_of_other_photos_is_refused(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "index.sqlite").unlink()
    fewer = write_photos(tmp_path / "photos", 7)
    record = json.loads((out / "build.json").read_text())
    (out / "build.json").write_text(json.dumps(record | {"source": str(fewer)}))
    with pytest.raises(DataError, match="not the index that this build was begun with"):
        quick(fewer, out)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"photo_timeout": float("inf")}, "photo_timeout must lie"),
        ({"photo_timeout": float("nan")}, "photo_timeout must lie"),
        ({"photo_timeout": 1e300}, "photo_timeout must lie"),
        ({"worker_memory": float("inf")}, "worker_memory must be"),
        ({"worker_memory": float("nan")}, "worker_memory must be"),
        ({"stages": "os:path"}, "is not a callable object"),
        ({"stages": "os:getpid"}, "too many positional arguments"),
        ({"stages": "tests.photos.broken_stages:make_stages"}, "division by zero"),
    ],
)
def test_options_that_nothing_can_be_made_of(photos, tmp_path: Path, more: dict, says: str):
    with pytest.raises(InputError, match=says):
        quick(photos, tmp_path / "out", **more)


def test_photos_that_a_list_names_twice_are_counted(photos: Path, tmp_path: Path) -> None:
    names = sorted(photos.glob("*.png"))[:4]
    lines = [f"{name},a disc" for name in (*names, names[0], names[2])]
    (tmp_path / "list.csv").write_text("\n".join(["file,caption", *lines]))
    summary = quick(tmp_path / "list.csv", tmp_path / "out")
    assert (summary.photos, summary.skipped) == (4, {"named twice": 2})
    assert quick(tmp_path / "list.csv", tmp_path / "out").skipped == {"named twice": 2}


def test_a_damaged_record_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(DataError, match=r"build\.json"):
        quick(photos, tmp_path)


def test_the_record_says_what_was_used(whole: Path) -> None:
    record = json.loads((whole / "build.json").read_text())
    assert record["fingerprint"] == SETTINGS.fingerprint
    assert record["index"]["photos"] == PHOTOS
    assert record["models"].keys() == {"saliency"}
    assert record["packages"].keys() >= {"numpy", "pillow"}
    assert record["runs"][0]["photos"] == PHOTOS
