"""Pictures of a library as 8-bit tensors with half-size levels, sampled in batches."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from text2layer.blend import extend_with_mean
from text2layer.data.library import BackgroundRecord, ForegroundRecord, Library, Record
from text2layer.io.pictures import read_any

SHARPNESS = 0.2  # in octaves: how far beyond the nearest level the finer one is preferred
FADE = 0.5  # distance over which colour fades to the mean outside of the square, in its sides
MIP_BATCH = 64


class Store(Generic[Record]):
    """Decoded pictures of one kind: `levels[k]` is (N, C, h / 2^k, w / 2^k) uint8 on the device.

    `sizes[i]` is (width, height) in pixels of picture i within level 0. Records whose picture
    cannot be decoded are counted in the library and left out of `records`.
    """

    records: list[Record]
    levels: list[Tensor]
    sizes: list[tuple[int, int]]

    def _decode(
        self,
        library: Library,
        records: Sequence[Record],
        shape: tuple[int, int, int],
        decode: Callable[[Record], tuple[np.ndarray, int, int]],
        workers: int,
        progress: bool,
    ) -> np.ndarray:
        """Decode in threads into one (N, *shape) array; sets `records` and `sizes`."""
        pixels = np.empty((len(records), *shape), np.uint8)
        self.records, self.sizes = [], []

        def attempt(record: Record) -> tuple[np.ndarray, int, int] | str:
            try:
                return decode(record)
            except (OSError, ValueError) as error:  # of ours, FormatError is a ValueError
                return (str(error) or type(error).__name__).rstrip(".")

        with ThreadPoolExecutor(workers) as pool:
            results = tqdm(
                pool.map(attempt, records),
                total=len(records),
                desc="load " + ("cut-outs" if shape[0] == 4 else "backgrounds"),
                unit="pic",
                disable=not progress,
            )
            for record, result in zip(records, results, strict=True):
                if isinstance(result, str):
                    library.skip("corrupt file", f"'{record.file}' cannot be decoded: {result}.")
                    continue
                picture, width, height = result
                pixels[len(self.records)] = picture.transpose(2, 0, 1)
                self.records.append(record)
                self.sizes.append((width, height))
        return pixels[: len(self.records)]


class ForegroundStore(Store[ForegroundRecord]):
    """RGBA cut-outs centred on a square; their edge colours are continued under alpha 0.

    Outward the colour fades to the cut-out's mean: smooth, as `blend.extend_edge_colours` does it,
    so that a foreground given to the model by a user looks like those it was trained on.

    Args:
        library: finds the files, counts the bad ones.
        records: what to decode.
        side: side of the square in pixels, a power of two; larger cut-outs are shrunk to it.
        device: where the tensors are held.
        workers: decoding threads.
        progress: show a progress bar on stderr.
    """

    def __init__(
        self,
        library: Library,
        records: Sequence[ForegroundRecord],
        side: int,
        device: torch.device,
        workers: int,
        progress: bool,
    ) -> None:
        means: dict[str, np.ndarray] = {}

        def decode(record: ForegroundRecord) -> tuple[np.ndarray, int, int]:
            square, wide, high = _centred(_open_rgba(library.path(record), side), side)
            colour, means[record.id] = extend_with_mean(square[..., :3], square[..., 3])
            square[..., :3] = colour
            return square, wide, high

        pixels = self._decode(library, records, (4, side, side), decode, workers, progress)
        self.levels = [torch.from_numpy(pixels).to(device)]
        kept = [means[record.id] for record in self.records]
        self.means = torch.from_numpy(np.array(kept, np.float32).reshape(-1, 3)).to(device)
        while len(self.levels) < 3 and self.levels[-1].shape[-1] > 16:
            self.levels.append(_halved(self.levels[-1]))

    def sample(
        self,
        indices: Sequence[int],
        boxes: Sequence[tuple[float, float, float, float]],
        flipped: Sequence[bool],
        frame: tuple[int, int],
    ) -> Tensor:
        """Place cut-outs on frames.

        Args:
            indices: which cut-out, for each of B samples.
            boxes: where it goes: left, top, width, height relative to the frame.
            flipped: mirror it left to right.
            frame: (width, height) in pixels.

        Returns:
            (B, 4, H, W) float32 in [0, 255]; alpha is 0 outside of the box.
        """
        side = self.levels[0].shape[-1]
        device = self.levels[0].device
        output = torch.empty(len(indices), 4, *reversed(frame), device=device)
        ratios = [
            max(box[2] * frame[0] / self.sizes[index][0], box[3] * frame[1] / self.sizes[index][1])
            for index, box in zip(indices, boxes, strict=True)
        ]
        for level, members in _by_level(ratios, len(self.levels)).items():
            windows = []
            for member in members:
                left, top, width, height = boxes[member]
                across, down = self.sizes[indices[member]]
                step_x, step_y = across / side / width, down / side / height
                start_x = (side - across) // 2 / side - left * step_x
                start_y = (side - down) // 2 / side - top * step_y
                if flipped[member]:
                    start_x = (side - across) // 2 * 2 / side + across / side - start_x
                    step_x = -step_x
                windows.append((start_x, step_x, start_y, step_y))
            rows = torch.tensor([indices[member] for member in members], device=device)
            source = self.levels[level].index_select(0, rows).float()
            x, y = _coordinates(windows, frame, device)
            sampled = _grid_sample(source, x, y)
            inside_x, inside_y = _inside(x, source.shape[-1]), _inside(y, source.shape[-2])
            sampled[:, 3] *= inside_x[:, None, :]
            sampled[:, 3] *= inside_y[:, :, None]
            beyond = _beyond(x)[:, None, :] + _beyond(y)[:, :, None]
            faded = (beyond / FADE).clamp_(max=1)[:, None]
            means = self.means.index_select(0, rows)[:, :, None, None]
            sampled[:, :3] += faded * (means - sampled[:, :3])
            if len(members) == len(indices):
                return sampled
            output[torch.tensor(members, device=device)] = sampled
        return output


class BackgroundStore(Store[BackgroundRecord]):
    """Opaque pictures of one height on a canvas twice as wide; wider ones lose their sides.

    Args:
        library: finds the files, counts the bad ones.
        records: what to decode.
        height: height in pixels that every picture is resized to, even.
        device: where the tensors are held.
        workers: decoding threads.
        progress: show a progress bar on stderr.
    """

    def __init__(
        self,
        library: Library,
        records: Sequence[BackgroundRecord],
        height: int,
        device: torch.device,
        workers: int,
        progress: bool,
    ) -> None:
        def decode(record: BackgroundRecord) -> tuple[np.ndarray, int, int]:
            return _of_height(library.path(record), height)

        pixels = self._decode(library, records, (3, height, 2 * height), decode, workers, progress)
        self.levels = [torch.from_numpy(pixels).to(device)]
        while len(self.levels) < 3 and self.levels[-1].shape[-2] % 4 == 0:
            self.levels.append(_halved(self.levels[-1]))

    def sample(
        self,
        indices: Sequence[int],
        crops: Sequence[tuple[float, float, float]],
        flipped: Sequence[bool],
        frame: tuple[int, int],
    ) -> Tensor:
        """Cut windows of the frame's shape out of backgrounds.

        Args:
            indices: which background, for each of B samples.
            crops: position x, y in the free room and size relative to the largest window.
            flipped: mirror it left to right.
            frame: (width, height) in pixels.

        Returns:
            (B, 3, H, W) float32 in [0, 255].
        """
        high, wide = self.levels[0].shape[-2:]
        device = self.levels[0].device
        output = torch.empty(len(indices), 3, *reversed(frame), device=device)
        windows, ratios = [], []
        for index, (x, y, scale), mirrored in zip(indices, crops, flipped, strict=True):
            across, down = self.sizes[index]
            fit = scale * min(across / frame[0], down / frame[1])  # stored pixels per frame pixel
            width, height = fit * frame[0], fit * frame[1]
            left, top = (across - width) * x / wide, (down - height) * y / high
            ratios.append(1 / fit)
            if mirrored:
                windows.append((left + width / wide, -width / wide, top, height / high))
            else:
                windows.append((left, width / wide, top, height / high))
        for level, members in _by_level(ratios, len(self.levels)).items():
            chosen = torch.tensor([indices[member] for member in members], device=device)
            source = self.levels[level].index_select(0, chosen).float()
            columns, rows = _coordinates([windows[m] for m in members], frame, device)
            sampled = _grid_sample(source, columns, rows)
            if len(members) == len(indices):
                return sampled
            output[torch.tensor(members, device=device)] = sampled
        return output


def _by_level(ratios: Sequence[float], levels: int) -> dict[int, list[int]]:
    """Group samples by the level whose pixels are nearest in size to the frame's."""
    groups: dict[int, list[int]] = {}
    for member, ratio in enumerate(ratios):
        level = min(max(round(-math.log2(ratio) - SHARPNESS), 0), levels - 1)
        groups.setdefault(level, []).append(member)
    return groups


