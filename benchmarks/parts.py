"""What it costs to divide the work on a chunk: processor time to hand pictures over, and to encode.

An actor with networks gets parts of eight decoded photos as bytes, hands them to its worker process
and takes them back; here the stage between does nothing but fill in layers of two of the photos.

    python benchmarks/parts.py
"""

import argparse
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from text2layer.data.schema import Sample, SampleMetadata, encode_sample
from text2layer.photos.chunk import BATCH
from text2layer.photos.parts import NETWORKS, Part
from text2layer.photos.photo import Photo, PhotoRef, Stage
from text2layer.photos.ray_parts import PartActor
from text2layer.photos.settings import BuildSettings
from text2layer.photos.worker import WorkerSetup

STAGES = "parts:no_networks"  # this file, as a worker process finds it


class KeepTwo:
    """Rejects all photos but the first two, as about one in five of a source gets that far."""

    name, device = "keep two", "gpu"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Set all that stages set."""
        for number, photo in enumerate(photos):
            assert photo.image is not None
            if number >= 2:
                photo.reject(self.name, "another")
                continue
            photo.mask, photo.second_mask = photo.image[..., 0].copy(), photo.image[..., 1].copy()
            photo.hole = photo.mask > 0
            photo.foreground, photo.background = photo.image.copy(), photo.image.copy()


def no_networks(settings: BuildSettings, threads: int) -> list[Stage]:
    """For `WorkerSetup.stages`."""
    return [KeepTwo()]


def draw(side: int, seed: int) -> np.ndarray:
    """(side, side, 3) uint8: smooth noise of several scales, about as hard to encode as a photo."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 128.0)
    for cells in (4, 16, 64, side // 2):
        grain = (128 + rng.normal(0, 40 / cells**0.3, (cells, cells, 3))).clip(0, 255)
        whole = Image.fromarray(grain.astype(np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        picture += np.asarray(whole, np.float64) - 128
    return picture.clip(0, 255).astype(np.uint8)


def processor_seconds(pid: int) -> float:
    """Of a process, by Linux's account."""
    fields = Path(f"/proc/{pid}/stat").read_text().split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=512, help="of the photos in pixels")
    parser.add_argument("--parts", type=int, default=40)
    options = parser.parse_args()
    pictures = [draw(options.side, seed) for seed in range(BATCH)]
    refs = [PhotoRef(f"photo{number}", "") for number in range(BATCH)]
    data = pickle.dumps(Part(0, photos=list(map(Photo, refs, pictures))))
    with tempfile.TemporaryDirectory() as folder:
        actor = PartActor(NETWORKS, WorkerSetup(STAGES, BuildSettings(), Path(folder), ""))
        actor({"part": [data]})  # starts the worker
        process = actor._guard._child._process
        assert process is not None
        begun = time.process_time(), processor_seconds(process.pid)
        for _ in range(options.parts):
            done = pickle.loads(actor({"part": [data]})["part"][0])
            assert done.error is None, done.error
        spent = time.process_time() - begun[0], processor_seconds(process.pid) - begun[1]
        actor._guard.close()
    here, there = (1000 * seconds / options.parts for seconds in spent)
    print(f"a part of {BATCH}, {len(data) / 1e6:.1f} MB: {here:.0f} ms of the actor, "
          f"{there:.0f} ms of its worker")  # fmt: skip
    mask = pictures[0][..., 0]
    metadata = SampleMetadata(source="", license="", author="", split="train")
    sample = Sample("photo", pictures[1], mask, pictures[2], pictures[0], "a photo", metadata)
    for lossless in (False, True):
        begun_at = time.process_time()
        for _ in range(10):
            encode_sample(sample, lossless=lossless)
        each = (time.process_time() - begun_at) * 100
        print(f"encode {'lossless' if lossless else 'with JPEG'}: {each:.0f} ms a sample")


if __name__ == "__main__":
    main()
