"""Drawings of vectors as pixels, by resvg (extra `library`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from text2layer.errors import FormatError
from text2layer.options import require
from text2layer.picture_library.offer import Pixels

WIDTH = 512  # pixels; twice the longest side of a cut-out, for soft edges
DPI = 96.0  # of CSS; resvg-py's default, 0, makes nothing of pages in points or millimetres
TALLEST = 8  # times the width; a taller drawing is damaged or no thing


@dataclass(frozen=True)
class Svg:
    """Draws a document without fonts of the system: the same pixels on every machine.

    Attributes:
        text: the document; it sees no other file.
    """

    text: str

    def __call__(self) -> Pixels:
        """Colour and alpha, WIDTH pixels wide.

        Raises:
            FormatError: it is no SVG, or resvg cannot draw it.
            InputError: resvg-py is missing.
        """
        resvg = check_svg()
        try:
            png = resvg.svg_to_bytes(
                svg_string=self.text, width=WIDTH, dpi=DPI, skip_system_fonts=True
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            raise FormatError(f"resvg cannot draw it ({_first_line(error)}).") from None
        with Image.open(io.BytesIO(bytes(png))) as picture:
            if picture.height > TALLEST * picture.width:
                raise FormatError(f"It is {picture.width} x {picture.height} pixels.")
            pixels = np.asarray(picture.convert("RGBA"))
        return pixels[..., :3], pixels[..., 3]


def check_svg() -> Any:
    """The module of resvg; InputError says how to install it."""
    return require("resvg_py", "resvg-py", "Drawing icons and clip art", extra="library")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
