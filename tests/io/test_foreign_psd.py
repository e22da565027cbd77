"""PSDs of other programs: groups are taken apart, what has no normal pixels is refused by name."""

import struct
import zipfile

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, Compression, SheetColorType, Tag
from psd_tools.psd.descriptor import Bool, Descriptor, Double, Enumerated, UnitFloat
from psd_tools.psd.layer_and_mask import MaskData
from psd_tools.psd.tagged_blocks import DescriptorBlock2, TaggedBlock
from psd_tools.psd.vector import VectorMaskSetting
from psd_tools.terminology import Unit

from tests.io.stacks import pixels
from text2layer import io
from text2layer.errors import FormatError, UnkeptError
from text2layer.io.pictures import encode_png
from text2layer.io.psd_merging import over_white
from text2layer.layers import LayeredImage

COLOUR, ALPHA = pixels(1, 6, 8)
PICTURE = Image.fromarray(np.dstack([COLOUR, ALPHA]))
SKY = Image.new("RGB", (20, 15), (10, 90, 200))


@pytest.fixture
def document():
    """An RGB document with an opaque bottom layer."""
    psd = PSDImage.new("RGB", (20, 15), color=(1.0, 1.0, 1.0))
    psd.create_pixel_layer(SKY, name="Sky")
    return psd


def add(group, name="Cut-out", **fields):
    """A layer of PICTURE with its alpha as transparency, as most programs write it."""
    layer = group.create_pixel_layer(PICTURE.convert("RGB"), name=name, top=4, left=3)
    channel = layer._channels[0]
    channel.set_data(ALPHA.tobytes(), 8, 6, 8)
    for key, value in fields.items():
        setattr(layer, key, value)
    return layer


def reloaded(psd, tmp_path):
    psd._record._get_layer_info()
    with (tmp_path / "a.psd").open("wb") as file:
        psd._record.write(file)
    return io.load(tmp_path / "a.psd")


def test_transparency_becomes_alpha(document, tmp_path):
    add(document, opacity=100)
    layered = reloaded(document, tmp_path)
    (layer,) = layered.foregrounds
    assert (layered.background == (10, 90, 200)).all()
    assert (layered.background_name, layer.name, layer.offset) == ("Sky", "Cut-out", (3, 4))
    assert (layer.opacity_byte, layered.metadata) == (100, {})
    np.testing.assert_array_equal(layer.alpha, ALPHA)
    np.testing.assert_array_equal(layer.colour, COLOUR)


def test_a_mask_multiplies_the_transparency_and_hides_what_is_outside_it(document, tmp_path):
    layer = add(document)
    layer.create_mask(Image.new("L", (4, 3), 128), top=5, left=4)
    expected = np.zeros_like(ALPHA)
    expected[1:4, 1:5] = (ALPHA[1:4, 1:5].astype(int) * 128 + 127) // 255
    np.testing.assert_array_equal(reloaded(document, tmp_path).foregrounds[0].alpha, expected)
    layer.mask.disabled = True
    np.testing.assert_array_equal(reloaded(document, tmp_path).foregrounds[0].alpha, ALPHA)


def test_groups_are_taken_apart(document, tmp_path):
    outer = document.create_group(name="Outer")
    add(outer, "One")
    inner = outer.create_group(name="Inner")
    add(inner, "Two", opacity=128)
    add(inner, "Three", visible=False)
    add(document, "Four")
    layered = reloaded(document, tmp_path)
    assert [x.name for x in layered.foregrounds] == ["One", "Two", "Three", "Four"]
    assert [x.visible for x in layered.foregrounds] == [True, True, False, True]
    inner.visible = False
    layered = reloaded(document, tmp_path)
    assert [x.visible for x in layered.foregrounds] == [True, False, False, True]


