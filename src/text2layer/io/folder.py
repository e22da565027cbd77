"""A folder of PNGs with a manifest.json: the format that any script can read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from text2layer.blend_modes import NORMAL
from text2layer.errors import FormatError, InputError
from text2layer.files import writing_folder
from text2layer.io import pictures, xmp
from text2layer.io.assembly import Loaded
from text2layer.io.budget import PixelBudget
from text2layer.layers import Layer, LayeredImage

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**24
VERSION = 1
_FORMAT = "text2layer"
_PLAIN_NAME = re.compile(r"[^/\\:\0]{1,255}")


def write(layered: LayeredImage, path: Path) -> None:
    """Write the folder; one that is there is replaced if it holds nothing but such layers."""
    packet = xmp.write_packet(layered)
    with writing_folder(path, _check_replaceable) as folder:
        layers = []
        for order, layer in enumerate(layered.foregrounds, start=1):
            slug = re.sub(r"[^a-z0-9]+", "-", layer.name.lower())[:40].strip("-") or "layer"
            file = f"{order:02}-{slug}.png"
            with (folder / file).open("wb") as handle:
                pictures.write_png(handle, np.dstack([layer.colour, layer.alpha]))
            layers.append(
                {
                    "file": file,
                    "name": layer.name,
                    "order": order,
                    "offset": list(layer.offset),
                    "size": list(layer.size),
                    "opacity": layer.opacity,
                    "visible": layer.visible,
                    "blend_mode": layer.blend_mode,
                    "metadata": layer.metadata,
                }
            )
        for file, pixels in (
            ("background.png", layered.background),
            ("composite.png", layered.composite),
        ):
            with (folder / file).open("wb") as handle:
                pictures.write_png(handle, pixels, packet)
        manifest = {
            "format": _FORMAT,
            "version": VERSION,
            "size": list(layered.size),
            "composite": "composite.png",
            "background": {"file": "background.png", "name": layered.background_name},
            "layers": layers,
            "digital_source_type": xmp.digital_source_type(layered.metadata),
            "metadata": layered.metadata,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=True) + "\n"
        (folder / MANIFEST).write_text(text, encoding="ascii")


def read(path: Path, budget: PixelBudget) -> Loaded:
    """Read a folder; its layers may have been edited, moved and reordered by hand.

    Raises:
        FormatError: no manifest, a manifest or picture that is damaged, a file outside the folder.
    """
    manifest = _read_manifest(path, budget.where)
    try:
        entries = sorted(manifest["layers"], key=lambda entry: entry["order"])
        budget.check_layer_count(len(entries))
        background = _picture(path, manifest["background"]["file"], budget).colour
        layers = tuple(_layer(path, entry, budget) for entry in entries)
        layered = LayeredImage(
            background, layers, manifest["background"]["name"], manifest.get("metadata", {})
        )
        preview = None
        if isinstance(manifest.get("composite"), str):
            preview = _picture(path, manifest["composite"], budget).colour
        size = tuple(manifest["size"])
    except InputError as error:
        raise FormatError(f"The {MANIFEST} of {budget.where} is not sound: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(
            f"The {MANIFEST} of {budget.where} is not sound: {type(error).__name__} {error}."
        ) from None
    if size != layered.size:
        raise FormatError(
            f"The {MANIFEST} of {budget.where} says {size}, but its background is {layered.size}."
        )
    source = manifest.get("digital_source_type")
    packet = xmp.Packet(layered.metadata, (), source if isinstance(source, str) else None, True)
    return Loaded(layered, preview, packet)


def _layer(path: Path, entry: dict[str, Any], budget: PixelBudget) -> Layer:
    picture = _picture(path, entry["file"], budget)
    alpha = picture.alpha
    if alpha is None:
        alpha = np.full(picture.colour.shape[:2], 255, np.uint8)
    return Layer(
        picture.colour,
        alpha,
        entry["name"],
        entry["offset"],
        entry["opacity"],
        entry["visible"],
        entry.get("metadata", {}),
        entry.get("blend_mode", NORMAL),
    )


def _picture(folder: Path, name: object, budget: PixelBudget) -> pictures.Picture:
    """Decode a PNG that lies directly in the folder."""
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name) or name in (".", ".."):
        raise FormatError(f"The {MANIFEST} of {budget.where} names {name!r}, which is not inside.")
    file = folder / name
    if file.resolve().parent != folder.resolve():
        raise FormatError(f"{file} leads out of its folder: not opened.")
    if not file.is_file():
        raise FormatError(f"{budget.where} is not complete: its {name} is missing.")
    with file.open("rb") as handle:
        return pictures.read_picture(handle, "PNG", str(file), budget)


def _read_manifest(folder: Path, where: str) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise FormatError(f"{where} is a folder without a {MANIFEST}, so it holds no layers.")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise FormatError(f"The {MANIFEST} of {where} is larger than {MAX_MANIFEST_BYTES} bytes.")
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"The {MANIFEST} of {where} is damaged ({error}).") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise FormatError(f"The {MANIFEST} of {where} was not written by text2layer.")
    if manifest.get("version") != VERSION:
        raise FormatError(
            f"The {MANIFEST} of {where} has version {manifest.get('version')}, but only version "
            f"{VERSION} is known: use a newer text2layer."
        )
    return manifest


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but what a manifest of ours lists."""
    present = {file.name for file in folder.iterdir()}
    if not present:
        return
    manifest = _read_manifest(folder, str(folder))
    try:
        entries = [manifest["background"], *manifest["layers"]]
        listed = {MANIFEST, manifest["composite"], *(entry["file"] for entry in entries)}
    except (KeyError, TypeError):
        listed = {MANIFEST}
    foreign = sorted(present - listed)
    if foreign:
        raise FormatError(
            f"{folder} holds {foreign[0]}, which text2layer did not write: choose another folder."
        )
