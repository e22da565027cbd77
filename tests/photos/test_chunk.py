"""One chunk: what is written, what is noted, and that it depends on photos and settings alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset

from tests.photos.toy_photos import draw_photo, photo_refs, write_photos
from tests.photos.toy_stages import NAME, make_stages
from text2layer.data.shards import ShardReader
from text2layer.errors import DataError, InputError, WeightsError
from text2layer.photos.chunk import (
    ChunkResult,
    hashes_of,
    journal_result,
    load_stages,
    process_chunk,
    read_journal,
)
from text2layer.photos.folder import BuildFolder
from text2layer.photos.photo import Photo, PhotoRef, Rejection
from text2layer.photos.settings import BuildSettings

LOSSLESS = BuildSettings(jpeg=False)


@pytest.fixture
def refs(tmp_path: Path) -> list[PhotoRef]:
    return photo_refs(write_photos(tmp_path / "photos", 20))


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    made = BuildFolder(tmp_path / "out")
    made.journals.mkdir(parents=True)
    return made


def run(refs, folder: BuildFolder, settings=LOSSLESS, stages=None) -> ChunkResult:
    entries = [ref if isinstance(ref, tuple) else (ref, None) for ref in refs]
    stages = make_stages(settings, 1) if stages is None else stages
    return process_chunk(3, entries, stages, settings, folder.root)


def test_shard_holds_what_was_kept_and_journal_everything(refs, folder: BuildFolder) -> None:
    result = run(refs, folder)
    kept = [number for number in range(20) if number % 5 != 4]  # see draw_photo
    assert (result.photos, result.kept) == (20, len(kept))
    assert result.reasons == {("bright", "nothing found"): 4}
    samples = list(ShardReader(folder.shard(3)))
    assert [sample.key for sample in samples] == [f"photo{number:04d}" for number in kept]
    for number, sample in zip(kept, samples, strict=True):
        photo = draw_photo(number)
        assert np.array_equal(sample.image, photo)
        assert np.array_equal(sample.background[sample.mask == 0], photo[sample.mask == 0])
        assert sample.metadata.author == "nobody"
        assert sample.metadata.model_hashes.keys() == {"saliency"}
        assert sample.metadata.scores.keys() == {"share"}  # not the undefined one
        assert sample.metadata.extra["build"]["settings"] == LOSSLESS.fingerprint
    lines = list(read_journal(folder.journal(3)))
    assert [line["key"] for line in lines] == [ref.key for ref in refs]
    assert [line["kept"] for line in lines] == [number in kept for number in range(20)]
    assert all(line["seconds"].keys() >= {"decode", "bright"} for line in lines)
    assert journal_result(3, folder, hashes_of(make_stages(LOSSLESS, 1))) == result


def test_webdataset_reads_the_shard(refs, folder: BuildFolder) -> None:
    result = run(refs, folder, BuildSettings())
    dataset = webdataset.WebDataset(str(folder.shard(3)), shardshuffle=False).decode("rgb8")
    samples = list(dataset)
    assert len(samples) == result.kept
    for sample in samples:
        number = int(sample["__key__"][-4:])
        error = np.abs(sample["image.jpg"].astype(int) - draw_photo(number)).mean()
        assert error < 4  # JPEG
        assert sample["txt"].startswith("a ")
        assert sample["json"]["license"] == "CC0-1.0"


def test_same_photos_same_bytes(refs, folder: BuildFolder) -> None:
    run(refs, folder)
    first = folder.shard(3).read_bytes()
    run(refs, folder)  # as after a kill between shard and journal: replaced, not doubled
    assert folder.shard(3).read_bytes() == first
    run(refs[1:], folder)
    assert folder.shard(3).read_bytes() != first


def test_what_the_index_rejected_is_only_noted(refs, folder: BuildFolder) -> None:
    twin = Rejection("index", "near duplicate", "of photo0000")
    result = run([refs[0], (refs[1], twin), refs[2]], folder)
    assert result.reasons == {("index", "near duplicate"): 1}
    line = list(read_journal(folder.journal(3)))[1]
    assert (line["stage"], line["reason"], line["detail"]) == (
        "index", "near duplicate", "of photo0000",
    )  # fmt: skip
    assert line["seconds"] == {}
    assert [s.key for s in ShardReader(folder.shard(3))] == ["photo0000", "photo0002"]


def test_a_chunk_without_a_kept_photo_has_no_shard(refs, folder: BuildFolder) -> None:
    result = run([refs[4], refs[9]], folder)
    assert result.kept == 0
    assert folder.journal(3).exists()
    assert not folder.shard(3).exists()


def test_a_stage_that_breaks_costs_one_photo(refs, folder: BuildFolder) -> None:
    cursed = replace(refs[2], caption="a cursed disc")
    gone = replace(refs[5], location=str(folder.root / "nowhere.png"))
    result = run([*refs[:2], cursed, *refs[3:5], gone], folder)
    assert result.reasons == {
        ("faulty", "stage failed"): 1, ("decode", "stage failed"): 1, ("bright", "nothing found"): 1
    }  # fmt: skip
    details = {line["key"]: line.get("detail") for line in read_journal(folder.journal(3))}
    assert details["photo0002"] == "RuntimeError: this photo is cursed"
    assert "nowhere.png" in details["photo0005"]


class Missing:
    """A stage whose weights are gone: about the build, not about a photo."""

    name = "missing"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos) -> None:
        raise WeightsError("The weights are gone.")


class Nothing:
    name = "nothing"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: list[Photo]) -> None: ...


def test_an_error_of_the_build_ends_it_and_leaves_nothing(refs, folder: BuildFolder) -> None:
    with pytest.raises(WeightsError, match="gone"):
        run(refs[:2], folder, stages=[*make_stages(LOSSLESS, 1), Missing()])
    assert not folder.journal(3).exists()
    assert not list(folder.root.glob("*.tar"))
    assert not list(folder.root.rglob("*.part"))


def test_stages_that_make_no_layers_keep_nothing(refs, folder: BuildFolder) -> None:
    assert run(refs[:2], folder, stages=[Nothing()]).reasons == {("write", "incomplete"): 2}


def test_a_photo_without_caption_gets_words_where_that_is_allowed(refs, folder) -> None:
    run([replace(refs[0], caption="")], folder)
    assert next(iter(ShardReader(folder.shard(3)))).text == "a photo"


def test_examples_show_each_kind_and_stay_few(refs, folder: BuildFolder) -> None:
    run(refs, folder)
    names = sorted(path.name for path in folder.examples.iterdir())
    kinds = [name.partition("--")[0] for name in names]
    assert {kind: kinds.count(kind) for kind in kinds} == {"bright-nothing_found": 4, "kept": 6}


def test_a_full_disk_is_one_sentence_and_leaves_nothing(refs, folder, tmp_path) -> None:
    program = f"""
