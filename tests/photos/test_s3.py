"""Photos on an S3 server: one that moto runs here. Needs `pip install s3fs 'moto[server]'`."""

from pathlib import Path

import pytest

from tests.photos.test_addresses import quick, tar_of
from tests.photos.toy_photos import write_photos
from text2layer.data import retries
from text2layer.errors import DataError
from text2layer.photos.sources import open_photos

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
server = pytest.importorskip("moto.server", reason="moto[server] is not installed")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch):
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(retries, "FIRST_DELAY", 0.01)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield running
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        running.stop()


def test_a_build_from_s3_is_that_of_the_same_files_on_disk(s3, tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 12)
    shards = tar_of(folder, tmp_path / "shards" / "00000.tar").parent
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    system.put(str(folder), "bucket/photos", recursive=True)
    system.put(str(shards), "bucket/shards", recursive=True)
    for name, here in (("photos", folder), ("shards", shards)):
        quick(here, tmp_path / f"{name}-here")
        quick(f"s3://bucket/{name}", tmp_path / f"{name}-there")
        there, own = (
            {path.name: path.read_bytes() for path in (tmp_path / f"{name}-{where}").glob("*.tar")}
            for where in ("there", "here")
        )
        assert there == own
        assert len(there) == 3


def test_a_server_that_goes_ends_a_build_and_the_same_command_goes_on(s3, tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 12)
    system = s3fs.S3FileSystem()
    system.mkdir("second")
    system.put(str(folder), "second/photos", recursive=True)
    source = open_photos("s3://second/photos")
    refs = list(source)
    assert len(refs) == 12
    assert refs[3].read() == Path(folder / "photo0003.png").read_bytes()
    with pytest.raises(DataError, match="nothing at"):
        open_photos("s3://second/other")
    s3.stop()
    with pytest.raises(DataError, match=r"cannot be read after 6 tries.*same command goes on"):
        refs[4].read()


def test_missing_credentials_are_one_sentence(s3, monkeypatch, tmp_path: Path) -> None:
    s3fs.S3FileSystem().mkdir("third")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"Access to 's3://third/photos' is refused.*credentials"):
        open_photos("s3://third/photos")
