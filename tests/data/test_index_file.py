import errno
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.data.test_shards import make_sample, overwrite, write
from text2layer.data.index_builder import IndexBuilder
from text2layer.data.index_file import FileState, ShardColumns, ShardIndex
from text2layer.data.indexing import NAME, index_shards, open_index
from text2layer.data.known_samples import KnownSamples
from text2layer.data.shards import ShardComposer, ShardReader
from text2layer.errors import DataError, InputError, WriteError


def drawn(data: Path, split: str | None = "train") -> tuple[list[str], torch.Tensor, str]:
    composer = ShardComposer(data, split, size=24, progress=False, max_lost=1)
    batch = composer.compose(40, torch.Generator().manual_seed(0))
    return composer.captions(batch, None), batch.image, composer.fingerprint  # type: ignore


def mixed(folder: Path) -> list[Path]:
    """Three splits, one sample that opted out, a damaged header and a cut shard."""
    samples = [make_sample(n, ("train", "train", "val")[n % 3]) for n in range(20)]
    samples[4] = make_sample(4, "train", opt_out=True)
    paths = write(folder, samples)
    overwrite(paths[1], f"{samples[6].key}.json", slice(-512, -511), b"x")
    paths[4].write_bytes(paths[4].read_bytes()[:-9000])
    return paths


@pytest.mark.parametrize("split", ["train", "val", None])
def test_the_same_samples_are_drawn_with_an_index_and_without(
    tmp_path: Path, split: str | None
) -> None:
    mixed(tmp_path)
    plain = ShardComposer(tmp_path, split, size=24, progress=False, max_lost=1)
    captions, images, fingerprint = drawn(tmp_path, split)
    assert index_shards(tmp_path, progress=False).read == 5
    indexed = ShardComposer(tmp_path, split, size=24, progress=False, max_lost=1)
    assert len(indexed) == len(plain)
    assert indexed.skipped == plain.skipped
    assert indexed.messages == plain.messages
    captions_then, images_then, fingerprint_then = drawn(tmp_path, split)
    assert captions_then == captions
    assert torch.equal(images_then, images)
    assert fingerprint_then == fingerprint
    with pytest.raises(DataError, match="lost to damage"):
        ShardComposer(tmp_path, split, size=24, progress=False, max_lost=0.01)


@pytest.mark.parametrize("split", ["train", "val", None])
def test_a_reader_gives_the_same_samples_with_an_index(tmp_path: Path, split: str | None) -> None:
    mixed(tmp_path)
    before = [sample.key for sample in ShardReader(tmp_path, split)]
    index_shards(tmp_path, progress=False)
    reader = ShardReader(tmp_path, split)
    assert [sample.key for sample in reader] == before
    assert reader.skipped["damaged shard"] == reader.skipped["truncated shard"] == 1


def test_a_composer_with_an_index_reads_no_shard_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed(tmp_path)
    index_shards(tmp_path, progress=False)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a shard was opened")

    for name in ("indexing.scan_shard", "index_file.read_members", "index_file.hash_shards"):
        monkeypatch.setattr(f"text2layer.data.{name}", fail)
    source = ShardComposer(tmp_path, "val", size=24, progress=False, max_lost=1)
    assert len(source.fingerprint) == 64
    known = KnownSamples(source, len(source))
    assert {known.caption(number) for number in range(len(source))} == {
        f"ein Fuchs {n}" for n in (2, 5, 8, 11, 14, 17)
    }


def test_the_file_is_one_that_safetensors_reads(tmp_path: Path) -> None:
    write(tmp_path, [make_sample(n) for n in range(6)])
    index_shards(tmp_path, progress=False)
    with safe_open(tmp_path / NAME, "np") as file:
        sizes = file.get_tensor("sizes")
        assert sizes.shape == (6, 5)
        words = bytes(file.get_tensor("words"))
    assert words.startswith(b"train-00000\0ein Fuchs 0train-00001")
    index = ShardIndex.open(tmp_path / NAME)
    assert index.key(3) == "train-00003"
    assert index.order("train") == range(6)
    assert len(index.order("val")) == 0
    path, places = index.place(5)
    assert path.name == "shard-000001.tar"
    with path.open("rb") as tar:
        offset, size = places["txt"]
        tar.seek(offset)
        assert tar.read(size) == b"ein Fuchs 5"


