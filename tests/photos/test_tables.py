"""Tables that hold pictures: Parquet, img2dataset's, data sets of Hugging Face saved to disk."""

import json
import tarfile
from pathlib import Path

import fsspec
import pytest

from tests.photos.test_sources import jpeg
from text2layer.errors import DataError, InputError
from text2layer.photos import tables
from text2layer.photos.decode import UnusablePicture, read_photo
from text2layer.photos.sources import open_photos

pa = pytest.importorskip("pyarrow", reason="needs the build extra")
from pyarrow import parquet  # noqa: E402

PICTURES = [jpeg(n) for n in range(7)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(pictures: list[bytes], **more: list) -> pa.Table:
    """A table as `datasets` has it, with a column of its type Image."""
    column = pa.array(
        [{"bytes": one, "path": f"{n}.jpg"} for n, one in enumerate(pictures)], STRUCT
    )
    return pa.table({"image": column} | more)


def test_pictures_in_parquet_are_read_row_by_row(tmp_path: Path) -> None:
    table = pa.table(
        {
            "caption": [f"a fox {n}" for n in range(7)],
            "jpg": pa.array(PICTURES, pa.binary()),
            "clip": pa.array([b"vector"] * 7, pa.binary()),
            "license": ["CC0-1.0"] * 7,
        }
    )
    for name, group in (("a.parquet", 3), ("b.parquet", 7)):
        parquet.write_table(table, tmp_path / name, row_group_size=group)
    refs = list(open_photos(tmp_path))
    assert [ref.read() for ref in refs] == PICTURES * 2
    assert [refs[n].read() for n in (6, 0, 12)] == [PICTURES[6], PICTURES[0], PICTURES[5]]
    assert len({ref.key for ref in refs}) == 14
    assert (refs[8].caption, refs[8].license, refs[8].source) == (
        "a fox 1",
        "CC0-1.0",
        "b.parquet#1",
    )
    assert refs[8].to_json()["column"] == "jpg"


def test_a_column_of_structs_gives_its_bytes_or_its_file(tmp_path: Path) -> None:
    (tmp_path / "own.jpg").write_bytes(PICTURES[3])
    rows = [{"bytes": PICTURES[0], "path": None}, {"bytes": None, "path": "own.jpg"}, None]
    table = pa.table({"image": pa.array(rows, STRUCT), "text": ["a", "b", "c"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    first, second, third = open_photos(tmp_path / "x.parquet")
    assert (first.read(), second.read()) == (PICTURES[0], PICTURES[3])
    with pytest.raises(UnusablePicture) as problem:
        read_photo(third)
    assert problem.value.reason == "unreadable"
    assert "has no picture" in problem.value.detail


def test_rows_that_img2dataset_did_not_fetch_are_counted(tmp_path: Path) -> None:
    table = pa.table(
        {
            "key": ["000000", "000001", "000002"],
            "caption": ["a", "b", "c"],
            "status": ["success", "failed_to_download", "success"],
            "jpg": pa.array([PICTURES[0], None, PICTURES[2]], pa.binary()),
        }
    )
    parquet.write_table(table, tmp_path / "00000.parquet")
    source = open_photos(tmp_path)
    first, second = source
    assert second.read() == PICTURES[2]
    assert first.key.startswith("000000-")
    assert source.skipped == {"not downloaded": 1}


def test_the_table_beside_a_shard_speaks_where_a_sample_has_no_json(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number in range(3):
            path = tmp_path / f"00000{number}.bin"
            path.write_bytes(PICTURES[number])
            tar.add(path, f"00000{number}.jpg")
        path.write_text(json.dumps({"caption": "own words"}))
        tar.add(path, "000002.json")
    rows = pa.table(
        {
            "key": ["000000", "000001", "000002"],
            "caption": ["a fox", "a hen", "a cow"],
            "url": [f"https://example.org/{n}" for n in range(3)],
            "status": ["success"] * 3,
            "x_robots_tag": ["", "noai", ""],
        }
    )
    parquet.write_table(rows, tmp_path / "00000.parquet")
    refs = list(open_photos(tmp_path))
    assert [ref.caption for ref in refs] == ["a fox", "a hen", "own words"]
    assert [ref.opt_out for ref in refs] == [False, True, False]
    assert refs[1].source == "https://example.org/1"
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 no more")
    source = open_photos(tmp_path)
    assert [ref.caption for ref in source] == ["", "", "own words"]
    assert source.skipped == {"list not readable": 1}


def saved(folder: Path, tables: list[pa.Table], **state: object) -> Path:
    """A folder as `datasets.Dataset.save_to_disk` writes it: Arrow streams and two JSON files."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{len(tables):05d}.arrow" for n in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    said = {"_data_files": [{"filename": name} for name in names], "_split": "train"} | state
    (folder / "state.json").write_text(json.dumps(said))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_saved_data_set_is_read_with_its_captions(tmp_path: Path) -> None:
    two = [images(PICTURES[:4], text=list("abcd")), images(PICTURES[4:], text=list("efg"))]
    root = saved(tmp_path / "set", two)
    refs = list(open_photos(root))
    assert [ref.read() for ref in refs] == PICTURES
    assert [ref.caption for ref in refs] == list("abcdefg")
    assert refs[5].source == "data-00001-of-00002.arrow#1"


def test_all_splits_of_a_saved_data_set_are_read_and_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "set"
    saved(root / "train", [images(PICTURES[:2])])
    saved(root / "test", [images(PICTURES[2:3])])
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    refs = list(open_photos(root))
    assert [ref.read() for ref in refs] == PICTURES[:3]
    assert len({ref.key for ref in refs}) == 3
    assert refs[2].source == "test/data-00000-of-00001.arrow#0"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ('{"_data_files": [], "_indices_files": [{"filename": "i"}]}', InputError, "flatten"),
        ("{", DataError, "save the data set again"),
        ("[]", DataError, "save the data set again"),
    ],
)
def test_a_saved_data_set_that_cannot_be_read_is_one_sentence(tmp_path, change, error, words):
    root = saved(tmp_path / "set", [])
    (root / "state.json").write_text(change)
    with pytest.raises(error, match=words):
        open_photos(root)


def test_a_cut_arrow_file_is_counted_and_one_that_goes_ends_the_build(tmp_path: Path) -> None:
    root = saved(tmp_path / "set", [images(PICTURES[:4]), images(PICTURES[4:])])
    first = root / "data-00000-of-00002.arrow"
    data = first.read_bytes()
    first.write_bytes(data[:600])
    source = open_photos(root)
    tables._arrow_table.cache_clear()
    refs = list(source)
    assert [ref.read() for ref in refs] == PICTURES[4:]
    assert source.skipped == {"table not readable": 1}
    tables._arrow_table.cache_clear()
    (root / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match="not there any more"):
        refs[0].read()


def test_tables_at_an_address(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    try:
        parquet.write_table(images(PICTURES, text=list("abcdefg")), tmp_path / "x.parquet")
        system.pipe_file("/tables/x.parquet", (tmp_path / "x.parquet").read_bytes())
        root = saved(tmp_path / "set", [images(PICTURES[:3])])
        for path in root.iterdir():
            system.pipe_file(f"/set/{path.name}", path.read_bytes())
        refs = list(open_photos("memory://tables"))
        assert [ref.read() for ref in refs] == PICTURES
        assert [ref.caption for ref in refs] == list("abcdefg")
        assert [ref.read() for ref in open_photos("memory://set")] == PICTURES[:3]
    finally:
        for folder in ("/tables", "/set"):
            if system.exists(folder):
                system.rm(folder, recursive=True)


def test_one_huge_row_group_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(images(PICTURES), tmp_path / "x.parquet")
    monkeypatch.setattr(tables, "MAX_GROUP", 2000)
    with pytest.raises(InputError, match="row_group_size"):
        list(open_photos(tmp_path / "x.parquet"))


def test_datasets_itself_writes_what_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": [{"bytes": one, "path": None} for one in PICTURES], "text": list("abcdefg")}
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(tmp_path / "set"), num_shards=2)
    refs = list(open_photos(tmp_path / "set"))
    assert [(ref.caption, ref.read()) for ref in refs] == list(
        zip("abcdefg", PICTURES, strict=True)
    )


def test_what_pyarrow_says_of_a_table_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(bytes(100))
    source = open_photos(tmp_path)
    assert not list(source)
    assert source.messages[0].startswith("'a.parquet' cannot be read: ")
    assert source.messages[0].rstrip(".") + "." == source.messages[0]
