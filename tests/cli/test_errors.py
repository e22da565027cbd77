"""What a person sees when something goes wrong: one sentence, an exit code, no traceback."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.outcome import assert_one_sentence
from text2layer import save
from text2layer.cli import DEBUG, OneSentenceGroup
from text2layer.errors import DataError, InputError


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def run_raising(error: BaseException):
    """Run a command of our group that raises the error."""
    app = typer.Typer(cls=OneSentenceGroup)

    @app.command("first")
    def first() -> None:
        raise error

    @app.command("second")
    def second() -> None:
        """Two commands make it a group."""

    return CliRunner().invoke(app, ["first"])


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (InputError("The prompt is empty."), 1, "Error: The prompt is empty."),
        (DataError("No library at 'x'."), 1, "Error: No library at 'x'."),
        (
            OSError(errno.ENOSPC, "No space left on device", "out.psd"),
            1,
            "Error: out.psd: No space left on device.",
        ),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (typer.Exit(3), 3, ""),
    ],
)
def test_error_becomes_one_line(error, exit_code: int, line: str) -> None:
    result = run_raising(error)
    assert result.exit_code == exit_code
    assert result.stderr.strip() == line


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("Tried to allocate 9 TiB")])
def test_too_little_memory_names_a_way_out(error) -> None:
    result = run_raising(error)
    assert result.exit_code == 1
    assert "try a smaller --width" in result.stderr


def test_an_unexpected_error_says_how_to_see_more() -> None:
    result = run_raising(ZeroDivisionError("division\nby zero"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Unexpected ZeroDivisionError: division by zero")
    assert DEBUG in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(monkeypatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    result = run_raising(InputError("The prompt is empty."))
    assert isinstance(result.exception, InputError)


def text2layer(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """The program itself, in a process of its own."""
    command = [sys.executable, "-m", "text2layer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_program_prints_paths_to_stdout_and_errors_to_stderr(psd: Path) -> None:
    good = text2layer("convert", psd, psd.with_suffix(".ora"))
    assert (good.returncode, good.stdout) == (0, f"{psd.with_suffix('.ora')}\n")
    bad = text2layer("info", psd.with_name("nothing.psd"))
    assert (bad.returncode, bad.stdout) == (1, "")
    assert len(bad.stderr.splitlines()) == 1


def test_file_size_limit_leaves_no_half_written_file(psd: Path, layered, tmp_path) -> None:
    """The limit makes the system refuse in the middle of the write, as a full disk does."""
    target = tmp_path / "full.ora"
    limit = psd.stat().st_size // 4
    done = text2layer(
        "convert", psd, target,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "full.ora could not be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [psd]


def test_closed_pipe_is_no_error(psd: Path, layered, tmp_path: Path) -> None:
    many = tmp_path / "many.ora"
    save(layered.replace(foregrounds=layered.foregrounds * 300), many)
    command = f"'{sys.executable}' -m text2layer info '{many}' | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(many))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "given",
    [
        ("generate", "a fox", "-o", "s3://bucket/fox.psd"),
        ("convert", "s3://bucket/a.psd", "b.ora"),
        ("convert", "a.psd", "gs://bucket/b.ora"),
        ("dataset", "merge", "shards", "s3://bucket/merged"),
        ("dataset", "compose", "library", "s3://bucket/out"),
        ("dataset", "label", "s3://bucket/out"),
    ],
)
def test_an_address_is_no_path_of_this_machine(run, tmp_path, monkeypatch, given):
    """Also where a folder of such a name is there, which an earlier version made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    assert "is an address" in assert_one_sentence(run(*given))
    assert not list((tmp_path / "s3:" / "bucket").iterdir())
