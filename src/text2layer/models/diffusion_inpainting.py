"""Inpainting by a latent diffusion model of diffusers, with an empty prompt, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from text2layer.errors import WeightsError
from text2layer.models.frozen import TORCH, batch_on, module_sha256, torch_device
from text2layer.models.inpainting import BatchInpainter, Pair, continued
from text2layer.models.placement import note

MULTIPLE = 8  # of height and width: what an autoencoder of factor 8 takes
SEED = 0


class DiffusionInpainter(BatchInpainter):
    """A diffusers inpainting pipeline; see `Inpainter`.

    Every photo starts from the same seed, so that a build gives the same result again. Photos of
    one size are given together.

    Args:
        name: folder or hub id.
        threads: of torch; 0 leaves it.
        licence: of the weights.
        batch: photos that it is given together; 0: 8 on a GPU, 1 on a CPU.

    Raises:
        WeightsError: there is no such pipeline, or it cannot be loaded.
    """

    library = TORCH

    def __init__(self, name: str, threads: int = 0, licence: str = "", batch: int = 0) -> None:
        import torch
        from diffusers import AutoPipelineForInpainting

        if threads:
            torch.set_num_threads(threads)
        self.device = torch_device()
        self.batch = batch_on(self.device, batch)
        try:
            pipeline = AutoPipelineForInpainting.from_pretrained(name)
        except Exception as error:  # the hub's client, diffusers or safetensors
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"The inpainter {name!r} cannot be loaded: {reason}.") from None
        self._pipeline: Any = pipeline.to(self.device)
        self._pipeline.set_progress_bar_config(disable=True)
        self.name, self.licence = name, licence
        networks = [part for _, part in sorted(pipeline.components.items())
                    if isinstance(part, torch.nn.Module)]  # fmt: skip
        self.sha256 = module_sha256(*networks)
        note(self)

    def _filled(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        padded = [
            continued(image, hole, -hole.shape[0] % MULTIPLE, -hole.shape[1] % MULTIPLE)
            for image, hole in pairs
        ]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, (_, hole) in enumerate(padded):
            by_size.setdefault(hole.shape, []).append(number)
        found: dict[int, np.ndarray] = {}
        for numbers in by_size.values():
            results = self._run([padded[number] for number in numbers])
            found |= dict(zip(numbers, results, strict=True))
        return [
            found[number][: hole.shape[0], : hole.shape[1]]
            for number, (_, hole) in enumerate(pairs)
        ]

    def _run(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Photos and holes of one size, a multiple of `MULTIPLE` -> filled photos."""
        import torch

        height, width = pairs[0][1].shape
        results = self._pipeline(
            prompt=[""] * len(pairs),
            image=[Image.fromarray(image) for image, _ in pairs],
            mask_image=[Image.fromarray(hole.astype(np.uint8) * 255) for _, hole in pairs],
            height=height,
            width=width,
            generator=[torch.Generator().manual_seed(SEED) for _ in pairs],
        ).images
        return [np.asarray(result.convert("RGB")) for result in results]
