"""Clip art and backgrounds of Debian packages: licences of single files, other versions."""

import os
import shutil
import stat
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.picture_library.own_pictures import place
from text2layer.data.grounds import SCENES
from text2layer.errors import DataError
from text2layer.files import file_sha256
from text2layer.picture_library import places
from text2layer.picture_library.clip_art import DRAWINGS, ClipArt, licence_of
from text2layer.picture_library.licences import refusal
from text2layer.picture_library.offer import LeftOut, Offer
from text2layer.picture_library.packages import DebianPackage, fetch_debian
from text2layer.picture_library.places import Places, looks, paragraphs, unlikeness
from text2layer.picture_library.tables import rows

STATED = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: Author of the Game <author@example.org>
License: GPL-3+

Files: images/land/*
Copyright: Various
License: public-domain
 Donated photographs.

Files: images/land/sea3.jpg
Copyright: Ann Example (ann.example.org)
License: CC0

Files:
 images/land/sea3*
 images/land/sky*
Copyright: 2019-2021, Bob Example
License: CC-BY-4.0

Files: images/land/*-cecil*
Copyright: Cecil
License: CC-BY-SA-4.0

Files: images/land/sky*
Copyright: 2020, Dora
License: CC-BY-4.0
"""


@pytest.mark.parametrize(
    ("name", "license_name", "holder"),
    [
        ("images/land/sea3.jpg", "CC0-1.0", "Ann Example"),  # named: wins over later wildcards
        ("images/land/sea31.jpg", "CC-BY-4.0", "Bob Example"),
        ("images/land/beach.jpg", "public-domain", ""),
        ("images/land/sky1.jpg", "CC-BY-4.0", "Dora"),  # of wildcards the last
        ("images/land/sky1-cecil.jpg", "CC-BY-SA-4.0", "Cecil"),  # the strictest of one's own
        ("images/ship.png", "GPL-3+", "Author of the Game"),
    ],
)
def test_the_paragraph_of_a_file(name, license_name, holder):
    assert places.licence_of(name, tuple(paragraphs(STATED))) == (license_name, holder)


def test_nothing_stated_is_no_licence():
    assert places.licence_of("a.jpg", ()) == ("", "")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CC0-1.0", None), ("public-domain", None), ("MIT", None), ("Apache-2.0", None),
        ("CC-BY-3.0-US", None), ("CC-BY-4.0", None), ("", "no licence"),
        ("CC-BY-SA-4.0", "share-alike licence"), ("GPL-3+", "share-alike licence"),
        ("creativecommons.org/licenses/GPL/2.0", "share-alike licence"),
        ("CC-BY-NC-4.0", "licence forbids changes or paid use"),
        ("CC-BY-ND-4.0", "licence forbids changes or paid use"),
        ("CC-BY-NC-SA-4.0", "licence forbids changes or paid use"),
        ("my own words", "unknown licence"),
    ],
)  # fmt: skip
def test_which_licences_may_enter(name, why):
    assert refusal(name, allow_share_alike=False, own=False) == why
    if why == "share-alike licence":
        assert refusal(name, allow_share_alike=True, own=False) is None


def write_game(packages: Path, pictures: dict[str, Image.Image]) -> None:
    """The unpacked packages of the game, with these pictures of its land."""
    game = packages / f"debian-{places.GAME.name}_0.1"
    large = packages / f"debian-{places.LARGE.name}_0.1"
    doc = game / f"usr/share/doc/{places.GAME.name}/copyright"
    doc.parent.mkdir(parents=True)
    doc.write_text(STATED)
    (large / places.PLUGIN / places.LAND).mkdir(parents=True)
    small = game / "usr/share/games/endless-sky" / places.LAND
    small.mkdir(parents=True)
    for name, picture in pictures.items():
        picture.save(small / name)


def test_a_known_name_with_another_picture_stays_out(tmp_path, monkeypatch):
    first, second = place((230, 200, 150)), place((20, 60, 30)).rotate(90)
    write_game(tmp_path, {"sea0.jpg": first, "sea1.jpg": second})
    first.save(tmp_path / "first.png")
    told = looks(tmp_path / "first.png")
    table = [
        {"name": f"land-{file}", "set": "endless-sky", "file": file, "caption": "a calm sea",
         "scene": "sea", "time": "day", "subject": "", "split": "train", "looks": told}
        for file in ("sea0", "sea1", "sea2")
    ]  # fmt: skip
    monkeypatch.setattr(places, "rows", lambda name: table)
    seen = {"land-sea0": "waves; the sea; a flat horizon"}
    monkeypatch.setattr(places, "column", lambda *names: seen)
    sea0, sea1, sea2 = Places("endless-sky").offers(tmp_path)
    assert isinstance(sea0, Offer)
    assert (sea0.id, sea0.record["license"], sea0.record["source"]) == (
        "land-sea0", "public-domain", "endless-sky-data==0.1",
    )  # fmt: skip
    assert sea0.record["seen"] == ["waves", "the sea", "a flat horizon"]
    assert isinstance(sea1, LeftOut)
    assert sea1.reason == "another picture than the one described"
    assert isinstance(sea2, LeftOut)
    assert "not in this system's version" in sea2.reason


def test_looks_survive_scaling_and_compression(tmp_path):
    picture = place((230, 200, 150)).rotate(30)
    picture.save(tmp_path / "whole.png")
    picture.resize((500, 250)).save(tmp_path / "small.jpg", quality=70)
    place((230, 200, 150)).rotate(120).save(tmp_path / "other.png")
    whole, small, other = (looks(tmp_path / n) for n in ("whole.png", "small.jpg", "other.png"))
    assert unlikeness(whole, small) <= places.MOST_UNLIKE < unlikeness(whole, other)


def test_every_row_of_the_table_of_places_can_be_used():
    names = [row["name"] for row in rows("places")]
    assert len(set(names)) == len(names) > 300
    for row in rows("places"):
        assert row["set"] in places.FOLDERS
        assert row["time"] in ("", "day", "sunset", "night")
        assert row["split"] in ("train", "val", "test")
        assert 0 <= int(row["looks"], 16) < 2**64
        assert row["caption"]
        assert row["scene"] in (*SCENES, "other")


def test_what_is_seen_is_told_of_every_place_in_words_that_places_share():
    assert {row["name"] for row in rows("places")} <= {row["name"] for row in rows("seen")}
    told = [places.seen_in(row["name"]) for row in rows("seen")]
    for things in told:
        assert 3 <= len(set(things)) == len(things) <= 7
        for thing in things:
            assert thing == thing.strip().lower() != ""
            assert 1 <= len(thing.split()) <= 6
    how_often = Counter(thing for things in told for thing in things)
    assert (
        sum(how_often[thing] >= 3 for things in told for thing in things) / how_often.total() > 0.9
    )
    assert places.seen_in("a picture of somebody else") == []


SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"
 width="30" height="30"><metadata><rdf:RDF><cc:Work rdf:about=""><dc:subject><rdf:Bag>
<rdf:li>animal</rdf:li></rdf:Bag></dc:subject><dc:creator><cc:Agent>
<dc:title>Ann &amp; Co (a@b.org)</dc:title></cc:Agent></dc:creator>
<cc:license rdf:resource="{licence}"/></cc:Work></rdf:RDF></metadata>
<circle cx="15" cy="15" r="12" fill="#1d4"/></svg>"""


def test_clip_art_that_was_looked_at_enters_under_its_own_licence(tmp_path):
    pytest.importorskip("resvg_py", reason="needs the library extra")
    known = [row["file"] for row in rows("clip_art")][:2]
    folder = tmp_path / "debian-openclipart-svg_0.1"
    (folder / "usr/share/doc/openclipart-svg").mkdir(parents=True)
    notice = folder / "usr/share/doc/openclipart-svg/copyright"
    notice.write_text("creative commons Public\n Domain Dedication")
    addresses = ("http://web.resource.org/cc/PublicDomain",
                 "http://creativecommons.org/licenses/GPL/2.0/")  # fmt: skip
    for name, address in zip([*known, "new/drawing.svg"], (*addresses, ""), strict=True):
        file = folder / DRAWINGS / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SVG.format(licence=address))
    found = {
        item.record["source_file"].removeprefix(f"{DRAWINGS}/") if isinstance(item, Offer)
        else item.file: item
        for item in ClipArt().offers(tmp_path)
    }  # fmt: skip
    assert isinstance(found["new/drawing.svg"], LeftOut)
    first, second = (found[name] for name in known)
    assert (first.record["license"], first.record["author"]) == ("public-domain", "Ann & Co")
    assert first.read()[1].max() == 255
    assert "GPL" in second.record["license"]
    notice.write_text("All rights reserved")
    with pytest.raises(DataError, match="no public domain dedication"):
        list(ClipArt().offers(tmp_path))


def test_the_licence_of_metadata():
    assert licence_of("<svg/>") == "public-domain"
    assert licence_of('<cc:license rdf:resource="x://creativecommons.org/publicdomain"/>') == (
        "public-domain"
    )


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_debian_package_is_fetched_and_checked(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: toy\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: Ann <a@example.org>\n"
        "Description: toy\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr/file.txt").write_text("here")
    archive = tmp_path / "toy.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(archive)], check=True, timeout=60,
                   capture_output=True)  # fmt: skip
    client = tmp_path / "bin" / "apt-get"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\n[ "$2" = toy ] && cp {archive} ./toy_1%3a2.0-1_all.deb && exit\n'
                      'echo "E: Unable to locate package $2" >&2; exit 100\n')  # fmt: skip
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    packages = tmp_path / "packages"
    packages.mkdir()
    with pytest.raises(DataError, match="another content"):
        fetch_debian(DebianPackage("toy", {"2.0-1": "0" * 64}), packages)
    with pytest.raises(DataError, match=r"Unable to locate package other\); run apt-get update"):
        fetch_debian(DebianPackage("other"), packages)
    known = DebianPackage("toy", {"2.0-1": file_sha256(archive)})
    folder, version = fetch_debian(known, packages)
    assert ((folder / "usr/file.txt").read_text(), version) == ("here", "2.0-1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch_debian(known, packages) == (folder, version)
    with pytest.raises(DataError, match="needs apt-get, which this system has not"):
        fetch_debian(DebianPackage("other"), packages)
