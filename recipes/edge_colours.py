"""Which colour do the soft edges of a cut-out photo get? Measured where the true layers are known.

    python recipes/edge_colours.py LIBRARY [COUNT] [--saliency u2net] [--inpainter migan]

Soft cut-outs of a library are enlarged onto its backgrounds (512 pixels), and the composite is cut
apart with three masks: the true one, that one blurred by two pixels (an error every mask has), and
the network's. For each way to colour the edge it prints the mean error in levels, over soft pixels
(true or found alpha in .1 to .9): of the layer on green and on another background against the true
layer there, of the composite on its own fill against the photo; and the share of channels that are
clipped, 0 or 255 where neither the true colour nor the photo is.

pymatting's row needs `pip install pymatting`.
"""

import argparse
from collections import defaultdict

import numpy as np
from PIL import Image
from scipy import ndimage

from text2layer.blend import composite_over, extend_edge_colours, solve_colour
from text2layer.data.library import Library
from text2layer.models.hole import cut_hole
from text2layer.models.inpainting import load_inpainter
from text2layer.models.saliency import load_saliency
from text2layer.pipelines import photo_layers as subjects

SIDE = 512
GREEN = np.full((SIDE, SIDE, 3), (0, 177, 64), np.uint8)
SOFT = (26, 229)  # alpha levels


def soft_share(alpha: np.ndarray) -> float:
    """Share of the covered pixels that are soft."""
    return float(((alpha >= SOFT[0]) & (alpha <= SOFT[1])).sum() / max((alpha > 0).sum(), 1))


def cutout(library: Library, entry: object) -> np.ndarray:
    """(SIDE, SIDE, 4) uint8: a cut-out enlarged to 420 pixels, edge colours continued first."""
    with Image.open(library.path(entry)) as opened:
        pixels = np.array(opened.convert("RGBA"))
    colour = Image.fromarray(extend_edge_colours(pixels[..., :3], pixels[..., 3]))
    alpha = Image.fromarray(pixels[..., 3])
    scale = 420 / max(alpha.size)
    size = tuple(max(1, round(side * scale)) for side in alpha.size)
    left, top = ((SIDE - side) // 2 for side in size)
    canvas = np.zeros((SIDE, SIDE, 4), np.uint8)
    region = np.s_[top : top + size[1], left : left + size[0]]
    canvas[region][..., :3] = colour.resize(size, Image.Resampling.LANCZOS)
    canvas[region][..., 3] = alpha.resize(size, Image.Resampling.BICUBIC)
    canvas[..., :3] = extend_edge_colours(canvas[..., :3], canvas[..., 3])
    return canvas


def background(library: Library, entry: object) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: the middle of a background."""
    with Image.open(library.path(entry)) as opened:
        picture = opened.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.array(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box))


def solved(photo: np.ndarray, fill: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """As it was before: the colour that gives the photo over the fill, clipped."""
    colour, soft = photo.copy(), (alpha >= 64) & (alpha < 255)
    colour[soft] = solve_colour(photo[soft], fill[soft], alpha[soft])
    return extend_edge_colours(colour, alpha, 64)


def by_pymatting(photo: np.ndarray, fill: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Germer et al. 2020, as published."""
    from pymatting.foreground.estimate_foreground_ml import estimate_foreground_ml

    made = np.rint(estimate_foreground_ml(photo / 255, alpha / 255) * 255).astype(np.uint8)
    return np.where((alpha == 255)[..., None], photo, made)


WAYS = {
    "photo's own": lambda photo, fill, alpha: extend_edge_colours(photo, alpha, 64),
    "solved": solved,
    "pymatting": by_pymatting,
    "ours": lambda photo, fill, alpha: subjects.edge_colours(photo, alpha),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("count", type=int, nargs="?", default=24)
    parser.add_argument("--saliency", default="u2net")
    parser.add_argument("--inpainter", default="migan")
    given = parser.parse_args()
    library = Library(given.library)
    random = np.random.default_rng(0)
    saliency, inpainter = load_saliency(given.saliency, 1), load_inpainter(given.inpainter, 1)
    drawn = [library.foregrounds[i] for i in random.permutation(len(library.foregrounds))[:400]]
    cut = sorted((cutout(library, entry) for entry in drawn), key=lambda c: -soft_share(c[..., 3]))
    behind = random.permutation(len(library.backgrounds))
    errors: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for number, layer in enumerate(cut[: given.count]):
        first, other = (
            background(library, library.backgrounds[behind[2 * number + k]]) for k in (0, 1)
        )
        colour, true = layer[..., :3], layer[..., 3]
        photo = composite_over(first, colour, true)
        blurred = ndimage.gaussian_filter(true.astype(np.float32), 2).astype(np.uint8)
        found = saliency.predict([photo])[0].mask
        for name, alpha in (("true", true), ("blurred", blurred), (given.saliency, found)):
            fill = np.where(
                cut_hole(alpha)[..., None], inpainter.fill(photo, cut_hole(alpha)), photo
            )
            soft = (alpha >= SOFT[0]) & (alpha <= SOFT[1])
            for way, make in WAYS.items():
                made = make(photo, fill, alpha)
                row = [
                    np.abs(composite_over(ground, made, alpha).astype(int)
                           - composite_over(ground, colour, true))[soft].mean()
                    for ground in (GREEN, other)
                ]  # fmt: skip
                row.append(
                    np.abs(composite_over(fill, made, alpha).astype(int) - photo)[soft].mean()
                )
                ends = [np.isin(x[soft], (0, 255)) for x in (made, colour, photo)]
                row.append(100 * (ends[0] & ~ends[1] & ~ends[2]).mean())
                row.append(np.abs(made.astype(int) - colour)[soft].mean())
                errors[name, way].append([float(value) for value in row])
    print(
        f"{'mask':8} {'edge':12} {'green':>6} {'other':>6} {'own':>6} {'clip %':>6} {'colour':>6}"
    )
    for (name, way), rows in errors.items():
        print(f"{name:8} {way:12} " + " ".join(f"{v:6.2f}" for v in np.nanmean(rows, axis=0)))


if __name__ == "__main__":
    main()