def test_one_index_of_several_folders_is_joined_from_theirs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [make_sample(n) for n in range(ord(name) - 90)])
        index_shards(tmp_path / name, progress=False)
    (tmp_path / "all").mkdir()
    out = tmp_path / "all" / "both.index"
    with pytest.raises(InputError, match="--out"):
        index_shards([tmp_path / "a", tmp_path / "b"], progress=False)
    made = index_shards([tmp_path / "a", tmp_path / "b"], out, progress=False)
    assert (made.samples, made.read) == (15, 0)
    source = ShardComposer(out, size=24, progress=False)
    assert len(source) == 15
    assert source.fingerprint == ShardComposer(source.paths, size=24, progress=False).fingerprint
    assert source.take([14]).texts[0]["whole"] == "ein Fuchs 7"


@pytest.mark.parametrize("given", [["nowhere"], ["a", "nowhere"]])
def test_a_folder_that_is_not_there_is_named_before_a_missing_option(
    tmp_path: Path, given: list[str]
) -> None:
    write(tmp_path / "a", [make_sample(0)])
    with pytest.raises(DataError, match=r"There is no shard at '.*nowhere'"):
        index_shards([tmp_path / name for name in given], progress=False)


def change_a_byte(folder: Path) -> None:
    path = folder / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    time.sleep(0.01)  # a clock's tick
    path.write_bytes(data)


def remove_a_shard(folder: Path) -> None:
    (folder / "shard-000001.tar").unlink()


def add_a_shard(folder: Path) -> None:
    (folder / "more.tar").write_bytes((folder / "shard-000001.tar").read_bytes())


def index_of_other_shards(folder: Path) -> None:
    write(folder.parent / "other", [make_sample(n + 50) for n in range(6)])
    index_shards(folder.parent / "other", progress=False)
    (folder / NAME).write_bytes((folder.parent / "other" / NAME).read_bytes())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_a_byte, "'shard-000000.tar' has changed"),
        (remove_a_shard, "'shard-000001.tar' is not there"),
        (add_a_shard, "'more.tar' is new"),
        (index_of_other_shards, "'shard-000000.tar' has changed"),
    ],
)
def test_an_index_that_does_not_fit_is_refused_by_trainers_and_set_aside_by_readers(
    tmp_path: Path, change, said: str
) -> None:
    folder = tmp_path / "shards"
    write(folder, [make_sample(n) for n in range(6)])
    index_shards(folder, progress=False)
    change(folder)
    with pytest.raises(DataError, match=f"does not fit the shards: {said}.*dataset index again"):
        ShardComposer(folder, size=24, progress=False)
    reader = ShardReader(folder)
    list(reader)
    assert reader.skipped["index set aside"] == 1
    made = index_shards(folder, progress=False)  # reads what changed, not the rest
    assert made.read == {change_a_byte: 1, remove_a_shard: 0, add_a_shard: 1}.get(change, 2)
    assert len(ShardComposer(folder, size=24, progress=False)) == made.samples


def test_a_shard_that_changes_during_a_run_gives_no_wrong_sample(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [make_sample(n) for n in range(4)])
    index_shards(tmp_path, progress=False)
    source = ShardComposer(tmp_path, size=24, progress=False, max_lost=0.3)
    (other,) = write(tmp_path / "other", [make_sample(n + (n == 2) * 70) for n in range(4)])
    path.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match="not those that were indexed"):
        source.take([2])
    assert source.take([1]).texts[0]["whole"] == "ein Fuchs 1"


