"""What packages say of their pictures: the catalogue of models, the metadata of a drawing."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from text2layer.errors import DataError
from text2layer.io.safe_xml import UnsafeXmlError, parse_xml

CATALOGUE = "PluginFurnitureCatalog.properties"
PROPERTY = re.compile(r"(\w+)#(\d+)\s*=\s*(.*)")
UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
DOCTYPE = re.compile(rb"<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>", re.DOTALL)
# none that names another: a file could grow without bound
ENTITY = re.compile(rb'<!ENTITY\s+(\w+)\s+"([^"&]*)"\s*>')
DC = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def furniture_models(sh3f: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Models of a Sweet Home 3D catalogue.

    Args:
        sh3f: one `.sh3f` file of Debian's `sweethome3d-furniture`.

    Yields:
        The model as `describe` names it (`Scopia/scopia/bed1/bed1.obj`) and its properties as the
        catalogue has them: name, tags, category, model (the path in the file), creator, ...

    Raises:
        DataError: the file is no catalogue.
    """
    try:
        with zipfile.ZipFile(sh3f) as archive:
            text = archive.read(CATALOGUE).decode("latin-1")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"'{sh3f}' is no furniture catalogue ({error}); fetch it anew.") from None
    models: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        said = PROPERTY.match(line)
        if said:
            value = UNICODE.sub(lambda code: chr(int(code[1], 16)), said[3].strip())
            models.setdefault(int(said[2]), {})[said[1]] = value
    for _, properties in sorted(models.items()):
        if "model" in properties and "name" in properties:
            yield f"{sh3f.stem}{properties['model']}", properties


def furniture_facts(properties: Mapping[str, str]) -> dict[str, Any]:
    """What `describe` asks of a model's properties."""
    return {
        "label": properties["name"],
        "category": properties.get("category", ""),
        "tags": properties.get("tags", "").split(","),
    }


def drawing_facts(svg: bytes) -> dict[str, Any]:
    """What `describe` asks of a drawing: the keywords of its metadata, in their order.

    Args:
        svg: the file. Its DOCTYPE, which many old drawings have, is read over.

    Returns:
        {"tags": (...)}; no tags where the file is no well-formed XML or has no metadata.
    """
    root = _root(svg)
    if root is None:
        return {"tags": ()}
    subjects = [item for node in root.iter(f"{DC}subject") for item in node.iter(f"{RDF}li")]
    said = [(item.text or "").strip() for item in subjects]
    return {"tags": tuple(word for word in said if word)}


def _root(svg: bytes) -> ElementTree.Element | None:
    declared = DOCTYPE.search(svg)
    if declared:
        entities = dict(ENTITY.findall(declared[0]))
        svg = svg.replace(declared[0], b"")
        for name, value in entities.items():  # Illustrator writes its namespaces as entities
            svg = svg.replace(b"&" + name + b";", value)
    try:
        return parse_xml(svg)
    except UnsafeXmlError:
        return None
