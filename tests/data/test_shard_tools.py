"""Statistics, merging and splitting of shards: nothing doubled, nothing lost, damage counted."""

import json
from pathlib import Path

import numpy as np
import pytest
import webdataset

from text2layer.blend import composite_over
from text2layer.data.schema import Sample, SampleMetadata, encode_sample
from text2layer.data.shard_file import ShardSeries, writing_shard
from text2layer.data.shard_index import index_shard, read_members
from text2layer.data.shard_tools import merge_shards, shard_statistics, split_of, split_shards
from text2layer.data.shards import ShardReader, ShardWriter
from text2layer.errors import DataError, InputError


def make_sample(number: int, key: str = "", **more) -> Sample:
    rng = np.random.default_rng(number)
    foreground, background = rng.integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    mask = np.zeros((24, 24), np.uint8)
    mask[:12, :12] = 255
    metadata = {
        "source": f"page {number % 7}",
        "license": "CC0-1.0",
        "author": "",
        "split": "train",
    }
    return Sample(
        key or f"photo-{number:04d}", foreground, mask, background,
        composite_over(background, foreground, mask), "a noisy square",
        SampleMetadata(**(metadata | more)),
    )  # fmt: skip


def write(path: Path, samples: list[Sample]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_shard(path) as shard:
        for sample in samples:
            shard.add(sample.key, encode_sample(sample))
    return path


def contents(folder: Path) -> dict[str, dict[str, bytes]]:
    """All members of all samples by key; fails if a key comes twice."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        for key, places in index_shard(path, lambda *_: pytest.fail("damaged")):
            assert key not in found
            found[key] = read_members(path, places)
    return found


def test_a_shard_file_has_the_bytes_of_the_shard_writer(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(3)]
    path = write(tmp_path / "one.tar", samples)
    with ShardWriter(tmp_path / "other") as writer:
        for sample in samples:
            writer.write(sample)
    assert path.read_bytes() == writer.paths[0].read_bytes()


def test_a_key_twice_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="photo-0001"):
        write(tmp_path / "one.tar", [make_sample(1), make_sample(1)])
    assert not list(tmp_path.iterdir())


def test_merge_keeps_all_and_gives_other_pictures_other_keys(tmp_path: Path) -> None:
    write(tmp_path / "a/one.tar", [make_sample(0, "same"), make_sample(1, "twice")])
    write(tmp_path / "b/one.tar", [make_sample(2, "same"), make_sample(1, "twice")])
    write(tmp_path / "c/one.tar", [make_sample(3, "same"), make_sample(2, "same-2")])
    written = merge_shards(
        [tmp_path / name for name in "abc"], tmp_path / "out", 2, progress=False
    )  # fmt: skip
    assert [path.name for path in written.paths] == ["shard-000000.tar", "shard-000001.tar"]
    assert written.samples == {"": 4}
    assert written.skipped.counts == {"the same sample again": 2}
    assert contents(tmp_path / "out") == {
        key: encode_sample(make_sample(number))
        for key, number in (("same", 0), ("twice", 1), ("same-2", 2), ("same-3", 3))
    }


def test_long_keys_stay_within_the_schema(tmp_path: Path) -> None:
    long = "k" * 200
    write(tmp_path / "a.tar", [make_sample(0, long)])
    write(tmp_path / "b.tar", [make_sample(1, long)])
    merge_shards([tmp_path / "a.tar", tmp_path / "b.tar"], tmp_path / "out", progress=False)
    reader = ShardReader(tmp_path / "out")
    assert sorted(len(sample.key) for sample in reader) == [192, 200]
    assert not reader.skipped
    shard = str(tmp_path / "out" / "shard-000000.tar")
    read = webdataset.WebDataset(shard, shardshuffle=False)
    assert [len(sample["__key__"]) for sample in read] == [200, 192]


def test_a_shard_cut_in_the_middle_gives_its_whole_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "in/one.tar", [make_sample(number) for number in range(4)])
    whole = contents(tmp_path / "in")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 5 // 8])
    kept = dict(list(whole.items())[:2])
    written = merge_shards(tmp_path / "in", tmp_path / "merged", progress=False)
    assert contents(tmp_path / "merged") == kept
    assert written.skipped.counts["truncated shard"] == 1
    assert written.skipped.counts["bad sample"] == 1
    assert split_shards(tmp_path / "in", tmp_path / "split", progress=False).skipped.counts == (
        written.skipped.counts
    )
    figures, skipped = shard_statistics(tmp_path / "in", progress=False)
    assert figures["samples"] == 2
    assert skipped.counts == written.skipped.counts


def test_merge_leaves_out_what_cannot_be_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "in/one.tar", [make_sample(number) for number in range(14)])
    whole = contents(tmp_path / "in")
    content = path.read_bytes()
    for number in range(12):
        picture = whole[f"photo-{number:04d}"]["foreground.webp"]
        content = content.replace(picture, bytes(len(picture)))
    path.write_bytes(content)
    written = merge_shards(tmp_path / "in", tmp_path / "merged", progress=False)
    assert contents(tmp_path / "merged") == dict(list(whole.items())[12:])
    assert written.skipped.counts == {"bad sample": 12}
    assert all("photo-00" in message for message in written.skipped.messages)
    assert len(written.skipped.messages) == 12


@pytest.mark.parametrize("tool", [merge_shards, split_shards])
def test_half_a_set_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch, tool) -> None:
    write(tmp_path / "in/one.tar", [make_sample(number) for number in range(5)])
    add = ShardSeries.add

    def killed(self, key, members) -> None:
        if key == "photo-0003":
            raise KeyboardInterrupt
        add(self, key, members)

    monkeypatch.setattr(ShardSeries, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        tool(tmp_path / "in", tmp_path / "out", samples_per_shard=1, progress=False)
    assert list((tmp_path / "out").glob("*.tar"))
    with pytest.raises(DataError, match="not all written"):
        ShardReader(tmp_path / "out")


def test_split_by_picture_is_a_partition_and_the_same_in_every_set(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(60)]
    write(tmp_path / "a/one.tar", samples[:40])
    write(tmp_path / "b/one.tar", samples[20:])
    found = {}
    for name in "ab":
        out = tmp_path / f"split-{name}"
        written = split_shards(tmp_path / name, out, val=0.2, test=0.3, progress=False)
        assert sum(written.samples.values()) == 40
        assert {path.name for path in out.iterdir()} == {path.name for path in written.paths}
        found[name] = {}
        for split in ("train", "val", "test"):
            keys = [s.key for path in out.glob(f"{split}-*") for s in ShardReader(path, split)]
            found[name] |= dict.fromkeys(keys, split)
            assert len(keys) == written.samples[split]
    both = found["a"].keys() & found["b"].keys()
    assert len(both) == 20
    assert all(found["a"][key] == found["b"][key] for key in both)
    assert set(found["a"].values()) == {"train", "val", "test"}


def test_split_changes_nothing_but_the_name_of_the_split(tmp_path: Path) -> None:
    write(tmp_path / "in/one.tar", [make_sample(1)])
    split_shards(tmp_path / "in", tmp_path / "out", val=1, test=0, progress=False)
    before, after = encode_sample(make_sample(1)), contents(tmp_path / "out")["photo-0001"]
    assert json.loads(before.pop("json")) | {"split": "val"} == json.loads(after.pop("json"))
    assert before == after


def test_split_by_source_lets_no_source_cross(tmp_path: Path) -> None:
    write(tmp_path / "in/one.tar", [make_sample(number) for number in range(70)])
    split_shards(tmp_path / "in", tmp_path / "out", "source", 0.3, 0.3, progress=False)
    splits: dict[str, set[str]] = {}
    samples = list(ShardReader(tmp_path / "out"))
    for sample in samples:
        splits.setdefault(sample.metadata.source, set()).add(sample.metadata.split)
    assert len(samples) == 70
    assert all(len(found) == 1 for found in splits.values())
    assert len({min(found) for found in splits.values()}) > 1


def test_composed_samples_whose_parts_disagree_are_left_out(tmp_path: Path) -> None:
    samples = [
        make_sample(
            number,
            extra={"parts": {"foreground": {"id": f"f{number % 5}"},
                             "background": {"id": f"b{number % 3}"}}},
        )
        for number in range(15)
    ]  # fmt: skip
    write(tmp_path / "in/one.tar", samples)
    written = split_shards(tmp_path / "in", tmp_path / "out", val=0.5, test=0, progress=False)
    places: dict[tuple[str, str], set[str]] = {}
    for sample in ShardReader(tmp_path / "out"):
        for role, part in sample.metadata.extra["parts"].items():
            places.setdefault((role, part["id"]), set()).add(sample.metadata.split)
    assert all(len(found) == 1 for found in places.values())
    assert written.skipped.counts["parts in different splits"] == 15 - sum(written.samples.values())
    assert 0 < written.skipped.counts["parts in different splits"] < 15


def test_split_as_stored(tmp_path: Path) -> None:
    samples = [make_sample(number, split="val" if number < 2 else "train") for number in range(5)]
    write(tmp_path / "in/one.tar", samples)
    written = split_shards(tmp_path / "in", tmp_path / "out", "stored", progress=False)
    assert written.samples == {"train": 3, "val": 2}


def test_shares_of_split_are_as_asked() -> None:
    splits = [split_of(f"photo {number}", 0.1, 0.2) for number in range(5000)]
    assert splits.count("val") / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)


def test_statistics_of_shards(tmp_path: Path) -> None:
    write(tmp_path / "in/one.tar", [make_sample(number) for number in range(3)])
    figures, _ = shard_statistics(tmp_path / "in", progress=False)
    assert figures["area"]["0.5"]["mean"] == pytest.approx(0.25)
    assert figures["components"]["0.9"]["mean"] == 1
    assert figures["splits"] == {"train": 3}
    assert figures["licenses"] == {"CC0-1.0": 3}


def test_webdataset_reads_merged_shards(tmp_path: Path) -> None:
    write(tmp_path / "in/one.tar", [make_sample(number) for number in range(3)])
    paths = merge_shards(tmp_path / "in", tmp_path / "out", progress=False).paths
    read = list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [f"photo-{number:04d}" for number in range(3)]


def test_bad_input(tmp_path: Path) -> None:
    shards = write(tmp_path / "in/one.tar", [make_sample(1)])
    with pytest.raises(InputError, match="holds files"):
        merge_shards(shards, tmp_path / "in")
    with pytest.raises(InputError, match="is a file"):
        split_shards(shards, shards)
    with pytest.raises(InputError, match="'colour'"):
        split_shards(shards, tmp_path / "out", by="colour")
    with pytest.raises(InputError, match="shares"):
        split_shards(shards, tmp_path / "out", val=0.7, test=0.7)
    with pytest.raises(DataError, match="nowhere"):
        merge_shards(tmp_path / "nowhere", tmp_path / "out")
    shards.write_bytes(b"")
    with pytest.raises(DataError, match="no usable sample"):
        merge_shards(shards, tmp_path / "other", progress=False)
