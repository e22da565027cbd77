"""Photos per second of `dataset build`'s stages, as a ratio to the loop people write today.

    python benchmarks/build.py PHOTOS [--count 48] [--size 512] [--rounds 3] [--processes 2]

The reference is one process, one photo at a time: decode and shrink, mask by rembg's recipe with
onnxruntime's default options, dilate, MI-GAN's pipeline, encode. The same photos, weights and size,
in turns of the same run; networks are loaded before the clock starts. Measured three ways:

    every photo     our stages with nothing rejected: what pool and code alone give
    with filter     photos that rules and mask classifier reject are never filled, as in a build
    + IS-Net        the same with the second network, work that the reference does not do

Masks must equal those of rembg's recipe on the same pixels (IoU > .99); the reference itself
ignores colour profiles, so on photos with one it sees other pixels than a build. Peak memory is
that of the largest worker after half of the photos and after all: it must not grow. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from text2layer.data.schema import Sample, SampleMetadata, encode_sample
from text2layer.photos.decode import Decode
from text2layer.photos.photo import Photo, PhotoRef, Stage, run_stages
from text2layer.photos.settings import BuildSettings
from text2layer.photos.stages import make_stages
from text2layer.pretrained import resolve

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
BATCH = 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES: list[Stage] = []  # of a worker


class Reference:
    """The loop of today."""

    def __init__(self, settings: BuildSettings) -> None:
        options = onnxruntime.SessionOptions()
        providers = ["CPUExecutionProvider"]
        self.settings = settings
        self.network = onnxruntime.InferenceSession(
            str(resolve(settings.saliency)), options, providers=providers
        )
        self.inpainter = onnxruntime.InferenceSession(
            str(resolve("migan")), options, providers=providers
        )

    def mask(self, image: Image.Image) -> Image.Image:
        """rembg's recipe for U^2-Net."""
        colour = np.array(image.resize((320, 320), Image.Resampling.LANCZOS))
        colour = colour / max(np.max(colour), 1e-6)
        colour = ((colour - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
        output = self.network.run(None, {self.network.get_inputs()[0].name: colour})[0][:, 0]
        output = (output - output.min()) / (output.max() - output.min())
        mask = Image.fromarray((output[0].clip(0, 1) * 255).astype(np.uint8))
        return mask.resize(image.size, Image.Resampling.LANCZOS)

    def run(self, path: Path) -> np.ndarray:
        """Photo to cut-out and filled background, encoded; returns the mask."""
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        image.thumbnail((self.settings.size, self.settings.size), Image.Resampling.LANCZOS)
        mask = self.mask(image)
        colour, alpha = np.array(image), np.array(mask)
        radius = round(self.settings.dilation * max(alpha.shape))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        hole = cv2.dilate((alpha > 25).astype(np.uint8), kernel)
        feed = {"image": colour.transpose(2, 0, 1)[None], "mask": (255 - 255 * hole)[None, None]}
        filled = self.inpainter.run(None, feed)[0][0].transpose(1, 2, 0)
        background = np.where(hole[..., None] > 0, filled, colour)
        image.putalpha(mask)
        image.save(io.BytesIO(), "PNG")
        Image.fromarray(background).save(io.BytesIO(), "JPEG", quality=95)
        return alpha


@dataclass
class Tally:
    """What one way of working took."""

    seconds: float = 0.0
    processor: float = 0.0
    photos: int = 0
    kept: int = 0
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    peaks: list[int] = field(default_factory=list)


def start_worker(settings: BuildSettings) -> None:
    """Load the networks of a worker, one thread each."""
    cv2.setNumThreads(1)
    STAGES[:] = make_stages(settings, threads=1)
    for stage in STAGES:
        _ = stage.model_hashes  # loads its networks now


def wait_for_networks(seconds: float) -> None:
    """Keep a worker busy for a moment, so that the pool starts them all."""
    time.sleep(seconds)


def work(paths: list[str]) -> tuple[list[Photo], float, int]:
    """Run a batch through all stages, encode what is kept; photos, CPU seconds, peak KiB."""
    begun = time.process_time()
    photos = [Photo(PhotoRef(f"k{i}", path, caption="a photo")) for i, path in enumerate(paths)]
    run_stages(STAGES, photos)
    for photo in photos:
        if photo.rejected is None:
            encoding = time.perf_counter()
            encode(photo)
            photo.seconds["encode"] = time.perf_counter() - encoding
        photo.image = photo.foreground = photo.background = photo.hole = photo.second_mask = None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return photos, time.process_time() - begun, peak


def encode(photo: Photo) -> dict[str, bytes]:
    """The members of the photo's sample."""
    parts = (photo.foreground, photo.mask, photo.background, photo.image)
    assert all(part is not None for part in parts)
    metadata = SampleMetadata("", "", "", "train", scores=photo.scores)
    return encode_sample(Sample(photo.ref.key, *parts, "a photo", metadata), lossless=False)


def measure(pool: ProcessPoolExecutor, paths: list[Path], tally: Tally) -> None:
    """One turn of our stages in the pool."""
    batches = [[str(path) for path in paths[i : i + BATCH]] for i in range(0, len(paths), BATCH)]
    begun, peak = time.perf_counter(), 0
    for photos, processor, highest in pool.map(work, batches):
        tally.processor += processor
        peak = max(peak, highest)
        for photo in photos:
            tally.photos += 1
            tally.kept += photo.rejected is None
            tally.stages.update(photo.seconds)
            if photo.rejected is not None:
                tally.reasons[photo.rejected.reason] += 1
            if photo.mask is not None:
                tally.masks[photo.ref.location] = photo.mask
    tally.seconds += time.perf_counter() - begun
    tally.peaks.append(peak)


def same_pixels(
    reference: Reference, paths: list[Path], settings: BuildSettings
) -> dict[str, np.ndarray]:
    """Masks by the reference's recipe of what our decoder makes of the photos; not timed."""
    photos = [Photo(PhotoRef(f"k{i}", str(path))) for i, path in enumerate(paths)]
    Decode(settings).run(photos)
    return {
        photo.ref.location: np.array(reference.mask(Image.fromarray(photo.image)))
        for photo in photos
        if photo.image is not None
    }


def overlaps(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[float]:
    """IoU of the masks of photos that both have, where there is an object at all."""
    result = []
    for path in first.keys() & second.keys():
        one, other = first[path] > 127, second[path] > 127
        if (one | other).any():
            result.append(float((one & other).sum() / (one | other).sum()))
    return result


def find_photos(folder: Path, count: int, size: int) -> list[Path]:
    """Every k-th photo below a folder that the decoder will not reject for its shape."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        with Image.open(path) as picture:
            large = min(picture.size) >= size // 2
            if large and max(picture.size) < 2.5 * min(picture.size) and picture.mode == "RGB":
                found.append(path)
    step = max(len(found) // count, 1)
    return found[::step][:count]


def main() -> None:
    """Measure in turns, print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--saliency", default="u2net", choices=("u2net", "u2netp"))
    parser.add_argument("--without-isnet", action="store_true", help="Leave the third way out.")
    options = parser.parse_args()
    plain = BuildSettings(
        size=options.size, saliency=options.saliency, second_saliency="", mask_quality=0,
        fill_quality=0, pair_quality=0, quality_filter=False, require_caption=False,
    )  # fmt: skip
    usual = BuildSettings()
    filtered = replace(
        plain, quality_filter=True,
        mask_quality=usual.mask_quality, fill_quality=usual.fill_quality,
    )  # fmt: skip
    ways = {"every photo": plain, "with filter": filtered}
    if not options.without_isnet:
        ways["+ IS-Net"] = replace(filtered, second_saliency="isnet")
    paths = find_photos(options.photos, options.count, options.size)
    if not paths:
        parser.error(f"there are no photos in {options.photos} that are large enough")

    reference, reference_tally = Reference(plain), Tally()
    tallies = {name: Tally() for name in ways}
    context = get_context("spawn")
    pools = {
        name: ProcessPoolExecutor(options.processes, context, start_worker, (settings,))
        for name, settings in ways.items()
    }
    for pool in pools.values():
        list(pool.map(wait_for_networks, [3.0] * options.processes))
        list(pool.map(work, [[str(paths[0])]] * options.processes))
    reference.run(paths[0])
    for turn in range(options.rounds):
        part = paths[turn :: options.rounds]
        begun, processor = time.perf_counter(), time.process_time()
        for path in part:
            reference.run(path)
        reference_tally.seconds += time.perf_counter() - begun
        reference_tally.processor += time.process_time() - processor
        reference_tally.photos += len(part)
        reference_tally.masks |= same_pixels(reference, part, plain)
        for name, pool in pools.items():
            measure(pool, part, tallies[name])
    report(options, reference_tally, tallies)
    for pool in pools.values():
        pool.shutdown()


def report(options: argparse.Namespace, reference: Tally, tallies: dict[str, Tally]) -> None:
    """Print everything."""
    print(f"{reference.photos} photos, {options.size} px, {options.saliency}, "
          f"{options.processes} processes of one thread, {os.cpu_count()} cores")  # fmt: skip
    print(f"{'':32}{'photos/s':>9}{'ratio':>7}{'CPU s/photo':>13}{'ratio':>7}{'kept':>6}")
    base = reference.photos / reference.seconds
    base_processor = reference.processor / reference.photos
    rows = {"reference: one at a time": reference} | tallies
    for name, tally in rows.items():
        rate, processor = tally.photos / tally.seconds, tally.processor / tally.photos
        kept = "" if tally is reference else str(tally.kept)
        print(f"{name:32}{rate:9.2f}{rate / base:7.2f}{processor:13.2f}"
              f"{base_processor / processor:7.2f}{kept:>6}")  # fmt: skip
    for name, tally in tallies.items():
        shared = overlaps(reference.masks, tally.masks)
        print(f"\n{name}: mask IoU to the reference: least {min(shared):.4f}, "
              f"mean {np.mean(shared):.4f}, {len(shared)} photos")  # fmt: skip
        total = sum(tally.stages.values())
        shares = ", ".join(f"{s} {t / total:.0%}" for s, t in tally.stages.most_common())
        print(f"  time: {shares}")
        if tally.reasons:
            print("  rejected: " + ", ".join(f"{r} {n}" for r, n in tally.reasons.most_common()))
        half = max(tally.peaks[: max(len(tally.peaks) // 2, 1)]) / 1024
        print(f"  peak memory of a worker: {half:.0f} MiB after half of the photos, "
              f"{max(tally.peaks) / 1024:.0f} MiB after all")  # fmt: skip


if __name__ == "__main__":
    main()
