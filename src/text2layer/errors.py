"""Errors a user can act on: one clear sentence that says what, where and what to do."""


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
