"""What documents and docstrings say exists: files, code, commands with their options."""

import ast
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


# a Markdown file, or a module with its folder, wherever it is named in a docstring or a comment
FILE = re.compile(r"(?<![\w/.<*-])((?:[\w-]+/)*[\w-]+\.md|(?:[\w-]+/)+\w+\.py)(?![\w/])")
# `data.world`, `files.writing`: a dotted name that begins with one of our rooms
HOMES = (ROOT, ROOT / "src" / "text2layer", ROOT / "src")
ROOMS = {
    path.stem for path in (ROOT / "src" / "text2layer").iterdir() if path.suffix in ("", ".py")
}
DOTTED = re.compile(r"`(?:text2layer\.)?([a-z0-9_]+(?:\.\w+)+)`")
# what a program writes, what stands for a name, and what is in other projects
ELSEWHERE = {
    "table.md", "OUT/table.md", "ATTRIBUTION.md", "recipes/NAME.py", "sessions/base.py",
    "examples/text_to_image/train_text_to_image.py",
}  # fmt: skip


def spoken() -> list[tuple[Path, str]]:
    """(file, text) of every docstring of the code."""
    folders = ("src", "recipes", "benchmarks", "tests")
    texts = []
    for path in sorted(path for name in folders for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                texts.append((path, ast.get_docstring(node) or ""))
    return texts


def is_there(dotted: str) -> bool:
    """Whether a name of the package exists: a module, or what one defines."""
    parts, folder = dotted.split("."), ROOT / "src" / "text2layer"
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    file = folder / f"{parts[0]}.py" if parts else folder / "__init__.py"
    if parts and file.is_file():
        parts.pop(0)
    else:
        file = folder / "__init__.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if not parts:
        return True
    name = re.escape(parts[0])
    made = rf"^\s*(?:def|class) {name}\b|^\s*{name}(?:,$|\b[^(\n]*=)|^(?:from|import) .*\b{name}\b"
    return bool(re.search(made, text, re.MULTILINE))


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
    assert any((home / module).is_file() for home in HOMES)


def test_files_that_docstrings_name_exist() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in spoken()
        for name in FILE.findall(text)
        if name not in ELSEWHERE and not any((home / name).is_file() for home in HOMES)
    ]
    assert missing == []


def test_names_that_docstrings_quote_exist() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in spoken()
        for name in DOTTED.findall(text)
        if name.split(".")[0] in ROOMS and not is_there(name)
    ]
    assert missing == []


def test_a_reference_to_nothing_is_found() -> None:
    assert FILE.findall("see PAPER.md, training/nothing.py") == ["PAPER.md", "training/nothing.py"]
    assert not is_there("data.nothing")
    assert not is_there("files.nothing")
    assert is_there("files.writing")
    assert is_there("data.world")


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
