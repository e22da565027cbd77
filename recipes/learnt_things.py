"""Write the list of what a model was taught, and how surely it draws it, beside it.

    text2layer evaluate MODEL --data LIBRARY --drawings LIST --protocols objects --out SCORES
    python recipes/learnt_things.py SCORES MODEL [--library LIBRARY]

MODEL/concepts.json holds everything that was asked for, and `text2layer info MODEL` shows it. A
thing counts as learnt when at least two of three of its pictures are nearest to it, among all
drawings that were learnt as the model's autoencoder decodes them (`object_top1`). With the library
of the training it also holds what is seen in its backgrounds: words that the model knows.
MODEL/SHA256SUMS is written anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from text2layer.data.library import Library
from text2layer.errors import InputError
from text2layer.evaluation.results import read_results
from text2layer.files import CHECKSUMS, write_checksums
from text2layer.pipelines.loading import LearntThing, model_hash, read_index, write_learnt


def learnt_things(scores: Path, model: Path) -> list[LearntThing]:
    """Every thing that was asked for, with its counts.

    Raises:
        InputError: the scores hold no protocol `objects`, or are another model's.
        WeightsError: it is no model.
    """
    read_index(model)
    found = [result for result in read_results(scores) if result.protocol == "objects"]
    if not found:
        raise InputError(
            f"{scores} holds no figures of objects; evaluate with --protocols objects."
        )
    about = found[0].about
    if about["model_hash"] != model_hash(model):
        raise InputError(f"{scores} was measured on the model {about['model_hash']}, not {model}.")
    return [
        LearntThing(item["prompt"], *(item[name] for name in ("style", "concept", "top1", "seeds")))
        for item in about["things"]
    ]


def main() -> None:
    """Write the list and say how long it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scores", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--library", type=Path)
    options = parser.parse_args()
    things = learnt_things(options.scores, options.model)
    grounds = Library(options.library, "train").backgrounds if options.library else []
    written = write_learnt(options.model, things, (seen for each in grounds for seen in each.seen))
    if (options.model / CHECKSUMS).is_file():
        write_checksums(options.model)
    print(f"{written}: {sum(thing.is_learnt for thing in things)} of {len(things)} things")


if __name__ == "__main__":
    main()
