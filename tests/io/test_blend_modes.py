"""Blend modes in files: kept, composited as psd-tools does, and refused where they cannot be."""

import zipfile

import numpy as np
import pytest
from psd_tools import PSDImage
from psd_tools.constants import BlendMode

from tests.io.stacks import pixels
from tests.io.test_bad_input import STACK, ora
from tests.io.test_foreign_psd import add, document, reloaded  # noqa: F401  # a fixture
from text2layer import io
from text2layer.blend_modes import BLEND_MODES
from text2layer.errors import UnkeptError
from text2layer.io.pictures import encode_png
from text2layer.io.psd_merging import over_white
from text2layer.layers import Layer, LayeredImage

PSD_NAMES = {
    "normal": BlendMode.NORMAL,
    "multiply": BlendMode.MULTIPLY,
    "screen": BlendMode.SCREEN,
    "overlay": BlendMode.OVERLAY,
    "darken": BlendMode.DARKEN,
    "lighten": BlendMode.LIGHTEN,
    "add": BlendMode.LINEAR_DODGE,
}
ORA_NAMES = {
    "normal": "svg:src-over",
    "multiply": "svg:multiply",
    "screen": "svg:screen",
    "overlay": "svg:overlay",
    "darken": "svg:darken",
    "lighten": "svg:lighten",
    "add": "svg:plus",
}


def every_mode():
    """One half-transparent layer of each mode over one another, some partly off the canvas."""
    layers = [
        Layer(*pixels(n, 30, 40), mode, (3 * n - 8, 2 * n - 6), 1 - n / 12, blend_mode=mode)
        for n, mode in enumerate(BLEND_MODES)
    ]
    return LayeredImage(pixels(9, 36, 48)[0], tuple(layers))


@pytest.mark.parametrize("name", ["a.psd", "a.ora", "a.layers"])
def test_modes_and_the_composite_are_kept(tmp_path, name):
    io.save(every_mode(), tmp_path / name)
    assert io.load(tmp_path / name) == every_mode()
    report = io.inspect(tmp_path / name)
    assert [layer["blend_mode"] for layer in report["layers"]] == list(BLEND_MODES)
    assert report["preview_equals_composite"]
    assert report["notes"] == []


@pytest.mark.parametrize("alpha", io.ALPHAS)
@pytest.mark.parametrize("mode", BLEND_MODES)
def test_psd_tools_reads_each_mode_and_composites_it_alike(tmp_path, mode, alpha):
    background, cut_out = pixels(1, 24, 32)[0], pixels(2, 24, 32)
    layers = (Layer(*pixels(3, 20, 20), "below", (5, 5)), Layer(*cut_out, mode, (-4, 3), 0.8))
    layered = LayeredImage(background, (layers[0], layers[1].replace(blend_mode=mode)))
    io.save(layered, tmp_path / "a.psd", alpha=alpha)
    found = PSDImage.open(tmp_path / "a.psd")
    assert [layer.blend_mode for layer in found] == [BlendMode.NORMAL] * 2 + [PSD_NAMES[mode]]
    theirs = np.array(found.composite(ignore_preview=True).convert("RGB")).astype(int)
    assert np.abs(theirs - layered.composite).max() <= 2


def test_an_ora_names_the_modes_as_the_standard_does(tmp_path):
    io.save(every_mode(), tmp_path / "a.ora")
    with zipfile.ZipFile(tmp_path / "a.ora") as archive:
        stack = archive.read("stack.xml").decode()
    found = [part.split('"')[0] for part in stack.split('composite-op="')[1:]]
    assert found == [*(ORA_NAMES[mode] for mode in reversed(BLEND_MODES)), "svg:src-over"]


@pytest.mark.parametrize("mode", [mode for mode in BLEND_MODES if mode != "normal"])
def test_a_foreign_psd_keeps_its_modes_also_inside_groups(document, tmp_path, mode):  # noqa: F811
    group = document.create_group(name="Group")
    group.blend_mode = BlendMode.PASS_THROUGH
    add(group, "Inside", blend_mode=PSD_NAMES[mode], opacity=150)
    add(document, "Above", blend_mode=PSD_NAMES[mode]).top = 6
    layered = reloaded(document, tmp_path)
    assert [x.blend_mode for x in layered.foregrounds] == [mode] * 2
    drawn = PSDImage.open(tmp_path / "a.psd").composite(ignore_preview=True).convert("RGB")
    assert np.abs(np.array(drawn).astype(int) - layered.composite).max() <= 2


def kept_or_merged(tmp_path, match):
    """The refused file of `reloaded`, merged; its composite is psd-tools'."""
    with pytest.raises(UnkeptError, match=match):
        io.load(tmp_path / "a.psd")
    layered = io.load(tmp_path / "a.psd", merge=True)
    drawn = PSDImage.open(tmp_path / "a.psd").composite(ignore_preview=True)
    assert np.abs(over_white(drawn).astype(int) - layered.composite).max() <= 2
    return layered


