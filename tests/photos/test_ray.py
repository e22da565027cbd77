"""The same chunks on a Ray cluster of two nodes, one of which is lost during the run."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.photos.deadly_stages import IN_PARTS
from tests.photos.deadly_stages import NAME as DEADLY
from tests.photos.toy_photos import draw_photo, shards_in, write_photos
from tests.photos.toy_stages import NAME
from text2layer.errors import InputError
from text2layer.photos.child import resident_bytes
from text2layer.photos.chunk import commit_chunk, read_journal
from text2layer.photos.ray import gpu_share
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SETTINGS = BuildSettings(photos_per_shard=5, min_size=1, duplicate_distance=0)
PHOTOS = 60  # twelve chunks
STORE = 80 * 2**20  # bytes of a node's object store: the least that Ray takes
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("ray") / "photos", PHOTOS)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each process that has worked on the cluster, named by its number."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def cluster(workers: Path) -> Iterator[Any]:
    """A cluster of one node with a core; tests add another."""
    pytest.importorskip("ray", reason="needs the ray extra")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # nodes and their workers inherit these; the toy stages are found by PYTHONPATH
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("TOY_STAGES_SECONDS", "0.4")
        patch.setenv("DEADLY_STAGES_SECONDS", "0.4")
        patch.setenv("TOY_STAGES_WORKERS", str(workers))
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        for attempts_left in (2, 1, 0):
            try:
                nodes = Cluster(
                    initialize_head=True,
                    head_node_args={
                        "num_cpus": 1,
                        "object_store_memory": STORE,
                        "include_dashboard": False,
                    },
                )
                break
            except Exception as error:  # Ray's own; its agents must answer within 15 seconds
                if "timed out" not in str(error) or not attempts_left:
                    raise
        yield nodes
        nodes.shutdown()


def verdicts(out: Path) -> list[dict]:
    lines = []
    for path in sorted((out / "journal").iterdir()):
        lines += [{k: v for k, v in line.items() if k != "seconds"} for line in read_journal(path)]
    return lines


def test_an_error_of_an_actor_is_one_sentence(cluster: Any, photos: Path, tmp_path: Path) -> None:
    stages = "tests.photos.toy_stages:no_such_function"
    with pytest.raises(InputError, match="no_such_function"):
        build(photos, tmp_path / "out", SETTINGS, ray=cluster.address, stages=stages,
              report=False, progress=False)  # fmt: skip


def test_a_lost_node_costs_nothing(
    cluster: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    cluster.wait_for_nodes()
    out = tmp_path / "ray"
    chunks_at_loss = []

    def lose_a_node() -> None:
        """Kill the second node, without warning, once the first chunks are done."""
        while len(list((out / "journal").glob("*.jsonl"))) < 3:
            time.sleep(0.02)
        chunks_at_loss.append(len(list((out / "journal").glob("*.jsonl"))))
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=lose_a_node, daemon=True)
    killer.start()
    summary = build(
        photos, out, SETTINGS, workers=2, ray=cluster.address, stages=NAME, report=False,
        progress=False,
    )  # fmt: skip
    killer.join(30)
    assert not killer.is_alive()
    assert 3 <= chunks_at_loss[0] < PHOTOS // 5  # the node was lost during the run
    assert (summary.photos, summary.processed, summary.interrupted) == (PHOTOS, PHOTOS, False)
    here = tmp_path / "here"
    monkeypatch.setenv("TOY_STAGES_SECONDS", "0")
    build(photos, here, SETTINGS, workers=1, stages=NAME, report=False, progress=False)
    assert shards_in(out) == shards_in(here)
    assert verdicts(out) == verdicts(here)
    assert not list(out.rglob("*.part"))


def test_photos_and_actors_that_die(cluster: Any, tmp_path: Path, monkeypatch) -> None:
    """A worker that crashes does not cost its actor; an actor that is killed costs time."""
    photos, out = write_photos(tmp_path / "photos", 20), tmp_path / "ray"
    (photos / "photo0007.txt").write_text("act: segfault")
    (photos / "photo0013.txt").write_text("act: killed once with its parent")
    summary = build(
        photos, out, SETTINGS, ray="auto", stages=DEADLY, report=False, progress=False
    )  # fmt: skip
    assert (summary.processed, summary.interrupted) == (20, False)
    assert (photos / "photo0013.png.killed").exists()
    aside = [line for line in verdicts(out) if line.get("stage") == "worker"]
    assert [line["reason"] for line in aside] == ["killed its worker: signal 11"]
    assert aside[0]["source"].endswith("photo0007.png")
    here = tmp_path / "here"
    monkeypatch.setenv("TOY_STAGES_SECONDS", "0")
    build(photos, here, SETTINGS, workers=1, stages=DEADLY, report=False, progress=False)
    assert shards_in(out) == shards_in(here)


def test_actors_write_to_an_address(cluster: Any, tmp_path: Path, monkeypatch) -> None:
    """They fetch the index from there, and put shards and journals there themselves."""
    photos, out = write_photos(tmp_path / "photos", 20), tmp_path / "ray"
    summary = build(photos, f"local://{out}", SETTINGS, ray=cluster.address, stages=NAME,
                    progress=False)  # fmt: skip
    assert (summary.processed, str(summary.out)) == (20, f"local://{out}")
    here = tmp_path / "here"
    monkeypatch.setenv("TOY_STAGES_SECONDS", "0")
    build(photos, here, SETTINGS, workers=1, stages=NAME, report=False, progress=False)
    assert shards_in(out) == shards_in(here)
    assert verdicts(out) == verdicts(here)
    assert (out / "report.html").exists()
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_nodes_that_join_do_their_share(cluster: Any, workers: Path, tmp_path: Path) -> None:
    """A second node of one core comes during the run; from then on the rate is nearly twice."""
    photos, out = write_photos(tmp_path / "photos", 240), tmp_path / "ray"
    for file in workers.iterdir():
        file.unlink()
    command = [sys.executable, "-m", "text2layer", "dataset", "build", photos, out,
               "--ray", cluster.address, "--stages", NAME, "--photos-per-shard", 2,
               "--min-size", 1, "--duplicate-distance", 0, "--no-report"]  # fmt: skip
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    while len(list((out / "journal").glob("*.jsonl"))) < 12 and process.poll() is None:
        time.sleep(0.02)
    joined = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    _, said = process.communicate()
    cluster.remove_node(joined)
    assert process.returncode == 0, said
    assert len(list(workers.iterdir())) == 2
    ends = sorted(path.stat().st_mtime for path in (out / "journal").glob("*.jsonl"))
    # the median on one node, for the machine is busy with its start; the mean on two
    alone = statistics.median(after - before for before, after in pairwise(ends[1:13]))
    together = (ends[-3] - ends[-23]) / 20
    print(
        f"seconds a chunk: {alone:.3f} on one node, {together:.3f} on two: {alone / together:.2f}"
    )
    assert alone / together >= 1.8


def test_gpus_are_divided_among_actors() -> None:
    assert [gpu_share(0, 4), gpu_share(2, 2), gpu_share(4, 2), gpu_share(1, 4)] == [0, 1, 1, 0.25]
    for gpus, actors in ((1, 3), (2, 7), (8, 9)):
        on_one = int(1 / gpu_share(gpus, actors))
        assert on_one * gpus >= actors  # each finds its place


def test_networks_run_beside_decode_and_encode(
    cluster: Any, workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is told of a GPU that no test needs; a node with decoded pictures is lost in between."""
    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
    lost = cluster.add_node(num_cpus=2, object_store_memory=STORE)
    cluster.wait_for_nodes()
    photos, out = write_photos(tmp_path / "photos", 96), tmp_path / "ray"
    for number, where in ((7, "decode"), (30, "networks"), (55, "encode")):
        (photos / f"photo{number:04d}.txt").write_text(f"dies in {where}: segfault")
    for file in workers.iterdir():
        file.unlink()

    def lose_a_node() -> None:
        while len(list((out / "journal").glob("*.jsonl"))) < 2:
            time.sleep(0.02)
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=lose_a_node, daemon=True)
    killer.start()
    settings = BuildSettings(photos_per_shard=12, min_size=1, duplicate_distance=0)
    begun = time.monotonic()
    summary = build(
        photos, out, settings, ray=cluster.address, workers=2, device="auto", stages=IN_PARTS,
        report=False, progress=False,
    )  # fmt: skip
    print(f"{time.monotonic() - begun:.1f} s")
    killer.join(30)
    assert not killer.is_alive()
    assert summary.processed == 96
    by_part = [
        {file.name.partition("-")[2] for file in workers.glob(f"{part}-*")}
        for part in ("decode", "networks", "encode")
    ]
    print(f"{[len(processes) for processes in by_part]} processes")
    assert all(by_part)
    assert len(set.union(*by_part)) == sum(map(len, by_part))  # no process did two kinds of work
    here = tmp_path / "here"
    monkeypatch.setenv("TOY_STAGES_SECONDS", "0")
    monkeypatch.setenv("DEADLY_STAGES_SECONDS", "0")
    build(photos, here, settings, workers=1, stages=IN_PARTS, report=False, progress=False)
    assert shards_in(out) == shards_in(here)
    assert verdicts(out) == verdicts(here)
    aside = [line["reason"] for line in verdicts(out) if line.get("stage") == "worker"]
    assert aside == ["killed its worker: signal 11"] * 3
    assert not [*out.rglob("*.part"), *out.rglob("*.aside.json")]
    cluster.remove_node(node)


