import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from text2layer.blend import composite_over, extend_edge_colours, extend_with_mean
from text2layer.data.composer import Composer, Placement, over_255
from text2layer.data.decoding import ForegroundStore
from text2layer.data.library import Library
from text2layer.data.placing import CUT_PROBABILITY
from text2layer.errors import DataError, InputError
from text2layer.tensors import colour_to_bytes, mask_to_bytes


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centred(scale: float = 0.6, **changes: float) -> Placement:
    """An object in the middle before the whole background."""
    values = {"foreground": 0, "background": 0, "centre_x": 0.5, "centre_y": 0.5, "scale": scale,
              "flipped": False, "crop_x": 0.5, "crop_y": 0.5, "crop_scale": 1.0,
              "background_flipped": False}  # fmt: skip
    return Placement(**(values | changes))  # type: ignore[arg-type]


def test_image_is_the_composite_of_the_eight_bit_layers(composer: Composer) -> None:
    batch = composer.compose(40, seeded(0))
    assert batch.foreground.shape == batch.background.shape == batch.image.shape == (40, 3, 64, 64)
    assert batch.mask.shape == (40, 1, 64, 64)
    layers = [colour_to_bytes(batch.background), colour_to_bytes(batch.foreground)]
    expected = composite_over(*layers, mask_to_bytes(batch.mask))
    assert torch.equal(colour_to_bytes(batch.image), expected)
    for values, bytes_ in ((batch.foreground, layers[1]), (batch.background, layers[0])):
        assert torch.equal(values, bytes_.float() / 127.5 - 1)  # stored levels, nothing between
    assert batch.mask.min() == 0
    assert batch.mask.max() == 1


def test_float_composite_equals_the_integer_formula_everywhere() -> None:
    levels = torch.arange(256)
    alpha, colour = levels[:, None], levels[None, :]
    for background in range(0, 256, 5):
        whole = (alpha * colour + (255 - alpha) * background + 127) // 255
        ground = torch.full((1, 1), float(background))
        assert torch.equal(over_255(ground, colour.float(), alpha.float()), whole.float())


def test_the_same_seed_gives_the_same_batch(composer: Composer) -> None:
    first, again = composer.compose(8, seeded(3)), composer.compose(8, seeded(3))
    assert first.placements == again.placements
    assert torch.equal(first.image, again.image)
    assert composer.compose(8, seeded(4)).placements != first.placements
    rerendered = composer.compose_at(first.placements)
    assert torch.equal(rerendered.image, first.image)
    assert torch.equal(rerendered.mask, first.mask)
    part = composer.compose(8, seeded(3), slice(1, 8, 2))
    assert part.placements == first.placements[1::2]
    assert torch.equal(part.image, first.image[1::2])


def test_one_object_is_drawn_as_ever(composer: Composer) -> None:
    """Cached latents of a run are found by their settings, so the draws may not change."""
    first, second = composer.draw(2, seeded(3))
    assert (first.foreground, first.background, second.foreground) == (0, 1, 14)
    drawn = (first.centre_x, first.centre_y, first.scale, first.crop_x, second.crop_scale)
    expected = (0.4254023296136688, 0.5847056117542437, 0.7705202305150045, 0.18648345249659892,
                0.7060532483306436)  # fmt: skip
    assert drawn == pytest.approx(expected, abs=1e-12)


def test_rendering_one_by_one_equals_the_batch(composer: Composer) -> None:
    batch = composer.compose(20, seeded(5))  # more than one chunk, several mip levels
    for index, placement in enumerate(batch.placements):
        alone = composer.compose_at([placement])
        assert torch.equal(alone.image[0], batch.image[index])


def test_placements_are_relative(toy_root: Path, composer: Composer) -> None:
    """The same placements at twice the size show the same picture."""
    large = Composer(Library(toy_root), "train", 128, progress=False)
    placements = composer.draw(12, seeded(6))
    small, big = composer.compose_at(placements), large.compose_at(placements)
    halved = torch.nn.functional.avg_pool2d(big.mask, 2)
    assert (halved - small.mask).abs().mean() < 0.01
    halved = torch.nn.functional.avg_pool2d(big.image, 2)
    assert (halved - small.image).abs().mean() < 0.05


def test_another_frame_size_shares_the_decoded_pictures(toy_root: Path) -> None:
    first = Composer(Library(toy_root), "train", 64, max_decoded_size=64, progress=False)
    other = first.at_size(32)
    alone = Composer(Library(toy_root), "train", 32, max_decoded_size=64, progress=False)
    expected = alone.compose(4, seeded(3))
    batch = other.compose(4, seeded(3))
    assert batch.image.shape == (4, 3, 32, 32)
    assert torch.equal(batch.image, expected.image)
    assert torch.equal(batch.mask, expected.mask)
    assert first.compose(1, seeded(3)).image.shape == (1, 3, 64, 64)