def saved(psd, tmp_path):
    psd._record._get_layer_info()
    with (tmp_path / "a.psd").open("wb") as file:
        psd._record.write(file)


def test_a_group_that_keeps_modes_to_itself_or_has_one_is_merged(document, tmp_path):  # noqa: F811
    group = document.create_group(name="Group")
    group.blend_mode = BlendMode.NORMAL
    add(group, "Plain").top = 2
    add(group, "Inside", blend_mode=BlendMode.SCREEN)
    saved(document, tmp_path)
    layered = kept_or_merged(tmp_path, 'Group "Group" .* keeps the blend modes of its layers')
    assert [x.name for x in layered.foregrounds] == ["Group"]
    group.blend_mode = BlendMode.MULTIPLY
    saved(document, tmp_path)
    layered = kept_or_merged(tmp_path, "is a group with the blend mode multiply")
    assert [(x.name, x.blend_mode) for x in layered.foregrounds] == [("Group", "multiply")]


def test_a_mode_over_nothing_shows_the_colour_itself(tmp_path):
    psd = PSDImage.new("RGB", (20, 15), color=(1.0, 1.0, 1.0))
    lowest = add(psd, "Lowest", blend_mode=BlendMode.SCREEN)
    saved(psd, tmp_path)
    (layer,) = io.load(tmp_path / "a.psd").foregrounds
    assert layer.blend_mode == "normal"  # screen over the added white would be white
    lowest.blend_mode = BlendMode.MULTIPLY
    saved(psd, tmp_path)
    assert io.load(tmp_path / "a.psd").foregrounds[0].blend_mode == "multiply"
    add(psd, "Over both", blend_mode=BlendMode.SCREEN).left = 6
    saved(psd, tmp_path)
    layered = kept_or_merged(tmp_path, '"Over both" is blended with screen where there is nothing')
    assert [x.name for x in layered.foregrounds] == ["Over both"]


def test_fill_opacity_under_linear_dodge_is_no_opacity(document, tmp_path):  # noqa: F811
    add(document, "Light", blend_mode=BlendMode.LINEAR_DODGE).fill_opacity = 100
    saved(document, tmp_path)
    kept_or_merged(tmp_path, 'Layer "Light" .* has a fill opacity under linear dodge')


RGBA = np.dstack([np.full((4, 4, 3), 90, np.uint8), np.full((4, 4), 130, np.uint8)])
MERGED = encode_png(pixels(5, 4, 4)[0])
FILES = [("p.png", encode_png(RGBA)), ("mergedimage.png", MERGED)]
GROUND = '<layer src="g.png" name="Ground"/>'
GREY = ("g.png", encode_png(np.full((4, 4, 3), 60, np.uint8)))


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ('<filter name="Blur"/>', '"Blur" is a filter'),
        ('<text name="Title"/>', '"Title" is a text'),
        ('<layer name="Hue" src="p.png" composite-op="svg:hue"/>', "blended with svg:hue"),
        ('<stack name="G" composite-op="svg:multiply"><layer src="p.png"/></stack>',
         'The group "G" is blended with svg:multiply'),
        ('<stack><layer name="S" src="p.png" composite-op="svg:screen"/></stack>',
         '"S" is blended with svg:screen inside an isolated group'),
        ('<stack name="H" opacity="0.5"><layer src="p.png"/><layer src="p.png"/></stack>',
         'The group "H" is half transparent'),
    ],
)  # fmt: skip
def test_what_an_ora_cannot_keep_is_refused_or_its_merged_picture_taken(tmp_path, inner, reason):
    file = ora(tmp_path / "a.ora", STACK.format(inner + GROUND), [*FILES, GREY])
    with pytest.raises(UnkeptError, match=f"{reason}.*merge=True"):
        io.load(file)
    layered = io.load(file, merge=True)
    np.testing.assert_array_equal(layered.background, pixels(5, 4, 4)[0])
    assert (layered.background_name, layered.foregrounds) == ("Merged", ())
    assert reason in layered.metadata["changed"][0]
    assert any(reason in note for note in io.inspect(file)["notes"])


def test_an_ora_without_a_merged_picture_says_so(tmp_path):
    file = ora(tmp_path / "a.ora", STACK.format('<filter name="Blur"/>' + GROUND), [GREY])
    with pytest.raises(ValueError, match="has no merged picture to replace its layers"):
        io.load(file, merge=True)


@pytest.mark.parametrize("name", ["svg:plus", "svg:add", "krita:add"])
def test_an_ora_group_that_is_not_isolated_lets_modes_through(tmp_path, name):
    inner = f'<stack isolation="auto"><layer src="p.png" composite-op="{name}"/></stack>'
    file = ora(tmp_path / "a.ora", STACK.format(inner + GROUND), [*FILES, GREY])
    layered = io.load(file)
    assert layered.foregrounds[0].blend_mode == "add"
    assert layered.composite[0, 0, 0] == round(60 + 90 * 130 / 255)
