"""Reading XML from strangers: no DOCTYPE, hence no entities, and a bounded depth."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers import expat

MAX_DEPTH = 64


class UnsafeXmlError(ValueError):
    """XML that is not well formed, declares a DOCTYPE or nests too deeply."""


def parse_xml(data: bytes) -> ElementTree.Element:
    """The root element of `data`; names are "{namespace}local" as in ElementTree.

    Raises:
        UnsafeXmlError: not well formed, a DOCTYPE (the only way to entities), or over MAX_DEPTH.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise UnsafeXmlError(f"elements nest deeper than {MAX_DEPTH}")
        builder.start(_clark(name), {_clark(key): text for key, text in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_clark(name))

    def doctype(*_: object) -> None:
        raise UnsafeXmlError("a DOCTYPE is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        raise UnsafeXmlError(str(error)) from None


def _clark(name: str) -> str:
    return "{" + name if "}" in name else name
