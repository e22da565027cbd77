"""Sources at an address: what they give, what fails for a moment, what is gone or refused."""

import io
import json
import tarfile
from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from tests.photos.test_sources import jpeg
from tests.photos.toy_photos import shards_in, write_photos
from tests.photos.toy_stages import NAME, make_stages
from text2layer.data import retries
from text2layer.data.places import Address, place_of
from text2layer.errors import DataError, InputError
from text2layer.photos.chunk import process_chunk
from text2layer.photos.folder import BuildFolder
from text2layer.photos.index import PhotoIndex
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings
from text2layer.photos.sources import open_photos

SETTINGS = BuildSettings(photos_per_shard=5, min_size=1, duplicate_distance=0)


class Rough(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """Files in memory behind a line that fails as it is told; counts what it is asked for."""

    protocol = "rough"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    failures: list = []  # noqa: RUF012
    asked = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("rough://"))

    def _meet(self) -> None:
        type(self).asked += 1
        if self.failures:
            error = self.failures[0] if self.failures[-1] is None else self.failures.pop(0)
            if error is not None:
                raise error

    def info(self, path, **more):
        self._meet()
        return super().info(path, **more)

    def ls(self, path, detail=True, **more):
        self._meet()
        return super().ls(path, detail=detail, **more)

    def cat_file(self, path, start=None, end=None, **more):
        self._meet()
        return super().cat_file(path, start=start, end=end, **more)


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> type[Rough]:
    fsspec.register_implementation("rough", Rough, clobber=True)
    Rough.store.clear()
    Rough.pseudo_dirs[:] = [""]
    Rough.failures, Rough.asked = [], 0
    monkeypatch.setattr(retries, "FIRST_DELAY", 0.001)
    return Rough


def put(folder: Path, address: str) -> str:
    """Copy a folder to an address."""
    system, root = fsspec.url_to_fs(address)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return address


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_photos(tmp_path / "photos", 12)
    (folder / "more").mkdir()
    (folder / "more" / "x.jpg").write_bytes(jpeg(5))
    (folder / "more" / "x.json").write_text(json.dumps({"caption": "a fox", "license": "CC0"}))
    (folder / "more" / "y.heic").write_bytes(b"heic")
    return folder


def tar_of(folder: Path, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out, "w") as tar:
        for path in sorted(folder.glob("photo*")):
            tar.add(path, path.name)
    return out


def said(source) -> list[tuple]:
    return [(ref.key, ref.caption, ref.source, ref.license, ref.read()) for ref in source]


def test_a_folder_at_an_address_gives_what_the_same_folder_on_disk_gives(rough, photos: Path):
    address = put(photos, "rough://bucket/photos")
    there, here = open_photos(address), open_photos(photos)
    assert said(there) == said(here)
    assert there.skipped == here.skipped == {"format not read": 1}


def test_shards_at_an_address_are_read_in_stretches(rough, photos: Path, tmp_path: Path):
    path = tar_of(photos, tmp_path / "shards" / "00000.tar")
    address = put(path.parent, "rough://bucket/shards")
    there = list(open_photos(address))
    here = list(open_photos(path.parent))
    assert [(r.key, r.offset, r.size) for r in there] == [(r.key, r.offset, r.size) for r in here]
    rough.asked = 0
    assert there[7].read() == here[7].read()
    assert rough.asked == 1
    cut = path.read_bytes()[:-9000]
    fsspec.filesystem("rough").pipe_file("/bucket/shards/00000.tar", cut)
    source = open_photos(address)
    assert 0 < len(list(source)) < 12
    assert source.skipped["truncated shard"] == 1


def test_a_list_at_an_address_names_files_beside_it(rough, photos: Path):
    (photos / "list.csv").write_text(
        "file,caption\nmore/x.jpg,a fox\nphoto0001.png,ein Igel\ngone.png,x\n"
        "https://example.org/a.jpg,y\n"
    )
    address = put(photos, "rough://bucket/photos")
    for source in (
        open_photos(f"{address}/list.csv"),
        open_photos(address, f"{address}/list.csv"),
    ):
        first, second = source
        assert (first.caption, second.caption) == ("a fox", "ein Igel")
        assert first.read() == jpeg(5)
        assert source.skipped == {"file missing": 2}


