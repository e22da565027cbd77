"""OpenRaster: a zip of PNGs and a stack.xml, https://www.openraster.org (baseline 0.0.3)."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from text2layer.errors import FormatError, UnkeptError
from text2layer.io import pictures, xmp
from text2layer.io.assembly import Loaded, assemble, is_blank, settle_blend_modes
from text2layer.io.budget import MAX_LAYERS, PixelBudget
from text2layer.io.safe_xml import UnsafeXmlError, parse_xml
from text2layer.layers import MAX_OFFSET, Layer, LayeredImage, clean_name

MIMETYPE = b"image/openraster"
XMP_ENTRY = "META-INF/metadata.xmp"
THUMBNAIL_SIDE = 256  # the standard's limit
MAX_XML_BYTES = 2**22
_OPERATIONS = {
    "normal": "svg:src-over",
    "multiply": "svg:multiply",
    "screen": "svg:screen",
    "overlay": "svg:overlay",
    "darken": "svg:darken",
    "lighten": "svg:lighten",
    "add": "svg:plus",
}
_BLEND_MODES = {operation: mode for mode, operation in _OPERATIONS.items()} | {
    "": "normal",
    "svg:add": "add",
    "krita:add": "add",
}
_ADVICE = "merge it in the program that made it, hide it, or use --merge (merge=True)"


def write(layered: LayeredImage, file: BinaryIO) -> None:
    """Write an ORA; the same layers give the same bytes."""
    packet, composite = xmp.write_packet(layered), layered.composite
    width, height = layered.size
    image = ElementTree.Element(
        "image", version="0.0.3", w=str(width), h=str(height), xres="72", yres="72"
    )
    stack = ElementTree.SubElement(image, "stack", name="root")
    with zipfile.ZipFile(file, "w") as archive:
        _add(archive, "mimetype", MIMETYPE)  # first and stored, so that programs find it at byte 38
        for index in range(len(layered.foregrounds), 0, -1):  # topmost first
            layer, source = layered.foregrounds[index - 1], f"data/layer{index:03}.png"
            rgba = np.dstack([layer.colour, layer.alpha])
            _add(archive, source, pictures.encode_png(rgba))
            _layer_element(stack, layer.name, source, layer)
        _add(archive, "data/background.png", pictures.encode_png(layered.background))
        _layer_element(stack, layered.background_name, "data/background.png")
        _add(archive, "stack.xml", ElementTree.tostring(image, "utf-8", xml_declaration=True))
        _add(archive, "mergedimage.png", pictures.encode_png(composite, packet))
        _add(archive, "Thumbnails/thumbnail.png", _thumbnail(composite))
        _add(archive, XMP_ENTRY, packet)


def read(path: Path, budget: PixelBudget, merge: bool = False) -> Loaded:
    """Read an ORA of any program.

    Groups are taken apart: their opacity and visibility go to their layers.

    Args:
        path: the file.
        budget: what it may ask for.
        merge: whether the file's own merged picture replaces all layers if one cannot be kept.

    Raises:
        UnkeptError: without `merge`, visible content that cannot be kept (filters, texts, composite
            operations that a `Layer` has not, groups that are half transparent or isolated).
        FormatError: damaged, a name outside the archive, a DOCTYPE, or over a limit.
    """
    with path.open("rb") as file:
        pictures.check_signature(file.read(16), "ORA", budget.where)
        with zipfile.ZipFile(file) as archive:
            return _Reader(archive, budget, merge).load()


class _Reader:
    """One opened archive and what it may still ask for."""

    def __init__(self, archive: zipfile.ZipFile, budget: PixelBudget, merge: bool) -> None:
        self.archive, self.budget, self.where = archive, budget, budget.where
        self.merge = merge
        self.merged: list[str] = []  # why layers are merged, if they are
        entries = archive.infolist()
        if len(entries) > 4 * MAX_LAYERS:
            raise FormatError(f"{self.where} holds {len(entries)} files, over {4 * MAX_LAYERS}.")
        self.entries: dict[str, zipfile.ZipInfo] = {}  # by the place inside; the last one counts
        for entry in entries:
            if (place := _inside(entry.filename)) is not None:
                self.entries[place] = entry
        self.notes: list[str] = []
        self.layers: list[Layer] = []  # topmost first

    def load(self) -> Loaded:
        names = self.entries
        if "mimetype" not in names or self.entry("mimetype", 256).strip() != MIMETYPE:
            raise FormatError(f"{self.where} is a zip file, but not an OpenRaster picture.")
        try:
            root = parse_xml(self.entry("stack.xml", MAX_XML_BYTES))
        except UnsafeXmlError as error:
            raise FormatError(f"The stack.xml of {self.where} cannot be used: {error}.") from None
        size = self.whole(root, "w", 0), self.whole(root, "h", 0)
        self.budget.take(*size, "canvas")
        for stack in root.findall("stack"):
            self.collect(stack, (0, 0), 1.0, True, False)
        layers, unkept = settle_blend_modes(self.layers[::-1], size)
        if unkept:
            self.unkept(unkept)
        preview, packet, changes = None, xmp.Packet(), list[str]()
        if "mergedimage.png" in names:
            merged = self.picture("mergedimage.png")
            preview, packet = merged.colour, xmp.read_packet(merged.xmp)
            if self.merged and not is_blank(preview):
                layers = [_layer_of(merged, "Merged", (0, 0))]
                changes = [
                    f"{'; '.join(self.merged)}: the file's own merged picture replaces all layers"
                ]
        if XMP_ENTRY in names:
            packet = xmp.read_packet(self.entry(XMP_ENTRY, MAX_XML_BYTES))
        if self.merged and not changes:
            raise FormatError(
                f"{self.where} has no merged picture to replace its layers: merge them in the "
                "program that made it."
            )
        return assemble(size, layers, packet, preview, self.notes, changes)

    def unkept(self, reason: str) -> None:
        """Refuse the file for a reason such as `Filter "Blur" is a filter`, or note the reason."""
        if not self.merge:
            raise UnkeptError(f"{self.where}: {reason}, which is not supported: {_ADVICE}.")
        self.merged.append(reason)

    def collect(
        self,
        stack: ElementTree.Element,
        origin: tuple[int, int],
        opacity: float,
        visible: bool,
        isolated: bool,
    ) -> None:
        """Append the layers of a stack, topmost first, with what its groups do to them."""
        for element in stack:
            if element.tag not in ("layer", "stack", "filter", "text"):
                continue
            name = clean_name(element.get("name", ""), f"Layer {len(self.layers) + 1}")
            shown = visible and element.get("visibility", "visible") != "hidden"
            operation = element.get("composite-op", "svg:src-over")
            mode = _BLEND_MODES.get(operation)
            if element.tag in ("filter", "text"):
                if shown:
                    self.unkept(f'"{name}" is a {element.tag}')
                else:
                    self.notes.append(f'"{name}" is a {element.tag}')
                continue
            if mode is None:
                if shown:
                    self.unkept(f'"{name}" is blended with {operation}')
                else:
                    self.notes.append(f'"{name}" is blended with {operation}')
                    continue
            x, y = origin[0] + self.whole(element, "x", 0), origin[1] + self.whole(element, "y", 0)
            factor = self.opacity(element)
            if element.tag == "stack":
                if shown and factor < 1 and len(element.findall(".//layer")) > 1:
                    self.unkept(f'The group "{name}" is half transparent')
                if shown and mode not in ("normal", None):
                    self.unkept(f'The group "{name}" is blended with {operation}')
                # "x, y: ... ignored for stacks" since 0.0.2; GIMP and Krita place layers so
                apart = isolated or element.get("isolation", "isolate") != "auto"
                self.collect(element, origin, opacity * factor, shown, apart)
                continue
            if shown and isolated and mode not in ("normal", None):
                self.unkept(f'"{name}" is blended with {operation} inside an isolated group')
            picture = self.picture(element.get("src", ""))
            layer = _layer_of(picture, name, (x, y))
            self.layers.append(
                layer.replace(opacity=opacity * factor, visible=shown, blend_mode=mode or "normal")
            )
            self.budget.check_layer_count(len(self.layers))

    def picture(self, name: str) -> pictures.Picture:
        """Decode a PNG entry within the budget."""
        data = self.entry(name, self.budget.max_picture_bytes)
        return pictures.read_picture(io.BytesIO(data), "PNG", f"{self.where}:{name}", self.budget)

    def entry(self, name: str, limit: int) -> bytes:
        """The bytes of an entry, however many it claims to have, at most `limit`."""
        place = _inside(name)
        if place is None:
            raise FormatError(f'{self.where} names a file outside itself ("{name}"): not opened.')
        info = self.entries.get(place)
        if info is None:
            raise FormatError(f'{self.where} is damaged: it has no "{name}" inside.')
        data = b""
        if info.file_size <= limit:
            with self.archive.open(info) as file:
                data = file.read(limit + 1)
        if max(info.file_size, len(data)) > limit:
            raise FormatError(f'"{name}" in {self.where} unpacks to more than {limit} bytes.')
        return data

    def whole(self, element: ElementTree.Element, key: str, default: int) -> int:
        """A whole-number attribute within what a layer's offset may be."""
        value = self.number(element, key, default)
        if abs(value) > MAX_OFFSET:
            raise FormatError(f'{self.where} is damaged: {key}="{element.get(key)}" is too large.')
        return round(value)

    def opacity(self, element: ElementTree.Element) -> float:
        return min(max(self.number(element, "opacity", 1.0), 0.0), 1.0)

    def number(self, element: ElementTree.Element, key: str, default: float) -> float:
        text = element.get(key)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise FormatError(f'{self.where} is damaged: {key}="{text}" is not a number.')
        return value


