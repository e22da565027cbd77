"""Sources of photos: folders, lists, shards, Parquet; what they say, and what they leave out."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text2layer.data.schema import KEY
from text2layer.errors import DataError, InputError
from text2layer.photos.counting import photo_key
from text2layer.photos.provenance import known_fields
from text2layer.photos.sources import open_photos


def jpeg(seed: int = 0, side: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for place, seed in (("b.jpg", 0), ("a.png", 1), ("more/a.jpeg", 2), (".hidden.jpg", 3)):
        (root / place).write_bytes(jpeg(seed))
    (root / "notes.md").write_text("not a photo")
    (root / "b.txt").write_text("ein grüner Frosch\n", encoding="utf-8")
    described = {"title": "a fox", "LICENCE": "CC0-1.0", "creator": "Ada", "url": "page/1"}
    (root / "a.json").write_text(json.dumps(described))
    return root


def test_a_folder_gives_its_pictures_in_order_with_what_lies_beside_them(folder):
    refs = list(open_photos(folder))
    assert [Path(ref.location).name for ref in refs] == ["a.png", "b.jpg", "a.jpeg"]
    assert refs == list(open_photos(folder))
    first, second, third = refs
    said = (first.caption, first.license, first.author, first.source)
    assert said == ("a fox", "CC0-1.0", "Ada", "page/1")
    assert second.caption == "ein grüner Frosch"
    assert (third.caption, third.opt_out) == ("", False)
    assert first.read() == jpeg(1)
    assert len({ref.key for ref in refs}) == 3
    assert all(KEY.fullmatch(ref.key) for ref in refs)


@pytest.mark.parametrize(
    ("data", "caption", "counted"),
    [
        ("a café".encode(), "a café", False),
        ("a café".encode("utf-16"), "a café", False),
        ("\ufeffa café".encode(), "a café", False),
        ("a café".encode("cp1252"), "a café", True),
        (b"x" * 2**21, "", True),
        (b"", "", False),
        ("a café".encode("utf-16-le"), "", True),
        ("красная лиса".encode("cp1251"), "", True),
        (b"one\ntwo\x07", "one two", False),
    ],
    ids=[
        "utf-8",
        "utf-16",
        "bom",
        "windows-1252",
        "too long",
        "empty",
        "no mark",
        "cyrillic",
        "control characters",
    ],
)
def test_captions_of_any_encoding_never_stop_a_build(folder, data, caption, counted):
    (folder / "b.txt").write_bytes(data)
    source = open_photos(folder)
    assert list(source)[1].caption == caption
    assert bool(source.skipped) is counted
    assert len(source.messages) == counted


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_broken_json_is_counted_and_the_photo_stays(folder, data):
    (folder / "a.json").write_bytes(data)
    source = open_photos(folder)
    assert len(list(source)) == 3
    assert source.skipped["JSON not readable"] == 1


@pytest.mark.parametrize(
    ("fields", "out"),
    [
        ({"opt_out": True}, True), ({"noai": "1"}, True), ({"NoImageAI": "true"}, True),
        ({"x-robots-tag": "noindex, noai"}, True), ({"robots": ["max-snippet:-1", "noai"]}, True),
        ({"x_robots_tag": "noai"}, True), ({"Opt-Out": "y"}, True), ({"optout": "always"}, True),
        ({"tdm_reservation": 1}, True), ({"do not train": "true"}, True),
        ({"noai": float("nan")}, False), ({"noai": None}, False), ({"opt_out": "No"}, False),
        ({"opt_out": False}, False), ({"x-robots-tag": "all"}, False), ({"noai": "0"}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_opt_out_markers_are_carried(fields, out):
    assert known_fields(fields)["opt_out"] is out


def test_a_list_names_files_and_captions_in_its_order(folder):
    table = folder.parent / "list.csv"
    table.write_text(
        'File,Caption,license\nb.jpg,a frog,CC0-1.0\nmore/a.jpeg,"a cat, sleeping",\nno.jpg,x,\n'
    )
    source = open_photos(folder, table)
    refs = list(source)
    assert [ref.caption for ref in refs] == ["a frog", "a cat, sleeping"]
    assert refs[0].license == "CC0-1.0"
    assert source.skipped == {"file missing": 1}
    beside = folder / "own.tsv"
    beside.write_text("path\tdescription\na.png\ta fox\n", encoding="utf-16")
    assert [ref.caption for ref in open_photos(beside)] == ["a fox"]
    (folder / "bad.csv").write_text("name,words\na.png,x\n")
    with pytest.raises(InputError, match=r"has no column of files .* it has name, words"):
        list(open_photos(folder / "bad.csv"))


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ("a.png,café", "café"),
        ("a.png," + "x" * 200_000, "x" * 200_000),
        ('a.png,"two\nlines"', "two lines"),
        ("x" * 3000 + ",c\na.png,after a name that is too long", "after a name that is too long"),
    ],
    ids=["windows-1252", "long field", "two lines", "long name"],
)
def test_odd_rows_never_stop_a_build(folder, row, caption):
    (folder / "c.csv").write_bytes(f"file,caption\n{row}\n".encode("cp1252"))
    assert [ref.caption for ref in open_photos(folder, folder / "c.csv")] == [caption]


def test_semicolons_part_the_columns_too(folder):
    (folder / "c.csv").write_text("file;caption\na.png;a fox, running\n")
    assert [ref.caption for ref in open_photos(folder, folder / "c.csv")] == ["a fox, running"]


def test_half_an_emoji_in_a_json_can_be_written_later(folder):
    (folder / "a.json").write_text('{"caption": ["", "a fox \\ud83d"]}')
    caption = next(iter(open_photos(folder))).caption
    assert caption.encode() == b"a fox ?"


def test_links_and_pipes_are_no_trap(folder):
    (folder / "more" / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to(folder / "b.jpg")
    names = [Path(ref.location).name for ref in open_photos(folder)]
    assert names == ["a.png", "b.jpg", "link.jpg", "a.jpeg"]


@pytest.mark.parametrize("target", ["loop.jpg", "x" * 300])
def test_a_link_that_nothing_can_follow_is_counted_not_the_end(folder, target):
    (folder / "loop.jpg").symlink_to(target)
    source = open_photos(folder)
    assert len(list(source)) == 3
    assert source.skipped["link not followed"] == 1


def test_names_that_are_not_unicode(folder):
    (folder / os.fsdecode(b"\xe9t\xe9.jpg")).write_bytes(jpeg(9))
    refs = list(open_photos(folder))
    assert len(refs) == 4
    assert all(KEY.fullmatch(ref.key) for ref in refs)
    assert all(ref.source.encode() for ref in refs)


def test_photos_are_found_from_another_working_folder(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    refs = list(open_photos(folder.name))
    monkeypatch.chdir(tmp_path / "photos" / "more")
    assert refs[0].read() == jpeg(1)
    assert refs[1].source == "photos/b.jpg"


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def test_shards_of_img2dataset_are_read_in_place(tmp_path):
    fields = {"caption": "a dog", "url": "page/2", "status": "success", "license": "CC-BY-4.0"}
    write_tar(tmp_path / "00000.tar", {
        "000000000.jpg": jpeg(5), "000000000.txt": b"a dog on grass",
        "000000000.json": json.dumps(fields).encode(),
        "000000001.jpg": jpeg(6), "000000001.json": b'{"caption": "a cow", "noai": true}',
        "000000002.txt": b"no picture here",
    })  # fmt: skip
    write_tar(tmp_path / "00001.tar", {"000000000.jpg": jpeg(7)})
    source = open_photos(tmp_path)
    refs = list(source)
    assert [ref.caption for ref in refs] == ["a dog on grass", "a cow", ""]
    assert [ref.read() for ref in refs] == [jpeg(5), jpeg(6), jpeg(7)]
    assert (refs[0].license, refs[0].source) == ("CC-BY-4.0", "page/2")
    assert [ref.opt_out for ref in refs] == [False, True, False]
    assert len({ref.key for ref in refs}) == 3  # both shards have a 000000000
    assert source.skipped == {"no picture": 1}


def test_a_shard_cut_in_the_middle_gives_what_is_whole(tmp_path):
    members = {}
    for number in range(4):
        members[f"{number:03d}.txt"] = f"photo {number}".encode()
        members[f"{number:03d}.jpg"] = jpeg(number, side=64)
    path = write_tar(tmp_path / "s.tar", members)
    whole = list(open_photos(path))
    data = path.read_bytes()
    path.write_bytes(data[: whole[2].offset + whole[2].size // 2])
    source = open_photos(path)
    refs = list(source)
    assert refs[:2] == whole[:2]
    for ref in refs[2:]:  # the one that the cut hits may be named, but cannot be read
        with pytest.raises(OSError, match="ends inside"):
            ref.read()
    path.write_bytes(data[:100])
    source = open_photos(path)
    assert list(source) == []
    assert source.skipped["truncated shard"] == 1


def test_keys_with_dots_in_a_tar_are_photos_of_their_own(tmp_path):
    times = [f"Screenshot 2023-10-01 at 10.{minute}.12" for minute in (11, 12)]
    names = [*times, "IMG.v2", "IMG.v3", "plain"]
    members = {}
    for number, name in enumerate(names):
        members |= {f"{name}.jpg": jpeg(number), f"{name}.txt": name.encode()}
    source = open_photos(write_tar(tmp_path / "s.tar", members))
    refs = list(source)
    assert [ref.caption for ref in refs] == names
    assert [ref.read() for ref in refs] == [jpeg(number) for number in range(5)]
    assert not source.skipped


def test_dots_without_captions_and_parts_of_samples(tmp_path):
    members = {
        "a.v1.jpg": jpeg(0), "a.v2.jpg": jpeg(1),  # photos: nothing is called a
        "b.jpg": jpeg(2), "b.txt": b"a fox", "b.mask.png": jpeg(3),  # a part of a sample
        "c.foreground.webp": jpeg(4), "c.image.webp": jpeg(5), "c.txt": b"layers",
        "d.heic": b"ftypheic", "d.txt": b"a phone's",
    }  # fmt: skip
    source = open_photos(write_tar(tmp_path / "s.tar", members))
    assert [ref.read() for ref in source] == [jpeg(0), jpeg(1), jpeg(2)]
    assert source.skipped == {"second picture": 1, "no picture": 1, "format not read": 1}
    assert any("b.mask.png" in message for message in source.messages)


def test_a_bit_of_a_header_costs_one_photo(tmp_path):
    path = write_tar(tmp_path / "s.tar", {f"{n:03d}.jpg": jpeg(n) for n in range(5)})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"001.jpg", b"001.jpf", 1))
    source = open_photos(path)
    assert [ref.read() for ref in source] == [jpeg(n) for n in (0, 2, 3, 4)]
    assert source.skipped == {"damaged shard": 1}


def test_pictures_of_a_folder_that_are_not_given_are_counted(tmp_path):
    for name in ("a.jpg", "b.jfif", "c.JPE"):
        (tmp_path / name).write_bytes(jpeg())
    for name in ("d.heic", "e.CR2"):
        (tmp_path / name).write_bytes(b"of a camera")
    (tmp_path / "notes.md").write_text("no picture")
    source = open_photos(tmp_path)
    assert [Path(ref.location).name for ref in source] == ["a.jpg", "b.jfif", "c.JPE"]
    assert source.skipped == {"format not read": 2}
    write_tar(tmp_path / "s.tar", {"000.jpg": jpeg()})
    source = open_photos(tmp_path)
    assert len(list(source)) == 1
    assert source.skipped == {"picture beside shards": 5}


def test_parquet_lists_local_files(folder):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"path": ["a.png", "gone.jpg", "b.jpg"], "TEXT": ["a fox", "x", None],
            "opt_out": [False, False, True]}  # fmt: skip
    parquet.write_table(pyarrow.table(rows), folder / "list.parquet")
    source = open_photos(folder / "list.parquet")
    refs = list(source)
    assert [(ref.caption, ref.opt_out) for ref in refs] == [("a fox", False), ("", True)]
    assert source.skipped == {"file missing": 1}
    assert refs[0].source == "list/a.png"
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    source = open_photos(folder)  # a folder that holds .parquet files is a list
    assert len(list(source)) == 2
    assert source.skipped["list not readable"] == 1


def test_a_list_without_files_lies_beside_pictures(folder):
    """As img2dataset writes them: the Parquet tells of downloads, the pictures are in folders."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"url": ["page/1"]}), folder / "00000.parquet")
    assert len(list(open_photos(folder))) == 3
    with pytest.raises(InputError, match=r"has no column of files .* it has url"):
        list(open_photos(folder / "00000.parquet"))