def test_the_mask_lies_where_the_placement_says(composer: Composer) -> None:
    for placement in composer.draw(40, seeded(7)):
        left, top, width, height = composer.box(placement)
        assert max(width, height) == pytest.approx(placement.scale)
        covered = composer.compose_at([placement]).mask[0, 0] > 0.5
        rows, columns = covered.nonzero().unbind(1)
        for low, high, pixels in ((left, width, columns), (top, height, rows)):
            assert pixels.min() / 64 == pytest.approx(max(low, 0), abs=0.05)
            assert (pixels.max() + 1) / 64 == pytest.approx(min(low + high, 1), abs=0.05)


def test_the_draws_have_the_promised_distribution(composer: Composer) -> None:
    placements = composer.draw(4000, seeded(8))
    scales = np.array([place.scale for place in placements])
    assert 0.5 <= scales.min() < 0.51
    assert 0.84 < scales.max() <= 0.85
    boxes = np.array([composer.box(place) for place in placements])
    right_bottom = boxes[:, :2] + boxes[:, 2:]
    inside = (boxes[:, :2] > -1e-9).all(1) & (right_bottom < 1 + 1e-9).all(1)
    assert 1 - inside.mean() == pytest.approx(CUT_PROBABILITY, abs=0.02)
    lower = np.mean([place.centre_y > 0.5 for place in placements])
    assert 0.68 < lower < 0.85
    for name in ("flipped", "background_flipped"):
        assert np.mean([getattr(place, name) for place in placements]) == pytest.approx(
            0.5, abs=0.03
        )
    used = {place.foreground for place in placements}
    assert used == set(range(len(composer.foregrounds)))
    assert {place.background for place in placements} == set(range(len(composer.backgrounds)))


def test_only_the_split_is_drawn_from(toy_root: Path) -> None:
    composer = Composer(Library(toy_root), "val", 32, progress=False)
    assert {record.concept for record in composer.foregrounds} == {"triangle"}
    assert {record.split for record in composer.backgrounds} == {"val"}


def test_an_object_at_its_own_size_is_reproduced(toy_root: Path) -> None:
    """Placed pixel on pixel, a cut-out comes out of the sampler as it lies on disk."""
    library = Library(toy_root)
    composer = Composer(library, "train", 128, progress=False)
    record = composer.foregrounds[0]
    stored = np.asarray(Image.open(library.path(record)).convert("RGBA"))
    batch = composer.compose_at([centred(scale=96 / 128)])
    alpha = mask_to_bytes(batch.mask)[0, 0].numpy()
    assert stored.shape == (96, 96, 4)
    expected = np.pad(stored[..., 3], 16)
    assert np.abs(alpha.astype(int) - expected).max() <= 1
    colour = colour_to_bytes(batch.foreground)[0].permute(1, 2, 0).numpy()
    covered = stored[..., 3] > 0
    assert np.abs(colour[16:-16, 16:-16].astype(int) - stored[..., :3])[covered].max() <= 1


def test_a_flip_mirrors(composer: Composer) -> None:
    plain = composer.compose_at([centred(centre_x=0.4)])
    mirrored = composer.compose_at([centred(centre_x=0.6, flipped=True, background_flipped=True)])
    assert (plain.image.flip(-1) - mirrored.image).abs().max() <= 2 / 127.5
    assert (plain.mask.flip(-1) - mirrored.mask).abs().max() <= 2 / 255


def test_edge_colours_continue_as_blend_does_it(toy_root: Path) -> None:
    library = Library(toy_root)
    composer = Composer(library, "train", 128, progress=False)
    index = next(i for i, r in enumerate(composer.foregrounds) if r.concept == "ring")
    stored = np.asarray(Image.open(library.path(composer.foregrounds[index])).convert("RGBA"))
    square = np.zeros((128, 128, 4), np.uint8)
    high, wide = stored.shape[:2]
    top, left = (128 - high) // 2, (128 - wide) // 2
    square[top : top + high, left : left + wide] = stored
    expected = extend_edge_colours(square[..., :3], square[..., 3])
    placement = centred(scale=max(high, wide) / 128, foreground=index)
    ours = colour_to_bytes(composer.compose_at([placement]).foreground)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected).max() <= 2


