"""Start of training on very many samples with the index that `dataset index` writes.

    python benchmarks/index.py FOLDER [--samples 57000000] [--samples-per-shard 95] [--processes 2]
                              [--cold]

It makes shards that are empty but for their size (sparse files, no disk space) and an index with
made-up entries: places, sizes, keys of 25 and captions of about 50 characters. The index is written
by the classes that `dataset index` uses, without reading shards. Then `--processes` processes at
once open `ShardComposer(FOLDER)` as a trainer does and look entries up; each is timed, its own
memory is what the start adds to that of Python with torch. A FOLDER that exists is measured again;
with `--cold` the system first forgets what it holds of the index file in memory.
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


def read_megabytes() -> float:
    """What this process has read from the disk, in MB."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes")) / 1e6


def forget(path: Path) -> None:
    """Let the system drop what it holds of a file in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start(folder: Path, look_ups: int) -> dict[str, float]:
    """Open as a trainer does, then look entries up."""
    import torch

    from text2layer.data.shards import ShardComposer

    own, mapped, read = memory("RssAnon"), memory("RssFile"), read_megabytes()
    begun, worked = time.perf_counter(), time.process_time()
    source = ShardComposer(folder, progress=False)
    opened, worked = time.perf_counter() - begun, time.process_time() - worked
    begun = time.perf_counter()
    assert len(source.fingerprint) == 64
    fingerprint = time.perf_counter() - begun
    to_open, read = read_megabytes() - read, read_megabytes()
    drawn = torch.randint(len(source), (look_ups,)).tolist()
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
        "read from the disk for this, MB": to_open,
        "entry, median us": statistics.median(times) * 1e6,
        "mean us": statistics.mean(times) * 1e6,
        "of which processor, mean us": (time.process_time() - worked_once) / look_ups * 1e6,
        "read for entries, MB": read_megabytes() - read,
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
    parser.add_argument("--look-ups", type=int, default=20_000)
    parser.add_argument("--cold", action="store_true", help="Forget the file in memory first.")
    given = parser.parse_args()
    begun = time.perf_counter()
    if not given.folder.exists():
        make(given.folder, given.samples, given.samples_per_shard)
        size = os.path.getsize(given.folder / NAME)
        print(
            f"written in {time.perf_counter() - begun:.0f} s: {size / 1e9:.2f} GB, "
            f"{size / given.samples:.0f} bytes a sample; most memory {memory('VmHWM'):.0f} MB"
        )
    if given.cold:
        forget(given.folder / NAME)
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        asked = [given.look_ups] * given.processes
        for figures in pool.map(start, [given.folder] * given.processes, asked):
            print(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
