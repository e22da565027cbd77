"""Inpainting by third-party networks: photo and hole in, filled photo out.

    >>> inpainter = load_inpainter("migan")
    >>> background = inpainter.fill(photo, hole)

Outside the hole every result is the photo itself, exactly: networks change those pixels too
(MI-GAN by up to 20 levels, a latent diffusion model everywhere), so they are pasted back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from text2layer.blend import extend_edge_colours
from text2layer.errors import InputError, WeightsError
from text2layer.models.batches import in_batches, part_of_graph
from text2layer.models.frozen import ONNXRUNTIME, batch_on, device_of, open_session
from text2layer.models.placement import note
from text2layer.models.repository import Repository, onnx_sha256
from text2layer.options import require
from text2layer.pretrained import WEIGHTS, resolve

NAMES = ("migan", "opencv")
TELEA_RADIUS = 5  # pixels around a pixel that its fill is made from
MIGAN_LEAST = 3  # pixels a side: its blur mirrors two pixels beyond each edge
# tensors of MI-GAN's file: what its network takes, (N, 4, 512, 512), and gives, (N, 3, 512, 512)
MIGAN_TAKES = "/Concat_23_output_0"
MIGAN_GIVES = "/model/synthesis/b512/Add_1_output_0"

Pair = tuple[np.ndarray, np.ndarray]  # a photo and its hole


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

    def fill_all(
        self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The same for each of several photos, which may differ in size."""
        ...


