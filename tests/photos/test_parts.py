"""A chunk done in parts by three kinds of workers: the bytes of one worker, whatever happens."""

import pickle
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests import toy_onnx
from tests.photos.deadly_stages import IN_PARTS
from tests.photos.toy_photos import draw_photo, photo_refs, write_photos
from tests.photos.toy_stages import NAME, Bright, Decode, Faulty, Layers
from text2layer.errors import DataError, InputError, WeightsError
from text2layer.photos.chunk import DEFAULT_STAGES, hashes_of, read_journal
from text2layer.photos.folder import BuildFolder
from text2layer.photos.parts import DECODE, ENCODE, NETWORKS, Part, stages_of
from text2layer.photos.photo import Photo, Rejection
from text2layer.photos.ray import Cluster
from text2layer.photos.ray_parts import Actors, DecodeActor, PartActor, commit_parts
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings
from text2layer.photos.stages import make_stages
from text2layer.photos.worker import WorkerSetup

SETTINGS = BuildSettings(photos_per_shard=12, min_size=1)
PHOTOS = 24  # two chunks, of which a copy is left out by the index


def written(folder: Path, captions: dict[int, str]) -> Path:
    write_photos(folder, PHOTOS)
    (folder / "photo0001.png").write_bytes((folder / "photo0000.png").read_bytes())
    for number, caption in captions.items():
        (folder / f"photo{number:04d}.txt").write_text(caption)
    return folder


def begun(
    photos: Path, folder: Path, stages: str, settings: BuildSettings = SETTINGS
) -> WorkerSetup:
    """A build by one worker in `one`, and the same in `out` of which only the index is there."""
    one, out = folder / "one", folder / "out"
    build(photos, one, settings, workers=1, stages=stages, report=False, progress=False,
          photo_timeout=5)  # fmt: skip
    for path in (out / "journal", out / "examples"):
        path.mkdir(parents=True)
    for name in ("build.json", "index.sqlite"):
        shutil.copy(one / name, out)
    return WorkerSetup(stages, settings, out, str(photos), photo_seconds=5)


def parts_done(setup: WorkerSetup, chunks: list[int]) -> Iterator[Part]:
    """What the driver gets, without a cluster: one actor of each kind."""
    decode, network, encode = (
        DecodeActor(setup),
        PartActor(NETWORKS, setup),
        PartActor(ENCODE, setup),
    )
    with ExitStack() as stack:
        for actor in (decode, network, encode):
            stack.enter_context(closing(actor._guard))
        for batch in decode({"id": chunks}):
            yield from map(pickle.loads, encode(network(batch))["part"])


def verdicts(out: Path) -> list[dict]:
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for path in sorted(out.glob("journal/*.jsonl")) for line in read_journal(path)
    ]  # fmt: skip


