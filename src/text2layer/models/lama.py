"""Inpainting by LaMa in ONNX (Suvorov et al., WACV 2022) or a network that takes the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from text2layer.errors import WeightsError
from text2layer.models.batches import open_for_batches
from text2layer.models.frozen import batch_on, device_of, open_session
from text2layer.models.inpainting import BatchInpainter, Pair, continued
from text2layer.models.placement import note
from text2layer.models.repository import onnx_sha256

USUAL_SIDE = 512  # pixels, of a network that leaves its input size open


class LamaInpainter(BatchInpainter):
    """LaMa in ONNX, or another network that takes photo and hole as floats; see `Inpainter`.

    It takes (N, 3, H, W) in 0..1 and (N, 1, H, W), 1 in the hole, and gives (N, 3, H, W) in 0..1 or
    0..255; which of them is found out with a grey photo. A square around the hole, at least twice
    as large as it, is shrunk or enlarged to the size of the network: 512 pixels a side where the
    graph leaves that open.

    Args:
        name: as the user gave it.
        path: of the .onnx file.
        threads: of one operator; 0 leaves it to the library.
        licence: of the weights.
        batch: photos that the network is given together, if its graph can be made to take so many;
            0: 8 on a GPU, 1 on a CPU.

    Raises:
        WeightsError: the file is not such a network.
    """

    def __init__(
        self, name: str, path: Path, threads: int = 0, licence: str = "", batch: int = 0
    ) -> None:
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
        height, width = (side if isinstance(side, int) else USUAL_SIDE
                         for side in by_channels[3].shape[2:])  # fmt: skip
        self._size = (width, height)
        self.device = device_of(self._session)
        self.batch = batch_on(self.device, batch)
        if self.batch > 1 and any(isinstance(one.shape[0], int) for one in inputs):
            several = open_for_batches(path, threads, (height, width))
            self._session, self.batch = (several, self.batch) if several else (self._session, 1)
        self._scale = 1.0
        grey = np.full((1, height, width, 3), 0.5, np.float32)
        hole = np.zeros((1, height, width), bool)
        hole[0, height // 2, width // 2] = True
        if float(np.median(self._run(grey, hole))) < 2:
            self._scale = 255.0
        note(self)

    def _filled(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        windows = [_window(hole, max(self._size)) for _, hole in pairs]
        squares = [
            self._square(image[window], hole[window])
            for (image, hole), window in zip(pairs, windows, strict=True)
        ]
        found = self._run(
            np.stack([photo for photo, _ in squares]), np.stack([hole for _, hole in squares])
        )
        levels = np.rint(np.clip(found * self._scale, 0, 255)).astype(np.uint8)
        results = []
        for (image, _), window, fill in zip(pairs, windows, levels, strict=True):
            result = image.copy()
            height, width = result[window].shape[:2]
            side = max(height, width)
            large = Image.fromarray(fill).resize((side, side), Image.Resampling.LANCZOS)
            result[window] = np.asarray(large)[:height, :width]
            results.append(result)
        return results

    def _square(self, part: np.ndarray, mask: np.ndarray) -> Pair:
        """A part of a photo and of its hole as the network takes them: in 0..1, and bool."""
        side = max(mask.shape)
        square, mask = continued(part, mask, side - mask.shape[0], side - mask.shape[1])
        small = Image.fromarray(square).resize(self._size, Image.Resampling.LANCZOS)
        covered = Image.fromarray(mask.astype(np.uint8) * 255).resize(
            self._size, Image.Resampling.BOX
        )
        return np.asarray(small, np.float32) / 255, np.asarray(covered) > 0

    def _run(self, photos: np.ndarray, holes: np.ndarray) -> np.ndarray:
        """(N, h, w, 3) in 0..1 and (N, h, w) bool -> (N, h, w, 3)."""
        feed = {
            self._photo: np.ascontiguousarray(photos.transpose(0, 3, 1, 2), np.float32),
            self._hole: np.ascontiguousarray(holes[:, None], np.float32),
        }
        found = np.asarray(self._session.run(None, feed)[0])
        if found.shape != (len(holes), 3, *holes.shape[1:]):
            raise WeightsError(
                f"The inpainter {self.name!r} gives {found.shape}, not "
                f"{(len(holes), 3, *holes.shape[1:])}."
            )
        return np.nan_to_num(found.transpose(0, 2, 3, 1).astype(np.float32))


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
