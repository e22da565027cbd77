import hashlib
import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from text2layer.blend import composite_over
from text2layer.data.compose import compose_shards
from text2layer.data.library import Library
from text2layer.data.schema import Sample, SampleMetadata, decode_sample, encode_sample
from text2layer.data.shards import ShardComposer, ShardReader, ShardWriter
from text2layer.data.source import ReadsAhead
from text2layer.errors import DataError, InputError
from text2layer.tensors import colour_to_bytes, mask_to_bytes


def make_sample(number: int, split: str = "train", side: int = 24, **more: object) -> Sample:
    """Noise in every part, also under alpha 0: the hardest case for a lossless store."""
    rng = np.random.default_rng(number)
    foreground, background = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    mask = rng.integers(0, 256, (side, side), dtype=np.uint8)
    mask[: side // 2] = 0
    metadata = SampleMetadata(
        "toy==1.0", "CC0-1.0", "Zoë", split, scores={"mask": 0.5}, **more  # type: ignore[arg-type]
    )  # fmt: skip
    image = composite_over(background, foreground, mask)
    return Sample(
        f"{split}-{number:05d}",
        foreground,
        mask,
        background,
        image,
        f"ein Fuchs {number}",
        metadata,
    )


def assert_equal(one: Sample, other: Sample) -> None:
    for name in ("foreground", "mask", "background", "image"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.key, one.text, one.metadata) == (other.key, other.text, other.metadata)


def write(folder: Path, samples: list[Sample], per_shard: int = 4) -> list[Path]:
    with ShardWriter(folder, per_shard) as writer:
        for sample in samples:
            writer.write(sample)
    return writer.paths


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(10)]
    paths = write(tmp_path, samples)
    assert [path.name for path in paths] == [f"shard-00000{n}.tar" for n in range(3)]
    assert sorted(tmp_path.iterdir()) == paths  # nothing temporary stays
    reader = ShardReader(tmp_path)
    for read, written in zip(reader, samples, strict=True):
        assert_equal(read, written)
    assert not reader.skipped


def test_an_opaque_mask_survives() -> None:
    sample = replace(make_sample(1), mask=np.full((24, 24), 255, np.uint8))
    assert_equal(decode_sample(sample.key, encode_sample(sample)), sample)


def test_photos_are_stored_as_jpeg_and_the_layer_without_loss() -> None:
    smooth = np.tile(np.arange(0, 240, 10, dtype=np.uint8)[:, None, None], (1, 24, 3))
    sample = replace(make_sample(1), background=smooth, image=smooth)
    members = encode_sample(sample, lossless=False)
    assert set(members) == {"foreground.webp", "background.jpg", "image.jpg", "txt", "json"}
    read = decode_sample(sample.key, members)
    assert np.array_equal(read.foreground, sample.foreground)
    assert np.abs(read.background.astype(int) - smooth).max() < 8


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(3)]
    one, other = write(tmp_path / "a", samples), write(tmp_path / "b", samples)
    assert one[0].read_bytes() == other[0].read_bytes()


def test_webdataset_reads_our_shards(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(6)]
    paths = write(tmp_path, samples)
    read = webdataset.WebDataset([str(path) for path in paths], shardshuffle=False)
    for raw, sample in zip(read, samples, strict=True):
        assert raw["__key__"] == sample.key
        assert raw["txt"].decode() == sample.text
        assert json.loads(raw["json"])["author"] == "Zoë"
        members = {name: value for name, value in raw.items() if isinstance(value, bytes)}
        assert_equal(decode_sample(sample.key, members), sample)


def test_we_read_what_webdataset_writes(tmp_path: Path) -> None:
    sample = make_sample(3)
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as sink:
        sink.write({"__key__": sample.key} | encode_sample(sample))
    assert_equal(next(iter(ShardReader(tmp_path))), sample)


def test_shuffling_keeps_every_sample_and_follows_the_seed(tmp_path: Path) -> None:
    write(tmp_path, [make_sample(number) for number in range(12)])

    def keys(seed: int) -> list[str]:
        return [sample.key for sample in ShardReader(tmp_path, shuffle_buffer=5, seed=seed)]

    assert keys(1) == keys(1)
    assert keys(1) != keys(2)
    assert sorted(keys(1)) == [f"train-{number:05d}" for number in range(12)]