def test_stored_colours_are_continued_exactly_as_blend_does_it(toy_root: Path) -> None:
    library = Library(toy_root)
    records = library.foregrounds_of("train")
    for side in (32, 128):
        store = ForegroundStore(library, records, side, torch.device("cpu"), 2, False)
        pixels = store.levels[0].permute(0, 2, 3, 1).numpy()
        assert len(pixels) == len(store.means) == len(records)
        for square, mean in zip(pixels, store.means, strict=True):
            filled, expected = extend_with_mean(square[..., :3], square[..., 3])
            assert np.array_equal(square[..., :3], filled)
            assert torch.allclose(mean, torch.from_numpy(expected), atol=1e-3)


def test_no_halo_of_the_colour_under_alpha_zero(own_root: Path) -> None:
    """What lies under alpha 0 in a file never shows, whatever the scale."""
    library = Library(own_root)
    record = library.foregrounds_of("train")[0]
    pixels = np.array(Image.open(library.path(record)).convert("RGBA"))
    pixels[pixels[..., 3] == 0, :3] = (0, 255, 255)  # a colour that the red circle has nowhere
    Image.fromarray(pixels).save(library.path(record), lossless=True, exact=True)
    composer = Composer(library, "train", 64, progress=False)
    for scale in (0.3, 0.5, 0.85):
        colour = colour_to_bytes(composer.compose_at([centred(scale)]).foreground)[0]
        assert colour[1].max() < 60
        assert colour[2].max() < 60


def test_shadow_darkens_the_background_alone(toy_root: Path) -> None:
    composer = Composer(Library(toy_root), "train", 64, progress=False, shadow_probability=1.0)
    for place in composer.draw(60, seeded(9)):
        assert (place.shadow > 0) == (composer.foregrounds[place.foreground].style == "3d render")
    plain = composer.compose_at([centred(scale=0.5)])
    shaded = composer.compose_at([centred(scale=0.5, shadow=0.5)])
    assert torch.equal(plain.mask, shaded.mask)
    assert torch.equal(plain.foreground, shaded.foreground)
    change = plain.background - shaded.background
    assert change.min() >= 0
    rows = (change[0].amax((0, 2)) > 0).nonzero()
    assert rows.min() > 32  # at the foot of the object, not above
    assert change.max() > 0.1


def test_styles_and_their_weights(toy_root: Path) -> None:
    library = Library(toy_root)
    only = Composer(library, "train", 32, progress=False, styles=["flat icon"])
    assert {record.style for record in only.foregrounds} == {"flat icon"}
    weighted = Composer(
        library, "train", 32, progress=False, style_weights={"flat icon": 3, "3d render": 1}
    )
    drawn = [
        weighted.foregrounds[place.foreground].style for place in weighted.draw(2000, seeded(1))
    ]
    assert drawn.count("flat icon") / 2000 == pytest.approx(0.75, abs=0.03)


def test_a_frame_that_is_not_square(toy_root: Path) -> None:
    composer = Composer(Library(toy_root), "train", (80, 48), progress=False)
    batch = composer.compose(6, seeded(2))
    assert batch.image.shape == (6, 3, 48, 80)
    place = centred(scale=0.8)
    _, _, width, height = composer.box(place)
    wide, high = width * 80, height * 48
    assert max(wide, high) == pytest.approx(0.8 * 48)


def several(toy_root: Path, layers: int = 2, size: int = 48) -> Composer:
    return Composer(Library(toy_root), "train", size, progress=False, num_foregrounds=layers)


def test_several_foregrounds_lie_over_one_another(toy_root: Path) -> None:
    composer = several(toy_root, layers=3)
    batch = composer.compose(20, seeded(0))  # more than one chunk
    assert batch.foreground.shape == (20, 3, 3, 48, 48)
    assert batch.mask.shape == (20, 3, 1, 48, 48)
    assert batch.background.shape == batch.image.shape == (20, 3, 48, 48)
    picture = colour_to_bytes(batch.background)
    for layer in range(3):  # bottom first
        colour, alpha = batch.foreground[:, layer], batch.mask[:, layer]
        picture = composite_over(picture, colour_to_bytes(colour), mask_to_bytes(alpha))
    assert torch.equal(colour_to_bytes(batch.image), picture)
    on_top = (batch.mask[:, 2] == 1).expand(-1, 3, -1, -1)
    assert torch.equal(batch.image[on_top], batch.foreground[:, 2][on_top])
    alone = composer.compose_at(batch.placements[3 * 17 : 3 * 18])
    assert torch.equal(alone.image[0], batch.image[17])
    assert torch.equal(alone.mask[0], batch.mask[17])
    row = batch.row(17)
    assert row.placements == batch.placements[3 * 17 : 3 * 18]
    assert torch.equal(row.image, batch.image[17:18])
    part = composer.compose(20, seeded(0), slice(1, 20, 4))
    assert torch.equal(part.mask, batch.mask[1::4])


