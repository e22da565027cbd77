"""Provenance as an XMP packet: what made a picture, for people, editors and checkers of AI content.

Standard fields hold what other programs look for; the field ``document`` of our own namespace
holds all metadata as ASCII JSON, so that it survives bit-exactly. References: ISO 16684-1 (XMP),
IPTC Photo Metadata Standard (Iptc4xmpExt:DigitalSourceType) and its NewsCodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from text2layer.errors import InputError
from text2layer.io.safe_xml import UnsafeXmlError, parse_xml

if TYPE_CHECKING:
    from text2layer.layers import LayeredImage

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# a picture some of whose parts, such as a fill, come from a trained network
INPAINTED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
MAX_PACKET_BYTES = 2**18  # PNG readers commonly stop at 2**20 bytes of text
NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "text2layer": "urn:text2layer:1:",
}
_OWN_FIELDS = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "guidance_scale",
    "model",
    "model_hash",
)
_RDF, _DC, _XMP, _IPTC, _OWN = ("{" + uri + "}" for uri in NAMESPACES.values())


@dataclass(frozen=True)
class Packet:
    """What a file's XMP says.

    Attributes:
        metadata: ours exactly as it was saved; of other programs' files the keys
            ``digital_source_type``, ``creator_tool`` and ``description``, where they are.
        layers: per foreground, bottom first: {"name", "metadata"}; ours only.
        digital_source_type: the IPTC NewsCodes URI, if any.
        ours: whether text2layer wrote it.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    layers: tuple[dict[str, Any], ...] = ()
    digital_source_type: str | None = None
    ours: bool = False

    def layer_metadata(self, index: int, name: str) -> dict[str, Any]:
        """Metadata of foreground `index` called `name`; by name if another editor moved it."""
        if index < len(self.layers) and self.layers[index]["name"] == name:
            return dict(self.layers[index]["metadata"])
        named = [layer for layer in self.layers if layer["name"] == name]
        return dict(named[0]["metadata"]) if len(named) == 1 else {}


def digital_source_type(metadata: dict[str, Any]) -> str | None:
    """The IPTC URI to write: the one a file came with, else trainedAlgorithmicMedia if we made it.

    A picture counts as made by us if its metadata has a ``generator``.
    """
    kept = metadata.get("digital_source_type")
    if isinstance(kept, str) and kept:
        return kept
    return TRAINED_ALGORITHMIC_MEDIA if metadata.get("generator") else None


def write_packet(layered: LayeredImage) -> bytes:
    """The XMP packet (UTF-8) of a layered picture, at most MAX_PACKET_BYTES long.

    Raises:
        InputError: the metadata is too long for it.
    """
    metadata = layered.metadata
    document = {
        "version": 1,
        "metadata": metadata,
        "layers": [{"name": x.name, "metadata": x.metadata} for x in layered.foregrounds],
    }
    if not any(layer.metadata for layer in layered.foregrounds):
        del document["layers"]
    lines = [
        _line("Iptc4xmpExt:DigitalSourceType", digital_source_type(metadata)),
        _line("xmp:CreatorTool", metadata.get("generator") or metadata.get("creator_tool")),
        _description(metadata.get("prompt") or metadata.get("description")),
        *(_line(f"text2layer:{key}", metadata.get(key)) for key in _OWN_FIELDS),
        _line("text2layer:document", json.dumps(document, separators=(",", ":"))),
    ]
    declared = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF{declared}>\n'
        f'<rdf:Description rdf:about="">\n{"".join(lines)}</rdf:Description>\n'
        '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    ).encode()
    if len(packet) > MAX_PACKET_BYTES:
        raise InputError(
            f"The metadata takes {len(packet)} bytes in the file, over the limit of "
            f"{MAX_PACKET_BYTES}: shorten the prompt or other texts."
        )
    return packet


def read_packet(data: bytes | str | None) -> Packet:
    """What an XMP packet says; an empty Packet if there is none or it cannot be trusted to parse.

    Pictures with broken XMP are common and still good pictures, so nothing is raised.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    if not data or len(data) > 4 * MAX_PACKET_BYTES:
        return Packet()
    try:
        root = parse_xml(data.strip(b"\0 \t\r\n"))
    except UnsafeXmlError:
        return Packet()
    source = _find(root, _IPTC + "DigitalSourceType")
    document = _document(_find(root, _OWN + "document"))
    if document is not None:
        metadata, layers = document
        return Packet(metadata, layers, source, ours=True)
    foreign = {
        "digital_source_type": source,
        "creator_tool": _find(root, _XMP + "CreatorTool"),
        "description": _find(root, _DC + "description"),
    }
    return Packet({key: text for key, text in foreign.items() if text}, (), source)


def _document(text: str | None) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]] | None:
    """Metadata and layers of our JSON field, or None if it is not ours or not sound."""
    try:
        document = json.loads(text or "")
        metadata, layers = document["metadata"], tuple(document.get("layers", ()))
        json.dumps([metadata, layers], allow_nan=False)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    sound = isinstance(metadata, dict) and all(
        isinstance(layer, dict)
        and isinstance(layer.get("name"), str)
        and isinstance(layer.get("metadata"), dict)
        for layer in layers
    )
    return (metadata, layers) if sound else None


def _find(root: ElementTree.Element, name: str) -> str | None:
    """Text of a property, written as an attribute, an element, rdf:resource or language list."""
    for description in root.iter(_RDF + "Description"):
        if name in description.attrib:
            return description.attrib[name].strip() or None
        element = description.find(name)
        if element is not None:
            item = element.find(f"*/{_RDF}li")
            text = element.get(_RDF + "resource") or (element if item is None else item).text
            return (text or "").strip() or None
    return None


def _line(name: str, value: object) -> str:
    return "" if value is None else f"<{name}>{_text(value)}</{name}>\n"


def _description(value: object) -> str:
    if value is None:
        return ""
    item = f'<rdf:li xml:lang="x-default">{_text(value)}</rdf:li>'
    return f"<dc:description><rdf:Alt>{item}</rdf:Alt></dc:description>\n"


def _text(value: object) -> str:
    """A value as XML text: strings bare, the rest as JSON; characters XML cannot hold dropped."""
    text = value if isinstance(value, str) else json.dumps(value)
    return escape("".join(c for c in text if c in "\t\n" or _is_xml_character(ord(c))))


def _is_xml_character(code: int) -> bool:
    """XML 1.0 `Char` without the C1 controls it discourages."""
    ranges = ((0x20, 0x7E), (0xA0, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
    return any(first <= code <= last for first, last in ranges)