@pytest.mark.measures
def test_networks_do_not_wait_for_decode_and_encode(cluster: Any, tmp_path: Path) -> None:
    """Three parts of .4 s each: one worker takes 1.2 s for a batch, the three together .4 s."""
    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
    cluster.wait_for_nodes()
    photos, out = write_photos(tmp_path / "photos", 240), tmp_path / "ray"
    settings = BuildSettings(photos_per_shard=8, min_size=1, duplicate_distance=0)
    summary = build(
        photos, out, settings, ray=cluster.address, stages=IN_PARTS, report=False, progress=False
    )  # fmt: skip
    cluster.remove_node(node)
    assert summary.processed == 240
    ends = sorted(path.stat().st_mtime for path in (out / "journal").glob("*.jsonl"))
    each = (ends[-1] - ends[5]) / (len(ends) - 6)
    print(f"seconds a batch: {each:.3f}")
    assert each < 0.8


def write_noise(folder: Path, count: int, side: int) -> Path:
    """Photos that no codec makes smaller; four of five are kept."""
    write_photos(folder, count, side)
    for number, file in enumerate(sorted(folder.glob("*.png"))):
        grain = np.random.default_rng(number).integers(0, 60, (side, side, 3), dtype=np.uint8)
        grainy = np.maximum(draw_photo(number, side), 60) - grain
        Image.fromarray(grainy).save(file, compress_level=1)
    return folder