def test_objects_of_a_picture_are_drawn_independently_over_one_background(toy_root: Path) -> None:
    composer = several(toy_root)
    placements = composer.draw(2000, seeded(1))
    lower, upper = placements[::2], placements[1::2]
    assert len(lower) == len(upper) == 2000
    shared = ("background", "crop_x", "crop_y", "crop_scale", "background_flipped")
    for name in shared:
        assert [getattr(one, name) for one in lower] == [getattr(other, name) for other in upper]
    for name in ("foreground", "centre_x", "centre_y", "scale", "flipped", "shadow"):
        drawn = np.array([getattr(place, name) for place in placements], float)
        pairs = drawn.reshape(2000, 2)
        assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.08
        assert pairs[:, 0].mean() == pytest.approx(pairs[:, 1].mean(), abs=0.1 * pairs.std() + 0.01)
    assert max(place.scale for place in placements) <= 0.85 / math.sqrt(2)


def test_layers_of_several_are_those_that_stand_alone(toy_root: Path, composer: Composer) -> None:
    """Each object is rendered as if it were the only one, whole also where it is hidden."""
    two = Composer(Library(toy_root), "train", 64, progress=False, num_foregrounds=2)
    stack = [centred(0.5, foreground=3), centred(0.4, foreground=7, centre_x=0.6)]
    made = two.compose_at(stack)
    for layer, placement in enumerate(stack):
        alone = composer.compose_at([placement])
        assert torch.equal(made.mask[:, layer], alone.mask)
        assert torch.equal(made.foreground[:, layer], alone.foreground)
        assert torch.equal(made.background, alone.background)
    shaded = two.compose_at([stack[0], replace(stack[1], shadow=0.5)])
    assert (shaded.background < made.background).any()
    assert torch.equal(shaded.foreground, made.foreground)


def test_captions_of_several_name_all_objects(toy_root: Path) -> None:
    composer = several(toy_root)
    batch = composer.compose(60, seeded(2))
    texts = composer.captions(batch, random.Random(0), "foreground")
    stacks = zip(batch.placements[::2], batch.placements[1::2], strict=True)
    for text, stack in zip(texts, stacks, strict=True):
        first, second = text.split(" and ")  # bottom first
        assert composer.foregrounds[stack[0].foreground].concept in first
        assert composer.foregrounds[stack[1].foreground].concept in second
    assert len(composer.captions(batch, random.Random(0))) == 60
    backgrounds = composer.captions(batch, random.Random(0), "background")
    assert not any(" and " in text for text in backgrounds)


def test_bad_arguments_are_named(toy_root: Path, composer: Composer) -> None:
    library = Library(toy_root)
    with pytest.raises(InputError, match="num_foregrounds is 0"):
        several(toy_root, layers=0)
    with pytest.raises(InputError, match="3 placements do not make pictures of 2 foregrounds"):
        several(toy_root).compose_at([centred()] * 3)
    with pytest.raises(InputError, match="batch size is 0"):
        composer.compose(0)
    with pytest.raises(InputError, match="too small"):
        Composer(library, "train", 4, progress=False)
    with pytest.raises(InputError, match="power of two"):
        Composer(library, "train", 32, progress=False, max_decoded_size=100)
    with pytest.raises(InputError, match=r"shadow_probability is 2"):
        Composer(library, "train", 32, progress=False, shadow_probability=2)
    with pytest.raises(DataError, match="oil painting"):
        Composer(library, "train", 32, progress=False, styles=["oil painting"])
    with pytest.raises(InputError, match="leave no style"):
        Composer(library, "train", 32, progress=False, style_weights={"oil painting": 1})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_renders_the_same_pictures(toy_root: Path, composer: Composer) -> None:
    cuda = Composer(Library(toy_root), "train", 64, "cuda", progress=False)
    there, here = cuda.compose(16, seeded(3)), composer.compose(16, seeded(3))
    assert there.placements == here.placements
    assert (there.image.cpu() - here.image).abs().max() <= 2.1 / 127.5
    bytes_ = (colour_to_bytes(there.background), colour_to_bytes(there.foreground))
    expected = composite_over(*bytes_, mask_to_bytes(there.mask))
    assert torch.equal(colour_to_bytes(there.image), expected)
