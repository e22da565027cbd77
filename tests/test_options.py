"""Limits of settings and what is said of a package that is not installed."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from text2layer.errors import InputError
from text2layer.options import check_fields, require, setting, share

SOURCE = Path(__file__).parent.parent / "src"


@dataclass(frozen=True)
class Limited:
    count: int = setting(3, "A number of things.", at_least=1)
    rate: float = setting(0.5, "A rate.", above=0, below=2)
    part: float = share(0.5, "A part.")
    most: float = setting(1.0, "With an upper limit alone.", at_most=9)
    free: float = setting(0.0, "Any number.")
    kind: str = setting("a", "One of three.", choices=("", "a", "b"))
    extra: bool = setting(False, "Of one architecture.", presets=("large",))
    preset: str = "small"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 0}, "count must be at least 1, got 0."),
        ({"rate": 0.0}, "rate must be above 0 and below 2, got 0.0."),
        ({"rate": 2.0}, "rate must be above 0 and below 2, got 2.0."),
        ({"part": 1.01}, "part must lie in 0..1, got 1.01."),
        ({"most": 9.5}, "most must be at most 9, got 9.5."),
        ({"free": float("nan")}, "free must be a finite number, got nan."),
        ({"free": float("inf")}, "free must be a finite number, got inf."),
        ({"kind": "c"}, "kind must be empty, a or b, got 'c'."),
        (
            {"extra": True},
            "extra True cannot be used with preset small; leave it out, or take an architecture "
            "that has it: large.",
        ),
    ],
)
def test_the_first_value_beyond_its_limits_is_named(values, words):
    with pytest.raises(InputError, match=f"^{re.escape(words)}$"):
        check_fields(Limited(**values))


def test_values_at_their_limits_pass():
    check_fields(Limited(count=1, rate=1.99, part=0.0, most=9, free=-7.5, kind=""))
    check_fields(Limited(part=1.0, extra=True, preset="large"))


def test_a_missing_package_says_what_works_in_a_clone(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as if it were not installed
    words = (
        "Cutting holes needs OpenCV: run pip install -c constraints.txt '.[build]' in your clone "
        "of text2layer, or draw them."
    )
    with pytest.raises(InputError, match=f"^{re.escape(words)}$"):
        require("cv2", "OpenCV", "Cutting holes", instead="draw them")


def test_no_module_words_it_otherwise():
    spoken = [
        path.name
        for path in SOURCE.rglob("*.py")
        if "pip install" in path.read_text(encoding="utf-8") and path.name != "options.py"
    ]
    assert spoken == []


@pytest.mark.parametrize("extra", ["build", "decompose", "ray"])
def test_the_extras_are_there(extra):
    import tomllib

    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert extra in project["project"]["optional-dependencies"]
    assert (SOURCE.parent / "constraints.txt").is_file()


def test_taking_a_photo_apart_asks_for_no_server_and_no_plots(monkeypatch):
    import tomllib

    from text2layer.models.hole import opencv

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=re.escape("'.[decompose]'")):
        opencv()
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    names = {re.match(r"[\w-]+", need)[0] for need in extras["decompose"]}
    assert names == {"onnx", "onnxruntime", "opencv-python-headless"}
    assert "text2layer[decompose]" in extras["build"]
