"""Does a build that is killed again and again give the samples of one that nobody disturbs?

    python recipes/kills.py FOLDER [--kills 50] [--photos 64] [--saliency u2netp] [--out s3://bucket]

Draws photographs, builds from them once in peace, and then with SIGKILL at random moments: to the
build, to one of its workers, or to both. Each time the same command is started again; a build that
ends whole is compared (keys, shards byte for byte, verdicts), and the next begins. With --out the
builds are written to an address; a build that was killed is watched for 3 seconds there, not 30.
Linux only.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from text2layer.data.places import Place, named, place_of

SIDE = 256  # pixels of a photograph
LATEST = 15.0  # seconds after the start of a build, until which it is killed
PROGRAM = """
from text2layer.cli import main
from text2layer.photos import hold
hold.RENEWED, hold.SILENT = 0.5, 3.0
main()
"""


def draw(number: int) -> Image.Image:
    """A bright disc on a ground of soft coloured noise, each of its own."""
    rng = np.random.default_rng(number)
    ground = Image.fromarray(rng.integers(20, 150, (8, 8, 3), dtype=np.uint8))
    picture = np.array(ground.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    rows, columns = np.indices((SIDE, SIDE))
    top, left = rng.integers(SIDE // 3, 2 * SIDE // 3, 2)
    picture[(rows - top) ** 2 + (columns - left) ** 2 < (SIDE // 5) ** 2] = rng.integers(
        180, 256, 3, dtype=np.uint8
    )
    return Image.fromarray(picture)


def command(photos: Path, out: Place, saliency: str) -> list[str]:
    """The build: real stages, OpenCV's fill, all that is found is kept."""
    return [
        sys.executable, "-c", PROGRAM, "dataset", "build", str(photos), str(out),
        "--saliency", saliency, "--second-saliency", "", "--inpainter", "opencv",
        "--mask-quality", "0", "--fill-quality", "0", "--pair-quality", "0",
        "--no-quality-filter",
        "--photos-per-shard", "3", "--workers", "2", "--no-report",
    ]  # fmt: skip


def children(pid: int) -> list[int]:
    """Processes that any thread of a process has started."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in listed for word in path.read_text().split()]


def verdicts(out: Place) -> list[dict[str, object]]:
    """All journal lines, without the times."""
    journals = [out / "journal" / entry.name for entry in named(out / "journal", "*.jsonl")]
    return [
        json.loads(line) | {"seconds": {}}
        for journal in journals
        for line in journal.read_bytes().splitlines()
    ]


def same(out: Place, peaceful: Path) -> bool:
    """The same shards, the same verdicts, nothing unfinished."""
    shards = [{entry.name: (one / entry.name).read_bytes() for entry in named(one, "*.tar")}
              for one in (out, peaceful)]  # fmt: skip
    folders = (out, out / "journal", out / "examples")
    left = [entry.name for folder in folders for entry in named(folder)
            if entry.name.endswith((".part", ".aside.json", ".unfinished.sqlite"))]  # fmt: skip
    return shards[0] == shards[1] and verdicts(out) == verdicts(peaceful) and not left


def main() -> None:
    """Print what was killed, and how many builds came out the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--saliency", default="u2netp")
    parser.add_argument("--out", help="An address for the builds; by default FOLDER.")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    photos, rng = given.folder / "photos", random.Random(given.seed)
    photos.mkdir(parents=True)
    for number in range(given.photos):
        draw(number).save(photos / f"{number:04d}.png")
        (photos / f"{number:04d}.txt").write_text(f"disc {number}")
    peaceful = given.folder / "peaceful"
    subprocess.run(command(photos, peaceful, given.saliency), check=True)
    killed: Counter[str] = Counter()
    builds = equal = 0
    while killed.total() < given.kills or builds == 0:
        out = place_of(given.out or given.folder) / f"build-{builds:02d}"
        process = subprocess.Popen(command(photos, out, given.saliency), stderr=subprocess.DEVNULL)
        until = time.monotonic() + rng.uniform(0, LATEST)
        while process.poll() is None:
            if time.monotonic() >= until and killed.total() < given.kills:
                what = rng.choice(("build", "worker", "build and worker"))
                victims = children(process.pid)
                if what != "build" and victims:
                    subprocess.run(["kill", "-9", str(rng.choice(victims))], check=False)
                if what != "worker":
                    process.kill()
                killed[what] += 1
                until = time.monotonic() + rng.uniform(0, LATEST)
            time.sleep(0.01)
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"The build ended with {process.returncode}.")
        if process.returncode == 0:
            builds += 1
            equal += same(out, peaceful)
            print(f"{out.name}: after {dict(killed)}, {equal} of {builds} the same", flush=True)
    kept = sum(bool(line["kept"]) for line in verdicts(peaceful))
    print(f"{killed.total()} kills {dict(killed)}; {equal} of {builds} builds the same, "
          f"{kept} samples of {given.photos} photographs each")  # fmt: skip


if __name__ == "__main__":
    main()
