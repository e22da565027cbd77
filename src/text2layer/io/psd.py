"""Photoshop documents, through psd-tools: RGB, 8 bit, a layer for each foreground.

The colour of a foreground fills its layer, also where it is hidden. Its alpha is the layer's
transparency (channel -1), or its user mask (channel -2) over opaque colour, which editors show
beside the layer. Layout: Adobe Photoshop File Formats Specification.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from text2layer.blend import multiply_alpha
from text2layer.errors import FormatError, UnkeptError
from text2layer.io import pictures, xmp
from text2layer.io.assembly import Loaded, assemble, is_blank, settle_blend_modes
from text2layer.io.budget import PixelBudget
from text2layer.io.psd_merging import obstacles_of, read_merged
from text2layer.io.psd_obstacles import (
    BLEND_MODES,
    group_obstacle,
    has_colour,
    has_mask,
    obstacle,
)
from text2layer.layers import MAX_SIDE, Layer, LayeredImage, clean_name

if TYPE_CHECKING:
    from psd_tools import PSDImage
    from psd_tools.api.layers import Layer as PsdLayer
    from psd_tools.psd.layer_and_mask import ChannelDataList, LayerRecord

_MODES = ("Bitmap", "Grayscale", "Indexed", "RGB", "CMYK", "", "", "Multichannel", "Duotone", "Lab")
_RGB, _TRANSPARENCY, _USER_MASK = 3, -1, -2
_RLE = 1

logging.getLogger("psd_tools").addHandler(logging.NullHandler())  # its notes are ours to phrase


def write(layered: LayeredImage, file: BinaryIO, alpha: str = "transparency") -> None:
    """Write a PSD whose merged preview is the composite; the same layers give the same bytes.

    Args:
        layered: the picture.
        file: where it goes.
        alpha: "transparency" for the layer's own channel, "mask" for a layer mask over opaque
            colour.

    Raises:
        FormatError: a picture or layer with a side over 30000 pixels.
    """
    from psd_tools.constants import BlendMode, ColorMode, Compression, Resource
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
    modes = {ours: BlendMode[theirs] for theirs, ours in BLEND_MODES.items()}
    for layer in layered.foregrounds:
        record, channels = _record(layer.colour, layer.alpha, layer.name, layer.offset, alpha)
        record.opacity, record.flags.visible = layer.opacity_byte, layer.visible
        record.blend_mode = modes[layer.blend_mode]
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
    colour: np.ndarray,
    alpha: np.ndarray | None,
    name: str,
    offset: tuple[int, int],
    where: str = "transparency",
) -> tuple[LayerRecord, ChannelDataList]:
    """A layer record and its channels: transparency, colour, and the mask if alpha goes there."""
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
    mask = alpha if where == "mask" else None
    opaque = np.full((height, width), 255, np.uint8)
    transparency = (_TRANSPARENCY, opaque if mask is not None or alpha is None else alpha)
    planes = [(channel, colour[..., channel]) for channel in range(3)]
    # Pillow takes the channels in the file's order for R, G, B, A, whatever their numbers
    planes.insert(0 if where == "mask" else 3, transparency)
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


def read(path: Path, budget: PixelBudget, merge: bool = False) -> Loaded:
    """Read a PSD or PSB of any program: pixel layers, taken out of their groups.

    Other colour modes and depths become RGB with 8 bits through the file's profile.

    Args:
        path: the file.
        budget: what it may ask for.
        merge: whether visible content that cannot be a layer is merged by psd-tools' compositor.

    Raises:
        UnkeptError: without `merge`, visible content that cannot be a plain pixel layer
            (adjustments, blend modes that a `Layer` has not, clipping, effects).
        FormatError: damaged or over a limit.
    """
    with path.open("rb") as file:
        return read_document(file, budget, merge)


def read_document(file: BinaryIO, budget: PixelBudget, merge: bool = False) -> Loaded:
    """As `read`, from an open seekable file."""
    head = file.read(26)
    pictures.check_signature(head[:16], "PSD", budget.where)
    if len(head) < 26:
        raise FormatError(f"{budget.where} is cut short: it ends within its header.")
    height, width = struct.unpack(">II", head[14:22])
    budget.take(width, height, "canvas")
    file.seek(0)
    with warnings.catch_warnings():
        from psd_tools import PSDImage
        from psd_tools.compression import PSDDecompressionWarning

        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PSDDecompressionWarning)  # it would go on with black
        return _load(PSDImage.open(file), budget, merge)


def _load(psd: PSDImage, budget: PixelBudget, merge: bool) -> Loaded:
    from psd_tools.constants import Resource

    profile = psd.image_resources.get_data(Resource.ICC_PROFILE)
    packet = xmp.read_packet(psd.image_resources.get_data(Resource.XMP_METADATA))
    preview = _merged(psd, budget, profile)
    budget.check_layer_count(sum(1 for _ in psd.descendants()))
    notes: list[str] = []
    changes: list[str] = []
    mode, depth = int(psd.color_mode), psd.depth
    if (mode, depth) != (_RGB, 8):
        name = _MODES[mode] if mode < len(_MODES) and _MODES[mode] else f"mode {mode}"
        changes.append(f"{name} with {depth} bits a channel became RGB with 8 bits")

    def plain(group: Iterable[PsdLayer], first: int) -> list[Layer]:
        return _plain_layers(group, first, budget, profile, notes)

    stack = list(psd)
    merging = merge and any(True for _ in obstacles_of(stack))
    if not merging:
        layers, unkept = settle_blend_modes(plain(stack, 1), psd.size)
        if unkept and not merge:
            raise UnkeptError(
                f"{budget.where}: {unkept}, which is not supported: put an opaque layer below "
                "it, or use --merge (merge=True)."
            )
        merging = unkept is not None
    if merging:
        notes.clear()
        layers, merged = _merged_layers(psd, plain, preview, budget.where)
        changes += merged
    if not stack:  # a flat document: its picture is the background
        layers = [_flat(preview, "Background")]
    return assemble(
        psd.size, layers, packet, preview if psd.has_preview() else None, notes, changes
    )


def _merged_layers(
    psd: PSDImage,
    plain: Callable[[Sequence[PsdLayer], int], list[Layer]],
    preview: np.ndarray,
    where: str,
) -> tuple[list[Layer], list[str]]:
    """What `read_merged` gives; the merged picture of a file that psd-tools cannot draw."""
    try:
        return read_merged(psd, plain)
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # a compositor for strangers' files, with needs of its own
        cause = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".:")
    if not psd.has_preview() or is_blank(preview):
        raise FormatError(
            f"{where} cannot be merged by psd-tools ({cause}): merge its layers in the program "
            "that made it."
        )
    note = f"psd-tools cannot draw it ({cause}): the file's own merged picture is taken"
    return [_flat(preview, "Merged")], [note]


def _flat(picture: np.ndarray, name: str) -> Layer:
    return Layer(picture, np.full(picture.shape[:2], 255, np.uint8), name)


def _plain_layers(
    group: Iterable[PsdLayer],
    first: int,
    budget: PixelBudget,
    profile: bytes | None,
    notes: list[str],
) -> list[Layer]:
    """Layers taken out of groups, bottom first; what is left out is noted."""
    layers = []
    for number, (layer, opacity, visible) in enumerate(_flattened(group, budget), start=first):
        name = clean_name(layer.name, f"Layer {number}")
        reason = obstacle(layer)
        if reason and visible:
            raise UnkeptError(
                f'Layer "{name}" of {budget.where} {reason}, which is not supported: rasterise or '
                "merge it in the program that made it, hide it, or use --merge (merge=True)."
            )
        if reason or min(layer.size) < 1:
            notes.append(f'"{name}" {reason or "is empty"}')
            continue
        budget.take(*layer.size, f'layer "{name}"')
        colour, alpha = _pixels(layer, budget, profile)
        opacity *= layer.opacity / 255 * layer.fill_opacity / 255
        mode = BLEND_MODES[layer.blend_mode.name]
        layers.append(Layer(colour, alpha, name, layer.offset, opacity, visible, blend_mode=mode))
    return layers


def _flattened(
    group: Iterable[PsdLayer], budget: PixelBudget, opacity: float = 1.0, visible: bool = True
) -> Iterator[tuple[PsdLayer, float, bool]]:
    """Layers inside groups, bottom first, with their groups' opacity and visibility."""
    for layer in group:
        shown = visible and layer.visible
        if not layer.is_group():
            yield layer, opacity, shown
            continue
        reason = group_obstacle(layer)
        if reason and shown:
            raise UnkeptError(
                f'Group "{clean_name(layer.name, "Group")}" of {budget.where} {reason}, which is '
                "not supported: merge it in the program that made it, or use --merge (merge=True)."
            )
        inside = cast("Iterable[PsdLayer]", layer)
        yield from _flattened(inside, budget, opacity * layer.opacity / 255, shown)


