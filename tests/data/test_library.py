import hashlib
import json
from pathlib import Path

import pytest

from tests.toy_library import write_lines
from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.errors import DataError


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_carry_every_field(toy_root: Path) -> None:
    library = Library(toy_root)
    first = library.foregrounds[1]
    stored = lines(toy_root / "foregrounds.jsonl")[1]
    for name in ("id", "file", "caption", "style", "concept", "color", "group", "license",
                 "author", "source", "source_file", "split"):  # fmt: skip
        assert getattr(first, name) == stored[name]
    assert first.tags == ("shape",)
    assert first.view == {"azimuth": 30.0, "elevation": 18.0}
    assert library.foregrounds[0].view is None
    assert (len(library.foregrounds), len(library.backgrounds)) == (24, 8)
    assert not library.skipped


def test_splits_share_no_concept_and_no_background(toy_root: Path) -> None:
    splits = [Library(toy_root, split) for split in ("train", "val", "test")]
    assert sum(len(library.foregrounds) for library in splits) == 24
    concepts = [{record.concept for record in library.foregrounds} for library in splits]
    places = [{record.group for record in library.backgrounds} for library in splits]
    for sets in (concepts, places):
        assert not sets[0] & sets[1]
        assert not sets[0] & sets[2]
        assert not sets[1] & sets[2]


def test_fingerprint_names_the_content(own_root: Path) -> None:
    expected = hashlib.sha256(
        (own_root / "foregrounds.jsonl").read_bytes()
        + (own_root / "backgrounds.jsonl").read_bytes()
    ).hexdigest()
    library = Library(own_root)
    assert library.fingerprint == expected
    assert Library(own_root, "val").fingerprint == expected
    records = lines(own_root / "foregrounds.jsonl")
    records[0]["caption"] = "a disc"
    write_lines(own_root / "foregrounds.jsonl", records)
    assert Library(own_root).fingerprint != expected


def test_bad_records_are_counted_by_reason(own_root: Path) -> None:
    path = own_root / "foregrounds.jsonl"
    records = lines(path)
    del records[0]["license"]
    records[1]["file"] = "foregrounds/none.webp"
    records[2]["file"] = "../outside.webp"
    records[3]["id"] = records[4]["id"]
    records[5]["tags"] = "shape"
    records[6]["split"] = "dev"
    write_lines(path, records)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": \n[1, 2]\n\n')
        file.write('{"id": ' + "[" * 100_000 + "\n")  # nested deeper than Python reads
    library = Library(own_root)
    assert library.skipped == {
        "bad field": 4,
        "missing file": 1,
        "double id": 1,
        "bad JSON": 3,
    }
    assert len(library.foregrounds) == 4
    assert any("line 1" in message and "'license'" in message for message in library.messages)
    assert "3 bad JSON" in library.summary()


def test_backgrounds_with_a_subject_are_left_out(own_root: Path) -> None:
    records = lines(own_root / "backgrounds.jsonl")
    records[0]["has_subject"] = True
    write_lines(own_root / "backgrounds.jsonl", records)
    library = Library(own_root)
    assert records[0]["id"] not in {record.id for record in library.backgrounds}
    assert library.skipped == {"background shows a subject": 1}


def test_a_corrupt_picture_is_counted_and_the_rest_serves(own_root: Path) -> None:
    library = Library(own_root)
    train = [record for record in library.foregrounds if record.split == "train"]
    library.path(train[0]).write_bytes(b"RIFF not a picture")
    whole = library.path(train[1]).read_bytes()
    library.path(train[1]).write_bytes(whole[: len(whole) // 2])
    composer = Composer(library, "train", 32, progress=False)
    assert library.skipped["corrupt file"] == 2
    assert [record.id for record in composer.foregrounds] == [record.id for record in train[2:]]
    assert train[0].file in library.messages[0]


@pytest.mark.parametrize(
    ("missing", "word"),
    [("", "folder"), ("foregrounds.jsonl", "foregrounds.jsonl"), ("backgrounds.jsonl", "Cannot")],
)
def test_a_missing_library_is_one_sentence(own_root: Path, missing: str, word: str) -> None:
    if missing:
        (own_root / missing).unlink()
    else:
        own_root = own_root / "nowhere"
    with pytest.raises(DataError, match=word):
        Library(own_root)


def test_an_empty_library_is_refused(own_root: Path) -> None:
    (own_root / "foregrounds.jsonl").write_text("")
    with pytest.raises(DataError, match="no usable foreground"):
        Library(own_root)


def test_an_unknown_split_is_refused(toy_root: Path) -> None:
    with pytest.raises(DataError, match="'dev'"):
        Library(toy_root, "dev")


def test_what_is_seen_in_a_background_is_read(own_root: Path) -> None:
    path = own_root / "backgrounds.jsonl"
    records = lines(path)
    records[0]["seen"] = ["pine trees", " a lake ", ""]
    for record, wrong in zip(
        records[1:], ("pine trees", ["a lake", 3], {"a": "lake"}), strict=True
    ):
        record["seen"] = wrong
    write_lines(path, records)
    library = Library(own_root)
    assert [record.seen for record in library.backgrounds] == [("pine trees", "a lake")]
    assert library.skipped == {"bad field": 3}
    assert "backgrounds.jsonl line 3: the field 'seen' must be a list of texts." in library.messages
    del records[0]["seen"], records[1:]
    write_lines(path, records)
    assert Library(own_root).backgrounds[0].seen == ()
