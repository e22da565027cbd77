"""Provenance: what is written, for whom, and what strangers' packets may do (nothing)."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, PngImagePlugin

from tests.io.stacks import METADATA, metadata, rich
from text2layer import io
from text2layer.io import xmp
from text2layer.io.safe_xml import UnsafeXmlError, parse_xml
from text2layer.layers import Layer, LayeredImage

BACKGROUND = np.zeros((2, 2, 3), np.uint8)


def packet(**fields):
    return xmp.write_packet(LayeredImage(BACKGROUND, metadata=fields))


def foreign(inside):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:o="urn:text2layer:1:">'
        f"{inside}</rdf:RDF></x:xmpmeta>"
    ).encode()


CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


@settings(deadline=None)
@given(metadata)
def test_any_metadata_survives(values):
    layered = LayeredImage(BACKGROUND, (Layer(BACKGROUND, BACKGROUND[..., 0]),), metadata=values)
    read = xmp.read_packet(xmp.write_packet(layered))
    assert (read.metadata, read.ours) == (layered.metadata, True)


def test_a_packet_is_xml_that_others_understand():
    layered = LayeredImage(BACKGROUND, metadata=METADATA)
    root = ElementTree.fromstring(xmp.write_packet(layered).decode().strip())
    description = root.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    texts = {element.tag.split("}")[1]: element.text for element in description}
    assert texts["DigitalSourceType"] == xmp.TRAINED_ALGORITHMIC_MEDIA
    assert texts["CreatorTool"] == "text2layer 0.1.0"
    assert (texts["seed"], texts["steps"], texts["model_hash"]) == (str(2**63 - 1), "20", "ab" * 32)
    said = description.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li").text
    assert said == METADATA["prompt"].replace("\x01", "").replace("\ud800", "")


def test_pillow_finds_the_packet_in_every_picture(tmp_path):
    for name in ("a.png", "a.webp"):
        io.save(rich(), tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert b"trainedAlgorithmicMedia" in image.info["xmp"]
    assert b"trainedAlgorithmicMedia" not in packet(prompt="a hat")


def test_only_what_was_generated_is_called_so():
    assert xmp.digital_source_type({"prompt": "a hat"}) is None
    assert xmp.digital_source_type({"generator": "x"}) == xmp.TRAINED_ALGORITHMIC_MEDIA
    kept = {"digital_source_type": CAPTURED}
    assert xmp.read_packet(packet(**kept)).digital_source_type == CAPTURED
    assert xmp.read_packet(packet(generator="x", **kept)).digital_source_type == CAPTURED


@pytest.mark.parametrize(
    "inside",
    [
        f'<rdf:Description><i:DigitalSourceType rdf:resource="{CAPTURED}"/>'
        "<dc:description><rdf:Alt><rdf:li>A hill</rdf:li></rdf:Alt></dc:description>"
        "<xmp:CreatorTool>Cam 1</xmp:CreatorTool></rdf:Description>",
        f'<rdf:Description i:DigitalSourceType="{CAPTURED}" xmp:CreatorTool="Cam 1"/>'
        "<rdf:Description><dc:description><rdf:Alt><rdf:li>A hill</rdf:li></rdf:Alt>"
        "</dc:description></rdf:Description>",
    ],
)
def test_other_programs_provenance_is_kept_through_conversions(tmp_path, inside):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", foreign(inside).decode())
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=text)
    expected = {
        "digital_source_type": CAPTURED,
        "creator_tool": "Cam 1",
        "description": "A hill",
    }
    for source, target in (("a.png", "b.psd"), ("b.psd", "c.ora"), ("c.ora", "d"), ("d", "e.webp")):
        io.save(io.load(tmp_path / source), tmp_path / target)
        found = io.inspect(tmp_path / target)
        assert found["metadata"] == expected
        assert found["digital_source_type"] == CAPTURED


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"<",
        b"\xff\xfe\x00",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" * 100 + b"</a>" * 100,
        b"<a/>" + b" " * 2**21,
        foreign("<rdf:Description o:document='[]'/>"),
        foreign("<rdf:Description o:document='{\"metadata\": 3}'/>"),
        foreign('<rdf:Description o:document=\'{"metadata": {}, "layers": [3]}\'/>'),
        foreign('<rdf:Description o:document=\'{"metadata": {"a": NaN}}\'/>'),
        foreign("<rdf:Description o:document='" + "[" * 50_000 + "'/>"),
        foreign("<rdf:Description><o:document/></rdf:Description>"),
    ],
)
def test_a_packet_that_cannot_be_used_says_nothing(data):
    read = xmp.read_packet(data)
    assert (read.metadata, read.layers, read.ours) == ({}, (), False)


def test_layer_metadata_follows_its_layer_when_another_editor_moved_it():
    read = xmp.read_packet(
        xmp.write_packet(LayeredImage(BACKGROUND, rich().foregrounds, metadata={}))
    )
    bottom, middle, third = (layer.metadata for layer in rich().foregrounds[:3])
    assert read.layer_metadata(0, "Vordergrund") == bottom
    assert read.layer_metadata(0, "<layer & 'co'>") == third
    assert read.layer_metadata(9, "苹果 🍎 ض") == middle == {}
    assert read.layer_metadata(7, "Vordergrund") == {}  # two have this name
    assert read.layer_metadata(0, "New") == {}


def test_entities_are_refused_in_any_encoding():
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    for encoding in ("utf-8", "utf-16"):
        declared = f'<?xml version="1.0" encoding="{encoding}"?>{bomb}'
        with pytest.raises(UnsafeXmlError, match="DOCTYPE"):
            parse_xml(declared.encode(encoding))
    assert parse_xml(b'<a xmlns="u:"><b c="d"/></a>').find("{u:}b").get("c") == "d"
