"""Statistics of shards, several sets of shards as one, one set as several splits."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from text2layer.data.places import on_this_machine
from text2layer.data.schema import METADATA, SPLITS, decode_metadata, decode_sample
from text2layer.data.shard_file import ShardSeries, marked_unfinished
from text2layer.data.shard_index import DAMAGE, index_shard, read_members, several, shard_places
from text2layer.data.statistics import Statistics, measure_mask
from text2layer.errors import DataError, InputError, Skipped

Shards = str | Path | Sequence[str | Path]
GROUPS = ("picture", "source", "stored")


@dataclass(frozen=True)
class Written:
    """Shards that a tool wrote.

    Attributes:
        paths: the shards in order.
        samples: how many, by split or under "" if they were not split.
        skipped: what was left out.
    """

    paths: list[Path]
    samples: dict[str, int]
    skipped: Skipped


def shard_statistics(shards: Shards, *, progress: bool = True) -> tuple[dict[str, Any], Skipped]:
    """The statistics of LAION-L2I (arXiv 2307.09781), with samples by split and licence.

    Every sample is decoded, one at a time; damaged ones are counted and left out.

    Raises:
        DataError: there is no shard, or no usable sample.
    """
    statistics, skipped = Statistics(), Skipped(every=DAMAGE)
    splits: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    sides: Counter[str] = Counter()
    size = 0
    for path, key, members in _samples(shards, skipped, "stats", progress):
        try:
            sample = decode_sample(key, members)
        except DataError as error:
            skipped("bad sample", f"{path.name}: {error}")
            continue
        statistics.add(measure_mask(sample.mask), sample.text)
        splits[sample.metadata.split] += 1
        licenses[sample.metadata.license or "unknown"] += 1
        sides[str(max(sample.mask.shape))] += 1
        size += sum(map(len, members.values()))
    if not splits:
        raise no_usable_sample(shards, skipped)
    figures = statistics.to_json()
    del figures["word_correlation"]  # shards do not hold the captions of what was left out
    return figures | {
        "splits": dict(splits),
        "licenses": dict(licenses.most_common()),
        "longest_side": dict(sides.most_common()),
        "bytes": size,
        "skipped": dict(skipped.counts),
    }, skipped


def merge_shards(
    shards: Shards, out: str | Path, samples_per_shard: int = 1000, *, progress: bool = True
) -> Written:
    """Write all samples of several sets into one, bytes unchanged, `shard-000000.tar` and so on.

    A key that was used before by another picture gets a number behind it (`K-2`); a sample that
    comes twice, the same in every byte, is written once. Every sample is decoded: a damaged one is
    counted, named and left out, so that merging is also how a damaged set is made whole.

    Raises:
        DataError: no shard, or no usable sample.
        InputError: `out` holds files already.
    """
    skipped = Skipped(every=DAMAGE)
    seen: dict[bytes, bytes] = {}  # short hashes of key and content, about 150 bytes for each
    folder = _empty_folder(out)
    with (
        marked_unfinished(folder, {"tool": "dataset merge"}),
        ShardSeries(folder, "shard", samples_per_shard) as series,
    ):
        for path, key, members in _samples(shards, skipped, "merge", progress):
            try:
                decode_sample(key, members)
            except DataError as error:
                skipped("bad sample", f"{path.name}: {error}")
                continue
            content, number, name = _content_hash(members), 1, key
            while (known := seen.get(_short_hash(name.encode()))) not in (None, content):
                number += 1
                name = f"{key[:190]}-{number}"  # keys have at most 200 characters
            if known == content:
                skipped("the same sample again", f"Sample '{name}' comes twice.")
                continue
            seen[_short_hash(name.encode())] = content
            series.add(name, members)
    return _written([series], {"": series.count}, skipped, shards)


def split_shards(
    shards: Shards,
    out: str | Path,
    by: str = "picture",
    val: float = 0.05,
    test: float = 0.05,
    samples_per_shard: int = 1000,
    *,
    progress: bool = True,
) -> Written:
    """Write samples into `train-*.tar`, `val-*.tar` and `test-*.tar`, the split also in their json.

    Args:
        shards: what to split.
        out: a new or empty folder.
        by: what must not be in two splits. "picture": a photo, or each cut-out and each background
            of a composed sample; "source": everything with the same `source`; "stored": the split
            that samples name already (for composed ones that keeps concepts apart).
        val: share of pictures or sources for val.
        test: share for test.
        samples_per_shard: most samples in one tar.
        progress: show a progress bar on stderr.

    A hash of the name decides, so that the same picture falls into the same split in every data
    set. A composed sample whose parts fall into different splits is left out and counted.

    Raises:
        DataError: no shard, or no usable sample.
        InputError: shares that cannot be, another `by`, or `out` holds files already.
    """
    if by not in GROUPS:
        raise InputError(f"Shards are split by {', '.join(GROUPS)}, not by '{by}'.")
    if val < 0 or test < 0 or val + test > 1:
        raise InputError(f"val {val} and test {test} must be shares of 1 in all.")
    skipped, folder = Skipped(every=DAMAGE), _empty_folder(out)
    with ExitStack() as stack:
        stack.enter_context(marked_unfinished(folder, {"tool": "dataset split"}))
        series = {
            name: stack.enter_context(ShardSeries(folder, name, samples_per_shard))
            for name in SPLITS
        }
        for path, key, members in _samples(shards, skipped, "split", progress):
            try:
                metadata = decode_metadata(members)
            except DataError as error:
                skipped("bad sample", f"Sample '{key}' of '{path.name}': {error}.")
                continue
            names = _names(by, key, metadata.source, metadata.extra)
            chosen = {metadata.split} if by == "stored" else {
                split_of(name, val, test) for name in names
            }  # fmt: skip
            if len(chosen) > 1:
                skipped("parts in different splits", f"Sample '{key}' mixes splits.")
                continue
            split = chosen.pop()
            fields = json.loads(members[METADATA]) | {"split": split}
            changed = json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()
            series[split].add(key, {**members, METADATA: changed})
    counts = {name: one.count for name, one in series.items() if one.count}
    return _written(list(series.values()), counts, skipped, shards)


def split_of(name: str, val: float, test: float) -> str:
    """The split that a picture or source of this name falls into, by its hash alone."""
    place = int.from_bytes(_short_hash(name.encode())[:8]) / 2**64
    if place < test:
        return "test"
    return "val" if place < test + val else "train"


def _samples(
    shards: Shards, skipped: Skipped, doing: str, progress: bool
) -> Iterator[tuple[Path, str, dict[str, bytes]]]:
    """(shard, key, members) of every sample; one whose members are cut off is counted instead."""
    found = shard_places(shards)
    for place in tqdm(found, desc=doing, unit="shard", disable=not progress):
        with on_this_machine(place) as path:
            for key, places in index_shard(path, skipped):
                members = read_members(path, places)
                if METADATA in members and members.keys() == places.keys():
                    yield path, key, members
                else:
                    skipped("bad sample", f"Sample '{key}' of '{path.name}' is cut short.")


def _names(by: str, key: str, source: str, extra: Mapping[str, Any]) -> list[str]:
    """What must not be in two splits."""
    if by == "source":
        return [source]
    parts = extra.get("parts")
    if not isinstance(parts, dict):
        return [key]
    return [f"{role}/{part['id']}" for role, part in parts.items()]


def no_usable_sample(shards: Shards, skipped: Skipped, of: str = "") -> DataError:
    """The error that shards have nothing to use, with what the first case of damage was.

    Args:
        shards: that were read.
        skipped: what was left out of them.
        of: what was asked for, like " of split 'val'".
    """
    first = f" {skipped.messages[0]}" if skipped.messages else ""
    named = ", ".join(f"'{path}'" for path in several(shards))
    return DataError(f"The shards in {named} hold no usable sample{of}.{first}")


def _written(
    series: Sequence[ShardSeries], samples: dict[str, int], skipped: Skipped, shards: Shards
) -> Written:
    if not sum(samples.values()):
        raise no_usable_sample(shards, skipped)
    return Written([path for one in series for path in one.paths], samples, skipped)


def _empty_folder(out: str | Path) -> Path:
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"'{folder}' holds files already; choose a new or empty folder.")
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"'{folder}' is a file: give the name of a folder.") from None
    except OSError as error:
        raise InputError(f"'{folder}' cannot be written to: {error.strerror}.") from None
    return folder


def _short_hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _content_hash(members: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for suffix in sorted(members):
        digest.update(f"{suffix}:{len(members[suffix])}:".encode())
        digest.update(members[suffix])
    return digest.digest()[:16]
