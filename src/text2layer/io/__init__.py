"""Layered files: ``load(path)``, ``save(layered, path)`` and ``inspect(path)``.

The suffix chooses the format, see `FORMATS`; a folder is a path without a suffix, with the suffix
``.layers``, ending in a slash, or one that exists. Open streams and standard input and output
(``-``) do as well. What each format keeps: docs/files.md.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from text2layer.errors import FormatError, InputError, Text2LayerError, UnkeptError
from text2layer.files import writing
from text2layer.io import folder, ora, pictures, psd, streams, tiff, xmp
from text2layer.io.assembly import Loaded, assemble
from text2layer.io.budget import MAX_PIXELS, PixelBudget
from text2layer.io.streams import is_standard
from text2layer.layers import Layer, LayeredImage

__all__ = [
    "ALPHAS",
    "FORMATS",
    "MAX_PIXELS",
    "PARTS",
    "Format",
    "check_standard_output",
    "inspect",
    "is_standard",
    "load",
    "read",
    "save",
]

PARTS = ("composite", "foreground", "background", "mask")
ALPHAS = ("transparency", "mask")


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
    ".jpg": Format("JPEG", False),
    ".jpeg": Format("JPEG", False),
    ".jfif": Format("JPEG", False, writable=False),
    ".tif": Format("TIFF", True),
    ".tiff": Format("TIFF", True),
    ".bmp": Format("BMP", False, writable=False),
    ".gif": Format("GIF", False, writable=False),
    ".avif": Format("AVIF", False, writable=False),
    ".heic": Format("HEIC", False, writable=False),
    ".heif": Format("HEIC", False, writable=False),
}

_PICTURE_WRITERS: dict[str, Callable[[BinaryIO, np.ndarray, bytes], None]] = {
    "PNG": pictures.write_png,
    "WEBP": pictures.write_webp,
    "JPEG": pictures.write_jpeg,
}


@dataclass(frozen=True)
class _Source:
    """What is read: a path, or the bytes of a stream.

    Attributes:
        where: its name for errors.
        kind: its format.
        path: None for a stream.
        data: of a stream.
    """

    where: str
    kind: Format
    path: Path | None
    data: bytes = b""


def load(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    merge: bool = False,
) -> LayeredImage:
    """Read a layered file, or a single picture as one.

    An opaque picture becomes the background; a cut-out (with real transparency) becomes a
    foreground over white, with ``background_added`` in the metadata.

    Args:
        source: file or folder, whose suffix says which format; or an open binary stream or "-",
            standard input, whose content says which.
        max_pixels: limit for each picture in the file; all together may hold 4 times as many.
        merge: merge what cannot be kept as a layer (effects, adjustments, clipping and the like):
            of a PSD by psd-tools' compositor, of an ORA by taking the file's own merged picture;
            the metadata says under ``changed`` what was merged.

    Raises:
        InputError: there is no such file, or HEIC is to be read without pillow-heif.
        UnkeptError: visible content that cannot be kept, without `merge`.
        FormatError: unknown suffix, damaged, cut short, over a limit, or not supported.

    Example:
        >>> load("scene.psd").size                                  # doctest: +SKIP
        (256, 256)
    """
    return read(source, max_pixels=max_pixels, merge=merge).layered


def read(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    merge: bool = False,
) -> Loaded:
    """As `load`, with the file's preview and notes."""
    return _read(_source(source), max_pixels, merge)