def _layer_of(picture: pictures.Picture, name: str, offset: tuple[int, int]) -> Layer:
    alpha = picture.alpha
    if alpha is None:
        alpha = np.full(picture.colour.shape[:2], 255, np.uint8)
    return Layer(picture.colour, alpha, name, offset)


def _inside(name: str) -> str | None:
    """The place of a name inside the archive, from its root; None if it leads out of it.

    A leading slash or a backslash is what some programs write, and means the root and a slash.
    """
    drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
    parts: list[str] = []
    for part in name.replace("\\", "/").split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return None if drive or not parts or "\0" in name else "/".join(parts)


def _layer_element(
    stack: ElementTree.Element, name: str, source: str, layer: Layer | None = None
) -> None:
    x, y = layer.offset if layer else (0, 0)
    ElementTree.SubElement(
        stack,
        "layer",
        {
            "name": name,
            "src": source,
            "x": str(x),
            "y": str(y),
            "opacity": f"{layer.opacity if layer else 1:.6g}",
            "visibility": "visible" if layer is None or layer.visible else "hidden",
            "composite-op": _OPERATIONS[layer.blend_mode if layer else "normal"],
        },
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Store an entry under a fixed date, so that equal pictures are equal files."""
    entry = zipfile.ZipInfo(name)  # 1980-01-01; PNGs are compressed already
    compressed = not name.endswith(".png") and name != "mimetype"
    entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


def _thumbnail(composite: np.ndarray) -> bytes:
    image = Image.fromarray(composite)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return pictures.encode_png(np.array(image))
