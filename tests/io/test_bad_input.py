"""Damaged, hostile and mislabelled files: one sentence, never another exception."""

import json
import os
import random
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest

from tests.io.stacks import rich
from text2layer import io
from text2layer.errors import FormatError, InputError
from text2layer.io.pictures import encode_png
from text2layer.layers import Layer, LayeredImage

FILES = ("a.psd", "a.ora", "a.png", "a.webp", "a.tif")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a small picture in every file format."""
    folder = tmp_path_factory.mktemp("whole")
    for name in FILES:
        io.save(rich(), folder / name, part="foreground" if name[-1] in "gp" else "composite")
    return {name: (folder / name).read_bytes() for name in FILES}


def assert_refused(path, match=None):
    with pytest.raises(FormatError, match=match) as caught:
        io.load(path)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_refused(tmp_path, whole, name):
    data, path = whole[name], tmp_path / name
    lengths = {0, 1, 3, 8, 16, 25, 26, 30, 40, len(data) - 1, len(data) - 2, len(data) - 12}
    lengths |= {len(data) * n // 60 for n in range(60)}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        assert_refused(path)


@pytest.mark.parametrize("name", FILES)
def test_random_damage_gives_a_picture_or_a_sentence(tmp_path, whole, name):
    rng, path = random.Random(0), tmp_path / name
    for _ in range(80):
        data = bytearray(whole[name])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(len(data), 1500))] = rng.randrange(256)
        path.write_bytes(data)
        with suppress(FormatError):
            assert isinstance(io.load(path), LayeredImage)


@pytest.mark.parametrize("name", FILES)
def test_a_suffix_that_lies_is_named(tmp_path, whole, name):
    for other in FILES:
        if other != name:
            (tmp_path / name).write_bytes(whole[other])
            assert_refused(tmp_path / name, "rename it")
    (tmp_path / name).write_bytes(b"<html>not a picture</html>")
    assert_refused(tmp_path / name, "damaged or not")


def test_paths_that_lead_nowhere(tmp_path):
    for name in ("a.psd", "a.png", "a", "a.layers"):
        with pytest.raises(InputError, match="There is no file"):
            io.load(tmp_path / name)
    with pytest.raises(FormatError, match="unknown format"):
        io.load(tmp_path / "a.xcf")
    with pytest.raises(FormatError, match=r"without a manifest\.json"):
        io.load(tmp_path)
    (tmp_path / "plain").write_bytes(b"x")
    assert_refused(tmp_path / "plain")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="regular file"):
        io.load(tmp_path / "pipe.png")
    for nothing in ("", "a\0.png"):
        with pytest.raises(InputError, match="not a path"):
            io.load(nothing)


@pytest.mark.parametrize("name", [*FILES, "a.layers"])
def test_the_pixel_limit_holds_in_every_format(tmp_path, name):
    io.save(rich(), tmp_path / name)
    with pytest.raises(FormatError, match="limit of 1999"):
        io.load(tmp_path / name, max_pixels=50 * 40 - 1)


@pytest.mark.parametrize("name", ["a.psd", "a.ora", "a.layers"])
def test_layers_have_a_limit_together(tmp_path, name):
    one = Layer(np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8))
    io.save(LayeredImage(np.zeros((10, 10, 3), np.uint8), (one,) * 12), tmp_path / name)
    with pytest.raises(FormatError, match="together"):
        io.load(tmp_path / name, max_pixels=100)


def huge_png(width, height):
    """A PNG of a few bytes that declares any size."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 2**31 - 1])
def test_a_picture_that_declares_too_many_pixels_is_not_decoded(tmp_path, side):
    (tmp_path / "a.png").write_bytes(huge_png(side, side))
    assert_refused(tmp_path / "a.png", "limit of 100000000|damaged")


def test_a_psd_header_that_declares_too_many_pixels_is_not_read(tmp_path, whole):
    data = bytearray(whole["a.psd"])
    data[14:22] = struct.pack(">II", 30_000, 30_000)
    (tmp_path / "a.psd").write_bytes(data)
    assert_refused(tmp_path / "a.psd", "30000 x 30000")