def save(
    layered: LayeredImage,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    part: str = "composite",
    alpha: str = "transparency",
    format: str | None = None,
) -> None:
    """Write a layered picture whole or not at all; how it was made goes along as XMP.

    Args:
        layered: the picture.
        target: file or folder, whose suffix chooses the format and which is replaced if it exists;
            an open binary stream; or "-", standard output, as PNG ("psd:-" as PSD).
        part: what a single-picture format gets: "composite" (RGB), "foreground" (RGBA, hidden
            colour kept), "background" (RGB) or "mask" (grey). Layered formats hold everything.
        alpha: where a PSD or TIFF holds a layer's alpha: "transparency" (which every program
            shows right) or "mask" (a layer mask, which editors show beside the layer, and programs
            without masks, such as Pillow, not at all). Other formats have one place for it. Both
            load alike.
        format: a suffix as in `FORMATS`, with or without its dot; a stream needs one.

    Raises:
        InputError: unknown part or place of alpha, missing folder, metadata too long.
        FormatError: unknown or read-only suffix, too large for the format, or refused by the disk.
    """
    kind = _target_format(target, format)
    if not kind.writable:
        named = target if isinstance(target, (str, os.PathLike)) else f'The format "{format}"'
        raise FormatError(f"{named}: {kind.name} is only read; save as {_suffixes(writable=True)}.")
    if part not in PARTS:
        raise InputError(f'There is no part "{part}": choose one of {", ".join(PARTS)}.')
    if alpha not in ALPHAS:
        raise InputError(f'A PSD has no alpha "{alpha}": choose one of {", ".join(ALPHAS)}.')
    if kind.layered and part != "composite":
        raise InputError(f'{kind.name} holds all layers: a part ("{part}") needs .png or .webp.')
    if isinstance(target, (str, os.PathLike)) and not is_standard(target):
        if kind.name == "folder":
            folder.write(layered, Path(target))
            return
        with writing(target) as file:
            _write(layered, file, kind, part, alpha)
        return
    stream, where = _stream(target, streams.STDOUT)
    whole = io.BytesIO()  # a stream cannot be taken back, so it gets nothing before all is made
    _write(layered, whole, kind, part, alpha)
    streams.write_all(stream, whole.getvalue(), where)


def check_standard_output(path: str | os.PathLike[str]) -> None:
    """Raise InputError or FormatError unless `save` can write to ``-`` or, say, ``psd:-`` now."""
    kind = _target_format(path, None)
    if not kind.writable:
        raise FormatError(f"{path}: {kind.name} is only read; save as {_suffixes(writable=True)}.")
    if kind.name == "TIFF":
        tiff.check_writable()
    streams.standard_output()