def test_what_fails_for_a_moment_is_asked_for_again(rough, photos: Path):
    address = put(photos, "rough://bucket/photos")
    whole = said(open_photos(photos))
    rough.failures = [ConnectionError("reset"), TimeoutError(), OSError("SlowDown")] * 3 + [None]
    rough.failures = rough.failures[:5]
    assert said(open_photos(address)) == whole
    assert rough.failures == []


def test_the_tries_are_bounded_and_wait_longer_each_time(rough, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(retries, "FIRST_DELAY", 0.5)
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    rough.failures = [ConnectionError("reset by peer"), None]
    with pytest.raises(DataError, match=r"'rough://bucket' cannot be read after 6 tries.*reset"):
        open_photos("rough://bucket")
    assert rough.asked == 6
    assert len(waits) == 5
    for number, wait in enumerate(waits):
        assert 0.75 * 0.5 * 2**number <= wait <= 1.25 * 0.5 * 2**number


def test_a_client_that_waits_long_itself_is_not_asked_for_ever(rough, monkeypatch):
    clock = iter(range(0, 1000, 35))
    monkeypatch.setattr(retries.time, "monotonic", lambda: next(clock))
    rough.failures = [TimeoutError("connect timeout"), None]
    with pytest.raises(DataError, match="cannot be read after 2 tries"):
        open_photos("rough://bucket")


class NoCredentialsError(Exception):
    """As botocore's, which is no OSError."""


class Answer(Exception):
    status = 403


@pytest.mark.parametrize("error", [PermissionError("Forbidden"), NoCredentialsError(), Answer()])
def test_a_refusal_is_said_at_once(rough, error: Exception):
    rough.failures = [error, None]
    with pytest.raises(DataError, match=r"Access to 'rough://bucket' is refused.*credentials"):
        open_photos("rough://bucket")
    assert rough.asked == 1


class Response:
    def __init__(self, status: int) -> None:
        self.status_code = status


class Told(Exception):
    """As the clients of HTTP have it, in two ways."""

    def __init__(self, status: int, inside: bool) -> None:
        super().__init__(f"the server said {status}")
        if inside:
            self.response = Response(status)
        else:
            self.status = status


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("status", "asked", "words"),
    [(401, 1, "is refused"), (403, 1, "is refused"), (500, retries.TRIES, "after 6 tries"),
     (404, 1, "There is nothing at"), (410, 1, "There is nothing at")],
)  # fmt: skip
def test_what_a_client_takes_for_a_missing_file_is_told_by_the_answer(
    rough, monkeypatch, status, asked, words, inside
):
    monkeypatch.setattr(retries.time, "sleep", lambda _: None)
    missing = FileNotFoundError("rough://bucket")
    missing.__cause__ = Told(status, inside)
    rough.failures = [missing, None]
    with pytest.raises(DataError, match=words):
        open_photos("rough://bucket")
    assert rough.asked == asked


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("rough://", InputError, "names no place"),
        ("s3://", InputError, "names no place"),
        ("rough://bucket/none", DataError, "nothing at"),
        ("nosuch://bucket/x", InputError, "no address that can be opened"),
    ],
)
def test_bad_addresses_get_one_sentence(rough, address, error, words):
    with pytest.raises(error, match=words):
        open_photos(address)


def quick(photos, out: Path):
    return build(photos, out, SETTINGS, workers=1, stages=NAME, report=False, progress=False)


def step(address: str, out: Path) -> None:
    """What a build does, here: the address is one of this process alone."""
    folder = BuildFolder(out)
    folder.journals.mkdir(parents=True, exist_ok=True)
    with closing(PhotoIndex(folder.index)) as index:
        index.fill(open_photos(address), SETTINGS, progress=False)
        for number in set(range(index.chunks(5))) - folder.done():
            process_chunk(number, index.chunk(number), make_stages(SETTINGS, 1), SETTINGS, out)


