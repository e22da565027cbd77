"""How much of what a model draws is its own: the nearest training drawing of each drawn object.

    python recipes/own_drawings.py LIBRARY OUT --model DIR --drawings LIST [--objects 64]

OUT/own.json      the nearest training drawing of each drawn object, whether it is a copy; shares
OUT/nearest.jpg   drawn object, nearest training drawing, and so on, uncurated
OUT/seeds.jpg     four seeds of one prompt side by side, then training drawings of that thing

Drawn objects and training drawings are cut to their masks, laid on mid grey and shrunk to 64 x 64
pixels alike. Nearest is the least LPIPS (AlexNet) over *all* drawings of the list; the overlap
(soft IoU) is that of both masks.

A drawn object is a *copy* when it is as near to a training drawing as that drawing's own
reconstruction is: LPIPS at most the 95th percentile, and overlap at least the 5th, of those between
training drawings and what the autoencoder makes of them. Everything that the model draws comes
through the decoder, so a drawing that is repeated to the dot lies within both in at least 9 of 10
cases.
For comparison own.json says how near training drawings are to one another.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from text2layer.data.contact_sheet import grid
from text2layer.data.known_samples import KnownBatch
from text2layer.data.named_things import AskedThings, Thing, open_things
from text2layer.data.world import read_drawings
from text2layer.evaluation.collector import on_neutral
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.interval import bootstrap_mean
from text2layer.evaluation.mask_overlap import soft_iou
from text2layer.evaluation.objects import cut_to_object
from text2layer.evaluation.picture_similarity import perceptual_distance
from text2layer.files import writing
from text2layer.models.lpips import LPIPS
from text2layer.pipelines import Text2LayerPipeline
from text2layer.tensors import bytes_to_mask, colour_to_bytes, mask_to_bytes

SIDE = 64  # pixels that objects are compared at
SHARE = 0.95  # of reconstructions that lie within each threshold
BATCH = 64
SEEDS, ROWS, SHOWN = 4, 8, 4  # pictures of one prompt, prompts, training drawings beside them
PAIRS = 6  # on a row of nearest.jpg


@dataclass(frozen=True)
class Cut:
    """Objects cut out alike.

    Attributes:
        colour: (N, 3, 64, 64) uint8 on mid grey.
        mask: (N, 1, 64, 64) in [0, 1].
    """

    colour: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def joined(self, other: Cut) -> Cut:
        """These and the others."""
        return Cut(torch.cat([self.colour, other.colour]), torch.cat([self.mask, other.mask]))

    def picture(self, index: int) -> np.ndarray:
        """One of them for a sheet, (64, 64, 3)."""
        return self.colour[index].permute(1, 2, 0).contiguous().numpy()


def cut(foreground: Tensor, mask: Tensor) -> Cut:
    """Cut objects out of foregrounds (N, 3, H, W) uint8 by masks (N, 1, H, W) in [0, 1].

    An empty mask gives a grey square with an empty mask.
    """
    pictures = on_neutral(foreground.cpu(), mask.cpu()).permute(0, 2, 3, 1).numpy()
    colours, masks = [], []
    for picture, alpha in zip(pictures, mask[:, 0].cpu().numpy(), strict=True):
        square = cut_to_object(picture, alpha)
        if square is None:
            colours.append(np.full((SIDE, SIDE, 3), 128, np.uint8))
            masks.append(np.zeros((SIDE, SIDE), np.uint8))
            continue
        levels = np.rint(alpha * 255).astype(np.uint8)
        cover = cut_to_object(levels, alpha, ground=0)
        assert cover is not None
        for found, where in ((square, colours), (cover, masks)):
            small = Image.fromarray(found).resize((SIDE, SIDE), Image.Resampling.BOX)
            where.append(np.asarray(small))
    return Cut(
        torch.from_numpy(np.stack(colours)).permute(0, 3, 1, 2).contiguous(),
        bytes_to_mask(torch.from_numpy(np.stack(masks))[:, None]),
    )


def distances(drawn: Cut, known: Cut, lpips: LPIPS) -> np.ndarray:
    """LPIPS (N, G) of every drawn object to every training drawing."""
    rows = []
    for index in range(len(drawn)):
        one = drawn.colour[index : index + 1]
        parts = [
            perceptual_distance(one.expand_as(part), part, lpips)
            for part in known.colour.split(BATCH)
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows).numpy()


def overlaps(a: Cut, b: Cut) -> np.ndarray:
    """Soft IoU (N,) of masks, pair by pair."""
    return soft_iou(a.mask, b.mask).numpy()


def thresholds(known: Cut, decoded: Cut, lpips: LPIPS) -> tuple[float, float]:
    """The most LPIPS and the least overlap that a copy may have; see the module."""
    apart = perceptual_distance(known.colour, decoded.colour, lpips).numpy()
    return (
        float(np.quantile(apart, SHARE)),
        float(np.quantile(overlaps(known, decoded), 1 - SHARE)),
    )


def gallery(asked: AskedThings) -> Cut:
    """All training drawings of the list."""
    parts = [cut(colour_to_bytes(made.foreground), made.mask) for made in asked.gallery(BATCH)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def decoded(pipeline: Text2LayerPipeline, batch: KnownBatch) -> Cut:
    """What the autoencoder makes of real drawings."""
    parts = batch.to_float().to(pipeline.autoencoder.device)
    with torch.no_grad():
        made = pipeline.autoencoder(parts.foreground, parts.background, parts.mask)
    return cut(colour_to_bytes(made.foreground), bytes_to_mask(mask_to_bytes(made.mask)))


def measure(drawer: Drawer, asked: AskedThings, lpips: LPIPS) -> tuple[dict, Image.Image]:
    """Draw every thing that is asked for; return the report and the sheet of nearest drawings."""
    known, records = gallery(asked), asked.composer.foregrounds
    objects, real, whole = [], [], []
    for batch in asked.batches(16):
        seeds = [asked.picture_seed(number) for number in batch.numbers.tolist()]
        drawn = drawer(batch.captions["whole"], seeds)
        objects.append(cut(drawn.foreground, drawn.soft_mask))
        real.append(cut(batch.foreground, batch.soft_mask))
        whole.append(decoded(drawer.pipeline, batch))
    drawn, real, made = (_joined(parts) for parts in (objects, real, whole))
    most, least = thresholds(real, made, lpips)
    apart = distances(drawn, known, lpips)
    nearest = apart.argmin(1)
    shared = overlaps(drawn, Cut(known.colour[nearest], known.mask[nearest]))
    copies = (apart.min(1) <= most) & (shared >= least)
    own = [asked.placement(number).foreground for number in range(len(asked))]
    among = distances(real, known, lpips)
    among[np.arange(len(own)), own] = np.inf
    share = bootstrap_mean(copies.astype(float))
    report = {
        "model": drawer.pipeline.model_name,
        "model_hash": drawer.pipeline.model_hash,
        "objects": len(drawn),
        "training_drawings": len(known),
        "copies": int(copies.sum()),
        "share_of_copies": {"value": share.value, "low": share.low, "high": share.high},
        "copy_lpips_at_most": most,
        "copy_overlap_at_least": least,
        "median_lpips": float(np.median(apart.min(1))),
        "median_overlap": float(np.median(shared)),
        "nearest_is_of_the_thing": float(
            np.mean([_names(asked, place) for place in enumerate(nearest)])
        ),
        "median_lpips_of_training_drawings_to_the_next": float(np.median(among.min(1))),
        "drawn": [
            {"prompt": asked.prompt(number), "seed": asked.picture_seed(number),
             "nearest": records[place].id, "lpips": float(apart[number, place]),
             "overlap": float(shared[number]), "copy": bool(copies[number])}
            for number, place in enumerate(nearest)
        ],
    }  # fmt: skip
    pairs = [
        picture
        for number, place in enumerate(nearest)
        for picture in (drawn.picture(number), known.picture(place))
    ]
    rows = [pairs[start : start + 2 * PAIRS] for start in range(0, len(pairs), 2 * PAIRS)]
    return report, grid(rows)


def _names(asked: AskedThings, pair: tuple[int, int]) -> bool:
    number, drawing = pair
    return int(asked.owners[drawing]) == int(asked.answer([number])[0])


def _joined(parts: Sequence[Cut]) -> Cut:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def richest(things: Sequence[Thing], count: int) -> list[Thing]:
    """The things with the most drawings, the first of the list among equals."""
    return sorted(things, key=lambda thing: -len(thing.drawings))[:count]


def four_seeds(drawer: Drawer, asked: AskedThings, rows: int = ROWS) -> Image.Image:
    """A prompt a row: the object of seeds 1 to 4, then training drawings of the thing."""
    sheet, captions = [], []
    for thing in richest(asked.things, rows):
        number = asked.things.index(thing) * asked.seeds
        prompt = asked.prompt(number)
        drawn = drawer([prompt] * SEEDS, range(1, SEEDS + 1))
        layers = [np.dstack([one.foreground, one.mask]) for one in drawn.layered()]
        learnt = [asked.composer.foregrounds[index] for index in thing.drawings[:SHOWN]]
        known = [
            np.asarray(Image.open(asked.composer.library.path(record)).convert("RGBA"))
            for record in learnt
        ]
        side = layers[0].shape[0]
        sheet.append(layers + [_fitted(picture, side) for picture in known])
        captions.append(f"{prompt}: seeds 1 to {SEEDS}, then {len(known)} of the training drawings")
    return grid(sheet, captions)


def _fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """A cut-out (H, W, 4) in a square of `side`."""
    small = Image.fromarray(picture)
    small.thumbnail((side, side))
    square = Image.new("RGBA", (side, side))
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return np.asarray(square)


def main() -> None:
    """Measure a model and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--drawings", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=64)
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    drawer = Drawer(Text2LayerPipeline.from_pretrained(options.model), steps=options.steps)
    composer = open_things(options.library, read_drawings(options.drawings), drawer.size)
    report, pairs = measure(
        drawer, AskedThings(composer, seeds=1, limit=options.objects), LPIPS("alex")
    )
    seeds = four_seeds(drawer, AskedThings(composer, seeds=1))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, sheet in (("nearest.jpg", pairs), ("seeds.jpg", seeds)):
        with writing(options.out / name) as file:
            sheet.save(file, "JPEG", quality=90)
    with writing(options.out / "own.json") as file:
        file.write(json.dumps(report, indent=2).encode() + b"\n")
    most, least = report["copy_lpips_at_most"], report["copy_overlap_at_least"]
    print(
        f"{report['copies']} of {report['objects']} are copies: LPIPS at most {most:.3f}, overlap "
        f"at least {least:.3f}"
    )


if __name__ == "__main__":
    main()
