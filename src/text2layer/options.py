"""Options: fields of a settings dataclass with their limits, and packages that are optional.

A field carries its doc line and its limits in its metadata. The command line makes an option of it
(`cli.options`), and `check_fields` compares a value with its limits. Imports no torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from text2layer.errors import InputError

HELP, LIMITS = "help", "limits"  # keys of a field's metadata


@dataclass(frozen=True)
class Limits:
    """What a value must be; None and empty tuples limit nothing. Floats must be finite anyway.

    Attributes:
        at_least: lower limit, itself allowed.
        at_most: upper limit, itself allowed.
        above: lower limit, itself not allowed.
        below: upper limit, itself not allowed.
        choices: all values that are allowed.
        presets: the architectures (field `preset`) that can use the setting. With any other one it
            must keep its default.
    """

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    presets: tuple[str, ...] = ()

    def fit(self, value: Any) -> bool:
        """Whether a value lies within the limits, `presets` aside."""
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            return True
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """What comes after "must": "be at least 1", "lie in 0..1", "be train or val"."""
        if self.choices:
            *first, last = (str(choice) or "empty" for choice in self.choices)
            return f"be {', '.join(first)} or {last}"
        if self.at_least is not None and self.at_most is not None:
            return f"lie in {self.at_least:g}..{self.at_most:.10g}"
        words = [
            f"{name} {value:g}"
            for name, value in (
                ("at least", self.at_least), ("above", self.above), ("at most", self.at_most),
                ("below", self.below),
            )
            if value is not None
        ]  # fmt: skip
        return f"be {' and '.join(words) or 'a finite number'}"


def setting(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] = (),
    presets: Sequence[str] = (),
) -> Any:
    """Return a dataclass field.

    Args:
        default: of the field.
        text: the doc line that `--help` shows.
        at_least, at_most, above, below, choices, presets: see `Limits`.
    """
    limits = Limits(at_least, at_most, above, below, tuple(choices), tuple(presets))
    return field(default=default, metadata={HELP: text, LIMITS: limits})


def share(default: float, text: str) -> Any:
    """A field of a value in 0..1."""
    return setting(default, text, at_least=0, at_most=1)


def check_fields(settings: Any) -> None:
    """Raise InputError for the first field of a settings dataclass with a value it cannot have."""
    for item in fields(settings):
        value, limits = getattr(settings, item.name), limits_of(item)
        if not limits.fit(value):
            endless = isinstance(value, float) and not math.isfinite(value)
            what = "be a finite number" if endless and not limits.choices else limits
            raise InputError(f"{item.name} must {what}, got {value!r}.")
        if limits.presets and settings.preset not in limits.presets and value != item.default:
            raise InputError(
                f"{item.name} {value!r} cannot be used with preset {settings.preset}; leave it "
                f"out, or take an architecture that has it: {', '.join(limits.presets)}."
            )


def limits_of(item: Field[Any]) -> Limits:
    """The limits of a field."""
    limits: Limits = item.metadata.get(LIMITS, Limits())
    return limits


def require(
    module: str, package: str, what: str, *, extra: str = "build", instead: str = ""
) -> Any:
    """Import a module of an optional package.

    Args:
        module: its name for `import`.
        package: its name for a person.
        what: what needs it, as the subject of a sentence.
        extra: of pyproject.toml that installs it.
        instead: what else helps, like "give --no-report".

    Raises:
        InputError: it is not installed.

    Example:
        >>> require("cv2", "OpenCV", "Cutting holes").__name__
        'cv2'
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"{what} needs {package}: run pip install -c constraints.txt '.[{extra}]' in your "
            f"clone of text2layer{f', or {instead}' if instead else ''}."
        ) from None
