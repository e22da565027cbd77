"""A library of one's own pictures: words, licences, what stays out, renewed and gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.picture_library.own_pictures import cut_out, write_own_pictures
from text2layer.data.library import Library
from text2layer.errors import DataError, InputError
from text2layer.picture_library import build
from text2layer.picture_library.build import build_library
from text2layer.picture_library.own import caption_of, noun_of, own_folders
from text2layer.picture_library.picture import LONGEST_SIDE


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    return write_own_pictures(tmp_path)


def made(own: tuple[Path, Path], out: Path, *, license: str = "CC0-1.0", **options):
    sources = own_folders(
        own[:1], own[1:], license=license, author="Ann", style="photo cut-out",
        hold_out=options.pop("hold_out", 0.0),
    )  # fmt: skip
    return build_library(out, sources, progress=False, **options)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_names_become_captions(own, tmp_path):
    made(own, tmp_path / "library")
    library = Library(tmp_path / "library")
    assert {r.id: (r.caption, r.concept, r.color) for r in library.foregrounds} == {
        "own-red-apple": ("a red apple", "apple", "red"),
        "own-fruit-green-apple-2": ("a green apple", "apple", "green"),
        "own-old-keys": ("some old keys", "keys", "grey"),
    }
    assert {r.id: (r.caption, r.scene) for r in library.backgrounds} == {
        "place-beach": ("a beach", "beach"),
        "place-a-forest-at-night": ("a forest at night", "forest"),
    }
    assert library.skipped == {}


def test_cut_outs_are_cropped_shrunk_and_continued(own, tmp_path):
    made(own, tmp_path / "library")
    pixels = np.asarray(Image.open(tmp_path / "library/foregrounds/own/red-apple.webp"))
    assert max(pixels.shape[:2]) == LONGEST_SIDE
    alpha = pixels[..., 3]
    for side in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert side.max() > 0
    hidden = pixels[alpha == 0][:, :3].astype(int)
    assert len(hidden) > 1000
    assert np.abs(hidden - (214, 40, 40)).max() < 40  # no magenta from under the source's alpha
    with Image.open(tmp_path / "library/backgrounds/place-beach.jpg") as place:
        assert place.size == (768, 384)


@pytest.mark.parametrize(
    ("stem", "caption", "concept"),
    [
        ("red-apple_2", "a red apple", "apple"),
        ("OldKeys", "some old keys", "keys"),
        ("a cup of tea", "a cup of tea", "cup"),
        ("pair of scissors (3)", "a pair of scissors", "scissors"),
        ("glass", "a glass", "glass"),
        ("owl.final", "an owl", "owl"),
    ],
)
def test_caption_and_concept(stem, caption, concept):
    assert caption_of(stem) == caption
    assert noun_of(caption) == concept


def test_words_beside_pictures_win_over_names(own, tmp_path):
    (own[0] / "red-apple.txt").write_text("\n a shiny apple with a leaf \nmore\n")
    line = {
        "file": "old_keys.webp", "caption": "a bunch of keys", "license": "MIT", "author": "Bob",
        "tags": ["metal"], "split": "test", "scene": "not of a cut-out",
    }  # fmt: skip
    (own[0] / "words.jsonl").write_text(json.dumps(line) + "\n\n")
    line = {"file": "beach.jpg", "caption": "a wide beach", "seen": ["wet sand", "the sea"]}
    (own[1] / "words.jsonl").write_text(json.dumps(line))
    made(own, tmp_path / "library")
    apple, keys = (
        next(r for r in Library(tmp_path / "library").foregrounds if r.id == name)
        for name in ("own-red-apple", "own-old-keys")
    )
    assert (apple.caption, apple.concept, apple.author) == (
        "a shiny apple with a leaf", "apple", "Ann",
    )  # fmt: skip
    assert (keys.caption, keys.concept, keys.license, keys.author) == (
        "a bunch of keys", "keys", "MIT", "Bob",
    )  # fmt: skip
    assert (keys.tags, keys.split) == (("metal",), "test")
    beach = next(r for r in Library(tmp_path / "library").backgrounds if r.id == "place-beach")
    assert (beach.caption, beach.seen) == ("a wide beach", ("wet sand", "the sea"))
    assert '"scene"' not in (tmp_path / "library/foregrounds.jsonl").read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "words.jsonl' line 1 is not JSON"),
        ('{"caption": "x"}', 'has no field "file"'),
        ('{"file": "red-apple.png", "tags": "red"}', "'tags' must be a list of texts"),
        ('{"file": "red-apple.png", "seen": ["a lake", 3]}', "'seen' must be a list of texts"),
        ("3\n\nx", "words.jsonl' line 3 is not JSON"),  # the first few are named at once
        ("3\n\n{}\n[]\n1\n2", "2 more lines are wrong"),
        ('{"file": "red-apple.png", "view": {"azimuth": "left"}}', "'view' must be an object"),
        ('{"file": "red-apple.png", "split": "all"}', "split 'all' is none of train, val, test"),
    ],
)
def test_bad_words_are_named(own, tmp_path, line, said):
    (own[0] / "words.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"words\.jsonl") as caught:
        made(own, tmp_path / "library")
    assert said in str(caught.value)


def test_what_is_no_cut_out_stays_out(own, tmp_path):
    Image.new("RGB", (60, 40), (9, 9, 9)).save(own[0] / "photo.jpg")
    Image.new("RGBA", (60, 40), (9, 9, 9, 255)).save(own[0] / "tile.png")
    Image.new("RGBA", (60, 40)).save(own[0] / "empty.png")
    cut_out((1, 2, 3), "ellipse", (90, 130)).save(own[0] / "IMG_0001.png")
    (own[0] / "torn.png").write_bytes((own[0] / "red-apple.png").read_bytes()[:200])
    cut_out((1, 2, 3), "ellipse").save(own[1] / "see-through.png")
    built = made(own, tmp_path / "library")
    assert {(item.file, item.reason) for item in built.left_out} == {
        ("photo.jpg", "no transparency"), ("tile.png", "no transparency"),
        ("empty.png", "nothing visible"), ("IMG_0001.png", "no caption"),
        ("torn.png", "unreadable"), ("see-through.png", "transparent background"),
    }  # fmt: skip
    assert len(built.records["foreground"]) == 3
    page = (tmp_path / "library/report.html").read_text()
    assert "tile.png" in page
    report = json.loads((tmp_path / "library/report.json").read_text())
    assert report["left_out"]["own"]["no transparency"] == 2


def test_a_picture_without_a_licence_is_refused(own, tmp_path):
    with pytest.raises(DataError, match=r"5 no licence.*--license"):
        made(own, tmp_path / "library", license="")
    line = {"file": "red-apple.png", "license": "CC-BY-SA-4.0"}
    (own[0] / "words.jsonl").write_text(json.dumps(line))
    built = made(own, tmp_path / "library", license="my own")
    assert [(item.file, item.reason) for item in built.left_out] == [
        ("red-apple.png", "share-alike licence")
    ]
    built = made(own, tmp_path / "library", license="my own", allow_share_alike=True)
    assert built.left_out == []


def test_every_maker_is_named(own, tmp_path):
    built = made(own, tmp_path / "library")
    text = (tmp_path / "library/ATTRIBUTION.md").read_text()
    for record in [*built.records["foreground"], *built.records["background"]]:
        assert record["source_file"] in text
        assert record["author"] in text
        assert record["license"] in text


def test_again_gives_the_same_bytes_and_makes_nothing(own, tmp_path):
    first = made(own, tmp_path / "library")
    before = files(tmp_path / "library")
    again = made(own, tmp_path / "library")
    assert (first.made, again.made) == (5, 0)
    assert files(tmp_path / "library") == before
    made(own, tmp_path / "other", workers=2)
    assert files(tmp_path / "other") == before


def test_goes_on_after_a_stop(own, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    made(own, whole)
    calls = []

    def stops(out, offer, make=build.make_picture):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(offer.id)
        return make(out, offer)

    monkeypatch.setattr(build, "CHUNK", 1)
    monkeypatch.setattr(build, "make_picture", stops)
    with pytest.raises(KeyboardInterrupt):
        made(own, tmp_path / "library")
    journal = tmp_path / "library/journal/own.jsonl"
    with journal.open("a") as file:
        file.write('{"key": "torn')
    monkeypatch.undo()
    rest = made(own, tmp_path / "library")
    assert rest.made == 3
    assert files(tmp_path / "library") == files(whole)


def test_what_changes_is_renewed_and_what_goes_is_removed(own, tmp_path):
    made(own, tmp_path / "library")
    (own[0] / "red-apple.txt").write_text("a plum")
    cut_out((10, 20, 200), "ellipse").save(own[0] / "old_keys.webp")
    (own[0] / "fruit/green apple 2.png").unlink()
    (tmp_path / "library/backgrounds/place-beach.jpg").unlink()
    built = made(own, tmp_path / "library")
    assert built.made == 3
    assert {r["id"]: r["color"] for r in built.records["foreground"]} == {
        "own-red-apple": "red", "own-old-keys": "blue",
    }  # fmt: skip
    made(own, tmp_path / "fresh")
    assert files(tmp_path / "library") == files(tmp_path / "fresh")


def test_concepts_are_held_out_whole(own, tmp_path):
    for number in range(30):
        picture = cut_out((200, 9, 9), "ellipse", (130, 160))
        picture.save(own[0] / f"apple ({number}).png")
        picture.save(own[0] / f"thing{'abcdefghij'[number % 10]}{'klm'[number // 10]}.png")
    built = made(own, tmp_path / "library", hold_out=0.3)
    splits: dict[str, set[str]] = {}
    for record in built.records["foreground"]:
        splits.setdefault(record["concept"], set()).add(record["split"])
    assert all(len(of_concept) == 1 for of_concept in splits.values())
    held = sum(of_concept == {"val"} for of_concept in splits.values()) / len(splits)
    assert 0.1 < held < 0.5


def test_other_folders_are_left_alone(own, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="files of another kind"):
        made(own, foreign)
    with pytest.raises(InputError, match="is a file"):
        made(own, foreign / "letter.txt")
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="There is no picture"):
        made((tmp_path / "nothing", own[1]), tmp_path / "library")
    with pytest.raises(InputError, match="There is no folder"):
        made((tmp_path / "absent", own[1]), tmp_path / "library")
