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
from text2layer.options import require
from text2layer.pretrained import WEIGHTS, resolve

NAMES = ("migan", "opencv")
TELEA_RADIUS = 5  # pixels around a pixel that its fill is made from
MIGAN_LEAST = 3  # pixels a side: its blur mirrors two pixels beyond each edge
DIFFUSION_MULTIPLE = 8  # of height and width: what an autoencoder of factor 8 takes
DIFFUSION_SEED = 0


class Inpainter(Protocol):
    """Fills holes of photos.

    Attributes:
        name: as the user gave it.
        sha256: of its weights; "" where there are none.
    """

    name: str
    sha256: str

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


def load_inpainter(name: str, threads: int = 0) -> Inpainter:
    """Load an inpainter.

    Args:
        name: "migan" (Sargsyan et al., ICCV 2023); "opencv" (Telea 2004, no weights, for lack of
            anything better); or a folder or hub id of a diffusers inpainting pipeline.
        threads: of one operator; 0 leaves it to the library.

    Raises:
        InputError: a library that it needs is not installed, or there is no such inpainter.
        WeightsError: its weights are missing or cannot be used.
    """
    if name == "migan":
        return MiganInpainter(resolve("migan"), threads)
    if name == "opencv":
        return OpencvInpainter()
    if Path(name).expanduser().is_dir() or name.count("/") == 1:
        return DiffusionInpainter(name, threads)
    raise InputError(
        f"There is no inpainter {name!r}; give {', '.join(NAMES)}, or the folder or hub id of a "
        f"diffusers inpainting pipeline."
    )


class MiganInpainter:
    """The MI-GAN pipeline in one ONNX graph, any size; see `Inpainter`.

    The graph itself cuts a square around the hole, runs the network on it at 512 x 512 and blends
    the result in, so a small hole costs as much as a large one. A photo of one or two pixels a side
    is continued to three for it. The graph smooths the photo across the hole's edge, so the hole is
    filled from its edge first: what was in it reaches no new pixel.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.name = "migan"
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
        self.name = "opencv"
        self.sha256 = ""
        self._cv2 = require("cv2", "OpenCV", "The inpainter 'opencv'", extra="decompose")

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See `Inpainter.fill`."""
        if not check_hole(image, hole):
            return image.copy()
        mask = hole.astype(np.uint8)
        image = np.ascontiguousarray(image)
        result = self._cv2.inpaint(image, mask, TELEA_RADIUS, self._cv2.INPAINT_TELEA)
        return paste_kept(image, hole, result)


class DiffusionInpainter:
    """A diffusers inpainting pipeline with an empty prompt, as in the paper; see `Inpainter`.

    Every photo starts from the same seed, so that a build gives the same result again.
    """

    def __init__(self, name: str, threads: int = 0) -> None:
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
        self.name = name
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


def _continued(
    image: np.ndarray, hole: np.ndarray, below: int, right: int
) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its hole, both repeated by so many pixels beyond their last row and column."""
    padding = ((0, below), (0, right))
    return np.pad(image, (*padding, (0, 0)), mode="edge"), np.pad(hole, padding, mode="edge")


def paste_kept(image: np.ndarray, hole: np.ndarray, result: np.ndarray) -> np.ndarray:
    """`result` in the hole, `image` elsewhere; (H, W, 3) uint8."""
    return np.where(hole[..., None], result, image)