def test_a_half_transparent_group_of_one_layer_passes_its_opacity_on(document, tmp_path):
    group = document.create_group(name="G")
    group.opacity = 128
    add(group, "One", opacity=200)
    assert reloaded(document, tmp_path).foregrounds[0].opacity_byte == round(128 * 200 / 255)
    add(group, "Two")
    with pytest.raises(FormatError, match=r'Group "G" .* is half transparent'):
        reloaded(document, tmp_path)
    group.visible = False
    assert len(reloaded(document, tmp_path).foregrounds) == 2


def test_visible_layers_that_are_not_normal_are_refused_and_hidden_ones_noted(document, tmp_path):
    add(document, "Plain")
    layer = add(document, "Glow", blend_mode=BlendMode.COLOR_DODGE)
    with pytest.raises(FormatError, match=r'Layer "Glow" of .*a\.psd is blended with color_dodge'):
        reloaded(document, tmp_path)
    layer.visible = False
    layered = reloaded(document, tmp_path)
    assert [x.name for x in layered.foregrounds] == ["Plain"]
    assert layered.metadata == {"not_loaded": ['"Glow" is blended with color_dodge']}
    layer.visible, layer.blend_mode, layer.clipping = True, BlendMode.NORMAL, True
    with pytest.raises(FormatError, match="clipped"):
        reloaded(document, tmp_path)


def test_an_adjustment_layer_is_refused(document, tmp_path):
    layer = add(document, "Invert")
    layer.tagged_blocks.set_data(Tag.INVERT)
    with pytest.raises(FormatError, match=r"adjustment layer .invert"):
        reloaded(document, tmp_path)


def test_without_an_opaque_bottom_layer_white_is_added(tmp_path):
    psd = PSDImage.new("RGB", (20, 15))
    add(psd, "One")
    layered = reloaded(psd, tmp_path)
    assert (layered.background == 255).all()
    assert layered.metadata == {"background_added": True}
    assert [x.name for x in layered.foregrounds] == ["One"]


@pytest.mark.parametrize("compression", list(Compression))
def test_a_flat_document_is_a_background(tmp_path, compression):
    PSDImage.frompil(PICTURE.convert("RGB"), compression).save(tmp_path / "a.psd")
    layered = io.load(tmp_path / "a.psd")
    assert layered.foregrounds == ()
    np.testing.assert_array_equal(layered.background, COLOUR)


def test_hidden_colour_that_was_stripped_is_continued(document, tmp_path):
    layer = add(document)
    for channel, plane in zip(layer._channels[1:], np.moveaxis(COLOUR, 2, 0), strict=True):
        channel.set_data(np.where(ALPHA > 0, 77, 0).astype(plane.dtype).tobytes(), 8, 6, 8)
    assert (reloaded(document, tmp_path).foregrounds[0].colour == 77).all()


def test_odd_names_and_labels_do_no_harm(document, tmp_path):
    layer = add(document)
    layer.tagged_blocks.set_data(Tag.UNICODE_LAYER_NAME, "a\x00\x07\n")
    layer.sheet_color = SheetColorType.RED
    add(document).tagged_blocks.set_data(Tag.UNICODE_LAYER_NAME, "")
    assert [x.name for x in reloaded(document, tmp_path).foregrounds] == ["a", "Layer 3"]


