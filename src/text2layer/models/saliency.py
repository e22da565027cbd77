"""Third-party salient-object networks: photo in, soft mask out.

    >>> network = load_saliency("u2net")
    >>> network.predict([photo])[0].mask          # (H, W) uint8, as large as the photo

U^2-Net (Qin et al. 2020) and IS-Net (Qin et al. 2022) are known by the hash of their file, wherever
it lies. U^2-Net gives what rembg gives with the same weights: shrunk with Lanczos, divided by the
brightest value, ImageNet statistics, stretched to 0..1, resized back with Lanczos.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from text2layer.errors import InputError, WeightsError
from text2layer.models.frozen import CUDA, GPU_BATCH, module_sha256, open_session
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
TRUST = "TEXT2LAYER_TRUST_REMOTE_CODE"


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


def load_saliency(name: str, threads: int = 0, licence: str = "") -> SaliencyModel:
    """Load a salient-object network.

    Args:
        name: "u2net", "u2netp" or "isnet"; the path of an .onnx file; or a folder or hub id with a
            `model.onnx`, or with a network of transformers: for AutoModelForImageSegmentation
            (BiRefNet, RMBG; their own code runs only if TEXT2LAYER_TRUST_REMOTE_CODE is 1), or one
            for semantic segmentation with one or two classes, the last being the object.
        threads: of one operator; 0 leaves it to the library.
        licence: of weights whose model card names none.

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
        return OnnxSaliency(name, resolve(name), threads, licence=WEIGHTS[name].licence)
    path = Path(name).expanduser()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise WeightsError(f"The saliency network {name} is not there; check the path.")
        return _own_onnx(name, path, Repository(name), threads, licence)
    if path.is_dir() or name.count("/") == 1:
        repository = Repository(name)
        found = repository.onnx()
        if found is not None:
            return _own_onnx(name, found, repository, threads, licence)
        return _from_transformers(name, repository, threads, licence)
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

    Attributes:
        batch: photos that it is given together: 1 on a CPU, where more would not be faster, and for
            graphs that were exported for one, as U^2-Net's and IS-Net's were.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        threads: int = 0,
        *,
        licence: str = "",
        recipe: Recipe | None = None,
        size: tuple[int, int] | None = None,
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
        on_gpu = CUDA in self._session.get_providers()
        self.batch = GPU_BATCH if on_gpu and not isinstance(shape[0], int) else 1
        self._input = inputs[0].name
        self._output = self._session.get_outputs()[0].name

    def predict(self, images: Sequence[np.ndarray]) -> list[SaliencyMap]:
        """One map for each (H, W, 3) uint8 photo."""
        return in_batches(images, self.batch, self._recipe, self._size, self._run)

    def _run(self, values: np.ndarray) -> np.ndarray:
        output = np.asarray(self._session.run([self._output], {self._input: values})[0])
        if output.size != len(values) * math.prod(output.shape[-2:]):
            raise WeightsError(
                f"The saliency network {self.name!r} gives {output.shape}; one map is needed."
            )
        return output


