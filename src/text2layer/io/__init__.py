"""Layered files: ``load(path)``, ``save(layered, path)`` and ``inspect(path)``.

The suffix chooses the format, see `FORMATS`; a folder is a path without a suffix, with the suffix
``.layers``, ending in a slash, or one that exists. What each format keeps: docs/files.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from text2layer.errors import FormatError, InputError, Text2LayerError, UnkeptError
from text2layer.files import writing
from text2layer.io import folder, ora, pictures, psd, xmp
from text2layer.io.assembly import Loaded, assemble
from text2layer.io.budget import MAX_PIXELS, PixelBudget
from text2layer.layers import Layer, LayeredImage

__all__ = ["ALPHAS", "FORMATS", "MAX_PIXELS", "PARTS", "Format", "inspect", "load", "read", "save"]

PARTS = ("composite", "foreground", "background", "mask")
ALPHAS = ("mask", "transparency")


@dataclass(frozen=True)
class Format:
    """What a suffix stands for.

    Attributes:
        name: as people call it.
        layered: whether it holds layers; the others hold one picture.
        writable: whether `save` writes it.
    """

    name: str
    layered: bool
    writable: bool = True


FORMATS = {
    ".psd": Format("PSD", True),
    ".psb": Format("PSD", True, writable=False),
    ".ora": Format("ORA", True),
    ".layers": Format("folder", True),
    ".png": Format("PNG", False),
    ".webp": Format("WEBP", False),
    ".jpg": Format("JPEG", False, writable=False),
    ".jpeg": Format("JPEG", False, writable=False),
}

_PICTURE_WRITERS: dict[str, Callable[[BinaryIO, np.ndarray, bytes], None]] = {
    "PNG": pictures.write_png,
    "WEBP": pictures.write_webp,
}


def load(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, merge: bool = False
) -> LayeredImage:
    """Read a layered file, or a single picture as one.

    An opaque picture becomes the background; a cut-out (with real transparency) becomes a
    foreground over white, with ``background_added`` in the metadata.

    Args:
        path: file or folder; the suffix says which format.
        max_pixels: limit for each picture in the file; all together may hold 4 times as many.
        merge: merge what cannot be kept as a layer (effects, adjustments, clipping and the like)
            by psd-tools' compositor; the metadata says under ``changed`` what was merged.

    Raises:
        InputError: there is no such file.
        UnkeptError: visible content that cannot be kept, without `merge`.
        FormatError: unknown suffix, damaged, cut short, over a limit, or not supported.

    Example:
        >>> load("scene.psd").size                                  # doctest: +SKIP
        (256, 256)
    """
    return read(path, max_pixels=max_pixels, merge=merge).layered


def save(
    layered: LayeredImage,
    path: str | os.PathLike[str],
    *,
    part: str = "composite",
    alpha: str = "mask",
) -> None:
    """Write a layered picture whole or not at all; how it was made goes along as XMP.

    Args:
        layered: the picture.
        path: file or folder; the suffix chooses the format. An existing file is replaced.
        part: what a single-picture format gets: "composite" (RGB), "foreground" (RGBA, hidden
            colour kept), "background" (RGB) or "mask" (grey). Layered formats hold everything.
        alpha: where a PSD holds a layer's alpha: "mask" (a layer mask, which editors show beside
            the layer) or "transparency" (which programs without masks, such as Pillow, show right
            too). Other formats have one place for it. Both load alike.

    Raises:
        InputError: unknown part or place of alpha, missing folder, metadata too long.
        FormatError: unknown or read-only suffix, too large for the format, or refused by the disk.
    """
    kind = _format_of(path)
    if not kind.writable:
        raise FormatError(f"{path}: {kind.name} is only read; save as {_suffixes(writable=True)}.")
    if part not in PARTS:
        raise InputError(f'There is no part "{part}": choose one of {", ".join(PARTS)}.')
    if alpha not in ALPHAS:
        raise InputError(f'A PSD has no alpha "{alpha}": choose one of {", ".join(ALPHAS)}.')
    if kind.layered and part != "composite":
        raise InputError(f'{kind.name} holds all layers: a part ("{part}") needs .png or .webp.')
    if kind.name == "folder":
        folder.write(layered, Path(path))
        return
    with writing(path) as file:
        if kind.name == "PSD":
            psd.write(layered, file, alpha)
        elif kind.layered:
            ora.write(layered, file)
        else:
            packet = xmp.write_packet(layered)
            _PICTURE_WRITERS[kind.name](file, _part_of(layered, part), packet)


def inspect(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """What is inside a file, as JSON values; the same errors as `load`.

    Returns:
        format, size [width, height], background {name}, layers (bottom first: name, offset [x, y],
        size, opacity, visible, metadata), metadata, digital_source_type (IPTC URI or None),
        preview_equals_composite (None where the format holds no preview of its layers), and notes:
        sentences on what cannot be kept and on a preview that differs visibly. Where something
        cannot be kept, the layers are those that ``load(path, merge=True)`` gives.
    """
    try:
        loaded = read(path, max_pixels=max_pixels)
    except UnkeptError:
        loaded = read(path, max_pixels=max_pixels, merge=True)
    layered, preview = loaded.layered, loaded.preview
    equal = None if preview is None else bool(np.array_equal(preview, layered.composite))
    return {
        "format": _format_of(path).name,
        "size": list(layered.size),
        "background": {"name": layered.background_name},
        "layers": [
            {
                "name": layer.name,
                "offset": list(layer.offset),
                "size": list(layer.size),
                "opacity": layer.opacity,
                "visible": layer.visible,
                "metadata": layer.metadata,
            }
            for layer in layered.foregrounds
        ],
        "metadata": layered.metadata,
        "digital_source_type": loaded.packet.digital_source_type,
        "preview_equals_composite": equal,
        "notes": loaded.notes,
    }


def read(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, merge: bool = False
) -> Loaded:
    """As `load`, with the file's preview and notes; whatever goes wrong becomes one sentence."""
    kind = _format_of(path)
    where = Path(path)
    if not os.path.exists(path):
        raise InputError(f"There is no file {path}.")
    if kind.name != "folder" and not os.path.isfile(path):
        raise InputError(f"{path} is not a regular file.")
    budget = PixelBudget(str(path), max_pixels)
    try:
        if kind.name == "folder":
            return folder.read(where, budget)
        if kind.name == "PSD":
            return psd.read(where, budget, merge)
        if kind.layered:
            return ora.read(where, budget)
        return _read_single(where, kind.name, budget)
    except InputError as error:
        raise FormatError(f"{path} cannot be used: {error}") from None
    except Text2LayerError:
        raise
    except MemoryError:
        raise FormatError(f"{path} needs more memory than there is.") from None
    except PermissionError:
        raise FormatError(f"{path} may not be read: permission is denied.") from None
    except Exception as error:  # the parsers below raise whatever a damaged file leads them to
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise FormatError(
            f"{path} is damaged, cut short or not of the format {kind.name} ({reason})."
        ) from None


