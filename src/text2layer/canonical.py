"""The canonical place: where a model draws an object that its prompt gives no place.

Place and size belong to a layer, which can be moved; a network need not learn them.
"""

LONGEST = 0.75  # longest side of the object / shorter side of the frame
FOOT = 0.92  # lower edge of the object / height of the frame; it stands centred


def canonical_box(frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square (x, y, width, height) in pixels that an object fills, standing on its bottom.

    Args:
        frame: (width, height) in pixels.
    """
    width, height = frame
    side = max(1, round(LONGEST * min(frame)))
    return (width - side) // 2, round(FOOT * height) - side, side, side