def test_of_very_many_shards_a_spread_choice_is_compared_and_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path, [make_sample(n) for n in range(12)], 1)
    index_shards(tmp_path, progress=False)
    monkeypatch.setattr("text2layer.data.indexing.CHECKED", 4)  # every third
    os.utime(paths[4], ns=(1, 1))
    source = ShardComposer(tmp_path, size=24, progress=False)
    assert source.take([4]).texts[0]["whole"] == "ein Fuchs 4"
    paths[4].write_bytes(paths[5].read_bytes())
    source = ShardComposer(tmp_path, size=24, progress=False)
    with pytest.raises(DataError, match="not those that were indexed"):
        source.take([4])
    os.utime(paths[6], ns=(1, 1))
    with pytest.raises(DataError, match=r"'shard-000006\.tar' has changed"):
        ShardComposer(tmp_path, size=24, progress=False)
    paths[11].unlink()
    with pytest.raises(DataError, match=r"'shard-000011\.tar' is not there"):
        ShardComposer(tmp_path, size=24, progress=False)


def made_up(folder: Path, samples: int) -> Path:
    """An index of one shard that does not exist."""
    columns = {
        "blocks": np.arange(5 * samples, dtype="<u4").reshape(samples, 5),
        "sizes": np.full((samples, 5), 512, "<u4"),
        "crcs": np.zeros(samples, "<u4"),
        "kinds": np.zeros(samples, "|u1"),
        "word_ends": np.arange(1, samples + 1, dtype="<u8") * 4,
    }
    builder = IndexBuilder()
    builder.add(ShardColumns("one.tar", FileState(), columns, b"k\0ab" * samples, found=samples))
    builder.write(folder / NAME, [])
    return folder / NAME


def read_ahead(path: Path) -> dict[bool, int]:
    """Bytes of a mapped file by whether the system reads ahead in them."""
    found = {True: 0, False: 0}
    mine, size = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *others = line.split()
        if "-" in first:
            mine = bool(others) and line.endswith(str(path))
            begin, end = (int(edge, 16) for edge in first.split("-"))
            size = end - begin
        elif mine and first == "VmFlags:":
            found["rr" not in others] += size
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_a_look_up_reads_no_megabytes_ahead(tmp_path: Path) -> None:
    """Of the samples, that is; names of shards and what else is read in a row is read ahead."""
    path = made_up(tmp_path, 100_000)
    in_a_row = ShardIndex.open(path)
    assert not read_ahead(path)[False]
    del in_a_row
    index = ShardIndex.open(path, at_random=True)
    mapped = read_ahead(path)
    assert mapped[False] > 0.9 * path.stat().st_size
    assert mapped[True] > 0
    for number in (0, 54_321, 99_999):
        places = index.place(number)[1]
        assert [offset for offset, _ in places.values()] == [
            512 * (5 * number + n) for n in range(5)
        ]
        assert (index.key(number), index.caption(number)) == ("k", "ab")


def test_who_draws_samples_opens_an_index_so(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path, [make_sample(n) for n in range(2)], 1)
    index_shards(tmp_path, progress=False)
    opened = []
    real = ShardIndex.open.__func__  # type: ignore[attr-defined]

    def noting(cls, path: Path, *, at_random: bool = False) -> ShardIndex:
        opened.append(at_random)
        return real(cls, path, at_random=at_random)

    monkeypatch.setattr(ShardIndex, "open", classmethod(noting))
    ShardComposer(tmp_path, progress=False)
    index_shards(tmp_path, progress=False)
    assert opened[0] is True
    assert not any(opened[1:])


@pytest.mark.parametrize("cut", [0, 5, 8, 300, 0.5, -1])
def test_a_cut_index_is_one_sentence(tmp_path: Path, cut: float) -> None:
    write(tmp_path, [make_sample(n) for n in range(6)])
    index_shards(tmp_path, progress=False)
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data[: int(cut * len(data)) if cut == 0.5 else int(cut)])
    with pytest.raises(DataError, match=r"is cut short or no index.*dataset index again"):
        ShardComposer(tmp_path, size=24, progress=False)
    assert index_shards(tmp_path, progress=False).read == 2
    assert len(ShardComposer(tmp_path, size=24, progress=False)) == 6


