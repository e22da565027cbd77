"""Photos on which a worker dies or hangs: set aside and counted; the build goes on by itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.photos.deadly_stages import NAME
from tests.photos.toy_photos import draw_photo, write_photos
from text2layer.data.shard_index import index_shard
from text2layer.errors import DataError, InputError, WriteError
from text2layer.models.frozen import has_cuda
from text2layer.photos.chunk import read_journal
from text2layer.photos.report import write_report
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings

SETTINGS = BuildSettings(photos_per_shard=12, min_size=1, duplicate_distance=0)
PHOTOS = 24  # two chunks of two batches


def written(folder: Path, acts: dict[int, str], count: int = PHOTOS) -> Path:
    """Photographs, of which some do something to their worker."""
    write_photos(folder, count)
    for number, act in acts.items():
        (folder / f"photo{number:04d}.txt").write_text(f"act: {act}")
    return folder


def built(photos: Path, out: Path, settings: BuildSettings = SETTINGS, **more):
    options = {"workers": 1, "stages": NAME, "report": False, "progress": False,
               "photo_timeout": 20.0} | more  # fmt: skip
    return build(photos, out, settings, **options)


def lines(out: Path) -> dict[str, dict]:
    return {line["key"]: line for path in sorted((out / "journal").glob("*.jsonl"))
            for line in read_journal(path)}  # fmt: skip


def samples(out: Path) -> dict[str, int]:
    """Keys of the samples in all shards, and how often each is there."""
    return Counter(
        key for path in sorted(out.glob("shard-*.tar"))
        for key, _ in index_shard(path, lambda *_: pytest.fail("damaged"))
    )  # fmt: skip


def set_aside(out: Path) -> dict[int, str]:
    """Reasons by the number in a photo's name."""
    return {int(line["source"][-8:-4]): line["reason"] for line in lines(out).values()
            if line.get("stage") == "worker"}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    built(write_photos(folder / "photos", PHOTOS), folder / "out")
    return folder / "out"


def assert_only_missing(out: Path, undisturbed: Path, missing: set[int]) -> None:
    """The samples of an undisturbed build, each once, but for these photos; nothing temporary."""
    sources = {line["key"]: int(line["source"][-8:-4]) for line in lines(out).values()}
    wanted = {key for key in samples(undisturbed) if sources[key] not in missing}
    assert samples(out) == dict.fromkeys(wanted, 1)
    assert len(lines(out)) == PHOTOS
    assert not [path for path in out.rglob("*") if path.name.endswith((".part", ".aside.json"))]


@pytest.mark.parametrize("workers", [1, 2])
def test_photos_that_kill_their_worker_are_set_aside(
    tmp_path: Path, undisturbed: Path, workers: int
) -> None:
    acts = {3: "segfault", 5: "killed", 13: "abort", 20: "exit"}
    photos = written(tmp_path / "photos", acts)
    summary = built(photos, tmp_path / "out", workers=workers)
    assert set_aside(tmp_path / "out") == {
        3: f"killed its worker: signal {signal.SIGSEGV.value}",
        5: f"killed its worker: signal {signal.SIGKILL.value}",
        13: f"killed its worker: signal {signal.SIGABRT.value}",
        20: "ended its worker: exit status 7",
    }
    assert_only_missing(tmp_path / "out", undisturbed, set(acts))
    assert summary.reasons["worker", "ended its worker: exit status 7"] == 1
    assert not summary.interrupted


def test_a_photo_that_hangs_is_set_aside(tmp_path: Path, undisturbed: Path) -> None:
    photos = written(tmp_path / "photos", {2: "hang"})
    begun = time.monotonic()
    settings = BuildSettings(photos_per_shard=1, min_size=1, duplicate_distance=0)
    built(photos, tmp_path / "out", settings, photo_timeout=5)
    assert time.monotonic() - begun > 2 * 5  # it got a second try
    assert set_aside(tmp_path / "out") == {2: "took longer than 5 s"}
    assert_only_missing(tmp_path / "out", undisturbed, {2})


def test_photos_that_use_too_much_memory_are_set_aside(tmp_path: Path, undisturbed: Path) -> None:
    photos = written(tmp_path / "photos", {4: "eat", 15: "refused"})
    built(photos, tmp_path / "out", worker_memory=0.6)
    assert set_aside(tmp_path / "out") == dict.fromkeys((4, 15), "used too much memory")
    assert_only_missing(tmp_path / "out", undisturbed, {4, 15})


def test_photos_that_kill_only_together_are_kept(tmp_path: Path, undisturbed: Path) -> None:
    photos = written(tmp_path / "photos", {6: "together"})
    built(photos, tmp_path / "out")
    assert not set_aside(tmp_path / "out")
    assert_only_missing(tmp_path / "out", undisturbed, set())