import resource, signal
from pathlib import Path
from tests.photos.toy_photos import photo_refs
from tests.photos.toy_stages import make_stages
from text2layer.photos.chunk import process_chunk
from text2layer.photos.settings import BuildSettings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
entries = [(ref, None) for ref in photo_refs(Path({str(tmp_path / "photos")!r}))]
settings, out = BuildSettings(jpeg=False), Path({str(folder.root)!r})
try:
    process_chunk(0, entries, make_stages(settings, 1), settings, out)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("WriteError ")
    assert "size limit" in done.stdout
    left = [path for path in folder.root.rglob("*") if path.is_file()]
    assert all(path.parent.name == "examples" for path in left)


@pytest.mark.parametrize("name", ["nomodule:make", "json:nothing", "json"])
def test_stages_that_cannot_be_loaded(name: str) -> None:
    with pytest.raises(InputError, match=name):
        load_stages(name, LOSSLESS, 1)


def test_stages_are_loaded_by_name() -> None:
    assert [stage.name for stage in load_stages(NAME, LOSSLESS, 1)] == [
        "decode", "bright", "faulty", "layers",
    ]  # fmt: skip


def test_a_damaged_journal_is_named(folder: BuildFolder) -> None:
    folder.journal(0).write_text(json.dumps({"kept": True}) + "\n{half")
    with pytest.raises(DataError, match=r"000000\.jsonl"):
        list(read_journal(folder.journal(0)))
