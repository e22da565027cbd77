import numpy as np
import pytest
import torch

from text2layer.data.composer import Composer
from text2layer.data.contact_sheet import (
    GAP,
    contact_sheet,
    grid,
    over_checkerboard,
    thumbnails,
)
from text2layer.errors import InputError
from text2layer.parts import Parts
from text2layer.tensors import tensor_to_colour, tensor_to_mask


def plain(level: int, *shape: int) -> np.ndarray:
    return np.full(shape, level, np.uint8)


def test_a_grid_shows_every_kind_of_picture_where_it_belongs() -> None:
    layer = plain(90, 32, 32, 4)
    layer[..., 3] = 255
    rows = [[plain(10, 32, 32, 3), layer], [plain(200, 32, 32)]]
    sheet = np.asarray(grid(rows))
    assert sheet.shape == (2 * 32 + 3 * GAP, 2 * 32 + 3 * GAP, 3)
    assert (sheet[GAP : GAP + 32, GAP : GAP + 32] == 10).all()
    assert (sheet[GAP : GAP + 32, 2 * GAP + 32 : 2 * GAP + 64] == 90).all()
    assert (sheet[2 * GAP + 32 : -GAP, GAP : GAP + 32] == 200).all()


def test_a_clear_layer_shows_the_checkerboard() -> None:
    shown = over_checkerboard(plain(0, 32, 32, 3), plain(0, 32, 32))
    assert set(np.unique(shown)) == {204, 255}
    assert (shown[:8, :8] == 204).all()
    assert (shown[:8, 8:16] == 255).all()


def test_captions_are_written_and_wrapped() -> None:
    row = [plain(255, 40, 120, 3)]
    bare, short = grid([row]), grid([row], ["a fox"])
    long = grid([row], ["a very long caption that will not fit one line of so small a picture"])
    assert bare.height < short.height < long.height
    assert np.asarray(short)[GAP + 40 :].min() < 128


def test_a_sheet_of_composed_samples(composer: Composer) -> None:
    batch = composer.compose(3, torch.Generator().manual_seed(0))
    sheet = np.asarray(contact_sheet([batch], columns=2, captions=["one", "two", "three"]))
    block = 4 * 64 + 3 * GAP + 2 * GAP
    assert sheet.shape[1] == 2 * block
    foreground, background, image = (
        tensor_to_colour(part)[1] for part in (batch.foreground, batch.background, batch.image)
    )
    mask = tensor_to_mask(batch.mask)[1]
    left = block + GAP
    pictures = [
        over_checkerboard(foreground, mask),
        background,
        mask[..., None].repeat(3, 2),
        image,
    ]
    for picture in pictures:
        assert np.array_equal(sheet[GAP : GAP + 64, left : left + 64], picture)
        left += 64 + GAP


def test_samples_of_several_sizes_and_without_an_image() -> None:
    parts = [plain(200, 16, 24, 3), plain(50, 16, 24, 3), plain(255, 16, 24)]
    wide, tall = Parts.from_arrays(*parts), Parts.from_arrays(*(part[:, :8] for part in parts))
    sheet = np.asarray(contact_sheet([wide, tall], columns=1))
    assert sheet.shape == (2 * 16 + 3 * GAP, 4 * 24 + 3 * GAP + 2 * GAP, 3)
    left = GAP + 3 * (24 + GAP)
    assert (sheet[GAP : GAP + 16, left : left + 24] == 200).all()  # the composite


def test_what_cannot_be_shown_is_named() -> None:
    with pytest.raises(InputError, match="at least one row"):
        grid([])
    with pytest.raises(InputError, match="2 captions for 1 rows"):
        grid([[plain(0, 4, 4)]], ["a", "b"])
    with pytest.raises(InputError, match="float64"):
        grid([[np.zeros((4, 4))]])
    with pytest.raises(InputError, match=r"\(4, 4, 2\)"):
        grid([[plain(0, 4, 4, 2)]])
    with pytest.raises(InputError, match="0 samples"):
        contact_sheet([])


def test_thumbnails_stand_in_lines_with_a_caption_each() -> None:
    colours = [(shade, 0, 90) for shade in (10, 60, 110, 160, 210)]  # letters are grey
    pictures = [np.full((20, 30, 3), colour, np.uint8) for colour in colours]
    sheet = np.asarray(thumbnails(pictures, ["a", "b", "c", "d", "e"], columns=2))
    found = [np.argwhere((sheet == colour).all(-1)) for colour in colours]
    assert all(len(places) == 600 for places in found)
    tops = [int(places[:, 0].min()) for places in found]
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4]
    for wrong in (([], []), (pictures, ["a"])):
        with pytest.raises(InputError):
            thumbnails(*wrong)
