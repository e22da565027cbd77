"""Inpainting by third-party networks: photo and hole in, filled photo out.

    >>> inpainter = load_inpainter("migan")
    >>> background = inpainter.fill(photo, hole)

Outside the hole every result is the photo itself, exactly: networks change those pixels too
(MI-GAN by up to 20 levels, a latent diffusion model everywhere), so they are pasted back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from text2layer.blend import extend_edge_colours
from text2layer.errors import InputError, WeightsError
from text2layer.models.frozen import module_sha256, open_session
from text2layer.models.repository import Repository, onnx_sha256
from text2layer.options import require
from text2layer.pretrained import WEIGHTS, resolve

NAMES = ("migan", "opencv")
TELEA_RADIUS = 5  # pixels around a pixel that its fill is made from
MIGAN_LEAST = 3  # pixels a side: its blur mirrors two pixels beyond each edge
LAMA_SIDE = 512  # pixels, of a network that leaves its input size open
DIFFUSION_MULTIPLE = 8  # of height and width: what an autoencoder of factor 8 takes
DIFFUSION_SEED = 0


class Inpainter(Protocol):
    """Fills holes of photos.

    Attributes:
        name: as the user gave it.
        sha256: of its weights; "" where there are none.
        licence: of its weights; "" if neither the user nor its model card names one.
    """

    name: str
    sha256: str
    licence: str

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """Fill the hole of a photo.

        Args:
            image: (H, W, 3) uint8.
            hole: (H, W) bool, True where new pixels are wanted.

        Returns:
            (H, W, 3) uint8, equal to `image` outside the hole; a copy if there is no hole.

        Raises:
            InputError: the hole is everything, or does not fit the image.
        """
        ...


def load_inpainter(name: str, threads: int = 0, licence: str = "") -> Inpainter:
    """Load an inpainter.

    Args:
        name: "migan" (Sargsyan et al., ICCV 2023); "opencv" (Telea 2004, no weights, for lack of
            anything better); an .onnx file, or a folder or hub id with one, that takes photo and
            hole as LaMa does (Suvorov et al., WACV 2022); or a folder or hub id of a diffusers
            inpainting pipeline.
        threads: of one operator; 0 leaves it to the library.
        licence: of weights whose model card names none.

    Raises:
        InputError: a library that it needs is not installed, or there is no such inpainter.
        WeightsError: its weights are missing or cannot be used.
    """
    if name == "migan":
        return MiganInpainter(resolve("migan"), threads)
    if name == "opencv":
        return OpencvInpainter()
    path = Path(name).expanduser()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise WeightsError(f"The inpainter {name} is not there; check the path.")
        return _own_onnx(name, path, Repository(name), threads, licence)
    if path.is_dir() or name.count("/") == 1:
        repository = Repository(name)
        found = None if repository.file("model_index.json") else repository.onnx()
        if found is not None:
            return _own_onnx(name, found, repository, threads, licence)
        return DiffusionInpainter(name, threads, licence or repository.licence())
    raise InputError(
        f"There is no inpainter {name!r}; give {', '.join(NAMES)}, an .onnx file, or the folder or "
        f"hub id of a LaMa in ONNX or of a diffusers inpainting pipeline."
    )


def _own_onnx(
    name: str, path: Path, repository: Repository, threads: int, licence: str
) -> Inpainter:
    if onnx_sha256(path) == WEIGHTS["migan"].sha256:
        return MiganInpainter(path, threads)
    return LamaInpainter(name, path, threads, licence or repository.licence())


class MiganInpainter:
    """The MI-GAN pipeline in one ONNX graph, any size; see `Inpainter`.

    The graph itself cuts a square around the hole, runs the network on it at 512 x 512 and blends
    the result in, so a small hole costs as much as a large one. A photo of one or two pixels a side
    is continued to three for it. The graph smooths the photo across the hole's edge, so the hole is
    filled from its edge first: what was in it reaches no new pixel.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.name, self.licence = "migan", WEIGHTS["migan"].licence
        self.sha256 = WEIGHTS["migan"].sha256
        self._session = open_session(path, threads)

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See `Inpainter.fill`."""
        if not check_hole(image, hole):
            return image.copy()
        height, width = hole.shape
        emptied = extend_edge_colours(image, np.where(hole, 0, 255).astype(np.uint8))
        padded, mask = _continued(
            emptied, hole, max(0, MIGAN_LEAST - height), max(0, MIGAN_LEAST - width)
        )
        feed = {
            "image": np.ascontiguousarray(padded.transpose(2, 0, 1)[None]),
            "mask": np.where(mask, 0, 255).astype(np.uint8)[None, None],
        }
        result = self._session.run(["result"], feed)[0][0].transpose(1, 2, 0)
        return paste_kept(image, hole, result[:height, :width])


class OpencvInpainter:
    """Telea's fast marching from OpenCV: smears the surroundings inward; see `Inpainter`."""

    def __init__(self) -> None:
        self.name, self.sha256, self.licence = "opencv", "", ""
        self._cv2 = require("cv2", "OpenCV", "The inpainter 'opencv'", extra="decompose")

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See `Inpainter.fill`."""
        if not check_hole(image, hole):
            return image.copy()
        mask = hole.astype(np.uint8)
        image = np.ascontiguousarray(image)
        result = self._cv2.inpaint(image, mask, TELEA_RADIUS, self._cv2.INPAINT_TELEA)
        return paste_kept(image, hole, result)


class LamaInpainter:
    """LaMa in ONNX, or another network that takes photo and hole as floats; see `Inpainter`.

    It takes (1, 3, H, W) in 0..1 and (1, 1, H, W), 1 in the hole, and gives (1, 3, H, W) in 0..1 or
    0..255; which of them is found out with a grey photo. A square around the hole, at least twice
    as large as it, is shrunk or enlarged to the size of the network: 512 pixels a side where the
    graph leaves that open.

    Args:
        name: as the user gave it.
        path: of the .onnx file.
        threads: of one operator; 0 leaves it to the library.
        licence: of the weights.

    Raises:
        WeightsError: the file is not such a network.
    """

    def __init__(self, name: str, path: Path, threads: int = 0, licence: str = "") -> None:
        self.name, self.licence, self.sha256 = name, licence, onnx_sha256(path)
        self._session = open_session(path, threads)
        inputs = self._session.get_inputs()
        by_channels = {one.shape[1]: one for one in inputs
                       if len(one.shape) == 4 and one.type == "tensor(float)"}  # fmt: skip
        if len(inputs) != 2 or by_channels.keys() != {1, 3}:
            raise WeightsError(
                f"{path} is no inpainter: it must take a photo (1, 3, H, W) and a hole "
                f"(1, 1, H, W) as floats, but takes {[(i.name, i.shape, i.type) for i in inputs]}."
            )
        self._photo, self._hole = by_channels[3].name, by_channels[1].name
        height, width = (side if isinstance(side, int) else LAMA_SIDE
                         for side in by_channels[3].shape[2:])  # fmt: skip
        self._size = (width, height)
        self._scale = 1.0
        grey, hole = np.full((height, width, 3), 0.5, np.float32), np.zeros((height, width), bool)
        hole[height // 2, width // 2] = True
        if float(np.median(self._run(grey, hole))) < 2:
            self._scale = 255.0

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See `Inpainter.fill`."""
        if not check_hole(image, hole):
            return image.copy()
        rows, columns = _window(hole, max(self._size))
        part, mask = image[rows, columns], hole[rows, columns]
        side = max(mask.shape)
        square, mask = _continued(part, mask, side - mask.shape[0], side - mask.shape[1])
        small = Image.fromarray(square).resize(self._size, Image.Resampling.LANCZOS)
        covered = Image.fromarray(mask.astype(np.uint8) * 255).resize(
            self._size, Image.Resampling.BOX
        )
        found = self._run(np.asarray(small, np.float32) / 255, np.asarray(covered) > 0)
        levels = np.rint(np.clip(found * self._scale, 0, 255)).astype(np.uint8)
        large = np.asarray(Image.fromarray(levels).resize((side, side), Image.Resampling.LANCZOS))
        result = image.copy()
        result[rows, columns] = large[: part.shape[0], : part.shape[1]]
        return paste_kept(image, hole, result)

    def _run(self, photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """(h, w, 3) in 0..1 and (h, w) bool -> (h, w, 3)."""
        feed = {
            self._photo: np.ascontiguousarray(photo.transpose(2, 0, 1)[None], np.float32),
            self._hole: np.ascontiguousarray(hole[None, None], np.float32),
        }
        found = np.asarray(self._session.run(None, feed)[0])
        if found.shape != (1, 3, *hole.shape):
            raise WeightsError(
                f"The inpainter {self.name!r} gives {found.shape}, not {(1, 3, *hole.shape)}."
            )
        return np.nan_to_num(found[0].transpose(1, 2, 0).astype(np.float32))


class DiffusionInpainter:
    """A diffusers inpainting pipeline with an empty prompt, as in the paper; see `Inpainter`.

    Every photo starts from the same seed, so that a build gives the same result again.
    """

    def __init__(self, name: str, threads: int = 0, licence: str = "") -> None:
        import torch
        from diffusers import AutoPipelineForInpainting

        if threads:
            torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            pipeline = AutoPipelineForInpainting.from_pretrained(name)
        except Exception as error:  # the hub's client, diffusers or safetensors
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"The inpainter {name!r} cannot be loaded: {reason}.") from None
        self._pipeline: Any = pipeline.to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        self.name, self.licence = name, licence
        networks = [part for _, part in sorted(pipeline.components.items())
                    if isinstance(part, torch.nn.Module)]  # fmt: skip
        self.sha256 = module_sha256(*networks)

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See `Inpainter.fill`."""
        import torch

        if not check_hole(image, hole):
            return image.copy()
        height, width = hole.shape
        padded, mask = _continued(
            image, hole, -height % DIFFUSION_MULTIPLE, -width % DIFFUSION_MULTIPLE
        )
        result = self._pipeline(
            prompt="",
            image=Image.fromarray(padded),
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
            height=padded.shape[0],
            width=padded.shape[1],
            generator=torch.Generator().manual_seed(DIFFUSION_SEED),
        ).images[0]
        return paste_kept(image, hole, np.asarray(result.convert("RGB"))[:height, :width])


def check_hole(image: np.ndarray, hole: np.ndarray) -> bool:
    """Whether there is a hole; InputError if it is everything or of another size."""
    if image.shape != (*hole.shape, 3) or image.dtype != np.uint8 or hole.dtype != np.bool_:
        raise InputError(
            f"A photo must be (H, W, 3) uint8 and its hole (H, W) bool, but they are "
            f"{image.shape} {image.dtype} and {hole.shape} {hole.dtype}."
        )
    if hole.all():
        raise InputError("The hole is the whole photo: nothing is left to fill it from.")
    return bool(hole.any())


def _window(hole: np.ndarray, least: int) -> tuple[slice, slice]:
    """Rows and columns of a square around a hole, as far as the photo goes.

    Its side is twice that of the hole, and `least` or more.
    """
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    side = max(2 * int(max(np.ptp(rows), np.ptp(columns)) + 1), least)
    slices = []
    for places, length in ((rows, hole.shape[0]), (columns, hole.shape[1])):
        start = int(places[0] + places[-1] + 1 - side) // 2
        start = max(0, min(start, length - side))
        slices.append(slice(start, min(start + side, length)))
    return slices[0], slices[1]


def _continued(
    image: np.ndarray, hole: np.ndarray, below: int, right: int
) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its hole, both repeated by so many pixels beyond their last row and column."""
    padding = ((0, below), (0, right))
    return np.pad(image, (*padding, (0, 0)), mode="edge"), np.pad(hole, padding, mode="edge")


def paste_kept(image: np.ndarray, hole: np.ndarray, result: np.ndarray) -> np.ndarray:
    """`result` in the hole, `image` elsewhere; (H, W, 3) uint8."""
    return np.where(hole[..., None], result, image)
