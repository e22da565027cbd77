"""The floors of the house: a module imports from its own floor or below, never from above."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import text2layer

SOURCE = Path(text2layer.__file__).parent
PACKAGE = "text2layer"

# first part of the module's name below text2layer -> floor
FLOORS = {
    "canonical": 0,
    "errors": 0,
    "files": 0,
    "layers": 0,
    "masks": 0,
    "blend": 0,
    "blend_modes": 0,
    "io": 0,
    "options": 0,
    "tensors": 1,
    "parts": 1,
    "models": 1,
    "pretrained": 1,
    "pipelines": 2,
    "data": 3,
    "photos": 3,
    "picture_library": 3,
    "training": 3,
    "evaluation": 3,
    "judges": 3,
    "__main__": 4,
    "cli": 4,
    "server": 4,
}
# the front window: names that are imported when first used, from any floor
WINDOW = ""
# on the same floor, sisters that may be imported
SISTERS = {
    "data": set(),
    "photos": {"data", "judges"},
    "picture_library": {"data"},
    "evaluation": {"data", "judges"},
    "judges": {"data", "photos"},
    "training": {"data"},
    "server": set(),
}


def room(module: str) -> str:
    """`text2layer.io.psd` -> `io`; `text2layer` itself -> ``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else WINDOW


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, module of ours) for every import, also inside functions and TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            if base.split(".")[0] != PACKAGE:
                continue
            if base == PACKAGE:  # `from text2layer import blend`: each name may be a module
                for alias in node.names:
                    yield node.lineno, f"{PACKAGE}.{alias.name}"
            else:
                yield node.lineno, base


def trespasses(module: str, source: str, is_package: bool = False) -> list[str]:
    """Return one line for each import of `module` that goes up or to a forbidden sister."""
    here = room(module)
    if here == WINDOW:
        return []
    found = []
    for line, target in imported_modules(ast.parse(source), module, is_package):
        there = room(target)
        if there not in FLOORS or there == here:
            continue  # `from text2layer import __version__`, or the same room
        above = FLOORS[there] > FLOORS[here]
        beside = FLOORS[there] == FLOORS[here] and here in SISTERS and there not in SISTERS[here]
        if above or beside:
            found.append(f"{module}:{line} imports {target}")
    return found


def modules() -> list[tuple[str, Path]]:
    """(dotted name, file) of every module of the package."""
    result = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        result.append((".".join([PACKAGE, *parts]), path))
    return result


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_module_imports_nothing_from_above(module: str, path: Path) -> None:
    assert room(module) in FLOORS or room(module) == WINDOW, f"give {module} a floor in FLOORS"
    assert trespasses(module, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("text2layer.layers", "import text2layer.models.losses"),
        ("text2layer.io.psd", "def f():\n    from text2layer import tensors"),
        ("text2layer.io.psd", "from ..models import losses"),
        ("text2layer.data.shards", "from text2layer.training.settings import PRESETS"),
        ("text2layer.data.shards", "from text2layer import evaluation"),
        ("text2layer.evaluation.fid", "from text2layer.training.settings import PRESETS"),
        ("text2layer.pipelines.generate", "import text2layer.cli"),
    ],
)
def test_a_trespass_is_found(module: str, source: str) -> None:
    assert len(trespasses(module, source)) == 1


def test_what_is_allowed_passes() -> None:
    assert trespasses("text2layer.training.loop", "from text2layer.data.source import X") == []
    assert trespasses("text2layer.io.psd", "from . import psd\nfrom ..layers import Layer") == []
    assert trespasses("text2layer.cli.train", "from text2layer import __version__, training") == []
    assert trespasses("text2layer.io", "from .psd import save", is_package=True) == []
