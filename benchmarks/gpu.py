"""Photos per second of each network of `dataset build` on a GPU, beside the same machine's CPU.

    python benchmarks/gpu.py PHOTOS [--count 64] [--batches 1 8 32] [--reference 8]
                             [--report out/report.json] [--device auto]

Every network of the build gets `--count` photos, decoded and shrunk as a build does, in batches of
each size. Preparing the photos on the CPU is part of the time, as in a build; loading and one batch
before the clock starts are not. A second process, which sees no GPU, does the first `--reference`
photos one by one: its rate is the CPU's, and its results are those that the GPU's are compared
with. In the end it prints `g` of docs/scale.md, the seconds that the networks take for an average
photo of the source: the sum over stages of the share that reaches a stage, which `--report` gives
(else that of the photographs in docs/scale.md), times the seconds of the stage.

`--device cpu` rehearses all this without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from text2layer.models.frozen import TF32, VISIBLE
from text2layer.photos.decode import Decode
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.settings import BuildSettings

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# share of photos that reach a stage, as measured in docs/scale.md
SHARES = {
    "saliency": 0.612, "mask quality": 0.342, "agreement": 0.217, "background": 0.183,
    "fill quality": 0.183,
}  # fmt: skip
JOB_PHOTOS = 600e6


@dataclass
class Measured:
    """One network at one batch.

    Attributes:
        batch: photos that it was given together in the end; less than asked if memory was short.
        seconds: for one photo.
        results: (H, W) or (H, W, 3) uint8, or a score, for each photo.
        where: it ran; "" if it does not say.
    """

    batch: int
    seconds: float
    results: list[Any]
    where: str


def hide_gpus(hide: bool) -> None:
    """Start of a process, before any library looks for GPUs; as a build's workers start."""
    os.environ[TF32] = "0"
    if hide:
        os.environ[VISIBLE] = ""


def read(paths: Sequence[Path], settings: BuildSettings, count: int) -> list[np.ndarray]:
    """The first `count` photos that decode does not reject, (H, W, 3) uint8."""
    found: list[np.ndarray] = []
    for path in paths:
        photo = Photo(PhotoRef("key", str(path), caption="a photo"))
        Decode(settings).run([photo])
        if photo.rejected is None and photo.image is not None:
            found.append(photo.image)
        if len(found) == count:
            break
    return found


def middle(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: an ellipse of a fifth of the photo, in place of its object."""
    height, width = image.shape[:2]
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(rows**2 + columns**2 < 0.25)


def opened(stage: str, settings: BuildSettings, batch: int) -> tuple[Any, Callable[..., Any]]:
    """The network of a stage, and what runs it on photos."""
    from text2layer.models.inpainting import load_inpainter
    from text2layer.models.saliency import load_saliency
    from text2layer.photos.quality import load_classifiers

    if stage in ("saliency", "agreement"):
        name = settings.saliency if stage == "saliency" else settings.second_saliency
        network = load_saliency(name, batch=batch)
        return network, lambda images: [found.mask for found in network.predict(images)]
    if stage == "background":
        inpainter = load_inpainter(settings.inpainter, batch=batch)
        return inpainter, lambda images: inpainter.fill_all(images, [middle(i) for i in images])
    model = load_classifiers(settings)
    assert model is not None
    model.batch = batch
    score = model.mask_scores if stage == "mask quality" else model.fill_scores
    return model, lambda images: score(images, [middle(i).astype("uint8") * 255 for i in images])


def measure(
    stage: str, settings: BuildSettings, images: Sequence[np.ndarray], batch: int
) -> Measured:
    """Run one network on all photos."""
    from text2layer.models.placement import placements

    network, run = opened(stage, settings, batch)
    run(images[: network.batch])
    begun = time.perf_counter()
    results = run(images)
    seconds = (time.perf_counter() - begun) / len(images)
    name = getattr(network, "name", "quality classifiers")
    return Measured(network.batch, seconds, results, placements().get(name, ""))


def difference(results: Sequence[Any], reference: Sequence[Any]) -> str:
    """The largest difference of masks and fills in levels, of scores as it is."""
    pairs = list(zip(results, reference, strict=False))
    if isinstance(reference[0], float):
        return f"{max(abs(one - other) for one, other in pairs):.1e}"
    apart = [np.abs(one.astype(np.int16) - other) for one, other in pairs]
    beyond = np.mean([(one > 1).mean() for one in apart])
    return f"{max(one.max() for one in apart)} of 255 ({beyond:.1e} of the pixels above 1)"


def shares_of(report: Path | None) -> dict[str, float]:
    """Share of a source's photos that reach each stage."""
    if report is None:
        return SHARES
    figures = json.loads(report.read_text(encoding="utf-8"))
    seen = figures["time"]["photos_by_stage"]
    return {stage: seen.get(stage, 0) / figures["photos"] for stage in SHARES}


def main() -> None:
    """Measure all networks, print a table and g."""
    usual = BuildSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--reference", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--saliency", default=usual.saliency)
    parser.add_argument("--second-saliency", default=usual.second_saliency)
    parser.add_argument("--inpainter", default=usual.inpainter)
    parser.add_argument("--licence", default="not stored here")
    parser.add_argument("--report", type=Path, help="report.json of a build of the source")
    options = parser.parse_args()
    settings = BuildSettings(
        size=options.size, saliency=options.saliency, second_saliency=options.second_saliency,
        inpainter=options.inpainter, licence=options.licence,
    )  # fmt: skip
    shares = shares_of(options.report)
    paths = sorted(p for p in options.photos.rglob("*") if p.suffix.lower() in SUFFIXES)
    images = read(paths, settings, options.count)
    if not images:
        parser.error(f"there are no photos in {options.photos} that are large enough")
    stages = [stage for stage in SHARES if stage != "agreement" or settings.second_saliency]
    context = get_context("spawn")
    start = partial(ProcessPoolExecutor, 1, context, hide_gpus)
    print(f"{len(images)} photos of {options.size} px, {options.reference} of them by the CPU")
    totals = dict.fromkeys(options.batches, 0.0)
    for stage in stages:
        with start((True,)) as pool:
            part = images[: options.reference]
            cpu = pool.submit(measure, stage, settings, part, 1).result()
        print(f"\n{stage}: CPU {1 / cpu.seconds:.2f} photos/s", flush=True)
        for batch in options.batches:
            with start((options.device == "cpu",)) as pool:
                found = pool.submit(measure, stage, settings, images, batch).result()
            totals[batch] += shares[stage] * found.seconds
            print(
                f"  batch {found.batch:3} on {found.where}: {1 / found.seconds:.2f} photos/s, "
                f"{cpu.seconds / found.seconds:.1f} times the CPU's rate; largest difference to "
                f"the CPU's result {difference(found.results, cpu.results)}",
                flush=True,
            )
    print()
    for batch, seconds in totals.items():
        print(
            f"batch {batch}: g = {seconds:.4f} s a photo, {JOB_PHOTOS * seconds / 3600:,.0f} hours "
            f"of one device for {JOB_PHOTOS / 1e6:.0f} million photos"
        )


if __name__ == "__main__":
    main()