@pytest.mark.parametrize(
    ("mode", "depth", "word"),
    [
        ("L", 8, "Grayscale with 8 bits"),
        ("CMYK", 8, "CMYK with 8 bits"),
        ("RGB", 16, "RGB with 16 bits"),
        ("RGB", 32, "RGB with 32 bits"),
        ("1", 1, "Bitmap with 1 bits"),
    ],
)
def test_other_modes_and_depths_become_rgb_with_a_note(tmp_path, mode, depth, word):
    PSDImage.new(mode, (4, 4), depth=depth).save(tmp_path / "a.psd")
    layered = io.load(tmp_path / "a.psd")
    assert layered.metadata["changed"] == [f"{word} a channel became RGB with 8 bits"]
    assert layered.background.shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("mode", "depth", "blend"),
    [
        ("CMYK", 8, BlendMode.DIFFERENCE),
        ("CMYK", 8, BlendMode.SCREEN),  # kept in RGB alone: inks blend to other colours
        ("CMYK", 16, BlendMode.COLOR_BURN),
        ("RGB", 16, BlendMode.DIFFERENCE),
        ("RGB", 32, BlendMode.DIFFERENCE),
        ("L", 16, BlendMode.COLOR_BURN),
    ],
)
def test_other_modes_and_depths_are_merged_as_psd_tools_draws_them(tmp_path, mode, depth, blend):
    psd = PSDImage.new(mode, (20, 15), depth=depth)
    inks = {"CMYK": (40, 90, 160, 60)}.get(mode)
    sky = Image.new(mode, (20, 15), inks) if inks else SKY.convert(mode)
    psd.create_pixel_layer(sky, name="Sky")
    glow = Image.new(mode, (8, 6), (200, 10, 90, 120)) if inks else PICTURE.convert(mode)
    layer = psd.create_pixel_layer(glow, name="Glow", top=4, left=3)
    layer.blend_mode, layer.opacity = blend, 180
    with pytest.raises(UnkeptError, match=rf'"Glow" .* is blended with {blend.name.lower()}'):
        reloaded(psd, tmp_path)
    layered = io.load(tmp_path / "a.psd", merge=True)
    drawn = PSDImage.open(tmp_path / "a.psd").composite(ignore_preview=True)
    assert np.abs(over_white(drawn).astype(int) - layered.composite).max() <= 2
    became, merged = layered.metadata["changed"]
    assert became.endswith(f"{depth} bits a channel became RGB with 8 bits")
    assert f'"Glow" is blended with {blend.name.lower()}' in merged


@pytest.mark.parametrize("merge", [False, True])
def test_an_indexed_document_has_the_colours_of_its_palette(tmp_path, merge):
    palette = np.zeros((3, 256), np.uint8)
    palette[:, 1], palette[:, 2] = (10, 90, 200), (90, 200, 10)
    indices = np.ones((15, 20), np.uint8)
    indices[3:9, 4:12] = 2
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 1, 15, 20, 8, 2)
    sections = struct.pack(">I", 768) + palette.tobytes() + bytes(8)  # no resources, no layers
    (tmp_path / "a.psd").write_bytes(head + sections + bytes(2) + indices.tobytes())
    layered = io.load(tmp_path / "a.psd", merge=merge)
    np.testing.assert_array_equal(layered.background, palette.T[indices])
    assert layered.metadata["changed"] == ["Indexed with 8 bits a channel became RGB with 8 bits"]


def test_a_grey_layer_keeps_its_values_and_its_alpha(tmp_path):
    psd = PSDImage.new("L", (20, 15), color=(1.0,))
    layer = psd.create_pixel_layer(Image.fromarray(COLOUR[..., 0]), name="Grey", top=4, left=3)
    layer._channels[0].set_data(ALPHA.tobytes(), 8, 6, 8)
    (found,) = reloaded(psd, tmp_path).foregrounds
    shown = ALPHA > 0
    np.testing.assert_array_equal(found.colour[shown], np.repeat(COLOUR[..., :1], 3, 2)[shown])
    np.testing.assert_array_equal(found.alpha, ALPHA)


def test_a_psb_is_read(document, tmp_path):
    add(document)
    for layer in document:
        for data in layer._channels:  # rows of a PSB are counted in four bytes
            plane = data.get_data(layer.width, layer.height, 8, 1)
            data.set_data(plane, layer.width, layer.height, 8, 2)
        for info, data in zip(layer._record.channel_info, layer._channels, strict=True):
            info.length = len(data.data) + 2
    document._record._get_layer_info()
    document._record.header.version = 2
    with (tmp_path / "a.psb").open("wb") as file:
        document._record.write(file)
    np.testing.assert_array_equal(io.load(tmp_path / "a.psb").foregrounds[0].alpha, ALPHA)
    with pytest.raises(FormatError, match="only read"):
        io.save(io.load(tmp_path / "a.psb"), tmp_path / "b.psb")


