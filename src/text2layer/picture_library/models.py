"""3D models as pictures: rays through a camera, the nearest surface, its colour in plain light.

trimesh reads the models (OBJ, glTF), Embree finds what a ray meets; neither needs a graphics card
or a display (extra `library`). The same model and camera give the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from text2layer.errors import FormatError
from text2layer.options import require
from text2layer.picture_library.offer import Pixels

SIDE = 640  # rays across; a cut-out has 256 pixels at most, so its edge has several rays a pixel
FIELD = 28.0  # of view in degrees
THROUGH = 4  # surfaces that a ray passes where their texture is transparent
LIGHTS = (((-0.5, 0.8, 0.7), 0.5), ((0.8, 0.3, 0.5), 0.2))  # towards each, seen by the camera
AMBIENT = 0.42
MOST_FACES = 3_000_000


@dataclass(frozen=True)
class View:
    """Reads a view of a model.

    Attributes:
        model: OBJ or glTF file; textures lie where it says.
        azimuth: degrees around the model; 0 looks at its front, 90 at its right side.
        elevation: degrees above its horizon.
        size: width, height and depth that the model is scaled to; empty keeps its own.
        rotation: nine numbers, row by row, applied before; empty for none.
    """

    model: Path
    azimuth: float
    elevation: float
    size: tuple[float, ...] = ()
    rotation: tuple[float, ...] = ()

    def __call__(self) -> Pixels:
        """Colour and alpha, SIDE x SIDE.

        Raises:
            FormatError: the model cannot be read.
            InputError: trimesh or Embree is missing.
        """
        return draw(_surface(self.model, self.size, self.rotation), self.azimuth, self.elevation)


@dataclass(frozen=True)
class Surface:
    """Triangles of a model, centred, with what their colours are.

    Attributes:
        vertices: (V, 3); y is up, z towards the viewer of the front.
        faces: (F, 3) indices of vertices.
        normals: (V, 3) unit.
        uv: (V, 2) in pictures whose first row is v = 1.
        part: (F,) index into `colours` and `textures`.
        colours: (P, 4) in 0..1; multiplied with the texture.
        textures: (h, w, 4) uint8 or None, of each part.
        caster: what finds the first triangle of rays.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    part: np.ndarray
    colours: np.ndarray
    textures: tuple[np.ndarray | None, ...]
    caster: Any


def check_models() -> tuple[Any, Any]:
    """trimesh and its Embree; InputError says how to install them."""
    trimesh = require("trimesh", "trimesh", "Drawing 3D models", extra="library")
    require("embreex", "embreex", "Drawing 3D models", extra="library")
    return trimesh, require("trimesh.ray.ray_pyembree", "embreex", "Drawing 3D models",
                            extra="library")  # fmt: skip


@lru_cache(maxsize=1)  # views of a model come one after the other
def _surface(model: Path, size: tuple[float, ...], rotation: tuple[float, ...]) -> Surface:
    trimesh, embree = check_models()
    try:
        scene = trimesh.load_scene(model)
        meshes = [mesh for mesh in scene.dump() if len(getattr(mesh, "faces", ()))]
    except Exception as error:  # whatever a damaged model makes trimesh raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{model.name} is no model that can be read ({said}).") from None
    if not meshes or sum(len(mesh.faces) for mesh in meshes) > MOST_FACES:
        raise FormatError(f"{model.name} has no faces, or more than {MOST_FACES}.")
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float64)
    normals = np.concatenate([mesh.vertex_normals for mesh in meshes]).astype(np.float64)
    if rotation:
        turn = np.array(rotation).reshape(3, 3)
        vertices, normals = vertices @ turn.T, normals @ turn.T
    low, high = vertices.min(0), vertices.max(0)
    vertices -= (low + high) / 2
    if size:
        scale = np.array(size) / np.maximum(high - low, 1e-9)
        vertices, normals = vertices * scale, normals / scale
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    vertices /= max(np.linalg.norm(vertices, axis=1).max(), 1e-9)  # within the unit sphere
    faces = np.concatenate(
        [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    )
    looks = [_material(mesh) for mesh in meshes]
    return Surface(
        vertices,
        faces,
        normals,
        np.concatenate([_uv(mesh) for mesh in meshes]),
        np.repeat(np.arange(len(meshes)), [len(mesh.faces) for mesh in meshes]),
        np.array([colour for colour, _ in looks]),
        tuple(texture for _, texture in looks),
        embree.RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False)),
    )


