"""What must start at once: importing the package, and every `--help`, without torch."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "psd_tools", "PIL", "numpy")

# runs the command line in a fresh interpreter, then reports the heavy modules it has loaded
REPORT = """
import sys
import tomllib
from pathlib import Path
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted(set({heavy!r}) & set(sys.modules)))
"""


def loaded_by(statement: str, arguments: list[str]) -> tuple[str, list[str]]:
    """Return (what it printed, heavy modules in memory afterwards)."""
    code = REPORT.format(statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    printed, _, loaded = done.stdout.rpartition("LOADED")
    return printed, loaded.split()


def test_the_report_sees_a_heavy_module() -> None:
    assert loaded_by("import numpy", [])[1] == ["numpy"]


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("import text2layer; text2layer.__version__", [])[1] == []


@pytest.mark.parametrize(
    "command",
    [
        "",
        "generate",
        "decompose",
        "add",
        "convert",
        "info",
        "serve",
        "train",
        "train autoencoder",
        "train denoiser",
        "dataset",
        "dataset compose",
        "dataset view",
        "evaluate",
        "compare",
        "weights",
        "weights list",
        "weights fetch",
        "weights verify",
    ],
)
def test_help_imports_no_torch(command: str) -> None:
    arguments = [*command.split(), "--help"]
    printed, loaded = loaded_by("from text2layer.cli import main; main()", arguments)
    assert "Usage:" in printed
    assert set(loaded) <= {"numpy", "PIL"}  # light enough, and floor 0's own


def test_the_first_help_loads_nothing_heavy() -> None:
    assert loaded_by("from text2layer.cli import main; main()", ["--help"])[1] == []


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    resource = pytest.importorskip("resource", reason="processor time of children is POSIX")

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "text2layer", "--help"], stdout=subprocess.PIPE, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    seconds()  # writes the byte code
    assert min(seconds() for _ in range(3)) < 0.5


def test_lazy_names_are_the_real_ones() -> None:
    import text2layer
    from text2layer.layers import LayeredImage

    assert text2layer.LayeredImage is LayeredImage
    assert set(text2layer.__all__) <= set(dir(text2layer))
    with pytest.raises(AttributeError, match="no attribute 'Lasagne'"):
        text2layer.Lasagne  # noqa: B018


INTERRUPTED = """
import builtins, sys
real, left = builtins.__import__, int(sys.argv[1])
def counting(*arguments, **more):
    global left
    left -= 1
    if left == 0:
        raise KeyboardInterrupt
    return real(*arguments, **more)
from text2layer.__main__ import main
builtins.__import__ = counting
sys.argv = ["text2layer", "weights", "list"]
main()
"""


@pytest.mark.parametrize("imports", [1, 20, 400])
def test_an_interruption_while_the_program_loads_is_one_word(imports: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(imports)], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (130, "Interrupted.\n")


def test_the_installed_program_and_the_module_are_the_same() -> None:
    """So that both say the same when they are interrupted."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"text2layer": "text2layer.__main__:main"}
