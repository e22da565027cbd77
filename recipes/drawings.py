"""Choose the drawings that the released model learns, by rules that say why.

    python recipes/drawings.py LIBRARY OUT.txt [--styles STYLES] [--add concepts|captions]

Writes the list that `text2layer train denoiser --drawings OUT.txt` reads: an id a line.

1  Only what can be named from its picture (field `nameable`), of the training split, and no drawing
   that is held out.
2  Of a style every caption once: one caption stands for one picture.
3  Styles in the order given. The first brings all its captions; a later one only what no earlier
   one has: concepts (`--add concepts`) or captions (`--add captions`, so that a fox comes in
   several styles, each of them named).
4  Of a render one view, the one nearest to a three-quarter view from the front.
5  With `--commonest N` only the N concepts that most sources of the library draw, and those of
   `--also`, one drawing each: what a run begins with. Most hands draw what most people ask for.
6  With `--learnt LIST`, an earlier list, its drawings are drawn LEARNT_WEIGHT as often as new ones.
7  With `--rest SHARE` all other drawings of the training split follow, every style alike, and are
   drawn in that share of samples: for a decoder, which must know what people bring as well.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from text2layer.data.library import ForegroundRecord, Library
from text2layer.data.world import read_drawings

LEARNT_WEIGHT = 0.3
THREE_QUARTER = 35.0  # degrees from the front, to either side


def choose(library: Library, styles: list[str], add: str) -> list[ForegroundRecord]:
    """The drawings to learn, in the order of the styles."""
    chosen: list[ForegroundRecord] = []
    for style in styles:
        known = {record.concept for record in chosen} if add == "concepts" else set()
        best: dict[str, ForegroundRecord] = {}
        for record in library.foregrounds_of("train"):
            if record.style != style or not record.nameable or record.concept in known:
                continue
            if record.caption not in best or turned(record) < turned(best[record.caption]):
                best[record.caption] = record
        chosen += best.values()
    return chosen


def commonest(
    library: Library, chosen: list[ForegroundRecord], count: int, also: list[str]
) -> list[ForegroundRecord]:
    """One drawing, that of the shortest caption, of each of the commonest concepts."""
    sources: dict[str, Counter[str]] = {}
    for record in library.foregrounds_of("train"):
        if record.nameable:
            sources.setdefault(record.concept, Counter())[record.source] += 1
    first: dict[str, ForegroundRecord] = {}
    for record in chosen:
        known = first.get(record.concept)
        if known is None or (
            known.style == record.style and len(record.caption) < len(known.caption)
        ):
            first[record.concept] = record
    ranked = sorted(first, key=lambda name: (-len(sources[name]), -sources[name].total(), name))
    kept = set(ranked[:count]) | set(also)
    return [record for name, record in first.items() if name in kept]


def rest(library: Library, chosen: dict[str, float], share: float) -> dict[str, float]:
    """Weights of what was not chosen, so that it is drawn in `share` of samples, by id."""
    others = [record for record in library.foregrounds_of("train") if record.id not in chosen]
    of_style = Counter(record.style for record in others)
    total = sum(chosen.values()) * share / (1 - share)
    return {record.id: total / len(of_style) / of_style[record.style] for record in others}


def turned(record: ForegroundRecord) -> float:
    """Degrees between a render's view and the three-quarter view; 0 where no view is told."""
    if not record.view:
        return 0.0
    return abs(abs(record.view.get("azimuth", THREE_QUARTER)) - THREE_QUARTER)


def main() -> None:
    """Write the list and say how many there are of each style."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--styles", default="3d icon,low-poly 3d render")
    parser.add_argument("--add", choices=("concepts", "captions"), default="concepts")
    parser.add_argument("--commonest", type=int, default=0, help="how many concepts; 0 for all")
    parser.add_argument("--also", default="", help="more concepts, comma-separated")
    parser.add_argument("--learnt", default="", help="list of drawings that are learnt already")
    parser.add_argument("--rest", type=float, default=0.0, help="share of all other drawings")
    options = parser.parse_args()
    styles = [style.strip() for style in options.styles.split(",")]
    library = Library(options.library)
    chosen = choose(library, styles, options.add)
    if options.commonest:
        also = [name.strip() for name in options.also.split(",") if name.strip()]
        chosen = commonest(library, chosen, options.commonest, also)
    lines = [f"# made by recipes/drawings.py, styles {options.styles}, add {options.add}"]
    learnt = read_drawings(options.learnt) if options.learnt else {}
    weights = {record.id: LEARNT_WEIGHT if record.id in learnt else 1.0 for record in chosen}
    if options.rest:
        weights |= rest(library, weights, options.rest)
    lines += [name if weight == 1 else f"{name}\t{weight:.4g}" for name, weight in weights.items()]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for style in styles:
        print(f"{sum(record.style == style for record in chosen)} {style}")
    print(f"{len(chosen)} drawings of {len({record.concept for record in chosen})} concepts")


if __name__ == "__main__":
    main()
