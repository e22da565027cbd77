"""Pictures side by side on one sheet, with their captions: for eyes, not for machines."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from text2layer.data.lettering import lettered
from text2layer.errors import InputError
from text2layer.parts import Parts, pictures_of

GAP = 8  # pixels between pictures
TEXT_SIZE = 13
LINE = 17
PAPER = (250, 250, 250)
INK = (32, 32, 32)
CHECKERBOARD = ((204, 204, 204), (255, 255, 255))
CHECK = 8  # side of a square of the checkerboard in pixels


def grid(
    rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str] | None = None
) -> Image.Image:
    """Rows of pictures, each row with a caption below it.

    Args:
        rows: uint8 pictures: (H, W, 3) colour, (H, W, 4) colour with alpha, which is shown over a
            checkerboard, or (H, W) grey. Their sizes may differ.
        captions: one for each row; long ones are wrapped.

    Returns:
        An RGB picture.

    Raises:
        InputError: no picture, a shape or type that is none of these, or captions that do not
            match the rows.
    """
    if not rows or not all(rows):
        raise InputError("A sheet needs at least one row with a picture in it.")
    if captions is not None and len(captions) != len(rows):
        raise InputError(f"There are {len(captions)} captions for {len(rows)} rows of pictures.")
    blocks = [
        _block([_opaque(picture) for picture in row], captions[number] if captions else "")
        for number, row in enumerate(rows)
    ]
    width = max(block.width for block in blocks) + 2 * GAP
    sheet = Image.new("RGB", (width, sum(block.height + GAP for block in blocks) + GAP), PAPER)
    top = GAP
    for block in blocks:
        sheet.paste(block, (GAP, top))
        top += block.height + GAP
    return sheet


def contact_sheet(
    items: Sequence[Parts], columns: int = 2, captions: Sequence[str] | None = None
) -> Image.Image:
    """Layered samples: foreground over a checkerboard, background, mask, image; caption below.

    Args:
        items: batches of samples of one foreground; their sizes may differ. The composite is shown
            of those that have no image.
        columns: samples next to one another.
        captions: one for each sample.

    Returns:
        An RGB picture.

    Raises:
        InputError: no sample, fewer than one column, or captions that do not match the samples.
    """
    samples = [sample for item in items for sample in _samples(item)]
    if not samples or columns < 1:
        raise InputError(f"A sheet of {len(samples)} samples in {columns} columns cannot be drawn.")
    if captions is not None and len(captions) != len(samples):
        raise InputError(f"There are {len(captions)} captions for {len(samples)} samples.")
    blocks = []
    for number, (foreground, background, mask, image) in enumerate(samples):
        pictures = [np.dstack([foreground, mask]), background, mask, image]
        text = captions[number] if captions else ""
        blocks.append(_block([_opaque(picture) for picture in pictures], text))
    return _in_columns(blocks, columns)


def thumbnails(
    pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8
) -> Image.Image:
    """Single pictures side by side, each with its caption below.

    Args:
        pictures: as in `grid`; their sizes may differ.
        captions: one for each.
        columns: pictures next to one another.

    Returns:
        An RGB picture.

    Raises:
        InputError: no picture, fewer than one column, or captions that do not match.
    """
    if not pictures or columns < 1:
        raise InputError(f"A sheet of {len(pictures)} pictures in {columns} columns is not one.")
    if len(captions) != len(pictures):
        raise InputError(f"There are {len(captions)} captions for {len(pictures)} pictures.")
    shown = zip(map(_opaque, pictures), captions, strict=True)
    return _in_columns([_block([picture], text) for picture, text in shown], columns)


def _in_columns(blocks: Sequence[Image.Image], columns: int) -> Image.Image:
    """Blocks on a sheet, line by line."""
    wide = max(block.width for block in blocks) + 2 * GAP
    lines = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    heights = [max(block.height for block in line) + GAP for line in lines]
    sheet = Image.new("RGB", (wide * min(columns, len(blocks)), sum(heights) + GAP), PAPER)
    top = GAP
    for line, height in zip(lines, heights, strict=True):
        for column, block in enumerate(line):
            sheet.paste(block, (GAP + column * wide, top))
        top += height
    return sheet


def over_checkerboard(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a cut-out over light and grey squares."""
    rows, columns = np.indices(alpha.shape) // CHECK
    board = np.array(CHECKERBOARD, np.float32)[(rows + columns) % 2]
    weight = alpha[..., None].astype(np.float32) / 255
    return np.rint(colour * weight + board * (1 - weight)).astype(np.uint8)


def _samples(item: Parts) -> Iterator[tuple[np.ndarray, ...]]:
    """Foreground, background, mask and whole picture of every sample of a batch, as uint8."""
    parts = item.to_bytes()
    whole = parts.composite if parts.image is None else parts.image
    tensors = (parts.foreground, parts.background, parts.mask, whole)
    return zip(*map(pictures_of, tensors), strict=True)


def _opaque(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8:
        raise InputError(f"A sheet shows uint8 pictures; this one is {picture.dtype}.")
    if picture.ndim == 2:
        return picture[..., None].repeat(3, axis=2)
    if picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    if picture.ndim == 3 and picture.shape[2] == 4:
        return over_checkerboard(picture[..., :3], picture[..., 3])
    raise InputError(f"A picture of shape {picture.shape} cannot be shown; use (H, W[, 3 or 4]).")


def _block(pictures: Sequence[np.ndarray], text: str) -> Image.Image:
    """Pictures in a row with wrapped text below."""
    width = sum(picture.shape[1] + GAP for picture in pictures) - GAP
    height = max(picture.shape[0] for picture in pictures)
    shown, font = lettered(text, TEXT_SIZE)
    letter = max(TEXT_SIZE * 0.55, font.getlength(shown.replace("\n", " ")) / max(len(shown), 1))
    lines = textwrap.wrap(shown, max(int(width / letter), 8))
    block = Image.new("RGB", (width, height + (LINE * len(lines) + 4 if lines else 0)), PAPER)
    left = 0
    for picture in pictures:
        block.paste(Image.fromarray(np.ascontiguousarray(picture)), (left, 0))
        left += picture.shape[1] + GAP
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, height + 3 + LINE * number), line, fill=INK, font=font)
    return block
