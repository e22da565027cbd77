"""Third-party salient-object networks: photo in, soft mask out.

    >>> network = load_saliency("u2net")
    >>> network.predict([photo])[0].mask          # (H, W) uint8, as large as the photo

U^2-Net (Qin et al. 2020) and IS-Net (Qin et al. 2022) are known by the hash of their file, wherever
it lies. U^2-Net gives what rembg gives with the same weights: shrunk with Lanczos, divided by the
brightest value, ImageNet statistics, stretched to 0..1, resized back with Lanczos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from text2layer.errors import InputError, WeightsError
from text2layer.models.batches import Batched, in_batches, open_for_batches
from text2layer.models.frozen import ONNXRUNTIME, batch_on, device_of, open_session
from text2layer.models.placement import note
from text2layer.models.repository import (
    Repository,
    input_size,
    input_statistics,
    onnx_sha256,
)
from text2layer.pretrained import WEIGHTS, resolve

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NAMES = ("u2net", "u2netp", "isnet")
USUAL_SIDE = 1024  # of networks that leave their input size open: BiRefNet, IS-Net, InSPyReNet
FLAT = 1e-6  # a map with less contrast is not stretched: it would be noise


@dataclass(frozen=True)
class SaliencyMap:
    """What a network found in a photo.

    Attributes:
        mask: (H, W) uint8 of the photo's size, stretched so that the least value is 0 and the
            largest 255.
        maximum: largest value (0..1) before stretching; small where nothing was found.
    """

    mask: np.ndarray
    maximum: float


class SaliencyModel(Protocol):
    """A salient-object network.

    Attributes:
        name: as the user gave it.
        sha256: of its weights.
        licence: of its weights; "" if neither the user nor its model card names one.
    """

    name: str
    sha256: str
    licence: str

    def predict(self, images: Sequence[np.ndarray]) -> list[SaliencyMap]:
        """One map for each (H, W, 3) uint8 photo; the photos may differ in size."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How a network wants its input.

    Attributes:
        mean: subtracted from the colour.
        std: divided by after that.
        by_brightest: divide by the photo's brightest value first, not by 255.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    by_brightest: bool = False

    def prepare(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) uint8 -> (1, 3, height, width) float32 for a `size` of (width, height)."""
        resized = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        colour = np.array(resized, np.float32)
        colour /= max(float(colour.max()), FLAT) if self.by_brightest else 255.0
        colour -= np.array(self.mean, np.float32)
        colour /= np.array(self.std, np.float32)
        return np.ascontiguousarray(colour.transpose(2, 0, 1)[None])


RECIPES = {
    WEIGHTS["u2net"].sha256: Recipe(by_brightest=True),
    WEIGHTS["u2netp"].sha256: Recipe(by_brightest=True),
    # (x - 128) / 256 in levels, as the network's packager runs it
    WEIGHTS["isnet"].sha256: Recipe((128 / 255,) * 3, (256 / 255,) * 3),
}


def load_saliency(name: str, threads: int = 0, licence: str = "", batch: int = 0) -> SaliencyModel:
    """Load a salient-object network.

    Args:
        name: "u2net", "u2netp" or "isnet"; the path of an .onnx file; or a folder or hub id with a
            `model.onnx`, or with a network of transformers: for AutoModelForImageSegmentation
            (BiRefNet, RMBG; their own code runs only if TEXT2LAYER_TRUST_REMOTE_CODE is 1), or one
            for semantic segmentation with one or two classes, the last being the object.
        threads: of one operator; 0 leaves it to the library.
        licence: of weights whose model card names none.
        batch: photos that the network is given together, if its graph can be made to take so many;
            0: 8 on a GPU, 1 on a CPU.

    `preprocessor_config.json` beside the network says its size and statistics. Without one it gets
    ImageNet statistics and the input size that its graph asks for, or 1024 pixels a side. Of an
    .onnx file the first output is taken, through a sigmoid if its values leave 0..1.

    Raises:
        InputError: a library that it needs is not installed, or `name` is empty.
        WeightsError: the weights are missing, damaged, or no such network.
    """
    if not name:
        raise InputError("The saliency network has no name; give u2net, u2netp, isnet or a file.")
    if name in NAMES:
        return OnnxSaliency(
            name, resolve(name), threads, licence=WEIGHTS[name].licence, batch=batch
        )
    path = Path(name).expanduser()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise WeightsError(f"The saliency network {name} is not there; check the path.")
        return _own_onnx(name, path, Repository(name), threads, licence, batch)
    if path.is_dir() or name.count("/") == 1:
        repository = Repository(name)
        found = repository.onnx()
        if found is not None:
            return _own_onnx(name, found, repository, threads, licence, batch)
        from text2layer.models.torch_saliency import from_transformers

        recipe, input_side = asked_input(repository)
        licence = licence or repository.licence()
        return from_transformers(name, recipe, input_side, threads, licence, batch)
    raise InputError(
        f"There is no saliency network {name!r}; give {', '.join(NAMES)}, an .onnx file, "
        f"or a hub id such as owner/name."
    )


class OnnxSaliency:
    """A network in an .onnx file; see `SaliencyModel`.

    Args:
        name: as the user gave it.
        path: of the file.
        threads: of one operator; 0 leaves it to the library.
        licence: of the weights.
        recipe: how it wants its input; networks of the table have their own.
        size: (width, height) of its input if the graph leaves that open.
        batch: photos that it is given together; 0: 8 on a GPU, 1 on a CPU, where more would not be
            faster. A graph that was exported for one, as U^2-Net's and IS-Net's were, is made to
            take more in memory.

    Attributes:
        batch: photos that it is given together; 1 if its graph cannot be made to take more.
        device: "cpu" or "cuda".
        library: that runs it.
    """

    library = ONNXRUNTIME

    def __init__(
        self,
        name: str,
        path: Path,
        threads: int = 0,
        *,
        licence: str = "",
        recipe: Recipe | None = None,
        size: tuple[int, int] | None = None,
        batch: int = 0,
    ) -> None:
        self.name, self.licence = name, licence
        self.sha256 = onnx_sha256(path)
        self._recipe = RECIPES.get(self.sha256) or recipe or Recipe()
        self._session = open_session(path, threads)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        colours = len(shape) == 4 and (shape[1] == 3 or not isinstance(shape[1], int))
        if not colours or inputs[0].type != "tensor(float)":
            raise WeightsError(
                f"{path} is no saliency network: it must take one float picture (1, 3, H, W), but "
                f"takes {[(i.name, i.shape, i.type) for i in inputs]}."
            )
        asked = size or (USUAL_SIDE, USUAL_SIDE)
        height, width = (
            side if isinstance(side, int) else other
            for side, other in zip(shape[2:], (asked[1], asked[0]), strict=True)
        )
        self._size = (width, height)
        self.device = device_of(self._session)
        self.batch = batch_on(self.device, batch)
        if self.batch > 1 and isinstance(shape[0], int):
            several = open_for_batches(path, threads, (height, width))
            self._session, self.batch = (several, self.batch) if several else (self._session, 1)
        self._input = inputs[0].name
        self._output = self._session.get_outputs()[0].name
        note(self)

    def predict(self, images: Sequence[np.ndarray]) -> list[SaliencyMap]:
        """One map for each (H, W, 3) uint8 photo."""
        return find_maps(self, images, self._recipe, self._size, self._run)

    def _run(self, values: np.ndarray) -> np.ndarray:
        output = np.asarray(self._session.run([self._output], {self._input: values})[0])
        if output.size != len(values) * math.prod(output.shape[-2:]):
            raise WeightsError(
                f"The saliency network {self.name!r} gives {output.shape}; one map is needed."
            )
        return output


def find_maps(
    network: Batched,
    images: Sequence[np.ndarray],
    recipe: Recipe,
    size: tuple[int, int],
    run: Callable[[np.ndarray], np.ndarray],
) -> list[SaliencyMap]:
    """A map for each photo.

    Args:
        network: whose batch says how many photos are run together.
        images: (H, W, 3) uint8; they may differ in size.
        recipe: how they are prepared.
        size: (width, height) that the network takes.
        run: (N, 3, height, width) float32 -> N maps of one channel.
    """

    def maps_of(part: Sequence[np.ndarray]) -> list[SaliencyMap]:
        output = run(np.concatenate([recipe.prepare(image, size) for image in part]))
        maps = output.reshape(len(part), *output.shape[-2:])
        return [
            stretch(values, (image.shape[1], image.shape[0]))
            for image, values in zip(part, maps, strict=True)
        ]

    return in_batches(network, images, maps_of)


def stretch(values: np.ndarray, size: tuple[int, int]) -> SaliencyMap:
    """Stretch a network's (h, w) output over 0..255 and resize it to (width, height).

    Values that leave 0..1 are taken for logits and go through a sigmoid first.
    """
    if not np.isfinite(values).all():
        return SaliencyMap(np.zeros(size[::-1], np.uint8), 0.0)
    lowest, highest = float(values.min()), float(values.max())
    if lowest < -FLAT or highest > 1 + FLAT:
        values = 1 / (1 + np.exp(-np.clip(values, -60, 60)))
        lowest, highest = float(values.min()), float(values.max())
    if highest - lowest > FLAT:
        values = (values - lowest) / (highest - lowest)
    levels = (values.clip(0, 1) * 255).astype(np.uint8)
    mask = Image.fromarray(levels).resize(size, Image.Resampling.LANCZOS)
    return SaliencyMap(np.array(mask), highest)


def _own_onnx(
    name: str, path: Path, repository: Repository, threads: int, licence: str, batch: int
) -> SaliencyModel:
    """An ONNX network that is none of the table, or is one by its content."""
    for known in NAMES:
        if onnx_sha256(path) == WEIGHTS[known].sha256:
            return OnnxSaliency(name, path, threads, licence=WEIGHTS[known].licence, batch=batch)
    recipe, size = asked_input(repository)
    return OnnxSaliency(
        name, path, threads, licence=licence or repository.licence(), recipe=recipe, size=size,
        batch=batch,
    )  # fmt: skip


def asked_input(repository: Repository) -> tuple[Recipe, tuple[int, int] | None]:
    """What the preprocessing of a repository says: statistics, and the size if it does."""
    said = repository.preprocessing()
    mean, std = input_statistics(said, repository.name, IMAGENET_MEAN, IMAGENET_STD)
    return Recipe(mean, std), input_size(said, repository.name)
