"""Icon sets: which icons enter, with which licence; vectors to pixels; packages fetched."""

import io
import json
import os
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.picture_library.own_pictures import write_own_pictures
from tests.picture_library.toy_packages import BODIES, write_packages
from text2layer.errors import DataError, FormatError
from text2layer.files import file_sha256
from text2layer.picture_library.build import build_library
from text2layer.picture_library.icons import ICON_SETS, icon_sources, svg_of
from text2layer.picture_library.offer import slug
from text2layer.picture_library.own import OwnFolder, own_folders
from text2layer.picture_library.packages import NpmPackage, fetch_npm
from text2layer.picture_library.svg import Svg

pytest.importorskip("resvg_py", reason="needs the library extra")


def places(tmp_path: Path):
    _, folder = write_own_pictures(tmp_path)
    return own_folders((), [folder], license="mine", author="", style="", hold_out=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "library" / "journal").mkdir(parents=True)
    write_packages(tmp_path / "library" / "packages")
    return tmp_path / "library"


def test_every_set_gives_what_can_be_named(out, tmp_path):
    built = build_library(out, [*icon_sources(), *places(tmp_path)], progress=False)
    by_id = {record["id"]: record for record in built.records["foreground"]}
    assert {name for name in by_id if "apple" in name} == {
        f"{icons.name}-red-apple" for icons in ICON_SETS
    }
    assert "noto-grinning-face" in by_id  # a set that gives faces, too
    assert "twemoji-grinning-face" not in by_id
    assert not any("flag" in name or "dark" in name for name in by_id)
    apple = by_id["noto-red-apple"]
    assert (apple["caption"], apple["concept"], apple["color"]) == ("a red apple", "apple", "red")
    assert (apple["group"], apple["style"]) == ("emoji:1f34e", "flat icon")
    assert (apple["source"], apple["source_file"]) == (
        "@iconify-json/noto==1.2.9", "icons.json#red-apple",
    )  # fmt: skip
    assert by_id["emojione-fox"]["held_out_drawing"] is True
    assert by_id["fxemoji-fox"]["license"] == "CC-BY-4.0"
    reasons = {item.reason for item in built.left_out if item.source == "noto"}
    assert len(reasons) == 2


def test_the_licences_that_ask_for_it_are_kept(out, tmp_path):
    build_library(out, [*icon_sources(), *places(tmp_path)], progress=False)
    text = (out / "ATTRIBUTION.md").read_text()
    for icons in ICON_SETS:
        assert icons.package.title in text
        assert icons.author in text
        assert icons.license in text
        if icons.license == "MIT":  # "shall be included in all copies"
            assert icons.copyright in text
    assert "Permission is hereby granted" in text


def test_a_package_with_another_licence_is_not_used(tmp_path):
    (tmp_path / "library" / "journal").mkdir(parents=True)
    write_packages(tmp_path / "library" / "packages", licence={"noto": "CC-BY-NC-4.0"})
    built = build_library(
        tmp_path / "library", [*icon_sources(), *places(tmp_path)], required=False, progress=False
    )
    assert list(built.missing) == ["noto"]
    assert "CC-BY-NC-4.0" in built.missing["noto"]
    assert not (tmp_path / "library/foregrounds/noto").exists()


def test_a_vector_is_drawn_with_its_alpha():
    text = svg_of({"body": BODIES["red-apple"]}, {"width": 32, "height": 32}, without_shadow=False)
    colour, alpha = Svg(text)()
    assert alpha.shape == (512, 512)
    assert tuple(colour[288, 256]) == (214, 40, 40)
    area = (alpha / 255).sum()
    assert area == pytest.approx(np.pi * (11 * 16) ** 2, rel=0.002)
    assert alpha[0, 0] == 0


@pytest.mark.parametrize("unit", ["", "px", "pt", "mm", "in"])
def test_a_page_may_be_sized_in_any_unit(unit):
    """Old drawings are pages of points or millimetres without a viewBox."""
    page = f"<svg xmlns='http://www.w3.org/2000/svg' width='30{unit}' height='60{unit}'>"
    colour, alpha = Svg(f"{page}<rect width='15{unit}' height='60{unit}' fill='#d62828'/></svg>")()
    assert alpha.shape == (pytest.approx(1024, abs=10), 512)  # resvg rounds the page to pixels
    assert (alpha / 255).mean() == pytest.approx(0.5, abs=0.003)
    assert tuple(colour[512, 100]) == (214, 40, 40)