def with_parent(pid: int) -> Iterator[int]:
    """A worker process and its actor, as long as they live."""
    with suppress(OSError):
        yield int(Path(f"/proc/{pid}/stat").read_text().split()[3])
        yield pid


@pytest.mark.measures
def test_a_slow_disk_does_not_fill_the_memory(
    cluster: Any, workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first shard takes 30 s, in which the actors could make all that there is to write."""
    import ray

    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
    cluster.wait_for_nodes()
    photos, out = write_noise(tmp_path / "photos", 192, 384), tmp_path / "ray"
    for file in workers.iterdir():
        file.unlink()
    session = Path(cluster.head_node.get_session_dir_path())
    samples: list[tuple[int, ...]] = []
    done = threading.Event()

    def measure() -> None:
        while not done.wait(1):
            pids = {int(file.name.partition("-")[2]) for file in workers.glob("*-*")}
            if pids and ray.is_initialized():
                largest = max(
                    (resident_bytes(n) for pid in pids for n in with_parent(pid)), default=0
                )
                stores = 2 * STORE - ray.available_resources().get("object_store_memory", 0)
                spilled = sum(path.stat().st_size for path in session.glob("ray_spilled*/*"))
                held = (resident_bytes(os.getpid()), largest, stores, spilled)
                samples.append(tuple(int(size / 1e6) for size in held))

    def slowly(*arguments: Any) -> Any:
        time.sleep(30 if not list(out.glob("*.tar")) else 0)
        return commit_chunk(*arguments)

    monkeypatch.setattr("text2layer.photos.ray_parts.commit_chunk", slowly)
    thread = threading.Thread(target=measure, daemon=True)
    thread.start()
    settings = BuildSettings(photos_per_shard=8, min_size=1, duplicate_distance=0, jpeg=False)
    summary = build(
        photos, out, settings, ray=cluster.address, stages=IN_PARTS, report=False, progress=False
    )  # fmt: skip
    done.set()
    thread.join(5)
    cluster.remove_node(node)
    written = sum(path.stat().st_size for path in out.glob("*.tar")) / 1e6
    print(f"MB of driver, largest other process, object stores, spilled: {samples}")
    print(f"{summary.kept} samples, {written:.0f} MB")
    assert summary.processed == 192
    bound = STORE / 1e6  # half of the two stores, of Ray Data
    assert written > 1.6 * bound
    driver, other, stores, spilled = map(max, zip(*samples, strict=True))
    assert spilled <= bound  # of what is held; it is written to disk where one node has all of it
    assert stores < 1.2 * bound
    assert driver - samples[0][0] < 150
    assert other < 600


def test_no_gpu_is_one_sentence(cluster: Any, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no GPU; leave out --device cuda"):
        build(photos, tmp_path / "out", SETTINGS, ray=cluster.address, device="cuda", stages=NAME,
              report=False, progress=False)  # fmt: skip


def test_no_cluster_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    with pytest.raises(InputError, match="No Ray cluster answers"):
        build(photos, tmp_path / "out", SETTINGS, ray="127.0.0.1:1", stages=NAME, progress=False)