def test_a_failure_leaves_no_unfinished_shard(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ShardWriter(tmp_path, 2) as writer:
            for number in range(3):
                writer.write(make_sample(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["shard-000000.tar"]
    assert len(list(ShardReader(tmp_path))) == 2


def test_a_truncated_shard_gives_what_is_whole(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(8)]
    first, _ = write(tmp_path, samples)
    whole = first.read_bytes()
    with tarfile.open(first) as tar:
        cut = tar.getmember(f"{samples[2].key}.background.webp").offset_data + 100
    first.write_bytes(whole[:cut])
    reader = ShardReader(tmp_path)
    assert [sample.key for sample in reader] == [s.key for s in (*samples[:2], *samples[4:])]
    assert reader.skipped == {"truncated shard": 1, "bad sample": 1}
    assert first.name in reader.messages[0]


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 700, 1023])
def test_any_cut_is_counted_and_never_fatal(tmp_path: Path, cut: int) -> None:
    (path,) = write(tmp_path, [make_sample(1)])
    path.write_bytes(path.read_bytes()[:cut])
    reader = ShardReader(tmp_path)
    assert list(reader) == []
    assert reader.skipped["truncated shard"] == 1


def test_a_file_that_is_no_tar_is_counted(tmp_path: Path) -> None:
    write(tmp_path, [make_sample(1)])
    (tmp_path / "zz.tar").write_bytes(b"\x01" * 4096)
    reader = ShardReader(tmp_path)
    assert len(list(reader)) == 1
    assert sum(reader.skipped.values()) == 1


def overwrite(path: Path, member: str, part: slice, data: bytes) -> None:
    """Put bytes over a part of a member; offsets below 0 lie in its header, of 512 bytes."""
    with tarfile.open(path) as tar:
        start = tar.getmember(member).offset_data
    content = bytearray(path.read_bytes())
    content[start + part.start : start + part.stop] = data
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("suffix", ["foreground.webp", "image.webp", "json"])
@pytest.mark.parametrize("number", [0, 1, 15])
def test_a_bit_of_a_header_costs_one_sample(tmp_path: Path, number: int, suffix: str) -> None:
    samples = [make_sample(one) for one in range(16)]
    (path,) = write(tmp_path, samples, 16)
    overwrite(path, f"{samples[number].key}.{suffix}", slice(-512, -511), b"u")  # was a "t"
    reader = ShardReader(tmp_path)
    kept = [sample.key for sample in samples if sample is not samples[number]]
    assert [sample.key for sample in reader] == kept
    assert reader.skipped == {"damaged shard": 1, "bad sample": 1}
    assert samples[number].key in reader.messages[1]
    source = ShardComposer(tmp_path, size=24, progress=False, max_lost=1 / 16)
    assert len(source) == 15
    assert source.skipped == reader.skipped
    with pytest.raises(DataError, match=r"1 of 16 samples .* more than 5%"):
        ShardComposer(tmp_path, size=24, progress=False)


def test_an_empty_stretch_is_not_taken_for_the_end(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(9)]
    (path,) = write(tmp_path, samples, 9)
    with tarfile.open(path) as tar:
        first, last = (tar.getmember(f"{samples[n].key}.foreground.webp").offset for n in (2, 4))
    content = path.read_bytes()
    path.write_bytes(content[:first] + bytes(last - first) + content[last:])
    reader = ShardReader(tmp_path)
    assert [s.key for s in reader] == [s.key for s in (*samples[:2], *samples[4:])]
    assert reader.skipped == {"damaged shard": 1}
    assert f"byte {first:,}" in reader.messages[0]
    assert f"byte {last:,}" in reader.messages[0]
    path.write_bytes(content[:first] + bytes(len(content) - first))  # nothing was written behind
    assert len(content) - first > 2**16
    assert len(list(reader)) == 2
    assert reader.skipped == {"damaged shard": 2}


def test_every_damaged_sample_is_named(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(16)]
    (path,) = write(tmp_path, samples, 16)
    for sample in samples[2:14]:
        overwrite(path, f"{sample.key}.foreground.webp", slice(0, 40), bytes(40))
    reader = ShardReader(tmp_path)
    assert len(list(reader)) == 4
    assert reader.skipped == {"bad sample": 12}
    said = " ".join(reader.messages)
    assert all(sample.key in said for sample in samples[2:14])


def test_a_run_that_loses_too_many_samples_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [make_sample(number) for number in range(16)]
    (path,) = write(tmp_path, samples, 16)
    for sample in samples[2:14]:
        overwrite(path, f"{sample.key}.foreground.webp", slice(0, 40), bytes(40))
    source = ShardComposer(tmp_path, size=24, progress=False, max_lost=2 / 16, workers=1)
    with pytest.raises(DataError, match=r"3 of 16 samples .*more than 12%.*dataset merge"):
        source.compose(64, torch.Generator().manual_seed(0))
    lost = [record.getMessage() for record in caplog.records]
    assert len(lost) == len(set(lost)) >= 3
    assert all("cannot be decoded. Another sample" in line for line in lost)


def test_a_shard_without_its_samples_counts_for_the_share(tmp_path: Path) -> None:
    first, *_ = write(tmp_path, [make_sample(number) for number in range(12)])
    first.write_bytes(first.read_bytes()[:700])
    with pytest.raises(DataError, match="4 of 12 samples"):
        ShardComposer(tmp_path, size=24, progress=False, max_lost=0.3)
    assert len(ShardComposer(tmp_path, size=24, progress=False, max_lost=0.34)) == 8


def test_json_that_is_nested_too_deep_is_a_bad_sample(tmp_path: Path) -> None:
    members = encode_sample(make_sample(1)) | {"json": b"[" * 100_000}
    with pytest.raises(DataError, match="json cannot be read"):
        decode_sample("train-00001", members)


@pytest.mark.parametrize(
    ("suffix", "data", "word"),
    [
        ("image.webp", None, "no image.webp"),
        ("background.webp", b"RIFFxxxx", "background.webp cannot be decoded"),
        ("txt", b"  ", "caption is empty"),
        ("txt", b"\xff\xfe", "not UTF-8"),
        ("json", b"{", "json cannot be read"),
        ("json", b"[]", "not an object"),
        ("json", b'{"source": "x"}', "no text field 'license'"),
        ("json", b'{"schema": 99}', "schema is 99"),
    ],
)
def test_a_bad_sample_is_counted_with_its_reason(
    tmp_path: Path, suffix: str, data: bytes | None, word: str
) -> None:
    with tarfile.open(tmp_path / "own.tar", "w") as tar:
        for number in range(2):
            sample = make_sample(number)
            members = encode_sample(sample)
            if number == 0 and data is None:
                del members[suffix]
            elif number == 0 and data is not None:
                members[suffix] = data
            for name, content in members.items():
                header = tarfile.TarInfo(f"{sample.key}.{name}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    reader = ShardReader(tmp_path)
    assert [sample.key for sample in reader] == ["train-00001"]
    assert reader.skipped == {"bad sample": 1}
    assert word in reader.messages[0]


def test_the_writer_refuses_what_breaks_the_schema(tmp_path: Path) -> None:
    sample = make_sample(1)
    with ShardWriter(tmp_path / "a") as writer:
        writer.write(sample)
        with pytest.raises(DataError, match="written before"):
            writer.write(sample)
        with pytest.raises(DataError, match="may hold only"):
            writer.write(replace(sample, key="a.b"))
        with pytest.raises(DataError, match="empty caption"):
            writer.write(replace(sample, key="b", text=" "))
        with pytest.raises(DataError, match=r"image of sample 'c' is uint8 \(2, 2, 3\)"):
            writer.write(replace(sample, key="c", image=np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match="exists already"):
        write(tmp_path / "a", [make_sample(2)])
    with pytest.raises(DataError, match=r"no shard"):
        ShardReader(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no \.tar"):
        ShardReader(tmp_path)


def test_compose_shards_writes_exact_samples_and_names_their_makers(
    toy_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    counts = {"train": 20, "val": 4}
    summary = compose_shards(toy_root, out, counts, seed=2, size=32, samples_per_shard=8,
                             progress=False)  # fmt: skip
    names = [f"train-00000{n}.tar" for n in range(3)] + ["val-000000.tar"]
    assert summary["shards"] == names
    assert sorted(path.name for path in out.iterdir()) == ["ATTRIBUTION.md", "summary.json", *names]
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["library"] == Library(toy_root).fingerprint
    assert "Toy Maker, toy==1.0, CC0-1.0" in (out / "ATTRIBUTION.md").read_text()
    samples = list(ShardReader(out))
    assert len(samples) == 24
    for sample in samples:
        assert np.array_equal(
            composite_over(sample.background, sample.foreground, sample.mask), sample.image
        )
        assert sample.text == sample.metadata.captions["whole"]
        concept = sample.metadata.extra["parts"]["foreground"]["id"].split("-")[0]
        assert (concept == "triangle") == (sample.metadata.split == "val")


def test_the_same_seed_composes_the_same_shards(toy_root: Path, tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        compose_shards(toy_root, tmp_path / name, 5, seed, 32, progress=False)
        content = (tmp_path / name / "train-000000.tar").read_bytes()
        hashes.append(hashlib.sha256(content).hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]


def stop_after(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end as at a kill after so many samples."""
    written, write_sample = [], ShardWriter.write

    def writing(self: ShardWriter, sample: Sample) -> None:
        if len(written) == number:
            raise KeyboardInterrupt
        written.append(sample.key)
        write_sample(self, sample)

    monkeypatch.setattr(ShardWriter, "write", writing)


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"

    def compose(folder: Path, seed: int = 1) -> None:
        compose_shards(toy_root, folder, {"train": 45, "val": 9}, seed, 32, 7, progress=False)

    compose(whole)
    for number in (24, 12, 14):  # in train, in train again, in val
        with monkeypatch.context() as patch:
            stop_after(number, patch)
            with pytest.raises(KeyboardInterrupt):
                compose(out)
        with pytest.raises(DataError, match=r"not all written.*unfinished\.json"):
            ShardReader(out)
    (out / ".text2layer-0123456789ab.part").write_bytes(b"of a killed run")
    with pytest.raises(DataError, match="of other arguments"):
        compose(out, seed=2)
    compose(out)
    files = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in out.iterdir()) == files
    for name in files:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_two_do_not_compose_into_a_folder(toy_root: Path, tmp_path: Path) -> None:
    """The second process finds the first one's lock, and leaves its unfinished shard alone."""
    out = tmp_path / "out"
    seen = []

    class Slow(Library):
        """Composes the same once more while it is asked for its fingerprint at the end."""

        @property
        def fingerprint(self) -> str:
            if list(out.glob("*.tar")) and not seen:
                seen.append(True)
                with pytest.raises(InputError, match="Another process composes into"):
                    compose_shards(toy_root, out, 3, 0, 32, progress=False)
            return super().fingerprint

    compose_shards(Slow(toy_root), out, 3, 0, 32, progress=False)
    assert seen
    assert len(list(ShardReader(out))) == 3


def test_compose_shards_refuses_a_used_folder_and_no_samples(
    toy_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        compose_shards(toy_root, tmp_path, 3, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    with pytest.raises(InputError, match="number of samples is 0"):
        compose_shards(toy_root, tmp_path / "out", 0, progress=False)


def test_shard_composer_gives_the_stored_samples(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(6)]
    write(tmp_path, samples)
    source = ShardComposer(tmp_path, size=24, progress=False)
    assert len(source) == 6
    batch = source.compose(16, torch.Generator().manual_seed(0))
    again = source.compose(16, torch.Generator().manual_seed(0))
    assert torch.equal(batch.image, again.image)
    part = source.compose(16, torch.Generator().manual_seed(0), slice(1, 16, 3))
    assert torch.equal(part.image, batch.image[1::3])
    assert part.texts == batch.texts[1::3]
    texts = source.captions(batch, random.Random(0))
    by_text = {sample.text: sample for sample in samples}
    assert len(set(texts)) > 3
    for index, text in enumerate(texts):
        stored = by_text[text]
        for name in ("foreground", "background", "image"):
            ours = colour_to_bytes(getattr(batch, name))[index].permute(1, 2, 0).numpy()
            assert np.array_equal(ours, getattr(stored, name))
        assert np.array_equal(mask_to_bytes(batch.mask)[index, 0].numpy(), stored.mask)


def test_shard_composer_resizes_and_stays_exact(tmp_path: Path) -> None:
    write(tmp_path, [make_sample(number) for number in range(4)])
    batch = ShardComposer(tmp_path, size=(40, 16), progress=False).compose(8)
    assert batch.image.shape == (8, 3, 16, 40)
    layers = (colour_to_bytes(batch.background), colour_to_bytes(batch.foreground))
    expected = composite_over(*layers, mask_to_bytes(batch.mask))
    assert torch.equal(colour_to_bytes(batch.image), expected)


def test_shard_composer_knows_splits_parts_and_opt_outs(tmp_path: Path) -> None:
    words = {"whole": "a fox", "foreground": "fox alone"}
    samples = [make_sample(0, captions=words), make_sample(1, "val"), make_sample(2, opt_out=True)]
    write(tmp_path, samples)
    train = ShardComposer(tmp_path, "train", 24, progress=False)
    assert len(train) == 1
    assert train.skipped == {"opted out": 1}
    batch = train.compose(2)
    assert train.captions(batch, random.Random(0), "foreground") == ["fox alone"] * 2
    assert train.captions(batch, random.Random(0), "background") == ["a fox"] * 2
    assert len(ShardComposer(tmp_path, "val", 24, progress=False)) == 1
    with pytest.raises(DataError, match="'test'"):
        ShardComposer(tmp_path, "test", 24, progress=False)


def test_shard_composer_reads_no_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [make_sample(number) for number in range(6)])
    source = ShardComposer(tmp_path, size=24, progress=False)
    read, reader = [], source._read
    monkeypatch.setattr(source, "_read", lambda index: read.append(index) or reader(index))
    source.compose(12, torch.Generator().manual_seed(0), slice(0, 12, 4))
    drawn = torch.randint(6, (12,), generator=torch.Generator().manual_seed(0))
    assert sorted(read) == sorted(drawn[::4].tolist())


def test_shard_composer_reads_ahead_what_it_will_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [make_sample(number) for number in range(6)])
    source = ShardComposer(tmp_path, size=24, progress=False)
    assert isinstance(source, ReadsAhead)

    def at(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    expected = [source.compose(8, at(seed), slice(0, 8, 2)).image for seed in (1, 2)]
    read, reader = [], source._read
    monkeypatch.setattr(source, "_read", lambda index: read.append(index) or reader(index))
    source.prepare(8, at(1), slice(0, 8, 2))
    assert torch.equal(source.compose(8, at(1), slice(0, 8, 2)).image, expected[0])
    assert len(read) == 4
    source.prepare(8, at(1), slice(0, 8, 2))  # another batch than the one that is asked for
    assert torch.equal(source.compose(8, at(2), slice(0, 8, 2)).image, expected[1])
    assert len(read) == 12


def test_shard_composer_replaces_a_damaged_sample(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(3)]
    (path,) = write(tmp_path, samples)
    source = ShardComposer(tmp_path, size=24, progress=False, max_lost=0.4)
    before = source.fingerprint
    overwrite(path, f"{samples[1].key}.image.webp", slice(0, 40), bytes(40))
    batch = source.compose(20, torch.Generator().manual_seed(0))
    assert set(source.captions(batch, random.Random(0))) == {samples[0].text, samples[2].text}
    assert source.skipped == {"bad sample": 1}  # once, however often it was drawn
    assert samples[1].key in source.messages[0]
    assert ShardComposer(tmp_path, size=24, progress=False).fingerprint != before