def test_what_was_set_aside_is_only_tried_again_if_asked(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = written(tmp_path / "photos", {14: "killed"}), tmp_path / "out"
    built(photos, out)
    monkeypatch.setenv("DEADLY_STAGES", "mended")
    assert built(photos, out).processed == 0
    assert len(set_aside(out)) == 1
    assert built(photos, out, retry_set_aside=True).processed == PHOTOS // 2  # its chunk
    assert not set_aside(out)
    assert_only_missing(out, undisturbed, set())


DEADLY_DECODER = """
import ctypes
from PIL import ImageFile
load = ImageFile.ImageFile.load
def deadly(self):
    if self.width == 61:
        ctypes.string_at(0)
    return load(self)
ImageFile.ImageFile.load = deadly
"""


def test_a_decoder_that_crashes_over_a_photo_of_the_index(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow itself crashes in every process that starts with this module, over one picture."""
    photos, out = write_photos(tmp_path / "photos", PHOTOS), tmp_path / "out"
    Image.fromarray(draw_photo(8, 61)).save(photos / "photo0008.png")
    (tmp_path / "sitecustomize.py").write_text(DEADLY_DECODER)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        built(photos, out)
    assert set_aside(out) == {8: "killed its worker: signal 11"}
    assert_only_missing(out, undisturbed, {8})
    assert built(photos, out).processed == 0
    assert built(photos, out, retry_set_aside=True).processed == PHOTOS // 2
    assert_only_missing(out, undisturbed, set())


@pytest.mark.slow
def test_a_build_that_is_killed_remembers_what_it_set_aside(tmp_path: Path) -> None:
    """The second run looks at the first photo never again, though its chunk was not done."""
    photos, out = written(tmp_path / "photos", {0: "segfault", 1: "hang"}, 2), tmp_path / "out"
    program = (
        "import sys\nfrom tests.photos.test_guard import Path, built\n"
        "built(Path(sys.argv[1]), Path(sys.argv[2]), photo_timeout=60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(photos), str(out)])
    aside = out / "journal/000000.aside.json"
    while not aside.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    said = aside.read_text()
    aside.write_text(said.replace("signal 11", "signal 11 in an earlier run"))
    built(photos, out, photo_timeout=5)
    assert set_aside(out) == {0: "killed its worker: signal 11 in an earlier run",
                              1: "took longer than 5 s"}  # fmt: skip


def test_the_report_names_what_was_set_aside(tmp_path: Path) -> None:
    photos, out = written(tmp_path / "photos", {1: "segfault"}, 4), tmp_path / "out"
    built(photos, out)
    figures = write_report(out, progress=False)
    assert figures["rejected"]["worker"] == {"killed its worker: signal 11": 1}
    (named,) = figures["set_aside"]
    assert named["source"].endswith("photo0001.png")
    assert named["reason"] == "killed its worker: signal 11"
    assert "photo0001.png" in (out / "report.html").read_text()


def test_workers_that_die_before_any_photo_end_the_build(tmp_path: Path) -> None:
    stages = "tests.photos.deadly_stages:os.abort"
    with pytest.raises(InputError, match="cannot be loaded"):
        built(written(tmp_path / "photos", {}, 2), tmp_path / "out", stages=stages)
    # before the first photo, or at it where loading got by with what the process has already
    with pytest.raises(DataError, match=r"at no photo.*fewer --workers|used too much memory"):
        built(tmp_path / "photos", tmp_path / "other", worker_memory=0.001)


@pytest.mark.skipif(has_cuda(), reason="needs a machine without CUDA")
def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CUDA device"):
        built(written(tmp_path / "photos", {}, 2), tmp_path / "out", device="cuda")


def test_without_gpus_no_library_of_a_worker_sees_one(tmp_path: Path) -> None:
    photos, out = written(tmp_path / "photos", {0: "exit if a GPU may be used"}, 1), tmp_path
    built(photos, out / "cpu", device="cpu")
    assert not set_aside(out / "cpu")
    built(photos, out / "auto")
    assert set_aside(out / "auto") == {0: "ended its worker: exit status 8"}


@pytest.mark.slow
def test_twenty_in_a_row_are_not_about_photos(tmp_path: Path) -> None:
    photos = written(tmp_path / "photos", dict.fromkeys(range(21), "exit"), 21)
    settings = BuildSettings(photos_per_shard=30, min_size=1, duplicate_distance=0)
    with pytest.raises(DataError, match="the cause is not a photo"):
        built(photos, tmp_path / "out", settings)


@pytest.mark.parametrize(
    ("option", "words"),
    [({"photo_timeout": 0.0}, "above 0"), ({"worker_memory": -1.0}, "above 0"),
     ({"device": "tpu"}, "auto, cpu, cuda")],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, option, words: str) -> None:
    with pytest.raises(InputError, match=words):
        built(written(tmp_path / "photos", {}, 2), tmp_path / "out", **option)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_build(tmp_path: Path) -> None:
    photos = written(tmp_path / "photos", {1: "hang"}, 4)
    program = (
        "import sys\nfrom tests.photos.test_guard import Path, built\n"
        "built(Path(sys.argv[1]), Path(sys.argv[2]), photo_timeout=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(photos), str(tmp_path / "out")])
    children: list[int] = []
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not listed.exists():
        process.kill()
        pytest.skip("needs /proc")
    while not (tmp_path / "out/journal").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(1)
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        children += [int(pid) for pid in (task / "children").read_text().split()]
    process.kill()
    process.wait()
    assert children
    deadline = time.monotonic() + 20
    while any(_lives(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(pid) for pid in children)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_full_disk_ends_a_build_that_then_goes_on(
    tmp_path: Path, undisturbed: Path, full_disk: Path
) -> None:
    """A disk too small for the shards: what a worker cannot write is no photo's fault."""
    photos, out = written(tmp_path / "photos", {3: "segfault"}), full_disk / "out"
    (full_disk / "ballast").write_bytes(bytes(DISK - ROOM))
    with pytest.raises(WriteError, match="disk is full"):
        built(photos, out)
    assert not list(out.rglob("*.part"))
    (full_disk / "ballast").unlink()
    built(photos, out)
    assert set(set_aside(out)) == {3}
    assert_only_missing(out, undisturbed, {3})


DISK, ROOM = 2 << 20, 120 << 10  # bytes


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to be allowed to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