def test_an_icon_may_fill_its_rectangle(out, tmp_path):
    package = out / "packages" / slug(ICON_SETS[1].package.title)
    content = json.loads((package / "icons.json").read_text())
    content["icons"]["fox"]["body"] = '<path fill="#f08214" d="M0 8h32v16H0z"/>'
    (package / "icons.json").write_text(json.dumps(content))
    build_library(out, [*icon_sources()[1:2], *places(tmp_path)], progress=False)
    with Image.open(out / "foregrounds/noto/fox.webp") as picture:
        assert picture.size == (256, 129)  # with a margin, so that it has an alpha channel
        assert picture.mode == "RGBA"


def test_shadows_on_the_ground_are_dropped():
    fox = {"body": BODIES["fox"]}
    with_it, without = (
        Svg(svg_of(fox, {"width": 32, "height": 32}, without_shadow=drop))()[1]
        for drop in (False, True)
    )
    assert with_it[500].max() > 0
    assert without[500].max() == 0
    assert np.array_equal(with_it[:440], without[:440])


@pytest.mark.parametrize("text", ["", "<svg", "<svg xmlns='http://www.w3.org/2000/svg'><p", "\0"])
def test_what_is_no_vector_is_a_sentence(text):
    with pytest.raises(FormatError, match="resvg cannot draw it"):
        Svg(text)()


NPM = """#!/bin/sh
# packs what a registry would give: `npm pack NAME@VERSION --ignore-scripts --pack-destination DIR`
for last; do :; done
cp "$FAKE_TARBALL" "$last/package-1.0.0.tgz"
"""


def test_clients_get_a_whole_path(npm, tmp_path, monkeypatch):
    """They work in folders of their own, where a path relative to ours means nothing."""
    monkeypatch.chdir(tmp_path)

    class Asking(OwnFolder):
        def offers(self, packages):
            fetch_npm(NpmPackage("toy", "1.0.0", file_sha256(npm)), packages)
            return super().offers(packages)

    (place,) = places(tmp_path)
    objects = OwnFolder("foreground", tmp_path / "objects", "own", "mine")
    asking = Asking(place.kind, place.folder, place.name, place.license)
    built = build_library(Path("relative"), [objects, asking], progress=False)
    assert len(built.records["background"]) == 2
    assert (tmp_path / "relative/packages/toy-1-0-0/package.json").is_file()


@pytest.fixture
def npm(tmp_path, monkeypatch) -> Path:
    """A client in PATH that gives one tarball; returns the tarball."""
    tarball = tmp_path / "fake.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        content = json.dumps({"license": "MIT"}).encode()
        info = tarfile.TarInfo("package/package.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text(NPM)
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_TARBALL", str(tarball))
    return tarball


def test_a_package_is_fetched_once_and_checked(npm, tmp_path, monkeypatch):
    packages = tmp_path / "packages"
    packages.mkdir()
    good = NpmPackage("toy", "1.0.0", file_sha256(npm))
    folder = fetch_npm(good, packages)
    assert json.loads((folder / "package.json").read_text()) == {"license": "MIT"}
    monkeypatch.setenv("FAKE_TARBALL", "/absent")
    assert fetch_npm(good, packages) == folder
    with pytest.raises(DataError, match="npm did not give other==1"):
        fetch_npm(NpmPackage("other", "1", good.sha256), packages)
    monkeypatch.setenv("FAKE_TARBALL", str(npm))
    with pytest.raises(DataError, match="another content"):
        fetch_npm(NpmPackage("other", "1", "0" * 64), packages)
    assert [path.name for path in packages.iterdir()] == [folder.name]


def test_a_missing_client_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm is not installed \(it comes with Node.js\)"):
        fetch_npm(NpmPackage("toy", "1.0.0", ""), tmp_path)


def test_icons_of_any_format_are_cut_out(out, tmp_path):
    build_library(out, [*icon_sources(), *places(tmp_path)], progress=False)
    with Image.open(out / "foregrounds/fluent3d/red-apple.webp") as picture:
        assert picture.mode == "RGBA"
        assert max(picture.size) <= 256
