"""What documents and docstrings say exists: files, code, commands with their options."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from text2layer.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "comfyui" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")  # to files of the repository
CODE = re.compile(r"`((?:[a-z0-9_]+/)*[a-z0-9_]+\.py)`")
# `text2layer ...`, also after a variable, or `torchrun ... -m`
COMMAND = re.compile(r"^\$ (?:\S+ )*?(?:\.venv/bin/)?text2layer (.+?)(?:\s+#.*)?$", re.MULTILINE)
ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")  # to headings of the repository
WRAPPED = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
WRAPPED.append(ROOT / "recipes" / "README.md")
COLUMNS = 100


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
    folders = ("src", "recipes", "benchmarks", "comfyui", "tests")
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


def read_document(path: Path) -> str:
    """The text of a document, with command lines that go on in the next line joined."""
    return path.read_text(encoding="utf-8").replace("\\\n", " ")


def heading_anchors(path: Path) -> set[str]:
    """What a link may name behind `#`: headings in lower case, blanks as `-`, without marks."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def long_lines(text: str) -> list[str]:
    """Lines of Markdown with more than 100 columns, outside tables, code and links."""
    long, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "    ")):
            prose = re.sub(r"\]\([^)]*\)|https?://\S+", "", line)
            if len(prose) > COLUMNS:
                long.append(line)
    return long


def found(pattern: re.Pattern[str]) -> list:
    """(document, match) of every match in every document, as test parameters."""
    return [
        pytest.param(path, match, id=f"{path.name}: {str(match)[:60]}")
        for path in DOCUMENTS
        for match in dict.fromkeys(pattern.findall(read_document(path)))
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


@pytest.mark.parametrize(("document", "link"), found(ANCHOR))
def test_linked_heading_exists(document: Path, link: tuple[str, str]) -> None:
    target, anchor = link
    assert anchor in heading_anchors(document.parent / target if target else document)


@pytest.mark.parametrize("document", WRAPPED, ids=lambda path: path.name)
def test_lines_are_wrapped(document: Path) -> None:
    assert long_lines(document.read_text(encoding="utf-8")) == []


def test_a_long_line_is_found() -> None:
    prose, link = "word " * 21, f"[name](https://example.org/{'x' * 90})"
    assert long_lines(f"{prose}\n\n- {prose}") == [prose, f"- {prose}"]
    assert long_lines(f"| {prose} |\n```\n{prose}\n```\n    {prose}\nsee {link}") == []
    assert long_lines(f"```\n```\n{prose}") == [prose]


def test_the_house_drawing_names_every_module() -> None:
    """Each module is in docs/architecture.md, with its room."""
    drawing = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = {name for line in drawing.splitlines() if line.startswith("| `")
              for name in CODE.findall(line.split(" | ")[0])}  # fmt: skip
    package = ROOT / "src" / "text2layer"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    plain = {name for name in modules if name.endswith("__init__.py")} | {"__main__.py"}
    assert modules - listed - plain == set()
    assert listed - modules == set()
