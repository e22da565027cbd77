"""Start of training on very many samples with the index that `dataset index` writes.

    python benchmarks/index.py FOLDER [--samples 57000000] [--samples-per-shard 95] [--processes 2]

It makes shards that are empty but for their size (sparse files, no disk space) and an index with
made-up entries: places, sizes, keys of 25 and captions of about 50 characters. The index is written
by the classes that `dataset index` uses, without reading shards. Then `--processes` processes at
once open `ShardComposer(FOLDER)` as a trainer does and look entries up; each is timed, its own
memory is what the start adds to that of Python with torch. A FOLDER that exists is measured again.
About 135 bytes a sample and one inode a shard are needed, twice the bytes while the index is made.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from text2layer.data.index_builder import IndexBuilder, temporary_files
from text2layer.data.index_file import FileState, ShardColumns
from text2layer.data.indexing import NAME
from text2layer.data.shard_index import BLOCK

LOOKUPS = 20_000
SHARD_BYTES = 26_000_000 // BLOCK * BLOCK
MEMBERS = np.array([90_000, 60_000, 62_000, 50, 900])  # bytes of a sample's members


def make(folder: Path, samples: int, per_shard: int) -> None:
    """Sparse shards and their index."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = [f"photo-{n:06d}-0123456789ab\0" + "a fox that sleeps under a tree, " * 2
             for n in range(per_shard)]  # fmt: skip
    texts = [word[: 74 + n % 9].encode() for n, word in enumerate(words)]
    ends = np.cumsum([len(text) for text in texts], dtype="<u8")
    joined = b"".join(texts)
    builder = IndexBuilder(temporary_files(folder))
    for number in range(-(-samples // per_shard)):
        count = min(per_shard, samples - number * per_shard)
        name = f"shard-{number:06d}.tar"
        with (folder / name).open("wb") as file:
            file.truncate(SHARD_BYTES)
        status = (folder / name).stat()
        sizes = (MEMBERS * rng.uniform(0.8, 1.2, (count, 5))).astype("<u4")
        blocks = np.cumsum(sizes.ravel() // BLOCK + 2, dtype="<u4").reshape(count, 5)
        columns = {
            "blocks": blocks, "sizes": sizes, "word_ends": ends[:count],
            "crcs": rng.integers(0, 2**32, count, "u4"), "kinds": np.full(count, 24, "u1"),
        }  # fmt: skip
        state = FileState(status.st_size, status.st_mtime_ns, rng.bytes(32).hex())
        builder.add(ShardColumns(name, state, columns, joined[: int(ends[count - 1])], found=count))
    builder.write(folder / NAME, [""])


def memory(field: str) -> float:
    """A line of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def start(folder: Path) -> dict[str, float]:
    """Open as a trainer does, then look entries up."""
    import torch

    from text2layer.data.shards import ShardComposer

    own, mapped = memory("RssAnon"), memory("RssFile")
    begun, worked = time.perf_counter(), time.process_time()
    source = ShardComposer(folder, progress=False)
    opened, worked = time.perf_counter() - begun, time.process_time() - worked
    begun = time.perf_counter()
    assert len(source.fingerprint) == 64
    fingerprint = time.perf_counter() - begun
    drawn = torch.randint(len(source), (LOOKUPS,)).tolist()
    times, worked_once = [], time.process_time()
    for number in drawn:
        begun = time.perf_counter()
        source._index.place(int(source._order[number]))
        source._index.caption(int(source._order[number]))
        times.append(time.perf_counter() - begun)
    return {
        "open, s": opened,
        "of which processor, s": worked,
        "fingerprint, s": fingerprint,
        "entry, median us": statistics.median(times) * 1e6,
        "of which processor, mean us": (time.process_time() - worked_once) / LOOKUPS * 1e6,
        "own memory, MB": memory("RssAnon") - own,
        "shared pages, MB": memory("RssFile") - mapped,
        "samples": len(source),
    }


def main() -> None:
    """Make, open, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=57_000_000)
    parser.add_argument("--samples-per-shard", type=int, default=95)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    begun = time.perf_counter()
    if not given.folder.exists():
        make(given.folder, given.samples, given.samples_per_shard)
        size = os.path.getsize(given.folder / NAME)
        print(
            f"written in {time.perf_counter() - begun:.0f} s: {size / 1e9:.2f} GB, "
            f"{size / given.samples:.0f} bytes a sample; most memory {memory('VmHWM'):.0f} MB"
        )
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        for figures in pool.map(start, [given.folder] * given.processes):
            print(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