def test_a_build_goes_on_when_the_server_is_back(rough, monkeypatch, photos, tmp_path: Path):
    """Nothing lost, nothing doubled: the same shards as of the folder on disk."""
    step(str(photos), tmp_path / "whole")
    address, out = put(photos, "rough://bucket/photos"), tmp_path / "out"
    real, left = Rough.cat_file, 0

    def failing(self, path, start=None, end=None, **more):
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("no route to host")
        return real(self, path, start, end, **more)

    monkeypatch.setattr(Rough, "cat_file", failing)
    done = []
    for left in (9, 34, 15, 17):  # noqa: B007 (the failing line counts it down)
        with pytest.raises(DataError, match="the same command goes on"):
            step(address, out)
        done.append(len(BuildFolder(out).done()))
    left = 1000
    step(address, out)
    assert done == [0, 1, 1, 1]
    assert shards_in(out) == shards_in(tmp_path / "whole")
    assert BuildFolder(out).done() == {0, 1, 2}


def test_a_build_is_not_written_into_memory(photos: Path):
    with pytest.raises(InputError, match=r"memory://out' ends with this process"):
        quick(photos, "memory://out")  # type: ignore[arg-type]


def test_a_disk_that_goes_in_mid_build_ends_it_and_the_same_command_goes_on(
    photos: Path, tmp_path: Path
):
    quick(photos, tmp_path / "whole")
    out = tmp_path / "out"
    source = open_photos(photos)
    for number, ref in enumerate(source):
        if number == 3:
            photos.rename(tmp_path / "away")
            with pytest.raises(DataError, match="have vanished"):
                ref.read()
            break
    with pytest.raises(DataError, match="nothing at"):
        quick(photos, out)
    (tmp_path / "away").rename(photos)
    quick(photos, out)
    whole = (tmp_path / "whole").glob("*.tar")
    assert {p.name: p.read_bytes() for p in out.glob("*.tar")} == {
        p.name: p.read_bytes() for p in whole
    }


def test_a_folder_that_goes_while_it_is_listed_is_no_smaller_source(photos: Path, tmp_path: Path):
    source = iter(open_photos(photos))
    next(source)
    photos.rename(tmp_path / "away")
    with pytest.raises(DataError, match="not there any more"):
        list(source)


def test_a_shard_that_goes_is_one_sentence_and_a_photo_that_goes_a_verdict(
    photos: Path, tmp_path: Path
):
    path = tar_of(photos, tmp_path / "shards" / "00000.tar")
    (ref, *_) = open_photos(path)
    path.rename(tmp_path / "x")
    with pytest.raises(DataError, match="not there any more"):
        ref.read()
    (first, *_) = open_photos(photos)
    Path(first.location).unlink()
    with pytest.raises(FileNotFoundError):
        first.read()


def test_a_remote_file_can_be_searched_like_any_other(rough, tmp_path: Path):
    data = bytes(range(256)) * 50_000
    fsspec.filesystem("rough").pipe_file("/b/f", data)
    file = Address("rough://b/f").open()
    for offset, size in ((0, 10), (12_000_000, 900), (len(data) - 5, 50), (3, 5_000_000)):
        file.seek(offset)
        assert file.read(size) == data[offset : offset + size]
    assert file.seek(-2, io.SEEK_END) == len(data) - 2
    assert file.read() == data[-2:]
    with pytest.raises(FileNotFoundError):
        Address("rough://b/g").open()
    assert place_of(f"file://{tmp_path}") == tmp_path


def test_pictures_of_a_remote_folder_decode(rough, photos: Path):
    (ref, *_) = open_photos(put(photos, "rough://bucket/photos"))
    assert Image.open(io.BytesIO(ref.read())).size == (16, 16)