def assert_same(out: Path, other: Path) -> None:
    for one in ("shard-*.tar", "examples/*"):
        names = {path.name for path in other.glob(one)}
        assert names == {path.name for path in out.glob(one)} != set()
    for path in other.glob("shard-*.tar"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert verdicts(out) == verdicts(other)
    assert not [*out.rglob("*.part"), *out.rglob("*.aside.json")]


def test_stages_are_divided_at_those_with_networks() -> None:
    decode, bright, faulty, layers = Decode(SETTINGS), Bright(SETTINGS), Faulty(), Layers()
    stages = [decode, faulty, bright, layers, bright, layers]
    divided = [stages_of(kind, stages) for kind in (DECODE, NETWORKS, ENCODE)]
    assert divided == [[decode, faulty], [bright, layers, bright], [layers]]
    bright.device = "cpu"  # says so itself
    assert stages_of(NETWORKS, [decode, bright, layers]) == []
    assert stages_of(DECODE, [decode, bright, layers]) == [decode, bright, layers]


def test_only_workers_with_networks_load_them() -> None:
    settings = BuildSettings(saliency="no-such-network.onnx")
    stages = make_stages(settings, 1)
    assert [stage.name for stage in stages_of(DECODE, stages)] == ["decode"]
    assert stages_of(ENCODE, stages) == []
    with pytest.raises(WeightsError, match="no-such-network"):
        hashes_of(stages)


def test_parts_give_the_bytes_of_one_worker(tmp_path: Path) -> None:
    photos = written(tmp_path / "photos", {5: "a cursed disc"})
    setup = begun(photos, tmp_path, NAME)
    parts = list(parts_done(setup, [0, 1]))
    random.Random(1).shuffle(parts)
    parts += parts[-2:]  # a machine was lost after it had done these
    results = {result.number: result for result in commit_parts(iter(parts), setup)}
    assert_same(tmp_path / "out", tmp_path / "one")
    reasons = results[0].reasons + results[1].reasons
    assert reasons["index", "near duplicate"] == reasons["faulty", "stage failed"] == 1
    assert results[0].model_hashes.keys() == {"saliency"}
    assert sum(result.photos for result in results.values()) == PHOTOS


def test_networks_in_a_part_of_their_own_give_the_same_bytes(tmp_path: Path) -> None:
    network = toy_onnx.brightness_network(tmp_path / "toy.onnx", (1, 3, 64, 64))
    settings = BuildSettings(
        photos_per_shard=12, min_size=1, saliency=str(network), second_saliency="",
        inpainter="opencv", mask_quality=0, fill_quality=0, pair_quality=0, licence="CC0-1.0",
        quality_filter=False,
    )  # fmt: skip
    photos = write_photos(tmp_path / "photos", 12, side=96)
    setup = begun(photos, tmp_path, DEFAULT_STAGES, settings)
    [result] = commit_parts(parts_done(setup, [0]), setup)
    assert_same(tmp_path / "out", tmp_path / "one")
    assert result.kept
    assert result.model_hashes.keys() == {"saliency"}
    assert result.devices.keys() == {str(network)}


def test_a_photo_that_kills_any_kind_of_worker_is_set_aside(tmp_path: Path) -> None:
    acts = {3: "dies in decode: segfault", 6: "dies in networks: exit", 8: "dies in encode: abort"}
    photos = written(tmp_path / "photos", acts)
    setup = begun(photos, tmp_path, IN_PARTS)
    list(commit_parts(parts_done(setup, [0, 1]), setup))
    assert_same(tmp_path / "out", tmp_path / "one")
    aside = {line["source"][-8:-4]: line["reason"] for line in verdicts(tmp_path / "out")
             if line.get("stage") == "worker"}  # fmt: skip
    assert aside == {
        "0003": "killed its worker: signal 11", "0006": "ended its worker: exit status 7",
        "0008": "killed its worker: signal 6",
    }  # fmt: skip


def test_a_photo_on_which_networks_hang_is_set_aside(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 1)
    (folder / "photo0000.txt").write_text("waits in networks: hang")
    setup = WorkerSetup(IN_PARTS, SETTINGS, tmp_path, str(folder), photo_seconds=3)
    actor = PartActor(NETWORKS, setup)
    [ref] = photo_refs(folder)
    with closing(actor._guard):
        part = actor.done(Part(0, photos=[Photo(ref, image=draw_photo(0))]))
    [photo] = part.photos
    assert photo.rejected == Rejection("worker", "took longer than 3 s")
    assert photo.image is None


def test_a_chunk_without_all_its_parts_is_not_committed_but_remembers(tmp_path: Path) -> None:
    photos = written(tmp_path / "photos", {3: "dies in encode: exit"})
    setup = begun(photos, tmp_path, IN_PARTS)
    first, second, *_ = parts_done(setup, [0])
    assert list(commit_parts(iter([first, second]), setup)) == []
    assert not list(setup.out.glob("shard-*.tar")) + list(setup.out.glob("journal/*.jsonl"))
    aside = BuildFolder(setup.out).read_aside(0)
    assert list(aside.values()) == ["ended its worker: exit status 7"]


def test_errors_of_a_worker_and_other_models_end_the_build(tmp_path: Path) -> None:
    setup = begun(written(tmp_path / "photos", {}), tmp_path, NAME)
    broken = Part(0, error=("DataError", "The disk has vanished."))
    assert PartActor(ENCODE, setup).done(broken) is broken
    with pytest.raises(DataError, match="vanished"):
        list(commit_parts(iter([broken]), setup))
    other = WorkerSetup("tests.photos.toy_stages:nothing", SETTINGS, setup.out, setup.source)
    assert next(DecodeActor(other)._parts(0)).error is None
    error = PartActor(NETWORKS, other).done(Part(0)).error
    assert error is not None
    assert error[0] == "InputError"
    assert "toy_stages:nothing" in error[1]
    parts = list(parts_done(setup, [0]))
    of_another = pickle.loads(pickle.dumps(parts[1]))
    of_another.provenance.hashes["saliency"] = "0" * 64
    with pytest.raises(InputError, match=r"other models \(not the same: saliency"):
        list(commit_parts(iter([parts[0], of_another]), setup))


def test_a_cluster_is_divided_so_that_all_kinds_of_actors_find_room() -> None:
    large = Cluster(gpus=8, cores=256, node_cores=64, gpu_cores=16)
    assert large.actors(None) == Actors(8, None, gpus=1, network_cores=1, cores=1)
    assert large.actors(16) == Actors(16, 16, gpus=0.5, network_cores=0.5, cores=1)
    assert large.actors(2) == Actors(2, 2, gpus=1, network_cores=1, cores=1)
    small = Cluster(gpus=1, cores=2, node_cores=2, gpu_cores=2)
    assert small.actors(None) == Actors(1, None, gpus=1, network_cores=1, cores=0.5)
    least = Cluster(gpus=1, cores=1, node_cores=1, gpu_cores=1)
    assert least.actors(3) == Actors(3, 3, gpus=0.3333, network_cores=0, cores=0.5)
