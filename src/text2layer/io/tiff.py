"""Layered TIFF, as Photoshop and Affinity write it: the picture, and beside it the layers of a PSD.

The layers are a block of tag 37724 (ImageSourceData), whose bytes are those of a PSD in a file of
big-endian order. Programs that do not know the tag show the picture, which is the composite.
Layout: Adobe Photoshop TIFF Technical Notes (2002).
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from text2layer.errors import FormatError
from text2layer.io import pictures, psd, xmp
from text2layer.io.assembly import Loaded
from text2layer.io.budget import PixelBudget
from text2layer.layers import LayeredImage
from text2layer.options import require

LAYERS_TAG, XMP_TAG, PROFILE_TAG = 37724, 700, 34675
BYTE, UNDEFINED = 1, 7  # types of a tag's value
MAX_BYTES = 2**32 - 2**20  # of a TIFF, whose offsets have 32 bits
PSD_PROFILE, PSD_XMP = 1039, 1060  # image resources of a PSD
_BLOCKS = b"Adobe Photoshop Document Data Block\0"
_HEADER = struct.Struct(">4sH6xHIIHH")  # signature, version, channels, height, width, depth, mode


def check_writable() -> None:
    """Raise InputError unless the package that writes TIFF is installed."""
    require("tifffile", "tifffile", "Writing TIFF", extra="tiff")


def write(layered: LayeredImage, file: BinaryIO, alpha: str = "transparency") -> None:
    """Write a TIFF of the composite with all layers; see `psd.write` for `alpha`.

    Raises:
        InputError: tifffile is not installed.
        FormatError: a side over 30000 pixels, or more than 4 GiB.
    """
    tifffile = require("tifffile", "tifffile", "Writing TIFF", extra="tiff")
    document = io.BytesIO()
    psd.write(layered, document, alpha)
    block = _layer_block(document.getvalue())
    composite = layered.composite
    if len(block) + composite.nbytes > MAX_BYTES:
        raise FormatError("A TIFF holds at most 4 GiB, and these layers take more: save as PSD.")
    packet = xmp.write_packet(layered)
    whole = io.BytesIO()  # tifffile asks an open file for its name, which not every file has
    tifffile.imwrite(
        whole, composite, photometric="rgb", compression="zlib", byteorder=">", metadata=None,
        software="text2layer",
        extratags=[
            (XMP_TAG, BYTE, len(packet), packet, True),
            (LAYERS_TAG, UNDEFINED, len(block), block, True),
        ],
    )  # fmt: skip
    file.write(whole.getbuffer())


def read(path: Path, budget: PixelBudget, merge: bool = False) -> Loaded | None:
    """Read the layers of a TIFF; None if it has none that can be read, so its picture counts.

    They can be where colour is RGB with 8 bits and the byte order is big-endian, as `write` has it.

    Raises:
        UnkeptError, FormatError: see `psd.read`.
    """
    with path.open("rb") as file:
        pictures.check_signature(file.read(pictures.HEAD_BYTES), "TIFF", budget.where)
        with pictures.open_image(file, "TIFF") as image:
            tags = image.tag_v2  # type: ignore[attr-defined]  # of TIFF alone
            layers = _layers_in(bytes(tags.get(LAYERS_TAG, b"")))
            if layers is None or image.mode not in ("RGB", "RGBA") or tags.prefix != b"MM":
                return None
            width, height = image.size
            PixelBudget(budget.where, budget.max_pixels).take(width, height, "canvas")
            resources = b"".join(
                _resource(number, bytes(tags[tag]))
                for number, tag in ((PSD_PROFILE, PROFILE_TAG), (PSD_XMP, XMP_TAG))
                if tag in tags
            )
            document = _as_psd(np.asarray(image.convert("RGB")), resources, layers)
    return psd.read_document(io.BytesIO(document), budget, merge)


def has_layers(image: Image.Image) -> bool:
    """Whether a TIFF has layers of Photoshop, of either byte order and any depth."""
    data = bytes(image.tag_v2.get(LAYERS_TAG, b""))[len(_BLOCKS) :]  # type: ignore[attr-defined]
    return data[4:8] in (b"Layr", b"ryaL", b"Lr16", b"61rL", b"Lr32", b"23rL")


def _layer_block(document: bytes) -> bytes:
    """The value of the tag from the bytes of a PSD with empty colour table."""
    at = _HEADER.size
    for _ in ("colour table", "resources"):
        at += 4 + int.from_bytes(document[at : at + 4], "big")
    at += 4  # length of layers and masks together
    length = int.from_bytes(document[at : at + 4], "big")
    layers = document[at + 4 : at + 4 + length]
    return _BLOCKS + b"8BIMLayr" + struct.pack(">I", length) + layers + bytes(-length % 4)


def _layers_in(data: bytes) -> bytes | None:
    """The layers among the blocks of the tag, as a PSD has them."""
    if not data.startswith(_BLOCKS):
        return None
    at = len(_BLOCKS)
    while data[at : at + 4] == b"8BIM" and len(data) >= at + 12:
        key, length = struct.unpack(">4sI", data[at + 4 : at + 12])
        if key == b"Layr":
            layers = data[at + 12 : at + 12 + length]
            return layers if len(layers) == length and length else None
        at += 12 + length + -length % 4
    return None


def _resource(number: int, data: bytes) -> bytes:
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + bytes(len(data) % 2)


def _as_psd(picture: np.ndarray, resources: bytes, layers: bytes) -> bytes:
    """A PSD of the picture (H, W, 3) uint8 and the layers."""
    height, width = picture.shape[:2]
    layers += bytes(len(layers) % 2)
    inside = struct.pack(">I", len(layers)) + layers + bytes(4)  # no global mask
    return b"".join(
        [
            _HEADER.pack(b"8BPS", 1, 3, height, width, 8, 3),
            bytes(4),  # no colour table
            struct.pack(">I", len(resources)), resources,
            struct.pack(">I", len(inside)), inside,
            bytes(2),  # raw
            np.moveaxis(picture, 2, 0).tobytes(),
        ]
    )  # fmt: skip