def test_what_is_no_source_is_one_sentence(tmp_path, folder):
    with pytest.raises(DataError, match="There is nothing at"):
        open_photos(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is no folder, \.tar"):
        open_photos(folder / "notes.md")
    with pytest.raises(InputError, match="--captions goes with a folder"):
        open_photos(folder / "a.png", folder / "list.csv")


def test_keys_are_readable_unique_and_stable():
    key = photo_key("Rüdiger's fox (2)", "a/Rüdiger's fox (2).jpg")
    assert KEY.fullmatch(key)
    assert key.startswith("R_diger_s_fox_2-")
    assert key == photo_key("Rüdiger's fox (2)", "a/Rüdiger's fox (2).jpg")
    assert key != photo_key("Rüdiger's fox (2)", "b/Rüdiger's fox (2).jpg")
    assert KEY.fullmatch(photo_key("…" * 300, "x"))


@pytest.mark.parametrize("name", ["b.tar.gz", "b.tgz", "b.tar.zst"])
def test_packed_shards_are_counted_beside_others_and_alone(tmp_path, folder, name):
    root = tmp_path / "shards"
    root.mkdir()
    (root / name).write_bytes(b"packed")
    for beside in ("", "a.tar"):
        if beside:
            with tarfile.open(root / beside, "w") as tar:
                tar.add(folder / "a.png", "a.png")
        source = open_photos(root)
        assert len(list(source)) == bool(beside)
        assert source.skipped == {"archive not read": 1}
        assert name in source.messages[0]
        assert "unpack it" in source.messages[0]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_shard_under_a_plain_name_is_told_from_a_cut_one(tmp_path, pack):
    (tmp_path / "a.tar").write_bytes(pack(bytes(20_000)))
    source = open_photos(tmp_path)
    assert not list(source)
    assert source.skipped == {"compressed shard": 1}


def test_a_shard_that_is_a_link_to_nothing_is_counted(tmp_path, folder):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder / "a.png", "a.png")
    (tmp_path / "b.tar").symlink_to("gone.tar")
    source = open_photos(tmp_path)
    assert len(list(source)) == 1
    assert source.skipped["link not followed"] == 1


def test_columns_of_a_file_that_is_no_table_are_shown_briefly(tmp_path):
    table = tmp_path / "list.csv"
    table.write_bytes(b",".join(b"\xff\x1b" * 60 for _ in range(50)) + b"\n")
    with pytest.raises(InputError, match=r"it has \?+(, \?+)+ and 40 more\.$") as raised:
        list(open_photos(table))
    assert len(str(raised.value)) < 800


def test_what_a_build_has_written_among_the_photos_is_no_photo(folder):
    out = folder / "more" / "out"
    (out / "examples").mkdir(parents=True)
    (out / "examples" / "kept--a.jpg").write_bytes(jpeg(5))
    assert len(list(open_photos(folder))) == 4
    for name in ("build.json", "index.sqlite"):
        (out / name).touch()
    source = open_photos(folder)
    assert [Path(ref.location).name for ref in source] == ["a.png", "b.jpg", "a.jpeg"]
    assert source.skipped == {"folder of a build": 1}
