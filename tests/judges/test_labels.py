import json

import pytest

from text2layer.errors import DataError
from text2layer.judges.labels import (
    Label,
    append_label,
    count_labels,
    read_labels,
    write_labels,
)

GOOD = Label("a", "mask", True, by="someone", at="2026-01-01T00:00:00+00:00")
BAD = Label("a", "fill", False, "artefact")


def test_verdicts_come_back_in_order_and_a_later_one_replaces(tmp_path):
    path = tmp_path / "labels.jsonl"
    assert read_labels(path) == {}
    for label in (GOOD, BAD, Label("b", "mask", False, "incomplete", "composed")):
        append_label(path, label)
    assert list(read_labels(path)) == [("a", "mask"), ("a", "fill"), ("b", "mask")]
    assert read_labels(path)["a", "mask"] == GOOD
    append_label(path, Label("a", "mask", False, "too small"))
    assert read_labels(path)["a", "mask"].reason == "too small"
    append_label(path, Label("a", "mask", None))
    assert list(read_labels(path)) == [("a", "fill"), ("b", "mask")]


def test_a_line_that_a_kill_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "labels.jsonl"
    append_label(path, GOOD)
    with path.open("ab") as file:
        file.write(b'{"key": "b", "kin')
    assert list(read_labels(path)) == [("a", "mask")]
    append_label(path, BAD)
    assert list(read_labels(path)) == [("a", "mask"), ("a", "fill")]
    path.write_bytes(b"x" * 10_000)  # longer than one block, without any whole line
    append_label(path, BAD)
    assert list(read_labels(path)) == [("a", "fill")]


def test_a_whole_file_is_written_and_read(tmp_path):
    path = tmp_path / "labels.jsonl"
    write_labels(path, [GOOD, BAD])
    assert list(read_labels(path).values()) == [GOOD, BAD]
    assert count_labels([GOOD, BAD]) == {"photo fill bad": 1, "photo mask good": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "../x", "kind": "mask", "good": True}, "key"),
        ({"key": "a", "kind": "hole", "good": True}, "kind"),
        ({"key": "a", "kind": "mask", "good": "yes"}, "verdict"),
        ({"key": "a", "kind": "mask", "good": False, "reason": "artefact"}, "reason"),
        ({"key": "a", "kind": "mask", "good": True, "reason": "incomplete"}, "reason"),
        ({"key": "a", "kind": "mask", "good": True, "source": "film"}, "source"),
        ({"key": "a", "kind": "mask"}, "fields"),
        ({"key": "a", "kind": "mask", "good": True, "colour": 1}, "fields"),
        (["a"], "not a JSON object"),
    ],
)
def test_what_is_no_label_is_named_with_its_line(tmp_path, fields, message):
    path = tmp_path / "labels.jsonl"
    append_label(path, GOOD)
    with path.open("a") as file:
        file.write(json.dumps(fields) + "\n")
    with pytest.raises(DataError, match=rf"Line 2 .*{message}"):
        read_labels(path)


def test_a_file_that_is_no_text_or_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(path)
    path.write_text("{\n")
    with pytest.raises(DataError, match=r"Line 1 .* is not JSON"):
        read_labels(path)
    with pytest.raises(DataError, match="could not be written"):
        append_label(tmp_path / "missing" / "labels.jsonl", GOOD)
