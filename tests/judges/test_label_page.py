"""The label page's requests, as the page makes them and as others might."""

import io

import numpy as np
import pytest
from PIL import Image

from text2layer.blend import composite_over
from text2layer.data.schema import Sample, SampleMetadata
from text2layer.data.shards import ShardWriter
from text2layer.errors import DataError, InputError
from text2layer.judges.label_page import PARTS, build_label_app, part_of
from text2layer.judges.labels import LabelQueue, read_labels

pytest.importorskip("fastapi", reason="the label page needs the extra 'build'")
from fastapi.testclient import TestClient

KEYS = ["a", "b", "c"]


def sample(key):
    rng = np.random.default_rng(ord(key))
    pictures = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(3)]
    mask = rng.integers(0, 256, (40, 60), dtype=np.uint8)
    metadata = SampleMetadata("here", "CC0-1.0", "", "train")
    return Sample(key, pictures[0], mask, pictures[1], pictures[2], f"picture {key}", metadata)


@pytest.fixture
def folder(tmp_path):
    with ShardWriter(tmp_path / "build", 2) as writer:
        for key in KEYS:
            writer.write(sample(key))
    return tmp_path / "build"


@pytest.fixture
def queue(folder):
    return LabelQueue(folder, folder / "labels.jsonl", "me")


@pytest.fixture
def client(queue):
    return TestClient(build_label_app(queue), base_url="http://127.0.0.1:8765")


def judge(client, key="a", kind="mask", good=True, reason="", **headers):
    body = {"key": key, "kind": kind, "good": good, "reason": reason}
    return client.post("/labels", json=body, headers=headers)


def test_the_page_comes_whole_and_asks_nobody_else(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert "http" not in answer.text.replace("http-equiv", "")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_state_lists_samples_with_their_verdicts(client):
    judge(client, "b", "fill", False, "artefact")
    state = client.get("/state").json()
    assert [one["key"] for one in state["samples"]] == KEYS
    assert state["samples"][0] == {"key": "a", "mask": None, "fill": None}
    assert state["samples"][1]["fill"] == {"good": False, "reason": "artefact"}
    assert len(state["reasons"]["mask"]) == len(state["reasons"]["fill"]) == 5


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_a_picture_of_the_sample(client, part):
    answer = client.get(f"/picture/b/{part}")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
    expected = part_of(sample("b"), part)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 8  # JPEG of noise


def test_the_cut_out_lies_over_checkers():
    one = sample("a")
    shown = part_of(one, "cutout")
    light = composite_over(np.full_like(one.image, 204), one.foreground, one.mask)
    dark = composite_over(np.full_like(one.image, 102), one.foreground, one.mask)
    assert np.array_equal(shown[:12, :12], light[:12, :12])
    assert np.array_equal(shown[:12, 12:24], dark[:12, 12:24])


def test_each_verdict_is_on_the_disk_at_once_and_can_be_taken_back(client, folder):
    assert judge(client, "a", "mask", False, "incomplete").json()["mask"]["reason"] == "incomplete"
    label = read_labels(folder / "labels.jsonl")["a", "mask"]
    assert (label.good, label.reason, label.source, label.by) == (
        False, "incomplete", "photo", "me",
    )  # fmt: skip
    assert label.at
    assert judge(client, "a", "mask", None).json() == {"mask": None, "fill": None}
    assert read_labels(folder / "labels.jsonl") == {}


def test_a_new_page_goes_on_where_the_last_one_stopped(client, folder):
    judge(client, "a", "mask", True)
    again = LabelQueue(folder, folder / "labels.jsonl")
    state = TestClient(build_label_app(again), base_url="http://localhost").get("/state").json()
    assert state["samples"][0]["mask"] == {"good": True, "reason": ""}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "../../etc/passwd"}, "no sample"),
        ({"key": "zzz"}, "no sample"),
        ({"good": False, "reason": "ugly"}, "ugly"),
        ({"good": True, "reason": "incomplete"}, "incomplete"),
    ],
)
def test_what_is_no_verdict_is_refused_in_one_sentence(client, folder, fields, message):
    answer = judge(client, **fields)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert not (folder / "labels.jsonl").exists()


def test_other_kinds_and_parts_are_refused(client):
    assert judge(client, kind="sky").status_code == 422
    assert judge(client, good="maybe").status_code == 422
    assert client.get("/picture/a/secret").status_code == 422
    assert client.get("/picture/zzz/mask").status_code == 400
    assert client.get("/picture/..%2F..%2Fetc/mask").status_code in (400, 404)


def test_a_number_that_json_lacks_is_refused_in_one_sentence(client, folder):
    for verdict in ("NaN", "[" * 50_000):
        body = f'{{"key": "a", "kind": "mask", "good": {verdict}}}'
        answer = client.post("/labels", content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500
        assert answer.json()
    assert "true, false or null" in judge(client, good="maybe").json()["error"]
    assert not (folder / "labels.jsonl").exists()


def test_other_hosts_and_other_pages_are_refused(client, folder):
    assert client.get("/state", headers={"Host": "evil.example"}).status_code == 400
    assert judge(client, Origin="https://evil.example").status_code == 403
    assert not (folder / "labels.jsonl").exists()
    assert judge(client, Origin="http://127.0.0.1:8765").status_code == 200


def test_the_shards_are_not_touched(client, folder):
    before = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    judge(client)
    client.get("/picture/a/photo")
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "labels.jsonl"])


def test_labels_that_cannot_be_written_are_reported(folder):
    queue = LabelQueue(folder, folder / "gone" / "labels.jsonl")
    client = TestClient(build_label_app(queue), base_url="http://127.0.0.1")
    answer = judge(client)
    assert answer.status_code == 500
    assert "could not be written" in answer.json()["error"]
    assert queue.verdict("a", "mask") is None


def test_a_damaged_sample_is_reported_and_the_others_go_on(folder):
    queue = LabelQueue(folder, folder / "labels.jsonl")
    path, places = queue._places["a"]
    with path.open("r+b") as file:
        file.seek(places["foreground.webp"][0])
        file.write(b"\0" * 64)
    client = TestClient(build_label_app(queue), base_url="http://127.0.0.1")
    assert client.get("/picture/a/mask").status_code == 500
    assert "cannot be decoded" in client.get("/picture/a/mask").json()["error"]
    assert client.get("/picture/b/mask").status_code == 200


def test_a_random_sample_is_the_seeds(folder):
    def keys(count, seed):
        return LabelQueue(folder, folder / "labels.jsonl", "", count, seed).keys

    assert keys(2, 1) == keys(2, 1)
    assert len({tuple(keys(2, seed)) for seed in range(8)}) > 1
    assert keys(9, 0) == KEYS
    with pytest.raises(InputError, match="1 or more"):
        keys(0, 0)


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no \.tar file"):
        LabelQueue(tmp_path, tmp_path / "labels.jsonl")