def test_a_mask_header_without_pixels_is_no_mask(document, tmp_path):
    group = document.create_group(name="G")
    for layer in (add(group), group):
        layer._record.mask_data = MaskData(0, 0, 0, 0, background_color=0)
    np.testing.assert_array_equal(reloaded(document, tmp_path).foregrounds[0].alpha, ALPHA)


def effects(*, present, enabled=True, master=True):
    """An effect list as CS5 and CS6 write it; `present` is a flag of later versions."""
    shadow = Descriptor(classID=b"DrSh")
    shadow[b"enab"] = Bool(enabled)
    if present is not None:
        shadow[b"present"] = Bool(present)
    block = DescriptorBlock2(version=0, data_version=16, classID=b"null")
    block[b"masterFXSwitch"] = Bool(master)
    block[b"DrSh"] = shadow
    return block


@pytest.mark.parametrize("tag", [Tag.OBJECT_BASED_EFFECTS_LAYER_INFO,
                                 Tag.OBJECT_BASED_EFFECTS_LAYER_INFO_V0])  # fmt: skip
@pytest.mark.parametrize("present", [None, True])
def test_layer_effects_are_refused_whatever_flags_they_have(document, tmp_path, tag, present):
    layer = add(document, "Shadowed")
    layer.tagged_blocks[tag] = TaggedBlock(key=tag, data=effects(present=present))
    with pytest.raises(UnkeptError, match=r'"Shadowed" .* has layer effects'):
        reloaded(document, tmp_path)


@pytest.mark.parametrize("off", [{"enabled": False}, {"master": False}, {"present": False}])
def test_layer_effects_that_are_switched_off_do_no_harm(document, tmp_path, off):
    tag = Tag.OBJECT_BASED_EFFECTS_LAYER_INFO
    block = TaggedBlock(key=tag, data=effects(**{"present": True, **off}))
    add(document).tagged_blocks[tag] = block
    assert len(reloaded(document, tmp_path).foregrounds) == 1


@pytest.mark.parametrize("in_group", [False, True])
@pytest.mark.parametrize(
    ("option", "word"),
    [("knockout", "a knockout"), ("channels", "switched-off channels"), ("ranges", "blend-if")],
)
def test_blending_options_are_refused(document, tmp_path, option, word, in_group):
    layer = document.create_group(name="G") if in_group else add(document)
    if in_group:
        add(layer)
    if option == "knockout":
        layer.tagged_blocks.set_data(Tag.KNOCKOUT_SETTING, 1)
    elif option == "channels":
        layer.tagged_blocks.set_data(Tag.CHANNEL_BLENDING_RESTRICTIONS_SETTING, [2])
    else:
        layer._record.blending_ranges.composite_ranges = [(0, 65535), (0x4060, 65535)]
    with pytest.raises(UnkeptError, match=word):
        reloaded(document, tmp_path)


@pytest.mark.parametrize("block", [b"brit", b"levl", b"hue2", b"selc"])
def test_legacy_adjustment_layers_are_refused_and_not_empty(document, tmp_path, block):
    layer = document.create_pixel_layer(Image.new("RGB", (1, 1)), name="Adjust")
    layer.tagged_blocks[Tag(block)] = TaggedBlock(key=Tag(block), data=bytes(8))
    with pytest.raises(UnkeptError, match=r'"Adjust" .* is an adjustment layer'):
        reloaded(document, tmp_path)