class BatchInpainter:
    """What inpainters have in common; see `Inpainter`. A subclass fills a batch in `_filled`.

    Attributes:
        batch: photos that it is given together: 1 on a CPU, where more would not be faster.
        device: "cpu" or "cuda": where its network runs.
        library: that runs it.
    """

    name: str
    sha256: str
    licence: str
    batch = 1
    device = "cpu"
    library = ONNXRUNTIME

    def fill(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See `Inpainter.fill`."""
        return self.fill_all([image], [hole])[0]

    def fill_all(
        self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """See `Inpainter.fill_all`."""
        pairs = list(zip(images, holes, strict=True))
        asked = [number for number, pair in enumerate(pairs) if check_hole(*pair)]
        results = [image.copy() for image in images]
        filled = in_batches(self, [pairs[number] for number in asked], self._filled)
        for number, result in zip(asked, filled, strict=True):
            results[number] = paste_kept(*pairs[number], result)
        return results

    def _filled(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Photos with new pixels in their holes; what is outside does not count."""
        raise NotImplementedError


def load_inpainter(name: str, threads: int = 0, licence: str = "", batch: int = 0) -> Inpainter:
    """Load an inpainter.

    Args:
        name: "migan" (Sargsyan et al., ICCV 2023); "opencv" (Telea 2004, no weights, for lack of
            anything better); an .onnx file, or a folder or hub id with one, that takes photo and
            hole as LaMa does (Suvorov et al., WACV 2022); or a folder or hub id of a diffusers
            inpainting pipeline.
        threads: of one operator; 0 leaves it to the library.
        licence: of weights whose model card names none.
        batch: photos that the network is given together, if its graph can be made to take so many;
            0: 8 on a GPU, 1 on a CPU.

    Raises:
        InputError: a library that it needs is not installed, or there is no such inpainter.
        WeightsError: its weights are missing or cannot be used.
    """
    if name == "migan":
        return MiganInpainter(resolve("migan"), threads, batch)
    if name == "opencv":
        return OpencvInpainter()
    path = Path(name).expanduser()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise WeightsError(f"The inpainter {name} is not there; check the path.")
        return _own_onnx(name, path, Repository(name), threads, licence, batch)
    if path.is_dir() or name.count("/") == 1:
        repository = Repository(name)
        found = None if repository.file("model_index.json") else repository.onnx()
        if found is not None:
            return _own_onnx(name, found, repository, threads, licence, batch)
        from text2layer.models.diffusion_inpainting import DiffusionInpainter

        return DiffusionInpainter(name, threads, licence or repository.licence(), batch)
    raise InputError(
        f"There is no inpainter {name!r}; give {', '.join(NAMES)}, an .onnx file, or the folder or "
        f"hub id of a LaMa in ONNX or of a diffusers inpainting pipeline."
    )


def _own_onnx(
    name: str, path: Path, repository: Repository, threads: int, licence: str, batch: int
) -> Inpainter:
    if onnx_sha256(path) == WEIGHTS["migan"].sha256:
        return MiganInpainter(path, threads, batch)
    from text2layer.models.lama import LamaInpainter

    return LamaInpainter(name, path, threads, licence or repository.licence(), batch)


class MiganInpainter(BatchInpainter):
    """The MI-GAN pipeline in one ONNX graph, any size; see `Inpainter`.

    The graph itself cuts a square around the hole, runs the network on it at 512 x 512 and blends
    the result in, so a small hole costs as much as a large one. A photo of one or two pixels a side
    is continued to three for it. The graph smooths the photo across the hole's edge, so the hole is
    filled from its edge first: what was in it reaches no new pixel.

    The square depends on the hole, so the graph takes one photo. For batches it is cut in three:
    what comes before the network and after it is done for each photo on the CPU, the network takes
    the squares together.

    Args:
        path: of the .onnx file.
        threads: of one operator; 0 leaves it to the library.
        batch: photos that the network is given together; 0: 8 on a GPU, 1 on a CPU.
    """

    def __init__(self, path: Path, threads: int = 0, batch: int = 0) -> None:
        self.name, self.licence = "migan", WEIGHTS["migan"].licence
        self.sha256 = WEIGHTS["migan"].sha256
        self._whole = open_session(path, threads)
        self.device = device_of(self._whole)
        self.batch = batch_on(self.device, batch)
        note(self)
        self._parts: list[Any] = []
        if self.batch > 1:
            both = ["image", "mask"]
            self._parts = [
                open_session(path, threads, graph=part_of_graph(path, *ends), gpu=gpu)
                for ends, gpu in (
                    ((both, MIGAN_TAKES), False),
                    (([MIGAN_TAKES], MIGAN_GIVES), True),
                    (([*both, MIGAN_GIVES], "result"), False),
                )
            ]

    def _filled(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        feeds = [self._feed(*pair) for pair in pairs]
        if self._parts:
            before, network, after = self._parts
            squares = np.concatenate([before.run(None, feed)[0] for feed in feeds])
            fills = network.run(None, {MIGAN_TAKES: squares})[0]
            results = [
                after.run(None, feed | {MIGAN_GIVES: fills[number : number + 1]})[0]
                for number, feed in enumerate(feeds)
            ]
        else:
            results = [self._whole.run(["result"], feed)[0] for feed in feeds]
        return [
            result[0].transpose(1, 2, 0)[: hole.shape[0], : hole.shape[1]]
            for result, (_, hole) in zip(results, pairs, strict=True)
        ]

    def _feed(self, image: np.ndarray, hole: np.ndarray) -> dict[str, np.ndarray]:
        """What the graph takes."""
        height, width = hole.shape
        emptied = extend_edge_colours(image, np.where(hole, 0, 255).astype(np.uint8))
        padded, mask = continued(
            emptied, hole, max(0, MIGAN_LEAST - height), max(0, MIGAN_LEAST - width)
        )
        return {
            "image": np.ascontiguousarray(padded.transpose(2, 0, 1)[None]),
            "mask": np.where(mask, 0, 255).astype(np.uint8)[None, None],
        }


class OpencvInpainter(BatchInpainter):
    """Telea's fast marching from OpenCV: smears the surroundings inward; see `Inpainter`."""

    def __init__(self) -> None:
        self.name, self.sha256, self.licence = "opencv", "", ""
        self._cv2 = require("cv2", "OpenCV", "The inpainter 'opencv'", extra="decompose")

    def _filled(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        return [
            self._cv2.inpaint(
                np.ascontiguousarray(image), hole.astype(np.uint8), TELEA_RADIUS,
                self._cv2.INPAINT_TELEA,
            )
            for image, hole in pairs
        ]  # fmt: skip


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


def continued(
    image: np.ndarray, hole: np.ndarray, below: int, right: int
) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its hole, both repeated by so many pixels beyond their last row and column."""
    padding = ((0, below), (0, right))
    return np.pad(image, (*padding, (0, 0)), mode="edge"), np.pad(hole, padding, mode="edge")


def paste_kept(image: np.ndarray, hole: np.ndarray, result: np.ndarray) -> np.ndarray:
    """`result` in the hole, `image` elsewhere; (H, W, 3) uint8."""
    return np.where(hole[..., None], result, image)