class TorchSaliency:
    """A torch network; see `SaliencyModel`.

    Args:
        name: as the user gave it.
        network: (N, 3, h, w) float32 -> logits, alone, as `.logits`, or as the last of a sequence
            (BiRefNet): (N, 1, .., ..) of the object, or (N, 2, .., ..) of ground and object.
        size: (width, height) of its input.
        recipe: how it wants its input.
        licence: of the weights.

    Attributes:
        batch: photos that it is given together; 1 on a CPU.
    """

    def __init__(
        self,
        name: str,
        network: Any,
        size: tuple[int, int] = (USUAL_SIDE, USUAL_SIDE),
        recipe: Recipe | None = None,
        licence: str = "",
    ) -> None:
        import torch

        self.name, self.licence = name, licence
        self.sha256 = module_sha256(network)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.float().eval().to(self._device)
        self._size, self._recipe = size, recipe or Recipe()
        self.batch = GPU_BATCH if self._device.type == "cuda" else 1

    def predict(self, images: Sequence[np.ndarray]) -> list[SaliencyMap]:
        """One map for each (H, W, 3) uint8 photo."""
        return in_batches(images, self.batch, self._recipe, self._size, self._run)

    def _run(self, values: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            output = self._network(torch.from_numpy(values).to(self._device))
        output = getattr(output, "logits", output)
        logits = output[-1] if isinstance(output, (list, tuple)) else output
        maps = logits.reshape(len(values), -1, *logits.shape[-2:]).float()
        classes = maps.shape[1]
        if classes > 2:
            raise WeightsError(
                f"The network {self.name!r} tells {classes} classes apart; a saliency network "
                "has one or two."
            )
        # the softmax of two classes is the sigmoid of their difference
        probability = (maps[:, -1] - maps[:, 0] * (classes - 1)).sigmoid()
        found: np.ndarray = probability.cpu().numpy()
        return found


def in_batches(
    images: Sequence[np.ndarray],
    batch: int,
    recipe: Recipe,
    size: tuple[int, int],
    run: Callable[[np.ndarray], np.ndarray],
) -> list[SaliencyMap]:
    """A map for each photo.

    Args:
        images: (H, W, 3) uint8; they may differ in size.
        batch: photos that the network is given together.
        recipe: how they are prepared.
        size: (width, height) that the network takes.
        run: (N, 3, height, width) float32 -> N maps of one channel.
    """
    found = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        output = run(np.concatenate([recipe.prepare(image, size) for image in part]))
        maps = output.reshape(len(part), *output.shape[-2:])
        found += [
            stretch(values, (image.shape[1], image.shape[0]))
            for image, values in zip(part, maps, strict=True)
        ]
    return found


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
    name: str, path: Path, repository: Repository, threads: int, licence: str
) -> SaliencyModel:
    """An ONNX network that is none of the table, or is one by its content."""
    for known in NAMES:
        if onnx_sha256(path) == WEIGHTS[known].sha256:
            return OnnxSaliency(name, path, threads, licence=WEIGHTS[known].licence)
    recipe, size = _input(repository)
    return OnnxSaliency(
        name, path, threads, licence=licence or repository.licence(), recipe=recipe, size=size
    )


def _input(repository: Repository) -> tuple[Recipe, tuple[int, int] | None]:
    """What the preprocessing of a repository says: statistics, and the size if it does."""
    said = repository.preprocessing()
    mean, std = input_statistics(said, repository.name, IMAGENET_MEAN, IMAGENET_STD)
    return Recipe(mean, std), input_size(said, repository.name)


def _from_transformers(
    name: str, repository: Repository, threads: int, licence: str
) -> SaliencyModel:
    """A network of transformers from a folder or the hub."""
    import torch
    from transformers import (
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
        AutoConfig,
        AutoModelForImageSegmentation,
        AutoModelForSemanticSegmentation,
    )

    if threads:
        torch.set_num_threads(threads)
    trusted = os.environ.get(TRUST, "") == "1"
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trusted)
        semantic = type(config) in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
        kind = AutoModelForSemanticSegmentation if semantic else AutoModelForImageSegmentation
        network = kind.from_pretrained(name, trust_remote_code=trusted)
    except Exception as error:  # the hub's client, transformers or the repository's own code
        reason = " ".join(str(error).split())[:200]
        hint = ""
        if "trust_remote_code" in str(error):
            reason = "it brings its own code"
            hint = (
                f" Set {TRUST}=1 if you trust its authors and want that code run, or take an ONNX "
                "export of it."
            )
        raise WeightsError(
            f"The saliency network {name!r} cannot be loaded: {reason}.{hint}"
        ) from None
    classes = getattr(config, "num_labels", 1) if semantic else 1
    if classes > 2:
        raise WeightsError(
            f"The network {name!r} tells {classes} classes apart; a saliency network has one or "
            "two."
        )
    recipe, size = _input(repository)
    return TorchSaliency(
        name, network, size or (USUAL_SIDE, USUAL_SIDE), recipe, licence or repository.licence()
    )