def inspect(
    source: str | os.PathLike[str] | BinaryIO, *, max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """What is inside a file or stream, as JSON values; the same errors as `load`.

    Returns:
        format, size [width, height], background {name}, layers (bottom first: name, offset [x, y],
        size, opacity, visible, blend_mode, metadata), metadata, digital_source_type (IPTC URI or
        None), preview_equals_composite (None where the format holds no preview of its layers), and
        notes: sentences on what cannot be kept and on a preview that differs visibly. Where
        something cannot be kept, the layers are those that ``load(path, merge=True)`` gives.
    """
    opened = _source(source)
    try:
        loaded = _read(opened, max_pixels)
    except UnkeptError:
        loaded = _read(opened, max_pixels, merge=True)
    layered, preview = loaded.layered, loaded.preview
    equal = None if preview is None else bool(np.array_equal(preview, layered.composite))
    return {
        "format": opened.kind.name,
        "size": list(layered.size),
        "background": {"name": layered.background_name},
        "layers": [
            {
                "name": layer.name,
                "offset": list(layer.offset),
                "size": list(layer.size),
                "opacity": layer.opacity,
                "visible": layer.visible,
                "blend_mode": layer.blend_mode,
                "metadata": layer.metadata,
            }
            for layer in layered.foregrounds
        ],
        "metadata": layered.metadata,
        "digital_source_type": loaded.packet.digital_source_type,
        "preview_equals_composite": equal,
        "notes": loaded.notes,
    }


def _source(source: str | os.PathLike[str] | BinaryIO) -> _Source:
    """Find out the format of what is to be read, and read a stream."""
    if isinstance(source, (str, os.PathLike)) and not is_standard(source):
        kind = _format_of(source)
        if not os.path.exists(source):
            raise InputError(f"There is no file {source}.")
        if kind.name != "folder" and not os.path.isfile(source):
            raise InputError(f"{source} is not a regular file.")
        return _Source(str(source), kind, Path(source))
    stream, where = _stream(source, streams.STDIN)
    reading = streams.read_all(stream, where, pictures.HEAD_BYTES)
    head = next(reading)
    if not head:
        raise FormatError(f"{where} is empty, or has been read to its end.")
    found = next((kind for kind in FORMATS.values() if kind.name == pictures.sniff(head)), None)
    if found is None:
        raise FormatError(f"{where} is no file of a known format: one of {_suffixes()}.")
    return _Source(where, found, None, head + next(reading))


def _read(source: _Source, max_pixels: int, merge: bool = False) -> Loaded:
    """Read with the reader of the format; whatever goes wrong becomes one sentence."""
    where, kind, budget = source.where, source.kind, PixelBudget(source.where, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own pixel limit is below ours
            if not kind.layered:
                with source.path.open("rb") if source.path else io.BytesIO(source.data) as file:
                    return _read_single(file, kind.name, budget)
            suffix = next(suffix for suffix, known in FORMATS.items() if known == kind)
            on_disk = (
                nullcontext(source.path) if source.path else streams.on_disk(source.data, suffix)
            )
            with on_disk as path:
                if kind.name == "PSD":
                    return psd.read(path, budget, merge)
                if kind.name == "TIFF":
                    return tiff.read(path, budget, merge) or _read_flat_tiff(path, budget)
                if kind.name == "ORA":
                    return ora.read(path, budget, merge)
                return folder.read(path, budget)
    except InputError as error:
        raise FormatError(f"{where} cannot be used: {error}") from None
    except Text2LayerError:
        raise
    except MemoryError:
        raise FormatError(f"{where} needs more memory than there is.") from None
    except PermissionError:
        raise FormatError(f"{where} may not be read: permission is denied.") from None
    except Exception as error:  # the parsers below raise whatever a damaged file leads them to
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise FormatError(
            f"{where} is damaged, cut short or not of the format {kind.name} ({reason})."
        ) from None


def _read_single(file: BinaryIO, expected: str, budget: PixelBudget) -> Loaded:
    """One picture as a background, or as a cut-out over white."""
    picture = pictures.read_picture(file, expected, budget.where, budget)
    packet = xmp.read_packet(picture.xmp)
    height, width = picture.colour.shape[:2]
    alpha, name = picture.alpha, "Foreground"
    if alpha is None or (alpha == 255).all():
        alpha, name = np.full((height, width), 255, np.uint8), "Background"
    return assemble((width, height), [Layer(picture.colour, alpha, name)], packet)


def _read_flat_tiff(path: Path, budget: PixelBudget) -> Loaded:
    """The picture of a TIFF; layers that cannot be read are noted."""
    with path.open("rb") as file:
        loaded = _read_single(file, "TIFF", budget)
        with pictures.open_image(file, "TIFF") as image:
            if not tiff.has_layers(image):
                return loaded
    return replace(loaded, found=("it has layers in a form that is not read: its picture is",))


def _write(layered: LayeredImage, file: BinaryIO, kind: Format, part: str, alpha: str) -> None:
    """Write to an open file."""
    if kind.name in ("PSD", "TIFF"):
        (psd if kind.name == "PSD" else tiff).write(layered, file, alpha)
    elif kind.layered:
        ora.write(layered, file)
    else:
        packet = xmp.write_packet(layered)
        _PICTURE_WRITERS[kind.name](file, _part_of(layered, part), packet)


def _stream(target: Any, standard: str) -> tuple[BinaryIO, str]:
    """The open file that a stream or "-" means, and its name for errors."""
    if not is_standard(target):
        name = getattr(target, "name", None)
        return target, name if isinstance(name, str) else "The stream"
    if standard == streams.STDIN:
        return streams.standard_input(), standard
    return streams.standard_output(), standard


def _target_format(target: str | os.PathLike[str] | BinaryIO, named: str | None) -> Format:
    """The format to write: the one that is named, else that of the path."""
    if named is None and isinstance(target, (str, os.PathLike)):
        if not is_standard(target):
            return _format_of(target)
        named = streams.standard_format(target)
    if named is None:
        raise InputError('A stream has no suffix: say which format, as in format="psd".')
    kind = FORMATS.get("." + named.lower().removeprefix("."))
    if kind is None or (kind.name == "folder" and not isinstance(target, (str, os.PathLike))):
        raise FormatError(
            f'The format "{named}" cannot be written: choose one of {_suffixes(writable=True)}.'
        )
    return kind


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
