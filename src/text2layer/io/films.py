"""Looping films from frames that are drawn when they are wanted: WebP, GIF and MP4."""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from text2layer.errors import FormatError, InputError, WriteError
from text2layer.files import writing, writing_path
from text2layer.options import require

SUFFIXES = (".webp", ".gif", ".mp4")
MAX_SIDE = 4096  # pixels, what H.264 decoders take
MAX_FRAMES = 3000
MAX_FPS = {".webp": 60, ".gif": 50, ".mp4": 60}  # browsers slow down faster GIFs
MAX_GIF_PIXELS = 400_000_000  # of all frames; Pillow keeps a GIF's to the end, a byte each
WEBP_QUALITY = 85
MP4_QUALITY = "18"  # constant rate factor of x264: visually lossless

Draw = Callable[[float], np.ndarray]


def check(path: Path, size: tuple[int, int], seconds: float, fps: float) -> int:
    """The number of frames, once it is known that such a film can be written.

    Args:
        path: its suffix says which kind.
        size: (width, height) of the frames in pixels.
        seconds: length of the loop.
        fps: frames a second.

    Raises:
        FormatError: another suffix.
        InputError: a number out of range, or MP4 without imageio-ffmpeg or with odd sides.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FormatError(f"{path} is not a name for a film: end it in {', '.join(SUFFIXES)}.")
    if not 1 <= fps <= MAX_FPS[suffix]:
        raise InputError(f"Frames a second lie in 1 to {MAX_FPS[suffix]} here, not {fps}.")
    if not 0 < seconds < math.inf:
        raise InputError(f"A loop lasts more than 0 seconds, not {seconds}.")
    count = round(seconds * fps)
    if not 2 <= count <= MAX_FRAMES:
        raise InputError(
            f"{seconds:g} seconds of {fps:g} frames are {count} frames; a loop has 2 to "
            f"{MAX_FRAMES}."
        )
    check_size(size)
    width, height = size
    if suffix == ".gif" and count * width * height > MAX_GIF_PIXELS:
        raise InputError(
            f"{count} frames of {width} x {height} pixels are too much for a GIF: make it smaller "
            "or shorter, or write WebP."
        )
    if suffix == ".mp4":
        _ffmpeg()
        if width % 2 or height % 2:
            raise InputError(f"MP4 needs even sides, not {width} x {height}.")
    return count


def check_size(size: tuple[int, int]) -> None:
    """Raise InputError for frames that are too large."""
    if max(size) > MAX_SIDE:
        raise InputError(f"A film has at most {MAX_SIDE} pixels a side, not {size[0]} x {size[1]}.")


def write(path: Path, draw: Draw, count: int, seconds: float, packet: bytes) -> None:
    """Write a film that `check` has passed, whole or not at all.

    Args:
        path: its suffix says which kind.
        draw: gives the frame (H, W, 3) uint8 at a time from 0 to 1.
        count: of frames.
        seconds: length of the loop.
        packet: XMP; WebP alone takes it.

    Raises:
        WriteError: the system or ffmpeg refused.
    """
    suffix = path.suffix.lower()
    frames = (draw(number / count) for number in range(count))
    if suffix == ".mp4":
        with writing_path(path) as temporary:
            _write_mp4(temporary, frames, f"{count / seconds:g}")
        return
    with writing(path) as file:
        if suffix == ".gif":
            sample = np.concatenate([draw(time) for time in (0, 0.25, 0.5, 0.75)])
            _write_gif(file, frames, sample, _durations(count, seconds, 10))
            return
        images = map(Image.fromarray, frames)
        next(images).save(
            file, "WEBP", save_all=True, append_images=images, loop=0, quality=WEBP_QUALITY,
            duration=_durations(count, seconds, 1), xmp=packet,
        )  # fmt: skip


def _write_gif(
    file: BinaryIO, frames: Iterator[np.ndarray], sample: np.ndarray, durations: list[int]
) -> None:
    """One palette, that of the sample, for the whole loop, so that no colour flickers."""
    palette = Image.fromarray(sample).quantize(256, Image.Quantize.FASTOCTREE)
    images = (Image.fromarray(frame).quantize(palette=palette) for frame in frames)
    next(images).save(
        file, "GIF", save_all=True, append_images=images, loop=0, optimize=False,
        duration=durations,
    )  # fmt: skip


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: str) -> None:
    """Lead raw frames into ffmpeg, and believe its exit status alone."""
    first = next(frames)
    height, width = first.shape[:2]
    command = [
        _ffmpeg(), "-y", "-loglevel", "error",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-",
        "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", MP4_QUALITY, "-movflags", "+faststart",
        "-f", "mp4", str(path),
    ]  # fmt: skip
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as process,
    ):
        try:
            with suppress(BrokenPipeError), process.stdin as pipe:  # type: ignore[union-attr]
                pipe.write(first.tobytes())
                for frame in frames:
                    pipe.write(frame.tobytes())
        except BaseException:
            process.kill()
            raise
        if process.wait():
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1].strip(" .")[:120] if lines else "it gave no reason"
            raise WriteError(f"ffmpeg could not write the MP4: {reason}.")


def _ffmpeg() -> str:
    package = require("imageio_ffmpeg", "imageio-ffmpeg", "Writing MP4", extra="mp4")
    try:
        return str(package.get_ffmpeg_exe())
    except RuntimeError:
        raise InputError(
            "imageio-ffmpeg has no ffmpeg for this system: install one, or name it in the variable "
            "IMAGEIO_FFMPEG_EXE."
        ) from None


def _durations(count: int, seconds: float, unit: int) -> list[int]:
    """Milliseconds of each frame, whole units each, that add up to the length of the loop."""
    ends = [round(number * seconds * 1000 / count / unit) * unit for number in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]
