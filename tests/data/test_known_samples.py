"""Known samples: the same numbers, the same samples, however they are asked for."""

import pytest
import torch

from tests.toy_library import build_toy_library
from text2layer.data.composer import Composer
from text2layer.data.known_samples import KnownSamples
from text2layer.data.library import Library
from text2layer.data.schema import Sample, SampleMetadata
from text2layer.data.shards import ShardComposer, ShardWriter
from text2layer.errors import DataError, InputError

PARTS = ("foreground", "background", "mask", "image")


@pytest.fixture(scope="module")
def composer(tmp_path_factory) -> Composer:
    library = build_toy_library(tmp_path_factory.mktemp("data") / "library")
    return Composer(Library(library), "test", 32, progress=False)


@pytest.fixture(scope="module")
def shards(composer, tmp_path_factory) -> ShardComposer:
    folder = tmp_path_factory.mktemp("shards")
    batch = KnownSamples(composer, 7).batch(range(7))
    with ShardWriter(folder, samples_per_shard=3) as writer:
        for place in range(7):
            parts = {name: getattr(batch, name)[place].permute(1, 2, 0).numpy() for name in PARTS}
            parts["mask"] = parts["mask"][..., 0]
            writer.write(Sample(
                key=f"s{place}", **parts, text=f"sample {place}",
                metadata=SampleMetadata("toy", "CC0-1.0", "", "test"),
            ))  # fmt: skip
    return ShardComposer(folder, "test", 32, progress=False)


@pytest.mark.parametrize("kind", ["composer", "shards"])
def test_a_number_is_always_the_same_sample(kind, request):
    known = KnownSamples(request.getfixturevalue(kind), 6, seed=3)
    whole = known.batch(range(6))
    for batch_size in (1, 4):
        parts = list(known.batches(batch_size))
        for name in PARTS:
            assert torch.equal(torch.cat([getattr(b, name) for b in parts]), getattr(whole, name))
        assert [text for b in parts for text in b.captions["whole"]] == whole.captions["whole"]
    other = KnownSamples(request.getfixturevalue(kind), 6, seed=4).batch(range(6))
    assert not torch.equal(other.image, whole.image)


def test_shards_give_each_sample_once(shards):
    texts = KnownSamples(shards, 7).batch(range(7)).captions["whole"]
    assert sorted(texts) == [f"sample {number}" for number in range(7)]
    with pytest.raises(InputError, match="hold 7 samples"):
        KnownSamples(shards, 8)
    with pytest.raises(InputError, match="At least one"):
        KnownSamples(shards, 0)


def test_samples_of_several_foregrounds_are_refused(composer):
    several = Composer(composer.library, "test", 32, progress=False, num_foregrounds=2)
    with pytest.raises(InputError, match=r"one foreground per picture; this source composes 2"):
        KnownSamples(several, 3)


def test_processes_share_the_samples(composer):
    known = KnownSamples(composer, 10)
    numbers = [
        batch.numbers.tolist() for process in range(3) for batch in known.batches(2, process, 3)
    ]
    assert sorted(number for few in numbers for number in few) == list(range(10))


def test_a_damaged_sample_is_named_and_not_replaced(shards, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    path = shards.paths[0]
    data = bytearray(path.read_bytes())
    start = data.index(b"RIFF")
    data[start : start + 4] = b"JUNK"  # the first picture of the first sample
    (folder / path.name).write_bytes(bytes(data))
    broken = ShardComposer(folder, "test", 32, progress=False)
    known = KnownSamples(broken, 3)
    with pytest.raises(DataError, match=r"Sample 's\d' .* cannot be read .* dataset merge"):
        known.batch(range(3))
