"""3D models to pictures: what is seen from where, textures, furniture and packs as sources."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.picture_library.own_pictures import write_own_pictures
from text2layer.errors import DataError, FormatError, InputError
from text2layer.picture_library.build import build_library
from text2layer.picture_library.furniture import AZIMUTHS, CATALOGUES, PACKAGE, Furniture
from text2layer.picture_library.models import FIELD, SIDE, View
from text2layer.picture_library.offer import LeftOut, Offer
from text2layer.picture_library.own import own_folders
from text2layer.picture_library.packs import Pack, stated

pytest.importorskip("embreex", reason="needs the library extra")
trimesh = pytest.importorskip("trimesh", reason="needs the library extra")

OBJ = """mtllib box.mtl
v -1 0 -1\nv 1 0 -1\nv 1 2 -1\nv -1 2 -1\nv -1 0 1\nv 1 0 1\nv 1 2 1\nv -1 2 1
vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1
usemtl front\nf 5/1 6/2 7/3 8/4
usemtl other\nf 2/1 1/2 4/3 3/4\nf 6/1 2/2 3/3 7/4\nf 1/1 5/2 8/3 4/4\nf 8/1 7/2 3/3 4/4
f 1/1 2/2 6/3 5/4
"""
MTL = "newmtl front\nKd 1 1 1\nmap_Kd front.png\nnewmtl other\nKd 0 0 1\n"


def write_box(folder: Path, front: Image.Image | None = None) -> Path:
    """A cube: its front has a texture (left red, right green, upper half), the rest is blue."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "box.obj").write_text(OBJ)
    (folder / "box.mtl").write_text(MTL)
    if front is None:
        pixels = np.full((8, 8, 3), 255, np.uint8)
        pixels[:4, :4], pixels[:4, 4:] = (255, 0, 0), (0, 255, 0)
        front = Image.fromarray(pixels)
    front.save(folder / "front.png")
    return folder / "box.obj"


def seen(colour: np.ndarray) -> list[str]:
    """The strongest channel of each of a few pixels."""
    return ["rgb"[int(pixel.argmax())] for pixel in colour]


def test_the_front_is_seen_from_the_front_upright(tmp_path):
    colour, alpha = View(write_box(tmp_path), 0, 0)()
    middle, quarter = SIDE // 2, SIDE // 10
    upper = colour[middle - quarter, [middle - quarter, middle + quarter]]
    assert seen(upper) == ["r", "g"]
    assert alpha[middle, middle] == 255
    assert alpha[0, 0] == 0
    assert alpha.shape == (SIDE, SIDE)


