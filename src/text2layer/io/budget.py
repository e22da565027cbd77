"""How much a file may ask for: one account of pixels per opened file."""

from __future__ import annotations

from text2layer.errors import FormatError

MAX_PIXELS = 100_000_000  # of one picture or canvas; 300 MB of colour
LAYER_FACTOR = 4  # all pictures of one file together may hold this many times the limit
MAX_LAYERS = 1_000


class PixelBudget:
    """Counts what a file declares and refuses it, before anything is decoded, over the limit.

    Args:
        where: the file, as the user named it, for the error.
        max_pixels: limit for one picture; all of a file's pictures may have `LAYER_FACTOR` times.
    """

    def __init__(self, where: str, max_pixels: int = MAX_PIXELS) -> None:
        self.where = where
        self.max_pixels = max_pixels
        self._left = LAYER_FACTOR * max_pixels

    @property
    def max_picture_bytes(self) -> int:
        """What a PNG within the limit can take at most: 16-bit RGBA, stored, and its text."""
        return 8 * self.max_pixels + 2**21

    def take(self, width: int, height: int, what: str = "picture") -> None:
        """Account for one picture, or raise FormatError."""
        if width < 1 or height < 1:
            raise FormatError(f"{self.where} is damaged: its {what} is {width} x {height} pixels.")
        if width * height > self.max_pixels:
            raise FormatError(
                f"The {what} of {self.where} has {width} x {height} pixels, over the limit of "
                f"{self.max_pixels}: make it smaller or raise max_pixels."
            )
        self._left -= width * height
        if self._left < 0:
            raise FormatError(
                f"The layers of {self.where} hold more than {LAYER_FACTOR * self.max_pixels} "
                "pixels together: merge some of them or raise max_pixels."
            )

    def check_layer_count(self, count: int) -> None:
        """Refuse a file of too many layers."""
        if count > MAX_LAYERS:
            raise FormatError(
                f"{self.where} has {count} layers, over the limit of {MAX_LAYERS}: merge some."
            )