@pytest.mark.parametrize("kind", [None, Tag.SMART_OBJECT_LAYER_DATA1, Tag.SMART_OBJECT_LAYER_DATA2])
def test_a_vector_mask_is_refused_whatever_it_cuts(document, tmp_path, kind):
    layer = add(document, "Placed")
    if kind is not None:
        layer.tagged_blocks.set_data(kind)
    mask = VectorMaskSetting()
    layer.tagged_blocks[Tag.VECTOR_MASK_SETTING1] = TaggedBlock(
        key=Tag.VECTOR_MASK_SETTING1, data=mask
    )
    with pytest.raises(UnkeptError, match=r'"Placed" .* has a vector mask'):
        reloaded(document, tmp_path)
    mask.flags = 4  # switched off
    assert len(reloaded(document, tmp_path).foregrounds) == 1


def merged(psd, tmp_path):
    """The document with what cannot be kept merged, and psd-tools' composite over white."""
    with pytest.raises(UnkeptError):
        reloaded(psd, tmp_path)
    whole = PSDImage.open(tmp_path / "a.psd").composite(ignore_preview=True)
    white = Image.new("RGBA", whole.size, "white")
    expected = Image.alpha_composite(white, whole.convert("RGBA")).convert("RGB")
    return io.load(tmp_path / "a.psd", merge=True), np.array(expected).astype(int)


@pytest.mark.parametrize("mode", [BlendMode.DIFFERENCE, BlendMode.COLOR_BURN])
def test_a_blended_layer_is_merged_with_what_is_below_it(document, tmp_path, mode):
    add(document, "Below")
    add(document, "Glow", blend_mode=mode)
    add(document, "Above").offset = (9, 1)
    layered, expected = merged(document, tmp_path)
    assert [x.name for x in layered.foregrounds] == ["Above"]
    assert layered.background_name == "Glow"
    assert abs(layered.composite - expected).max() <= 2
    (note,) = layered.metadata["changed"]
    assert note == (
        f'"Glow" is blended with {mode.name.lower()}: merged into the layer "Glow" with 2 below it'
    )


def test_a_half_transparent_group_is_merged_alone(document, tmp_path):
    add(document, "Below")
    group = document.create_group(name="Ghosts")
    group.opacity, group.blend_mode = 128, BlendMode.NORMAL
    add(group, "One")
    add(group, "Two").offset = (5, 6)
    layered, expected = merged(document, tmp_path)
    assert [x.name for x in layered.foregrounds] == ["Below", "Ghosts"]
    assert abs(layered.composite - expected).max() <= 2


def test_a_clipped_layer_is_merged_with_its_base_alone(document, tmp_path):
    add(document, "Below")
    add(document, "Base").offset = (8, 2)
    add(document, "Clipped", clipping=True).offset = (6, 2)
    layered, expected = merged(document, tmp_path)
    assert [x.name for x in layered.foregrounds] == ["Below", "Base"]
    assert abs(layered.composite - expected).max() <= 2


@pytest.mark.parametrize(
    ("lost", "word"),
    [
        ("effect", "drop shadow"),
        ("adjustment", "adjustment (brightness and contrast)"),
        ("channels", "switched-off channels"),
        ("ranges", "blend-if ranges"),
    ],
)
def test_merging_says_what_psd_tools_does_not_draw(document, tmp_path, lost, word):
    layer = add(document, "Odd", blend_mode=BlendMode.DIFFERENCE)
    tag = {"effect": Tag.OBJECT_BASED_EFFECTS_LAYER_INFO}.get(lost, Tag.BRIGHTNESS_AND_CONTRAST)
    if lost == "channels":
        layer.tagged_blocks.set_data(Tag.CHANNEL_BLENDING_RESTRICTIONS_SETTING, [2])
    elif lost == "ranges":
        layer._record.blending_ranges.composite_ranges = [(0, 65535), (0x4060, 65535)]
    else:
        data = effects(present=True) if lost == "effect" else bytes(8)
        layer.tagged_blocks[tag] = TaggedBlock(key=tag, data=data)
    layered, _ = merged(document, tmp_path)
    assert layered.metadata["changed"][1:] == [
        f'left out, as psd-tools does not draw it: {word} of "Odd"'
    ]