def test_other_sides_come_with_the_azimuth(tmp_path):
    model = write_box(tmp_path)
    for azimuth in (90, 180, 270):
        colour, alpha = View(model, azimuth, 0)()
        assert (colour[alpha > 0].argmax(1) == 2).all()
    colour, alpha = View(model, 0, 80)()  # from above: the top, blue, fills the middle
    assert seen(colour[[SIDE // 2], [SIDE // 2]]) == ["b"]
    left, right = (
        (colour[alpha > 0].argmax(1) == 2).mean()
        for colour, alpha in (View(model, azimuth, 0)() for azimuth in (30, -30))
    )
    assert left == pytest.approx(right, abs=0.01)
    assert 0.1 < left < 0.9


def test_the_outline_is_that_of_the_perspective(tmp_path):
    """Width of a cube's front at distance d - half an edge, in a field of FIELD degrees."""
    _, alpha = View(write_box(tmp_path), 0, 0)()
    half = 1 / np.sqrt(3)  # of the edge, the corners on the unit sphere
    distance = 1.02 / np.sin(np.deg2rad(FIELD / 2))
    wide = SIDE * half / ((distance - half) * np.tan(np.deg2rad(FIELD / 2)))
    assert (alpha[SIDE // 2] > 0).sum() == pytest.approx(wide, abs=2)


def test_what_is_transparent_in_the_texture_is_looked_through(tmp_path):
    hole = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (2, 2, 6, 6))
    colour, alpha = View(write_box(tmp_path, hole), 0, 0)()
    assert alpha[SIDE // 2, SIDE // 2] == 255
    assert seen(colour[[SIDE // 2], [SIDE // 2]]) == ["b"]  # the inside of the back
    assert seen(colour[[SIDE // 2], [SIDE // 2 - SIDE // 5]]) == ["r"]


def test_size_and_rotation(tmp_path):
    model = write_box(tmp_path)
    _, alpha = View(model, 0, 0, size=(3.0, 1.0, 1.0))()
    rows, columns = np.nonzero(alpha)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(3, abs=0.1)
    quarter = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0)
    colour, alpha = View(model, 90, 0, rotation=quarter)()  # the front faces right now
    assert seen(colour[[SIDE // 2 - 60], [SIDE // 2 - 60]]) == ["r"]


def test_the_same_view_has_the_same_pixels(tmp_path):
    one, other = (View(write_box(tmp_path), 33, 20)() for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


@pytest.mark.parametrize("text", ["", "nothing", "v 0 0 0\n"])
def test_what_is_no_model_is_a_sentence(tmp_path, text):
    (tmp_path / "bad.obj").write_text(text)
    with pytest.raises(FormatError, match=r"bad\.obj"):
        View(tmp_path / "bad.obj", 0, 0)()


def write_furniture(packages: Path) -> None:
    """The unpacked Debian package with one catalogue of two models."""
    folder = packages / f"debian-{PACKAGE.name}_0.1"
    doc = folder / f"usr/share/doc/{PACKAGE.name}/copyright"
    doc.parent.mkdir(parents=True)
    doc.write_text("Files: Scopia/*\nCopyright: Scopia\nLicense: CC-BY-3.0-USA\n")
    catalogue = folder / CATALOGUES / "Scopia.sh3f"
    catalogue.parent.mkdir(parents=True)
    box = write_box(packages.parent / "box")
    with zipfile.ZipFile(catalogue, "w") as archive:
        for file in box.parent.iterdir():
            archive.write(file, f"scopia/box/{file.name}")
        archive.writestr(
            "PluginFurnitureCatalog.properties",
            "name#1=Blue chest\nmodel#1=/scopia/box/box.obj\ncreator#1=Ann\ntags#1=Wood\n"
            "category#1=Bedroom\nwidth#1=200\nheight#1=100\ndepth#1=100\n"
            "name#2=Socket\nmodel#2=/scopia/box/box.obj\ncategory#2=Electricity\n",
        )


def test_furniture_is_seen_from_six_sides(tmp_path):
    (tmp_path / "library" / "journal").mkdir(parents=True)
    packages = tmp_path / "library" / "packages"
    packages.mkdir()
    write_furniture(packages)
    _, places = write_own_pictures(tmp_path)
    own = own_folders((), [places], license="mine", author="", style="", hold_out=0)
    built = build_library(tmp_path / "library", [Furniture(), *own], progress=False)
    records = built.records["foreground"]
    assert [r["id"] for r in records] == [
        f"furniture-scopia-box-v{number}" for number in range(len(AZIMUTHS))
    ]
    first = records[0]
    assert (first["caption"], first["license"], first["author"]) == (
        "a blue chest", "CC-BY-3.0-US", "Ann",
    )  # fmt: skip
    assert first["style"] == "3d render"
    assert -70 < first["view"]["azimuth"] < -50
    assert len({r["group"] for r in records}) == 1
    assert [item.file for item in built.left_out] == ["Scopia/scopia/box/box.obj"]
    assert "Ann: Scopia/scopia/box/box.obj" in (tmp_path / "library/ATTRIBUTION.md").read_text()


def test_a_pack_has_the_licence_of_its_file(tmp_path):
    pack = tmp_path / "Toy Kit"
    trimesh.Scene(trimesh.creation.box((1, 2, 1))).export(str(pack.with_suffix(".glb")))
    (pack / "Models").mkdir(parents=True)
    (tmp_path / "Toy Kit.glb").rename(pack / "Models" / "woodenBarrel.glb")
    write_box(pack / "OBJ")
    refused = [o for o in Pack(pack).offers(tmp_path) if isinstance(o, Offer)]
    assert {o.record["license"] for o in refused} == {""}
    (pack / "License.txt").write_text("Created by Kay Example (kay.example.org)\n\nLicense: CC0\n")
    assert stated(pack) == ("CC0-1.0", "Kay Example")
    offers = list(Pack(pack).offers(tmp_path))
    assert [o.id for o in offers] == [f"pack-toy-kit-woodenbarrel-v{n}" for n in range(3)]
    assert (offers[0].record["caption"], offers[0].record["concept"]) == (
        "a wooden barrel", "barrel",
    )  # fmt: skip
    assert offers[0].read()[1].max() == 255
    with zipfile.ZipFile(tmp_path / "Toy Kit.zip", "w") as archive:
        for file in pack.rglob("*.*"):
            archive.write(file, file.relative_to(pack))
    zipped = list(Pack(tmp_path / "Toy Kit.zip").offers(tmp_path))
    assert [o.record for o in zipped] == [o.record for o in offers]


def test_packs_that_are_none(tmp_path):
    with pytest.raises(InputError, match="There is no pack"):
        list(Pack(tmp_path / "absent.zip").offers(tmp_path))
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(Pack(tmp_path / "bad.zip").offers(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no glTF or OBJ"):
        list(Pack(tmp_path / "empty").offers(tmp_path))
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "01.obj").write_text(OBJ)
    (left,) = Pack(tmp_path / "numbers").offers(tmp_path)
    assert isinstance(left, LeftOut)
    assert json.dumps(left.reason) == '"no caption"'
