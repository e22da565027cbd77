"""A field of a settings dataclass, whose doc line the command line shows. Imports no torch."""

from dataclasses import field
from typing import Any


def setting(default: Any, text: str) -> Any:
    """Return a dataclass field with a default and the doc line that `--help` shows."""
    return field(default=default, metadata={"help": text})