@pytest.mark.parametrize("present", [None, True])
def test_an_overlay_is_drawn_where_psd_tools_reads_it(document, tmp_path, present):
    layer = add(document, "Dyed")
    overlay = Descriptor(classID=b"SoFi")
    overlay[b"enab"], overlay[b"Opct"] = Bool(True), UnitFloat(100.0, Unit.Percent)
    overlay[b"Md  "] = Enumerated(typeID=b"BlnM", enum=b"Nrml")
    colour = Descriptor(classID=b"RGBC")
    for key, value in ((b"Rd  ", 0.0), (b"Grn ", 255.0), (b"Bl  ", 0.0)):
        colour[key] = Double(value)
    overlay[b"Clr "] = colour
    if present is not None:
        overlay[b"present"] = Bool(present)
    block = effects(present=True, enabled=False)
    block[b"SoFi"] = overlay
    tag = Tag.OBJECT_BASED_EFFECTS_LAYER_INFO
    layer.tagged_blocks[tag] = TaggedBlock(key=tag, data=block)
    layered, _ = merged(document, tmp_path)
    (dyed,) = layered.foregrounds
    green = bool((dyed.colour[dyed.alpha == 255] == (0, 255, 0)).all())
    said = any("colour overlay" in note for note in layered.metadata["changed"])
    assert (green, said) == (present is True, present is None)


def test_inspect_lists_what_cannot_be_kept(document, tmp_path):
    add(document, "Glow", blend_mode=BlendMode.DIFFERENCE)
    document._record._get_layer_info()
    with (tmp_path / "a.psd").open("wb") as file:
        document._record.write(file)
    notes = io.inspect(tmp_path / "a.psd")["notes"]
    assert any('"Glow" is blended with difference' in note for note in notes)


def test_a_preview_differs_only_where_it_shows(tmp_path):
    rng = np.random.default_rng(0)
    picture = LayeredImage(rng.integers(20, 200, (64, 64, 3), np.uint8))
    for amount, said in ((3, False), (40, True)):
        other = picture.replace(background=(picture.background + amount).astype(np.uint8))
        io.save(picture, tmp_path / "a.ora")
        with zipfile.ZipFile(tmp_path / "a.ora") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        files["mergedimage.png"] = encode_png(other.background)
        with zipfile.ZipFile(tmp_path / "a.ora", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        notes = io.inspect(tmp_path / "a.ora")["notes"]
        assert any("differs visibly" in note for note in notes) == said


@pytest.mark.parametrize(("value", "counts"), [(0, False), (255, False), (128, True)])
def test_a_black_or_white_preview_is_none(document, tmp_path, value, counts):
    """As writers leave it that store no picture."""
    add(document)
    planes = [bytes([value]) * (20 * 15)] * 3
    document._record.image_data.set_data(planes, document._record.header)
    reloaded(document, tmp_path)
    notes = io.inspect(tmp_path / "a.psd")["notes"]
    assert any("differs visibly" in note for note in notes) == counts


@pytest.mark.parametrize("blank", [True, False])
def test_a_preview_stands_in_where_psd_tools_fails_unless_it_is_blank(
    document, tmp_path, monkeypatch, blank
):
    def fail(*_, **__):
        raise ImportError("Vector shape rendering requires: aggdraw")

    add(document, "Glow", blend_mode=BlendMode.DIFFERENCE)
    picture = np.zeros((3, 15, 20), np.uint8)
    picture[:, 0, 0] = 0 if blank else 9
    planes = [plane.tobytes() for plane in picture]
    document._record.image_data.set_data(planes, document._record.header)
    with pytest.raises(UnkeptError):
        reloaded(document, tmp_path)
    monkeypatch.setattr(PSDImage, "composite", fail)
    if blank:
        with pytest.raises(FormatError, match=r"cannot be merged .* aggdraw"):
            io.load(tmp_path / "a.psd", merge=True)
    else:
        layered = io.load(tmp_path / "a.psd", merge=True)
        np.testing.assert_array_equal(layered.background, np.moveaxis(picture, 0, 2))