@pytest.mark.parametrize("data", [b"\xff" * 4096, b"\x10" + bytes(7) + b'{"a": [1, 2, 3]}' * 9])
def test_a_file_that_is_no_index_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, [make_sample(1)])
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DataError, match="cut short or no index"):
        open_index(tmp_path)


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [make_sample(1)])
    index_shards(tmp_path, progress=False)
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data.replace(b"text2layer shards 1", b"text2layer shards 9"))
    with pytest.raises(DataError, match="another release"):
        open_index(tmp_path)


def test_several_processes_write_the_same_index(tmp_path: Path) -> None:
    mixed(tmp_path)
    index_shards(tmp_path, progress=False)
    one = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).unlink()
    assert index_shards(tmp_path, workers=2, progress=False).read == 5
    assert (tmp_path / NAME).read_bytes() == one


def test_an_index_whose_writer_is_killed_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    write(folder, [make_sample(n) for n in range(40)])
    code = (
        "import sys, time\n"
        "from text2layer.data import index_builder, indexing\n"
        "copy = index_builder.shutil.copyfileobj\n"
        "def slow(*given):\n"
        "    print('writing', flush=True)\n"
        "    copy(*given)\n"
        "    time.sleep(60)\n"
        "index_builder.shutil.copyfileobj = slow\n"
        "indexing.index_shards(sys.argv[1], progress=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / NAME).exists()
    assert len(ShardComposer(folder, size=24, progress=False)) == 40
    assert index_shards(folder, progress=False).samples == 40
    assert len(ShardComposer(folder, size=24, progress=False)) == 40


def test_many_that_opted_out_leave_few_sentences_and_all_counts(tmp_path: Path) -> None:
    samples = [make_sample(n, opt_out=n % 2 == 0) for n in range(60)]
    write(tmp_path, samples, 30)
    index_shards(tmp_path, progress=False)
    again = index_shards(tmp_path, progress=False)
    assert again.read == 0
    index = ShardIndex.open(tmp_path / NAME)
    assert index.counts == {"opted out": 30}
    assert len(index.messages) == 10
    assert np.array_equal(index.order("train"), np.arange(1, 60, 2))
    header = (tmp_path / NAME).read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert json.loads(header[8 : 8 + length])["__metadata__"]["format"] == "text2layer shards 1"


def test_out_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, [make_sample(1)])
    with pytest.raises(InputError, match=r"must end in \.index"):
        index_shards(tmp_path, tmp_path / "x.bin", progress=False)
    with pytest.raises(InputError, match="does not exist"):
        index_shards(tmp_path, tmp_path / "no" / "x.index", progress=False)
    with pytest.raises(DataError, match="no shard"):
        index_shards([tmp_path / "none"], tmp_path / "x.index", progress=False)


def test_a_disk_that_takes_no_columns_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path, [make_sample(1)])

    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system", "/somewhere/tmpab12")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(WriteError, match=r"shards\.index could not be written: the disk is read-"):
        index_shards(tmp_path, progress=False)


@pytest.mark.parametrize(
    ("packed", "said"), [(gzip.compress, "gzip"), (lzma.compress, "xz"), (lambda _: b"", "short")]
)
def test_shards_of_which_nothing_is_usable_get_no_index(tmp_path: Path, packed, said) -> None:
    (shard,) = write(tmp_path, [make_sample(1)])
    shard.write_bytes(packed(shard.read_bytes()))
    with pytest.raises(DataError, match=rf"hold no usable sample\. .*{said}"):
        index_shards(tmp_path, progress=False)
    assert not (tmp_path / NAME).exists()