def ora(path, stack, files=(), mimetype="image/openraster"):
    """An ORA file made by hand."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", mimetype)
        archive.writestr("stack.xml", stack)
        for name, data in files:
            archive.writestr(name, data)
    return path


PIXEL = encode_png(np.full((1, 1, 4), 9, np.uint8))
STACK = '<image w="4" h="4"><stack>{}</stack></image>'


@pytest.mark.parametrize("source", ["../x.png", "/../x.png", "a\\..\\..\\x.png", "C:/x.png"])
def test_an_ora_that_names_files_outside_itself_is_refused(tmp_path, source):
    layer = STACK.format(f'<layer src="{source}"/>')
    assert_refused(ora(tmp_path / "a.ora", layer, [(source, PIXEL)]), "outside itself")
    unused = STACK.format('<layer src="p.png"/>')
    file = ora(tmp_path / "b.ora", unused, [(source, PIXEL), ("p.png", PIXEL)])
    assert len(io.load(file).foregrounds) == 1


@pytest.mark.parametrize("entry", ["/data/x.png", "data\\x.png", "data/y/../x.png", "data/x:1.png"])
@pytest.mark.parametrize("plain", [False, True])
def test_an_ora_name_is_resolved_inside_the_archive(tmp_path, entry, plain):
    source = "data/x:1.png" if ":" in entry else "data/x.png" if plain else entry
    layer = STACK.format(f'<layer src="{source}" x="2" y="-1"/>')
    (found,) = io.load(ora(tmp_path / "a.ora", layer, [(entry, PIXEL)])).foregrounds
    assert (found.offset, found.colour.tolist()) == ((2, -1), [[[9, 9, 9]]])


def test_an_ora_group_has_no_place_of_its_own(tmp_path):
    inner = '<stack x="5" y="7"><layer src="p.png" x="1" y="2"/></stack>'
    layered = io.load(ora(tmp_path / "a.ora", STACK.format(inner), [("p.png", PIXEL)]))
    assert layered.foregrounds[0].offset == (1, 2)


@pytest.mark.parametrize("tag", ["filter", "text"])
def test_an_ora_filter_is_refused_if_it_shows_and_noted_if_not(tmp_path, tag):
    stack = f'<{tag} name="Blur" visibility="{{}}"/><layer src="p.png"/>'
    shown, hidden = (STACK.format(stack.format(word)) for word in ("visible", "hidden"))
    assert_refused(ora(tmp_path / "a.ora", shown, [("p.png", PIXEL)]), f'"Blur" is a {tag}, which')
    layered = io.load(ora(tmp_path / "b.ora", hidden, [("p.png", PIXEL)]))
    assert layered.metadata["not_loaded"] == [f'"Blur" is a {tag}']


def test_a_large_layer_is_never_held_as_floats(tmp_path):
    """The peak of what NumPy holds is a few bytes a pixel, not a few floats a channel."""
    side = 1500
    cut_out = np.zeros((side, side, 4), np.uint8)
    cut_out[500:700, 400:900] = (200, 100, 50, 255)
    file = ora(tmp_path / "a.ora", STACK.replace("4", str(side)).format('<layer src="p.png"/>'),
               [("p.png", encode_png(cut_out))])  # fmt: skip
    tracemalloc.start()
    try:
        layered = io.load(file)
        loading = tracemalloc.get_traced_memory()[1] / side**2
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert layered.composite.shape == (side, side, 3)
        blending = (tracemalloc.get_traced_memory()[1] - before) / side**2
    finally:
        tracemalloc.stop()
    assert loading < 24
    assert blending < 9


def test_an_ora_bomb_is_refused_before_it_unpacks(tmp_path):
    layer = STACK.format('<layer src="data/bomb.png"/>')
    bomb = ora(tmp_path / "a.ora", layer, [("data/bomb.png", bytes(50_000_000))])
    with pytest.raises(FormatError, match="unpacks to more than"):
        io.load(bomb, max_pixels=100_000)
    data = bytearray(bomb.read_bytes())  # the declared size lies, in both places
    for position in range(len(data) - 4):
        if data[position : position + 4] == struct.pack("<I", 50_000_000):
            data[position : position + 4] = struct.pack("<I", 1000)
    bomb.write_bytes(data)
    assert_refused(bomb)
    declared = ora(tmp_path / "b.ora", layer, [("data/bomb.png", huge_png(60_000, 60_000))])
    assert_refused(declared, "limit|damaged")


def test_an_ora_of_too_many_entries_or_layers_is_refused(tmp_path):
    many = [(f"data/{n}.png", b"") for n in range(4_100)]
    assert_refused(ora(tmp_path / "a.ora", STACK.format(""), many), "holds 4102 files")
    layers = STACK.format('<layer src="p.png"/>' * 1_001)
    assert_refused(ora(tmp_path / "b.ora", layers, [("p.png", PIXEL)]), "1001 layers")


@pytest.mark.parametrize(
    "stack",
    [
        '<!DOCTYPE image [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + STACK.format("&x;"),
        '<!DOCTYPE image SYSTEM "http://127.0.0.1/x.dtd">' + STACK.format(""),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a>' + STACK.format("")).encode("utf-16"),
        "<image w='4' h='4'>" + "<stack>" * 100 + "</stack>" * 100 + "</image>",
        "<image",
        "",
        '<image w="0" h="4"/>',
        '<image w="nan" h="4"/>',
        '<image w="4" h="1e999"/>',
        '<image w="4"/>',
        STACK.format("<layer/>"),
        STACK.format('<layer src="missing.png"/>'),
        STACK.format('<layer src="p.png" x="1e7"/>'),
        STACK.format('<layer src="p.png" opacity="much"/>'),
        STACK.format('<layer src="p.png" name="M" composite-op="svg:color-dodge"/>'),
        STACK.format('<stack opacity=".5"><layer src="p.png"/><layer src="p.png"/></stack>'),
        STACK.format('<layer src="stack.xml"/>'),
    ],
)
def test_a_stack_that_cannot_be_used_is_refused(tmp_path, stack):
    assert_refused(ora(tmp_path / "a.ora", stack, [("p.png", PIXEL)]))


def test_a_zip_that_is_no_ora_is_refused(tmp_path):
    assert_refused(ora(tmp_path / "a.ora", STACK, mimetype="application/zip"), "not an OpenRaster")


@pytest.fixture
def folder(tmp_path):
    """A folder of layers and a function that edits its manifest."""
    io.save(rich(), tmp_path / "a")
    file = tmp_path / "a" / "manifest.json"

    def edit(change):
        manifest = json.loads(file.read_text())
        change(manifest)
        file.write_text(json.dumps(manifest))
        return tmp_path / "a"

    return edit


@pytest.mark.parametrize("name", ["../b.png", "/b.png", "x\\b.png", "..", ".", "", None, "c:b.png"])
def test_a_manifest_that_names_files_outside_its_folder_is_refused(folder, name):
    for part in ("background", "layer", "composite"):

        def point_out(manifest, part=part):
            if part == "composite":
                manifest["composite"] = name
            else:
                target = manifest["background"] if part == "background" else manifest["layers"][0]
                target["file"] = name

        if (part, name) != ("composite", None):
            assert_refused(folder(point_out))


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "b.png").write_bytes(PIXEL)
    background = tmp_path / "a" / "background.png"
    background.unlink()
    background.symlink_to(tmp_path / "b.png")
    assert_refused(tmp_path / "a", "leads out")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format="other"),
        lambda m: m.update(version=99),
        lambda m: m.update(size=[1, 1]),
        lambda m: m.update(size=None),
        lambda m: m.update(layers=None),
        lambda m: m.update(layers=[None]),
        lambda m: m.update(background="background.png"),
        lambda m: m.pop("background"),
        lambda m: m["layers"][0].pop("offset"),
        lambda m: m["layers"][0].update(offset="12"),
        lambda m: m["layers"][0].update(opacity=3),
        lambda m: m["layers"][0].update(name="\n"),
        lambda m: m["layers"][0].update(order="first"),
        lambda m: m["layers"][0].update(file="missing.png"),
        lambda m: m.update(metadata=[]),
    ],
)
def test_a_manifest_that_is_not_sound_is_refused(folder, change):
    assert_refused(folder(change))


def test_a_folder_with_a_broken_file_is_refused(folder, tmp_path):
    for name in ("manifest.json", "background.png", "01-vordergrund.png", "composite.png"):
        file = tmp_path / "a" / name
        data = file.read_bytes()
        for length in (0, 10, len(data) // 2, len(data) - 3):
            file.write_bytes(data[:length])
            assert_refused(tmp_path / "a")
        file.unlink()
        assert_refused(tmp_path / "a")
        file.write_bytes(data)
    (tmp_path / "a" / "manifest.json").write_text("[" * 100_000)
    assert_refused(tmp_path / "a")
