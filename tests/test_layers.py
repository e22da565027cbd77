"""What a layered picture promises, and what its constructors refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from text2layer.blend import composite_over
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage, clean_name


def random_layer(seed, height=6, width=5, **fields):
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Layer(colour, rng.integers(0, 256, (height, width), dtype=np.uint8), **fields)


def canvas(seed=0, height=6, width=5):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(
    hnp.arrays(np.uint8, (4, 5, 3)), hnp.arrays(np.uint8, (4, 5, 3)), hnp.arrays(np.uint8, (4, 5))
)
def test_parts_come_back_and_make_the_composite(foreground, background, mask):
    layered = LayeredImage.from_parts(foreground, background, mask, prompt="a hat", seed=3)
    np.testing.assert_array_equal(layered.foreground, foreground)
    np.testing.assert_array_equal(layered.mask, mask)
    np.testing.assert_array_equal(layered.composite, composite_over(background, foreground, mask))
    assert layered.metadata == {"prompt": "a hat", "seed": 3}


def test_hidden_clear_and_outside_layers_change_nothing():
    background = canvas()
    hidden = random_layer(1, visible=False)
    clear = random_layer(2, opacity=0)
    transparent = random_layer(3).replace(alpha=np.zeros((6, 5), np.uint8))
    outside = [random_layer(4, offset=o) for o in ((5, 0), (-5, 0), (0, 6), (0, -6), (99, -99))]
    layered = LayeredImage(background, (hidden, clear, transparent, *outside))
    np.testing.assert_array_equal(layered.composite, background)


def test_order_decides_what_is_on_top():
    red, blue = (
        Layer(np.full((2, 2, 3), shade, np.uint8), np.full((2, 2), 255, np.uint8))
        for shade in ((255, 0, 0), (0, 0, 255))
    )
    picture = LayeredImage(np.zeros((2, 2, 3), np.uint8))
    assert (picture.add(red).add(blue).composite == (0, 0, 255)).all()
    assert (picture.add(blue).add(red).composite == (255, 0, 0)).all()


@settings(deadline=None)
@given(
    st.integers(0, 99),
    st.tuples(st.integers(-7, 7), st.integers(-7, 7)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.floats(0, 1),
    st.booleans(),
)
def test_two_layer_view_of_one_foreground_is_exact(seed, offset, size, opacity, visible):
    layer = random_layer(seed, *size, offset=offset, opacity=opacity, visible=visible)
    layered = LayeredImage(canvas(seed), (layer,))
    view = composite_over(layered.background, layered.foreground, layered.mask)
    np.testing.assert_array_equal(view, layered.composite)


@settings(deadline=None)
@given(st.lists(st.integers(0, 99), min_size=2, max_size=4))
def test_two_layer_view_of_several_foregrounds_is_close(seeds):
    layers = tuple(random_layer(seed, offset=(seed % 3 - 1, seed % 2)) for seed in seeds)
    layered = LayeredImage(canvas(), layers)
    view = composite_over(layered.background, layered.foreground, layered.mask)
    assert np.abs(view.astype(int) - layered.composite).max() <= 2


def test_no_foreground_has_an_empty_mask():
    layered = LayeredImage(canvas())
    assert not layered.mask.any()
    np.testing.assert_array_equal(layered.composite, layered.background)
    assert layered.foreground.shape == layered.background.shape


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_resizing_scales_the_corners_and_keeps_the_rest(width, height):
    whole, part = random_layer(1, 20, 10), random_layer(2, 4, 5, offset=(5, 8), opacity=0.5)
    layered = LayeredImage(canvas(0, 20, 10), (whole, part), "Sky", {"seed": 1})
    resized = layered.resized((width, height))
    assert resized.size == resized.foregrounds[0].size == (width, height)
    assert resized.foregrounds[0].offset == (0, 0)
    assert resized.foregrounds[1].offset == (round(width / 2), round(height * 0.4))
    assert resized.foregrounds[1].opacity_byte == 128
    assert (resized.background_name, resized.metadata) == ("Sky", {"seed": 1})
    assert layered.resized((10, 20)) == layered


def test_moving_back_and_forth_loses_nothing():
    layer = random_layer(5)
    assert layer.moved(-100, 30).moved(100, -30) == layer
    assert layer.moved(-100, 30).offset == (-100, 30)


def test_layers_compare_by_hidden_pixels_too():
    layer = random_layer(1).replace(alpha=np.zeros((6, 5), np.uint8))
    other = layer.replace(colour=layer.colour ^ 1)
    assert layer != other
    assert layer == layer.replace()
    assert LayeredImage(canvas(), (layer,)) != LayeredImage(canvas(), (other,))
    assert layer != "layer"


def test_replacing_one_layer_leaves_the_others():
    layered = LayeredImage(canvas(), tuple(random_layer(seed) for seed in range(3)))
    changed = layered.replace_layer(1, random_layer(9))
    assert changed.foregrounds[1] == random_layer(9)
    assert (changed.foregrounds[0], changed.foregrounds[2]) == layered.foregrounds[::2]
    with pytest.raises(InputError, match="no foreground 3"):
        layered.replace_layer(3, random_layer(9))


def boxed(box, size=(12, 10), **fields):
    """An opaque rectangle `box` in a layer of `size`, both (width, height)."""
    x, y, width, height = box
    alpha = np.zeros(size[::-1], np.uint8)
    alpha[y : y + height, x : x + width] = 200
    return Layer(random_layer(0, *size[::-1]).colour, alpha, **fields)


def test_the_box_is_what_is_not_transparent():
    layer = boxed((3, 2, 5, 4), offset=(-10, 7))
    assert layer.box == (-7, 9, 5, 4)
    assert boxed((0, 0, 0, 0)).box is None
    trimmed = layer.trimmed()
    assert trimmed.size == (5, 4)
    assert trimmed.box == layer.box
    background = canvas(height=20, width=20)
    shown = [LayeredImage(background, (one.moved(12, 0),)).composite for one in (layer, trimmed)]
    assert np.array_equal(*shown)
    assert boxed((0, 0, 0, 0)).trimmed() == boxed((0, 0, 0, 0))


def test_scaling_keeps_the_middle():
    layer = boxed((2, 2, 8, 6), offset=(10, 20))  # middle (16, 25)
    assert layer.scaled(2).size == (24, 20)
    assert layer.scaled(2).offset == (4, 15)
    assert layer.scaled(0.5).offset == (13, 22)
    assert layer.scaled(1) == layer
    assert layer.scaled(0.001).size == (1, 1)
    for factor in (0, -1, float("nan"), float("inf"), 1e9):
        with pytest.raises(InputError, match=r"scaled by a number above 0|at most 30000 a side"):
            layer.scaled(factor)


@pytest.mark.parametrize("box", [(5, 5, 40, 20), (0, 0, 10, 40), (-30, -20, 8, 8)])
def test_fitting_fills_the_box_from_its_bottom(box):
    fitted = boxed((3, 2, 6, 3), offset=(50, 50)).fitted(box)
    x, y, width, height = box
    left, top, wide, high = fitted.box
    assert (wide == width) or (high == height)
    assert abs(wide / high - 2) < 0.35
    assert top + high == y + height
    assert abs((left - x) - (x + width - left - wide)) <= 1
    assert boxed((0, 0, 0, 0)).fitted(box).box is None


def test_a_veil_does_not_count_when_fitting():
    layer = boxed((3, 2, 6, 3))
    veiled = layer.replace(alpha=np.maximum(layer.alpha, 20))
    assert veiled.box == (0, 0, 12, 10)
    assert veiled.fitted((0, 0, 12, 6)).box == layer.fitted((0, 0, 12, 6)).box == (0, 0, 12, 6)
    faint = layer.replace(alpha=layer.alpha // 10)
    assert faint.fitted((0, 0, 12, 6)).box == (0, 0, 12, 6)


def test_layers_are_found_by_name_number_and_index():
    layers = tuple(random_layer(i, name=name) for i, name in enumerate(["a", "b", "#1", "b"]))
    picture = LayeredImage(canvas(), layers)
    assert picture.find_layer("a") == picture.find_layer(-4) == 0
    assert picture.find_layer("#1") == 2  # a name comes before a number
    assert picture.find_layer("#2") == picture.find_layer(1) == 1
    with pytest.raises(InputError, match="2 layers are called 'b'; name one of #2, #4"):
        picture.find_layer("b")
    for name in ("c", "#0", "#5", "#", "", "2"):
        with pytest.raises(InputError, match="or #1 to #4"):
            picture.find_layer(name)
    with pytest.raises(InputError, match="it has none"):
        LayeredImage(canvas()).find_layer("a")


def test_removing_and_reordering_keep_the_other_layers():
    layers = tuple(random_layer(i, name=f"layer {i}") for i in range(4))
    picture = LayeredImage(canvas(), layers, metadata={"seed": 1})
    assert picture.remove_layer(1).foregrounds == (layers[0], *layers[2:])
    assert picture.reorder_layer(0, 3).foregrounds == (*layers[1:], layers[0])
    assert picture.reorder_layer(3, 0).foregrounds == (layers[3], *layers[:3])
    assert picture.reorder_layer(2, 1).foregrounds == (layers[0], layers[2], layers[1], layers[3])
    assert picture.reorder_layer(2, 2) == picture
    assert picture.reorder_layer(0, -1).foregrounds[-1] == layers[0]
    for call in (picture.remove_layer, lambda index: picture.reorder_layer(0, index)):
        with pytest.raises(InputError, match="no foreground 4: this picture has 4"):
            call(4)


def test_a_cut_out_gets_its_edge_colour_under_alpha_0():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[2:5, 2:5] = (10, 200, 30, 255)
    assert (Layer.from_rgba(rgba, name="Leaf").colour == (10, 200, 30)).all()


def test_opacity_is_stored_to_one_255th():
    assert random_layer(0, opacity=0.5).opacity == 128 / 255
    assert [random_layer(0, opacity=n / 255).opacity_byte for n in range(256)] == list(range(256))


def test_metadata_becomes_plain_json_and_is_not_shared():
    given_metadata = {"sizes": (1, 2), "seed": 7}
    layered = LayeredImage(canvas(), metadata=given_metadata)
    given_metadata["seed"] = 8
    assert layered.metadata == {"sizes": [1, 2], "seed": 7}


BYTES = np.zeros((2, 2, 3), np.uint8)
ALPHA = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"colour": BYTES.astype(np.float32)}, "float32"),
        ({"colour": [[1]]}, "list"),
        ({"colour": np.zeros((2, 2, 4), np.uint8)}, "(2, 2, 4)"),
        ({"colour": np.zeros((0, 2, 3), np.uint8)}, "(0, 2, 3)"),
        ({"alpha": np.zeros((3, 2), np.uint8)}, "same height"),
        ({"alpha": np.zeros((2, 2, 1), np.uint8)}, "(2, 2, 1)"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": 3}, "name"),
        ({"name": "🍎" * 128}, "255"),
        ({"offset": (1.5, 0)}, "offset"),
        ({"offset": (1, 2, 3)}, "offset"),
        ({"offset": 1}, "offset"),
        ({"offset": (10**7, 0)}, "offset"),
        ({"opacity": 1.01}, "opacity"),
        ({"opacity": -0.1}, "opacity"),
        ({"opacity": float("nan")}, "opacity"),
        ({"opacity": "1"}, "opacity"),
        ({"metadata": {"a": float("inf")}}, "JSON"),
        ({"metadata": {"a": b""}}, "JSON"),
        ({"metadata": []}, "dict"),
    ],
)
def test_a_layer_refuses_what_it_cannot_hold(change, word):
    fields = {"colour": BYTES, "alpha": ALPHA} | change
    with pytest.raises(InputError) as caught:
        Layer(**fields)
    assert word in str(caught.value)


def test_a_layered_image_refuses_what_it_cannot_hold():
    with pytest.raises(InputError, match="background"):
        LayeredImage(ALPHA)
    with pytest.raises(InputError, match="Layer"):
        LayeredImage(BYTES, ("Foreground",))
    with pytest.raises(InputError, match="sequence"):
        LayeredImage(BYTES, Layer(BYTES, ALPHA))
    with pytest.raises(InputError, match="same height"):
        LayeredImage.from_parts(BYTES, np.zeros((3, 2, 3), np.uint8), ALPHA)
    with pytest.raises(InputError, match="cut-out"):
        Layer.from_rgba(BYTES)


@given(st.text(max_size=300))
def test_every_foreign_name_can_be_made_fit(name):
    assert Layer(BYTES, ALPHA, clean_name(name, "Layer 1")).name


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100))
def test_a_fit_name_is_left_alone(name):
    if name.strip() and not set(name) & set("\ufffe\uffff"):
        assert clean_name(name, "Layer 1") == name


def test_a_picture_shows_and_saves_itself(tmp_path):
    from io import BytesIO

    from PIL import Image

    from text2layer import load

    colour = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    layered = LayeredImage(colour[::-1].copy(), (Layer(colour, colour[..., 0].copy()),))
    assert np.array_equal(np.asarray(layered.to_pil()), layered.composite)
    shown = Image.open(BytesIO(layered._repr_png_()))
    assert np.array_equal(np.asarray(shown), layered.composite)
    layered.save(tmp_path / "mine.ora")
    assert load(tmp_path / "mine.ora") == layered
    layered.save(tmp_path / "mask.png", part="mask")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")), layered.mask)
