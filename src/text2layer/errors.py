"""What goes wrong: errors a user can act on, and what is left out and counted.

An error is one clear sentence that says what, where and what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

MESSAGES_KEPT = 10


class Text2LayerError(Exception):
    """Base of every error that the command line shows as one sentence, without a traceback."""


class InputError(Text2LayerError, ValueError):
    """An argument (prompt, size, picture, option) that cannot be used."""


class FormatError(Text2LayerError, ValueError):
    """A picture or layer file that is unknown, damaged or over a limit."""


class UnkeptError(FormatError):
    """A layered file with visible content that a stack of normal layers cannot keep."""


class WriteError(FormatError):
    """A file that the system does not write: the disk is full, permission is missing, and the like.

    A `FormatError` too, for that is what 0.1.0 raises.
    """


class WeightsError(Text2LayerError, RuntimeError):
    """Weights that are missing, damaged, or not what their name promises."""


class DivergenceError(WeightsError):
    """A training run whose loss is no longer a finite number.

    A `WeightsError` too, for that is what 0.1.0 raises; nothing is wrong with any weights.
    """


class DataError(Text2LayerError, RuntimeError):
    """A library, shard or record that cannot be read."""


@dataclass
class Skipped:
    """Call it with a reason and a sentence for each record, shard or sample that is left out.

    Attributes:
        counts: how many were left out, by reason.
        messages: the sentences of the first ten, and of all cases of the reasons in `every`.
        every: reasons whose cases are all kept in words, not the first ten alone.

    Example:
        >>> skip = Skipped()
        >>> skip("missing file", "line 3: there is no file 'a.png'.")
        >>> skip.counts, skip.messages
        (Counter({'missing file': 1}), ["line 3: there is no file 'a.png'."])
    """

    counts: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    every: Collection[str] = ()

    def __call__(self, reason: str, message: str) -> None:
        self.counts[reason] += 1
        if len(self.messages) < MESSAGES_KEPT or reason in self.every:
            # names of files that are not UTF-8 hold what no file of ours can
            self.messages.append(message.encode(errors="backslashreplace").decode())

    def clear(self) -> None:
        """Forget everything, for a source that is read again."""
        self.counts.clear()
        self.messages.clear()

    def __str__(self) -> str:
        """In words, the most frequent reason first: "2 missing file, 1 bad JSON"."""
        said = (f"{count} {reason}" for reason, count in self.counts.most_common())
        return ", ".join(said) or "nothing skipped"
