"""Photoshop documents, through psd-tools: RGB, 8 bit, each foreground with a real layer mask.

The colour of a foreground fills its layer and its alpha is the layer's user mask (channel -2), so
that an editor shows the soft mask beside the layer and the hidden colour survives. The transparency
channel (-1) is opaque throughout. Layout: Adobe Photoshop File Formats Specification.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from text2layer.blend import multiply_alpha
from text2layer.errors import FormatError
from text2layer.io import pictures, xmp
from text2layer.io.assembly import Loaded, assemble
from text2layer.io.budget import PixelBudget
from text2layer.layers import MAX_SIDE, Layer, LayeredImage, clean_name

if TYPE_CHECKING:
    from psd_tools import PSDImage
    from psd_tools.api.layers import GroupMixin
    from psd_tools.api.layers import Layer as PsdLayer
    from psd_tools.psd.layer_and_mask import ChannelDataList, LayerRecord

_MODES = ("Bitmap", "Grayscale", "Indexed", "RGB", "CMYK", "", "", "Multichannel", "Duotone", "Lab")
_RGB, _TRANSPARENCY, _USER_MASK = 3, -1, -2
_RLE = 1
_PLAIN_KINDS = ("pixel", "type", "shape", "smartobject")  # these carry rendered pixels

logging.getLogger("psd_tools").addHandler(logging.NullHandler())  # its notes are ours to phrase


def write(layered: LayeredImage, file: BinaryIO) -> None:
    """Write a PSD whose merged preview is the composite; the same layers give the same bytes.

    Raises:
        FormatError: a picture or layer with a side over 30000 pixels.
    """
    from psd_tools.constants import ColorMode, Compression, Resource
    from psd_tools.psd import PSD, ChannelImageData, LayerInfo, LayerRecords
    from psd_tools.psd.header import FileHeader
    from psd_tools.psd.image_data import ImageData
    from psd_tools.psd.image_resources import ImageResource, ImageResources
    from psd_tools.psd.layer_and_mask import GlobalLayerMaskInfo, LayerAndMaskInformation

    width, height = layered.size
    for size in (layered.size, *(layer.size for layer in layered.foregrounds)):
        if max(size) > MAX_SIDE:
            raise FormatError(
                f"A PSD holds at most {MAX_SIDE} pixels a side, but a layer has {size[0]} x "
                f"{size[1]}: save it as .ora."
            )
    records, pixels = LayerRecords(), ChannelImageData()
    record, channels = _record(layered.background, None, layered.background_name, (0, 0))
    records.append(record)
    pixels.append(channels)
    for layer in layered.foregrounds:
        record, channels = _record(layer.colour, layer.alpha, layer.name, layer.offset)
        record.opacity, record.flags.visible = layer.opacity_byte, layer.visible
        records.append(record)
        pixels.append(channels)
    # a negative count would declare the merged picture transparent
    info = LayerInfo(len(records), records, pixels)
    header = FileHeader(channels=3, height=height, width=width, depth=8, color_mode=ColorMode.RGB)
    merged = ImageData(Compression.RLE)
    merged.set_data([plane.tobytes() for plane in np.moveaxis(layered.composite, 2, 0)], header)
    resources = ImageResources.new()
    resources[Resource.VERSION_INFO].data.writer = "text2layer"
    resources[Resource.XMP_METADATA] = ImageResource(
        key=Resource.XMP_METADATA, data=xmp.write_packet(layered)
    )
    document = PSD(
        header=header,
        image_resources=resources,
        layer_and_mask_information=LayerAndMaskInformation(info, GlobalLayerMaskInfo()),
        image_data=merged,
    )
    document.write(file)


def _record(
    colour: np.ndarray, mask: np.ndarray | None, name: str, offset: tuple[int, int]
) -> tuple[LayerRecord, ChannelDataList]:
    """A layer record and its channels: opaque transparency, colour, and the mask if any."""
    from psd_tools.constants import ChannelID, Compression, Tag
    from psd_tools.psd.layer_and_mask import (
        ChannelData,
        ChannelDataList,
        ChannelInfo,
        LayerRecord,
        MaskData,
    )

    height, width = colour.shape[:2]
    left, top = offset
    planes = [(_TRANSPARENCY, np.full((height, width), 255, np.uint8))]
    planes += [(channel, colour[..., channel]) for channel in range(3)]
    record = LayerRecord(top=top, left=left, bottom=top + height, right=left + width)
    if mask is not None:
        planes.append((_USER_MASK, mask))
        record.mask_data = MaskData(top, left, top + height, left + width, background_color=0)
    record.name = name if _fits_pascal(name) else "?"  # for programs of before 1998
    record.tagged_blocks.set_data(Tag.UNICODE_LAYER_NAME, name)
    channels = ChannelDataList()
    for channel, plane in planes:
        data = ChannelData(Compression.RLE)
        data.set_data(plane.tobytes(), width, height, 8)
        record.channel_info.append(ChannelInfo(ChannelID(channel), len(data.data) + 2))
        channels.append(data)
    return record, channels


def _fits_pascal(name: str) -> bool:
    try:
        return len(name.encode("macroman")) <= 255
    except UnicodeEncodeError:
        return False


def read(path: Path, budget: PixelBudget) -> Loaded:
    """Read a PSD of any program: pixel layers, taken out of their groups.

    Raises:
        FormatError: damaged, not RGB with 8 bits, over a limit, or visible content that cannot be
            a normal pixel layer (adjustments, other blend modes, clipping, effects).
    """
    with path.open("rb") as file:
        head = file.read(26)
        pictures.check_signature(head[:16], "PSD", budget.where)
        if len(head) < 26:
            raise FormatError(f"{budget.where} is cut short: it ends within its header.")
        depth, mode = _check_header(head, budget)
        if (depth, mode) != (8, _RGB):
            name = _MODES[mode] if mode < len(_MODES) and _MODES[mode] else f"mode {mode}"
            raise FormatError(
                f"{budget.where} is {name} with {depth} bits a channel: convert it to RGB, 8 bits."
            )
        file.seek(0)
        with warnings.catch_warnings():
            from psd_tools import PSDImage
            from psd_tools.compression import PSDDecompressionWarning

            warnings.simplefilter("ignore")
            warnings.simplefilter("error", PSDDecompressionWarning)  # it would go on with black
            return _load(PSDImage.open(file), budget)


def _check_header(head: bytes, budget: PixelBudget) -> tuple[int, int]:
    """Depth and colour mode, once the canvas is known to lie within the limit."""
    height, width, depth, mode = struct.unpack(">IIHH", head[14:26])
    budget.take(width, height, "canvas")
    return depth, mode


def _load(psd: PSDImage, budget: PixelBudget) -> Loaded:
    from psd_tools.constants import Resource

    profile = psd.image_resources.get_data(Resource.ICC_PROFILE)
    packet = xmp.read_packet(psd.image_resources.get_data(Resource.XMP_METADATA))
    preview = pictures.to_srgb(_merged(psd, budget), profile)
    layers: list[Layer] = []
    notes: list[str] = []
    found = list(_flattened(psd, budget))
    budget.check_layer_count(len(found))
    for number, (layer, opacity, visible) in enumerate(found, start=1):
        name = clean_name(layer.name, f"Layer {number}")
        reason = _obstacle(layer)
        if reason and visible:
            raise FormatError(
                f'Layer "{name}" of {budget.where} {reason}, which is not supported: rasterise or '
                "merge it in the program that made it, or hide it."
            )
        if reason or min(layer.size) < 1:
            notes.append(f'"{name}" {reason or "is empty"}')
            continue
        budget.take(*layer.size, f'layer "{name}"')
        colour, alpha = _pixels(layer, budget)
        colour = pictures.to_srgb(colour, profile)
        opacity *= layer.opacity / 255 * layer.fill_opacity / 255
        layers.append(Layer(colour, alpha, name, layer.offset, opacity, visible))
    if not found:  # a flat document: its picture is the background
        height, width = preview.shape[:2]
        layers = [Layer(preview, np.full((height, width), 255, np.uint8), "Background")]
    return assemble(psd.size, layers, packet, preview, notes)


def _flattened(
    group: GroupMixin, budget: PixelBudget, opacity: float = 1.0, visible: bool = True
) -> Iterator[tuple[PsdLayer, float, bool]]:
    """Layers inside groups, bottom first, with their groups' opacity and visibility."""
    from psd_tools.api.layers import Artboard, Group

    for layer in group:
        shown = visible and layer.visible
        if not isinstance(layer, Group):
            yield layer, opacity, shown
            continue
        reason = None
        if isinstance(layer, Artboard) or layer.has_mask() or layer.has_vector_mask():
            reason = "is an artboard or has a mask"
        elif layer.blend_mode.name not in ("NORMAL", "PASS_THROUGH"):
            reason = f"is blended with {layer.blend_mode.name.lower()}"
        elif layer.has_effects() or layer.clipping:
            reason = "has effects or is clipped"
        elif layer.opacity < 255 and len(list(layer.descendants())) > 1:
            reason = "is half transparent"
        if reason and shown:
            raise FormatError(
                f'Group "{clean_name(layer.name, "Group")}" of {budget.where} {reason}, which is '
                "not supported: merge it in the program that made it."
            )
        yield from _flattened(layer, budget, opacity * layer.opacity / 255, shown)


