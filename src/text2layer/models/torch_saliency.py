"""Salient-object networks that torch runs: those of transformers, BiRefNet and RMBG among them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from text2layer.errors import WeightsError
from text2layer.models.frozen import TORCH, batch_on, module_sha256, torch_device
from text2layer.models.placement import note
from text2layer.models.saliency import USUAL_SIDE, Recipe, SaliencyMap, find_maps

TRUST = "TEXT2LAYER_TRUST_REMOTE_CODE"


class TorchSaliency:
    """A torch network; see `SaliencyModel`.

    Args:
        name: as the user gave it.
        network: (N, 3, h, w) float32 -> logits, alone, as `.logits`, or as the last of a sequence
            (BiRefNet): (N, 1, .., ..) of the object, or (N, 2, .., ..) of ground and object.
        size: (width, height) of its input.
        recipe: how it wants its input.
        licence: of the weights.
        batch: photos that it is given together; 0: 8 on a GPU, 1 on a CPU.

    Attributes:
        batch: photos that it is given together.
        device: "cpu" or "cuda".
        library: that runs it.
    """

    library = TORCH

    def __init__(
        self,
        name: str,
        network: Any,
        size: tuple[int, int] = (USUAL_SIDE, USUAL_SIDE),
        recipe: Recipe | None = None,
        licence: str = "",
        batch: int = 0,
    ) -> None:
        self.name, self.licence = name, licence
        self.sha256 = module_sha256(network)
        self.device = torch_device()
        self._network = network.float().eval().to(self.device)
        self._size, self._recipe = size, recipe or Recipe()
        self.batch = batch_on(self.device, batch)
        note(self)

    def predict(self, images: Sequence[np.ndarray]) -> list[SaliencyMap]:
        """One map for each (H, W, 3) uint8 photo."""
        return find_maps(self, images, self._recipe, self._size, self._run)

    def _run(self, values: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            output = self._network(torch.from_numpy(values).to(self.device))
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


def from_transformers(
    name: str,
    recipe: Recipe,
    size: tuple[int, int] | None,
    threads: int = 0,
    licence: str = "",
    batch: int = 0,
) -> TorchSaliency:
    """A network of transformers from a folder or the hub.

    Args:
        name: of the folder, or the hub id.
        recipe: how it wants its input.
        size: (width, height) of its input; None: 1024 pixels a side.
        threads: of torch; 0 leaves it.
        licence: of the weights.
        batch: photos that it is given together; 0: 8 on a GPU, 1 on a CPU.

    Raises:
        WeightsError: there is no such network, it cannot be loaded, or tells more than two classes
            apart.
    """
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
    return TorchSaliency(name, network, size or (USUAL_SIDE, USUAL_SIDE), recipe, licence, batch)