def _pixels(
    layer: PsdLayer, budget: PixelBudget, profile: bytes | None
) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) in sRGB and alpha (h, w) of a layer: its transparency times its mask."""
    if not has_colour(layer):
        raise FormatError(f'Layer "{layer.name}" of {budget.where} has no colour: it is damaged.')
    if (int(layer._psd.color_mode), layer._psd.depth) == (_RGB, 8):
        planes = [_plane(layer, channel) for channel in range(3)]
        if any(plane is None for plane in planes):
            raise FormatError(
                f'Layer "{layer.name}" of {budget.where} has no colour: it is damaged.'
            )
        colour = pictures.to_srgb(np.dstack([x for x in planes if x is not None]), profile)
    else:
        image = layer.topil(apply_icc=True)
        if image is None:
            raise FormatError(f'Layer "{layer.name}" of {budget.where} has no colour.')
        colour = np.array(image.convert("RGB"))
    alpha = _plane(layer, _TRANSPARENCY)
    if alpha is None:
        alpha = np.full((layer.height, layer.width), 255, np.uint8)
    if has_mask(layer) and layer.mask is not None and not layer.mask.disabled:
        mask = np.full_like(alpha, layer.mask.data.background_color)
        budget.take(max(layer.mask.data.width, 1), max(layer.mask.data.height, 1), "mask")
        stored = layer.mask.topil(real=False, layer_sized=True)
        mask = mask if stored is None else np.array(stored.convert("L"))
        alpha = multiply_alpha(alpha, 255 - mask if layer.mask.flags.invert_mask else mask)
    return colour, alpha


def _plane(layer: PsdLayer, channel: int) -> np.ndarray | None:
    from psd_tools.constants import ChannelID

    image = layer.topil(ChannelID(channel), apply_icc=False)
    return None if image is None else np.array(image.convert("L"))


def _merged(psd: PSDImage, budget: PixelBudget, profile: bytes | None) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of the image data section, once it is known to be whole.

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
    if (int(psd.color_mode), psd.depth) != (_RGB, 8):
        image = psd.topil(apply_icc=True)
        if image is None:
            raise FormatError(f"{budget.where} is damaged: it has no merged picture.")
        return np.array(image.convert("RGB"))
    planes = section.get_data(psd._record.header)
    if not isinstance(planes, list) or len(planes) < 3:
        raise FormatError(f"{budget.where} is damaged: its merged picture has no colour.")
    shape = (psd.height, psd.width)
    colour = np.dstack([np.frombuffer(plane, np.uint8).reshape(shape) for plane in planes[:3]])
    return pictures.to_srgb(colour, profile)