def _read_single(path: Path, expected: str, budget: PixelBudget) -> Loaded:
    """One picture as a background, or as a cut-out over white."""
    with path.open("rb") as file:
        picture = pictures.read_picture(file, expected, budget.where, budget)
    packet = xmp.read_packet(picture.xmp)
    height, width = picture.colour.shape[:2]
    alpha, name = picture.alpha, "Foreground"
    if alpha is None or (alpha == 255).all():
        alpha, name = np.full((height, width), 255, np.uint8), "Background"
    return assemble((width, height), [Layer(picture.colour, alpha, name)], packet)


def _part_of(layered: LayeredImage, part: str) -> np.ndarray:
    if part == "foreground":
        return np.dstack([layered.foreground, layered.mask])
    pixels: np.ndarray = getattr(layered, part)
    return pixels


def _format_of(path: str | os.PathLike[str]) -> Format:
    """The format a path stands for, or FormatError naming those that there are."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"{path!r} is not a path.")
    suffix = Path(text).suffix.lower()
    if text.endswith(("/", os.sep)) or not suffix or os.path.isdir(text):
        return FORMATS[".layers"]
    if suffix not in FORMATS:
        raise FormatError(
            f'{text}: unknown format "{suffix}"; choose one of {_suffixes()}, or a folder.'
        )
    return FORMATS[suffix]


def _suffixes(writable: bool = False) -> str:
    return ", ".join(s for s, f in FORMATS.items() if f.writable or not writable)
