"""PSDs of other programs: groups are taken apart, what has no normal pixels is refused by name."""

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, Compression, SheetColorType, Tag

from tests.io.stacks import pixels
from text2layer import io
from text2layer.errors import FormatError

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
    layer = add(document, "Glow", blend_mode=BlendMode.SCREEN)
    with pytest.raises(FormatError, match=r'Layer "Glow" of .*a\.psd is blended with screen'):
        reloaded(document, tmp_path)
    layer.visible = False
    layered = reloaded(document, tmp_path)
    assert [x.name for x in layered.foregrounds] == ["Plain"]
    assert layered.metadata == {"not_loaded": ['"Glow" is blended with screen']}
    layer.visible, layer.blend_mode, layer.clipping = True, BlendMode.NORMAL, True
    with pytest.raises(FormatError, match="clipped"):
        reloaded(document, tmp_path)


def test_an_adjustment_layer_is_refused(document, tmp_path):
    layer = add(document, "Invert")
    layer.tagged_blocks.set_data(Tag.INVERT)
    with pytest.raises(FormatError, match="kind invert"):
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
        ("1", 1, "Bitmap with 1 bits"),
    ],
)
def test_other_modes_and_depths_are_refused(tmp_path, mode, depth, word):
    PSDImage.new(mode, (4, 4), depth=depth).save(tmp_path / "a.psd")
    with pytest.raises(FormatError, match=word) as caught:
        io.load(tmp_path / "a.psd")
    assert "convert it to RGB, 8 bits" in str(caught.value)
