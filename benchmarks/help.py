"""Time of `text2layer --help`, as a ratio to an empty typer program of the same run.

python benchmarks/help.py [--repeats 10]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

EMPTY = "import typer; app = typer.Typer(); app.command()(lambda: None); app(['--help'])"


def run(arguments: list[str]) -> float:
    """Return the wall time of one process."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    programs = {"reference: empty typer program": ["-c", EMPTY],
                "text2layer --help": ["-m", "text2layer", "--help"]}  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, arguments in programs.items():
            times[name].append(run(arguments))
    reference = median(times["reference: empty typer program"])
    print(f"median of {repeats}")
    for name, values in times.items():
        print(f"{name:34}{median(values):7.3f} s   ratio {median(values) / reference:.2f}")


if __name__ == "__main__":
    main()
