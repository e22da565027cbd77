"""What the documents say exists: linked files, named code, commands with their options."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from text2layer.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")  # to files of the repository
CODE = re.compile(r"`((?:[a-z0-9_]+/)*[a-z0-9_]+\.py)`")
COMMAND = re.compile(r"^\$ (?:\.venv/bin/)?text2layer (.+?)(?:\s+#.*)?$", re.MULTILINE)


def found(pattern: re.Pattern[str]) -> list:
    """(document, match) of every match in every document, as test parameters."""
    return [
        pytest.param(path, match, id=f"{path.name}: {match[:60]}")
        for path in DOCUMENTS
        for match in dict.fromkeys(pattern.findall(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize(("document", "target"), found(LINK))
def test_linked_file_exists(document: Path, target: str) -> None:
    assert (document.parent / target).exists()


@pytest.mark.parametrize(("document", "module"), found(CODE))
def test_named_module_exists(document: Path, module: str) -> None:
    homes = (ROOT, ROOT / "src" / "text2layer", ROOT / "src")
    assert any((home / module).is_file() for home in homes)


@pytest.mark.parametrize(("document", "line"), found(COMMAND))
def test_command_takes_these_arguments(document: Path, line: str) -> None:
    """Parse the command line as the program does, without running it."""
    command, arguments = typer.main.get_command(app), shlex.split(line)
    while hasattr(command, "commands"):
        name = arguments.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    context = command.make_context(name, arguments)
    assert context.params