def draw(surface: Surface, azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour (SIDE, SIDE, 3) and alpha (SIDE, SIDE) uint8 of a model seen from an angle."""
    turn, tilt = np.deg2rad([azimuth, elevation])
    back = np.array([np.sin(turn) * np.cos(tilt), np.sin(tilt), np.cos(turn) * np.cos(tilt)])
    right = np.array([np.cos(turn), 0.0, -np.sin(turn)])
    up = np.cross(back, right)
    half = np.tan(np.deg2rad(FIELD / 2))
    eye = back * 1.02 / np.sin(np.deg2rad(FIELD / 2))
    steps = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    across, down = np.meshgrid(steps * half, -steps * half)
    directions = (across[..., None] * right + down[..., None] * up - back).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(eye, directions.shape).copy()
    colour = np.zeros((SIDE * SIDE, 3))
    alpha = np.zeros(SIDE * SIDE, np.uint8)
    rays = np.arange(SIDE * SIDE)
    lights = [
        (np.array(towards) @ [right, up, back] / np.linalg.norm(towards), strength)
        for towards, strength in LIGHTS
    ]
    for _ in range(THROUGH):
        hit = surface.caster.intersects_first(origins[rays], directions[rays])
        rays, triangles = rays[hit >= 0], hit[hit >= 0]
        if not len(rays):
            break
        weights, points = _barycentric(surface, triangles, origins[rays], directions[rays])
        seen = _colours(surface, triangles, weights)
        solid = seen[:, 3] >= 0.5
        normals = (weights[..., None] * surface.normals[surface.faces[triangles]]).sum(1)
        facing = np.sign((normals * -directions[rays]).sum(1, keepdims=True))
        normals = normals * np.where(facing == 0, 1, facing)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        light = AMBIENT + sum(
            strength * np.clip(normals @ towards, 0, None) for towards, strength in lights
        )
        colour[rays[solid]] = (seen[:, :3] * light[:, None])[solid]
        alpha[rays[solid]] = 255
        rays, points = rays[~solid], points[~solid]
        origins[rays] = points + directions[rays] * 1e-4
    pixels = np.clip(np.rint(colour * 255), 0, 255).astype(np.uint8)
    return pixels.reshape(SIDE, SIDE, 3), alpha.reshape(SIDE, SIDE)


def _barycentric(
    surface: Surface, triangles: np.ndarray, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, 3) of the corners where rays meet triangles, and the points (N, 3)."""
    a, b, c = (surface.vertices[surface.faces[triangles, corner]] for corner in range(3))
    one, other = b - a, c - a
    normal = np.cross(one, other)
    slope = (normal * directions).sum(1)
    distance = (normal * (a - origins)).sum(1) / np.where(np.abs(slope) < 1e-15, 1e-15, slope)
    points = origins + distance[:, None] * directions
    square = np.maximum((normal * normal).sum(1), 1e-30)
    v = (np.cross(points - a, other) * normal).sum(1) / square
    w = (np.cross(one, points - a) * normal).sum(1) / square
    return np.clip(np.stack([1 - v - w, v, w], 1), 0, 1), points


def _colours(surface: Surface, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, 4) in 0..1 of points on triangles."""
    part = surface.part[triangles]
    seen: np.ndarray = surface.colours[part].copy()
    for number in np.unique(part):
        texture = surface.textures[number]
        if texture is None:
            continue
        here = part == number
        uv = (weights[here][..., None] * surface.uv[surface.faces[triangles[here]]]).sum(1) % 1.0
        height, width = texture.shape[:2]
        column = np.minimum((uv[:, 0] * width).astype(int), width - 1)
        row = np.minimum(((1 - uv[:, 1]) * height).astype(int), height - 1)
        seen[here] *= texture[row, column] / 255
    return seen


def _uv(mesh: Any) -> np.ndarray:
    uv = getattr(mesh.visual, "uv", None)
    if uv is None or len(uv) != len(mesh.vertices):
        return np.zeros((len(mesh.vertices), 2))
    return np.nan_to_num(np.asarray(uv, np.float64)[:, :2])


def _material(mesh: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour (4,) in 0..1 and texture (h, w, 4) uint8, or None, of a mesh."""
    material = getattr(mesh.visual, "material", None)
    if material is None:
        return np.asarray(mesh.visual.main_color, np.float64) / 255, None
    stated: Mapping[str, Any] = {
        name: getattr(material, name, None)
        for name in ("baseColorFactor", "diffuse", "baseColorTexture", "image")
    }
    image = stated["baseColorTexture"] or stated["image"]
    factor = stated["baseColorFactor"]
    if factor is None and image is None:  # of an OBJ the texture alone says the colour
        factor = stated["diffuse"]
    colour = np.ones(4)
    if factor is not None:
        given = np.asarray(factor, np.float64).ravel()[:4]
        colour[: len(given)] = given / 255 if given.max() > 1 else given
    if colour[3] > 0.05:  # glass is drawn as what one sees of it
        colour[3] = 1.0
    texture = None if image is None else np.asarray(image.convert("RGBA"))
    return colour, texture
