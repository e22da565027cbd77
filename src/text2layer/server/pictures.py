"""Kept pictures in and out: uploads, descriptions with PNGs, new arrangements, downloads."""

from __future__ import annotations

import base64
import secrets
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from text2layer import io
from text2layer.errors import FormatError, InputError, Text2LayerError
from text2layer.io import pictures
from text2layer.io.parallax import save_parallax
from text2layer.io.sprites import save_sprites
from text2layer.layers import Layer, LayeredImage
from text2layer.server.schema import Arrange, ArrangedLayer, LayerInfo, PictureInfo
from text2layer.server.store import Store

HEAD = 16  # bytes that tell a file's format
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "PSD": ".psd", "ORA": ".ora"}
MEDIA_TYPES = {
    "psd": "image/vnd.adobe.photoshop",
    "ora": "image/openraster",
    "zip": "application/zip",
    "png": "image/png",
    "webp": "image/webp",
    "sprites": "application/zip",
    "parallax": "image/webp",
}
FILM_SIDE = 640  # pixels of a film at most: it is made while the client waits
FILE_SUFFIXES = {"sprites": "zip", "parallax": "webp"}  # of the others their names


async def receive_file(stream: AsyncIterator[bytes], folder: Path) -> Path:
    """Write a body to a file named by what its first bytes announce.

    Raises:
        FormatError: it is no picture that can be read.
    """
    path = folder / secrets.token_hex(8)
    head = b""
    try:
        with path.open("wb") as file:
            async for chunk in stream:
                head = (head + chunk[:HEAD])[:HEAD]
                file.write(chunk)
        suffix = SUFFIXES.get(pictures.sniff(head) or "")
        if suffix is None:
            raise FormatError("The file is no PSD, ORA, PNG, JPEG or WebP; send one of these.")
        return path.rename(path.with_suffix(suffix))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def open_file(path: Path, max_pixels: int) -> LayeredImage:
    """Read a received file, then remove it; errors call it "the file", not by its path."""
    try:
        return io.load(path, max_pixels=max_pixels)
    except Text2LayerError as error:
        raise FormatError(f"{error}".replace(str(path), "the file")) from None
    finally:
        path.unlink(missing_ok=True)


def describe(store: Store, picture_id: str, with_pngs: bool) -> PictureInfo:
    """What the page and programs need of a picture; its PNGs in base64 if asked for."""
    layered = store.load_picture(picture_id)
    row = store.picture_row(picture_id)

    def png(pixels: np.ndarray) -> str | None:
        return base64.b64encode(pictures.encode_png(pixels)).decode() if with_pngs else None

    return PictureInfo(
        id=picture_id,
        created=row["created"],
        expires=row["used"] + store.keep_seconds,
        size=layered.size,
        background=layered.background_name,
        layers=[
            LayerInfo(
                name=layer.name,
                offset=layer.offset,
                size=layer.size,
                opacity=layer.opacity,
                visible=layer.visible,
                blend_mode=layer.blend_mode,
                metadata=layer.metadata,
                png=png(np.dstack([layer.colour, layer.alpha])),
            )
            for layer in layered.foregrounds
        ],
        metadata=layered.metadata,
        background_png=png(layered.background),
        composite_png=png(layered.composite),
    )


def one_png(layered: LayeredImage, part: str) -> bytes:
    """The PNG of "composite", "background" or the number of a layer from 0."""
    if part == "composite":
        return pictures.encode_png(layered.composite)
    if part == "background":
        return pictures.encode_png(layered.background)
    layer = layered.foregrounds[int(part)]
    return pictures.encode_png(np.dstack([layer.colour, layer.alpha]))


def arrange(store: Store, wanted: Arrange) -> LayeredImage:
    """A new picture from the background of one and layers of any.

    Raises:
        FormatError: a layer is asked for that its picture does not have.
    """
    opened: dict[str, LayeredImage] = {}

    def picture(picture_id: str) -> LayeredImage:
        if picture_id not in opened:
            opened[picture_id] = store.load_picture(picture_id)
        return opened[picture_id]

    base = picture(wanted.background)
    layers = []
    for one in wanted.layers:
        source = picture(one.picture)
        if one.layer >= len(source.foregrounds):
            raise FormatError(
                f"The picture {one.picture} has {len(source.foregrounds)} layers and no layer "
                f"{one.layer}, counted from 0."
            )
        layers.append(_arranged(source.foregrounds[one.layer], one))
    return base.replace(foregrounds=tuple(layers))


def _arranged(layer: Layer, wanted: ArrangedLayer) -> Layer:
    """The layer as it is asked for; pixels are touched by size and mirror alone."""
    if wanted.mirror:
        layer = layer.replace(
            colour=np.ascontiguousarray(layer.colour[:, ::-1]),
            alpha=np.ascontiguousarray(layer.alpha[:, ::-1]),
        )
    if wanted.size is not None and tuple(wanted.size) != layer.size:
        layer = layer.resized((wanted.size[0], wanted.size[1]))
    names = ("name", "offset", "opacity", "visible", "blend_mode")
    changes = {name: value for name in names if (value := getattr(wanted, name)) is not None}
    return layer.replace(**changes)


def write_file(layered: LayeredImage, kind: str, part: str, folder: Path) -> Path:
    """Write a picture for download.

    "zip" is the folder of PNGs and manifest.json as one file, "sprites" the atlas and its JSON in
    another, "parallax" a film in WebP.
    """
    path = folder / f"{secrets.token_hex(8)}.{FILE_SUFFIXES.get(kind, kind)}"
    if kind not in ("zip", *FILE_SUFFIXES):
        io.save(layered, path, part=part)
        return path
    if part != "composite":
        raise InputError(f'{kind} holds all layers: a part ("{part}") needs png or webp.')
    if kind == "parallax":
        factor = min(1.0, FILM_SIDE / max(layered.size))
        width, height = (max(1, round(side * factor)) for side in layered.size)
        save_parallax(layered, path, size=(width, height))
        return path
    unpacked = path.with_suffix(".layers")
    try:
        if kind == "zip":
            io.save(layered, unpacked)
        else:
            unpacked.mkdir()
            save_sprites(layered, unpacked / "sprites.json")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are packed already
            for file in sorted(unpacked.iterdir()):
                archive.write(file, file.name)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return path
