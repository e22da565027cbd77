"""What `evaluate` costs beside drawing the pictures and running the feature networks once.

    python benchmarks/evaluation.py LIBRARY [--samples 32] [--size 256] [--judge u2netp]

The reference, measured in the same run on the same pictures: drawing all of them, and each network
once over every picture that it must see (Inception: composite, foreground and background, drawn and
known; the judge and the probe's text encoder: composites; LPIPS: pairs). The rest is composing the
known samples, per-sample scores, Frechet and kernel distances, intervals and the sheet. `one pass`
counts Inception over the drawn composites alone. Time grows linearly with samples, but for the
sets' distances, which are taken once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from text2layer.data.composer import Composer
from text2layer.data.known_samples import KnownSamples
from text2layer.data.library import Library
from text2layer.evaluation.collector import on_neutral
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.generate import generate
from text2layer.evaluation.picture_similarity import perceptual_distance
from text2layer.evaluation.run import Networks, Run
from text2layer.parts import pictures_of
from text2layer.pipelines import Text2LayerPipeline

BATCH = 16


def clock(work: Any) -> tuple[float, Any]:
    """Seconds and result of a call."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def main() -> None:
    """Measure, print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--judge", default="u2netp")
    options = parser.parse_args()
    composer = Composer(Library(options.library), "test", options.size, progress=False)
    known = KnownSamples(composer, options.samples)
    networks = Networks(options.judge)
    drawer = Drawer(Text2LayerPipeline.from_pretrained(), options.size)
    for name in ("inception", "judge", "lpips", "probe"):
        if networks.get(name) is None:
            print(f"without {name}: {networks.missing[name]}")
    warm = known.batch(range(2))
    networks.get("inception")(drawer(warm.captions["whole"], [0, 1]).composite)

    seconds: dict[str, float] = dict.fromkeys(("drawing", "inception", "judge", "lpips", "text"), 0)
    one_pass = 0.0
    for batch in known.batches(BATCH):
        prompts = batch.captions["whole"]
        spent, drawn = clock(lambda b=batch, p=prompts: drawer(p, b.numbers.tolist()))
        seconds["drawing"] += spent
        sets = (
            drawn.composite, drawn.background, on_neutral(drawn.foreground, drawn.soft_mask),
            batch.image, batch.background, on_neutral(batch.foreground, batch.soft_mask),
        )  # fmt: skip
        spends = [clock(lambda p=p: networks.get("inception")(p))[0] for p in sets]
        seconds["inception"] += sum(spends)
        one_pass += spends[0]
        images = pictures_of(drawn.composite)
        seconds["judge"] += clock(lambda i=images: networks.get("judge").predict(i))[0]
        if (lpips := networks.get("lpips")) is not None and drawn.image is not None:
            pair = (drawn.image, drawn.composite, lpips)
            seconds["lpips"] += clock(lambda pair=pair: perceptual_distance(*pair))[0]
        if (probe := networks.get("probe")) is not None:
            seconds["text"] += clock(lambda p=prompts: probe.embed_texts(p))[0]
    total, _ = clock(lambda: generate(drawer, known, networks, Run(BATCH)))
    reference = sum(seconds.values())
    print(f"{options.samples} samples, {options.size} px, {torch.get_num_threads()} threads")
    for name, spent in seconds.items():
        print(f"  {name:10} {spent:8.1f} s")
    print(f"evaluate   {total:8.1f} s")
    print(f"ratio to drawing and every network pass it needs: {total / reference:.2f}")
    single = reference - seconds["inception"] + one_pass
    print(f"ratio to drawing and one pass of each network:    {total / single:.2f}")


if __name__ == "__main__":
    main()
