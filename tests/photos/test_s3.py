"""Photos and results on an S3 server, which moto runs here."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.photos.test_addresses import quick, tar_of
from tests.photos.toy_photos import shards_in, write_photos
from text2layer.data import retries
from text2layer.data.shard_tools import shard_statistics
from text2layer.errors import DataError, WriteError
from text2layer.photos import hold
from text2layer.photos.report import write_report
from text2layer.photos.sources import open_photos

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
PROGRAM = """
import sys
from text2layer.photos import hold, run
from text2layer.photos.settings import BuildSettings
hold.RENEWED, hold.SILENT, hold.SETTLED = 0.2, 2, 0.1
settings = BuildSettings(photos_per_shard=5, min_size=1, duplicate_distance=0)
run.build(sys.argv[1], sys.argv[2], settings, workers=2,
          stages="tests.photos.toy_stages:make_stages", report=False, progress=False)
"""


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


def shards_at(system, folder: str) -> dict[str, bytes]:
    """Shards by name."""
    return {
        path.rpartition("/")[2]: system.cat_file(path) for path in system.glob(f"{folder}/*.tar")
    }


def test_a_build_goes_from_s3_to_s3(s3, tmp_path: Path, monkeypatch) -> None:
    """Killed in the middle, and called again from another machine, it gives what a disk gets."""
    monkeypatch.setattr(hold, "SETTLED", 0.1)
    monkeypatch.setattr(hold, "RENEWED", 0.2)
    folder, system = write_photos(tmp_path / "photos", 33), s3fs.S3FileSystem()
    for bucket in ("source", "out"):
        system.mkdir(bucket)
    system.put(str(folder), "source/photos", recursive=True)
    command = [sys.executable, "-c", PROGRAM, "s3://source/photos", "s3://out"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TOY_STAGES_SECONDS": "1"}
    process = subprocess.Popen(command, env=environment)
    while len(system.glob("out/journal/*.jsonl", refresh=True)) < 2 and process.poll() is None:
        system.invalidate_cache()
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = len(system.ls("out/journal", refresh=True))
    assert 2 <= done < 7
    environment["TOY_STAGES_SECONDS"] = "0"
    subprocess.run(command, env=environment, check=True)
    system.invalidate_cache()
    quick(folder, tmp_path / "here")
    assert shards_at(system, "out") == shards_in(tmp_path / "here")
    assert len(system.ls("out/journal", refresh=True)) == 7
    assert not system.exists("out/.lock")
    assert not system.exists("out/index.unfinished.sqlite")
    assert write_report("s3://out", progress=False)["complete"]
    assert shard_statistics("s3://out", progress=False)[0]["samples"] == 27


def test_a_bucket_that_is_not_there_is_one_sentence(s3, tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    with pytest.raises(WriteError, match=r"bucket does not exist.*make its bucket"):
        quick(folder, "s3://nosuchbucket/out")
