"""The report against figures counted from the toy photos by hand."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.photos.toy_photos import write_photos
from tests.photos.toy_stages import NAME
from text2layer.data.shard_tools import shard_statistics
from text2layer.errors import DataError
from text2layer.photos.folder import BuildFolder
from text2layer.photos.report import write_report
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings

pytest.importorskip("matplotlib", reason="needs the build extra")
SETTINGS = BuildSettings(photos_per_shard=7, min_size=1, duplicate_distance=0)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    photos = write_photos(folder / "photos", 20)
    (photos / "photo0003.txt").write_text("a <b>cursed</b> disc")
    build(photos, folder / "out", SETTINGS, workers=1, stages=NAME, progress=False)
    return folder / "out"


def test_figures(out: Path) -> None:
    figures = json.loads((out / "report.json").read_text())
    assert figures["complete"]
    assert (figures["photos"], figures["kept"]) == (20, 15)
    assert figures["rejected"] == {"bright": {"nothing found": 4}, "faulty": {"stage failed": 1}}
    assert figures["time"]["photos_by_stage"]["decode"] == 20
    assert figures["time"]["photos_by_stage"]["layers"] == 15
    assert sum(figures["time"]["share_by_stage"].values()) == pytest.approx(1)
    assert figures["scores"]["share"]["count"] == 15
    shards = list(out.glob("*.tar"))
    assert figures["storage"] == {
        "shards": len(shards), "bytes": sum(path.stat().st_size for path in shards)
    }  # fmt: skip
    assert figures["models"].keys() == {"saliency"}
    assert figures["settings"]["photos_per_shard"] == 7


def test_statistics_are_those_of_the_shards(out: Path) -> None:
    ours = json.loads((out / "report.json").read_text())["statistics"]
    of_shards, _ = shard_statistics(out, progress=False)
    for name in ("samples", "area", "objects", "components", "caption_words", "vocabulary"):
        assert ours[name] == of_shards[name], name
    assert 0.9 < ours["word_correlation"] <= 1  # few photos are left out


class Page(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_shows_each_kind(out: Path) -> None:
    html = (out / "report.html").read_text()
    page = Page()
    page.feed(html)
    pictures = [source for source in page.loads if source.startswith("data:image/jpeg")]
    strips = list((out / "examples").glob("*.jpg"))
    assert len(pictures) == len(strips)
    assert all(re.match("data:|#", source) for source in page.loads)  # nothing from elsewhere
    assert page.tags.count("svg") == 5
    assert "script" not in page.tags
    for words in ("Kept", "bright: nothing found", "faulty: stage failed", "this photo is cursed"):
        assert words in page.text
    assert "a <b>cursed</b> disc" in page.text  # words of captions are no tags
    assert "Not finished" not in page.text


def test_an_unfinished_build_says_so(out: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    build(photos, tmp_path / "out", SETTINGS, workers=1, stages=NAME, report=False, progress=False)
    BuildFolder(tmp_path / "out").journal(1).unlink()
    figures = write_report(tmp_path / "out", progress=False)
    assert (figures["complete"], figures["photos"], figures["photos_found"]) == (False, 13, 20)
    assert "Not finished" in (tmp_path / "out" / "report.html").read_text()


def test_a_build_that_kept_nothing_has_a_report(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 5)
    for number in range(4):
        (photos / f"photo{number:04d}.png").unlink()
    summary = build(photos, tmp_path / "out", SETTINGS, workers=1, stages=NAME, progress=False)
    assert summary.kept == 0
    assert "nothing found" in (tmp_path / "out" / "report.html").read_text()


def test_no_build_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no build"):
        write_report(tmp_path)


@pytest.mark.parametrize("line", ["[]", "{}", '{"kept": false}', "7", "\0"])
def test_a_journal_of_another_shape_is_named(out: Path, tmp_path: Path, line: str) -> None:
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / "journal" / "000000.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"000000\.jsonl' is damaged; delete it"):
        write_report(tmp_path / "out", progress=False)


def test_files_that_are_no_journals_are_no_part_of_a_report(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / "journal" / "notes.jsonl").write_text("{}\n")
    assert write_report(tmp_path / "out", progress=False)["complete"]