def _coordinates(
    windows: Sequence[tuple[float, float, float, float]],
    frame: tuple[int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Relative source coordinates (B, W) and (B, H) of every frame column and row."""
    start_x, step_x, start_y, step_y = torch.tensor(windows, device=device)[:, :, None].unbind(1)
    columns = (torch.arange(frame[0], device=device) + 0.5) / frame[0]
    rows = (torch.arange(frame[1], device=device) + 0.5) / frame[1]
    return start_x + step_x * columns, start_y + step_y * rows


def _grid_sample(source: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples (B, C, H, W) at relative x (B, W) and y (B, H), edges continued."""
    grid = torch.empty(len(x), y.shape[1], x.shape[1], 2, device=x.device)
    grid[..., 0] = (2 * x - 1)[:, None, :]
    grid[..., 1] = (2 * y - 1)[:, :, None]
    return functional.grid_sample(source, grid, padding_mode="border", align_corners=False)


def _inside(coordinates: Tensor, pixels: int) -> Tensor:
    """Share of a bilinear sample that lies inside: 1 within, falling to 0 one pixel outside."""
    position = coordinates * pixels - 0.5
    return torch.minimum(position + 1, pixels - position).clamp_(0, 1)


def _beyond(coordinates: Tensor) -> Tensor:
    """Distance from the picture, 0 inside; in units of its side."""
    return ((coordinates - 0.5).abs() - 0.5).clamp_(min=0)


def _halved(pictures: Tensor) -> Tensor:
    """Half size by 2x2 average; colour weighted by alpha, plainly where all four are clear."""
    output = pictures.new_empty(*pictures.shape[:2], pictures.shape[2] // 2, pictures.shape[3] // 2)
    for start in range(0, len(pictures), MIP_BATCH):
        part = pictures[start : start + MIP_BATCH].float()
        half = functional.avg_pool2d(part, 2)
        if part.shape[1] == 4:
            weighted = functional.avg_pool2d(part[:, :3] * part[:, 3:], 2)
            alpha = half[:, 3:]
            half[:, :3] = torch.where(alpha > 0, weighted / alpha.clamp(min=1e-6), half[:, :3])
        output[start : start + MIP_BATCH] = half.round_().to(torch.uint8)
    return output


def _open_rgba(path: Path, side: int) -> np.ndarray:
    """(h, w, 4) uint8, at most `side` long; where it is shrunk, colour is weighted by alpha."""
    picture = read_any(path)
    if picture.alpha is None:
        raise ValueError("a cut-out needs an alpha channel")
    pixels = np.dstack([picture.colour, picture.alpha])
    if not pixels[..., 3].any():
        raise ValueError("the cut-out is wholly transparent")
    high, wide = pixels.shape[:2]
    factor = side / max(high, wide)
    if factor >= 1:
        return pixels
    size = (max(round(wide * factor), 1), max(round(high * factor), 1))
    weight = pixels[..., 3].astype(np.float32)
    alpha = _averaged(weight, size)
    colours = [
        _averaged(pixels[..., channel] * weight, size) / np.maximum(alpha, 1e-6)
        for channel in range(3)
    ]
    return np.rint(np.dstack([*colours, alpha])).clip(0, 255).astype(np.uint8)


def _averaged(channel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A float32 channel shrunk to (width, height) by area."""
    return np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BOX))


def _centred(pixels: np.ndarray, side: int) -> tuple[np.ndarray, int, int]:
    """Put a cut-out in the middle of a square, alpha 0 around it."""
    high, wide = pixels.shape[:2]
    top, left = (side - high) // 2, (side - wide) // 2
    margins = ((top, side - high - top), (left, side - wide - left))
    square = np.pad(pixels, (*margins, (0, 0)), mode="edge")
    square[..., 3] = np.pad(pixels[..., 3], margins)
    return square, wide, high


def _of_height(path: Path, height: int) -> tuple[np.ndarray, int, int]:
    """A picture of the given height at the left of a canvas twice as wide, its edge continued."""
    picture = Image.fromarray(read_any(path).colour)
    wide = max(round(picture.width * height / picture.height), 1)
    pixels = np.asarray(picture.resize((wide, height), Image.Resampling.LANCZOS))
    if wide > 2 * height:
        left = (wide - 2 * height) // 2
        pixels, wide = pixels[:, left : left + 2 * height], 2 * height
    return np.pad(pixels, ((0, 0), (0, 2 * height - wide), (0, 0)), mode="edge"), wide, height