def _obstacle(layer: PsdLayer) -> str | None:
    """Why a layer cannot be a normal pixel layer, or None."""
    mask = layer.mask if layer.has_mask() else None
    parameters = mask.parameters if mask is not None else None
    if layer.kind not in _PLAIN_KINDS:
        return f"is a layer of the kind {layer.kind}"
    if layer.blend_mode.name != "NORMAL":
        return f"is blended with {layer.blend_mode.name.lower()}"
    if layer.clipping:
        return "is clipped to the layer below it"
    if layer.has_effects():
        return "has layer effects"
    if layer.has_vector_mask() and layer.kind == "pixel":
        return "has a vector mask"
    if parameters is not None and (
        parameters.user_mask_density not in (None, 255) or parameters.user_mask_feather
    ):
        return "has a mask with density or feather"
    return None


def _pixels(layer: PsdLayer, budget: PixelBudget) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and alpha (h, w) of a layer: its transparency times its mask."""
    planes = [_plane(layer, channel) for channel in range(3)]
    if any(plane is None for plane in planes):
        raise FormatError(f'Layer "{layer.name}" of {budget.where} has no colour: it is damaged.')
    alpha = _plane(layer, _TRANSPARENCY)
    if alpha is None:
        alpha = np.full((layer.height, layer.width), 255, np.uint8)
    if layer.mask is not None and not layer.mask.disabled:
        mask = np.full_like(alpha, layer.mask.data.background_color)
        budget.take(max(layer.mask.data.width, 1), max(layer.mask.data.height, 1), "mask")
        stored = layer.mask.topil(real=False, layer_sized=True)
        mask = mask if stored is None else np.array(stored)
        alpha = multiply_alpha(alpha, 255 - mask if layer.mask.flags.invert_mask else mask)
    return np.dstack([plane for plane in planes if plane is not None]), alpha


def _plane(layer: PsdLayer, channel: int) -> np.ndarray | None:
    from psd_tools.constants import ChannelID

    image = layer.topil(ChannelID(channel), apply_icc=False)
    return None if image is None else np.array(image)


def _merged(psd: PSDImage, budget: PixelBudget) -> np.ndarray:
    """(H, W, 3) uint8 of the image data section, once it is known to be whole.

    psd-tools pads a short run-length row with black, so the byte counts are compared first.
    """
    section = psd._record.image_data  # the only way to its raw bytes
    rows, data = psd.height * psd.channels, section.data
    if section.compression == _RLE:
        kind = ">u2" if psd.version == 1 else ">u4"
        table = np.frombuffer(data[: rows * int(kind[-1])], kind)
        needed = rows * int(kind[-1]) + int(table.sum(dtype=np.int64))
        if len(table) < rows or len(data) < needed:
            raise FormatError(f"{budget.where} is cut short: its merged picture is not complete.")
    planes = section.get_data(psd._record.header)
    if not isinstance(planes, list) or len(planes) < 3:
        raise FormatError(f"{budget.where} is damaged: its merged picture has no colour.")
    shape = (psd.height, psd.width)
    return np.dstack([np.frombuffer(plane, np.uint8).reshape(shape) for plane in planes[:3]])
