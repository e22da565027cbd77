"""Blend modes: the formulas of W3C, in layers and in the two-layer view."""

import numpy as np
import pytest

from text2layer import blend
from text2layer.blend_modes import BLEND_MODES, blended
from text2layer.errors import InputError
from text2layer.layers import Layer, LayeredImage

EVERY = np.arange(256, dtype=np.uint8)


def w3c(mode, below, colour):
    """B(Cb, Cs) of section 9.1 in floats of 0..1; linear dodge for "add"."""
    return {
        "normal": lambda b, s: s + 0 * b,
        "multiply": lambda b, s: b * s,
        "screen": lambda b, s: b + s - b * s,
        "overlay": lambda b, s: np.where(b <= 0.5, 2 * b * s, 1 - 2 * (1 - b) * (1 - s)),
        "darken": np.minimum,
        "lighten": np.maximum,
        "add": lambda b, s: np.minimum(b + s, 1),
    }[mode](below, colour)


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_every_pair_of_values_is_the_formula_rounded(mode):
    below, colour = (grid[..., None] for grid in np.meshgrid(EVERY, EVERY))
    exact = w3c(mode, below / 255, colour / 255) * 255
    assert np.abs(blended(below, colour, mode) - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_alpha_and_opacity_mix_what_the_mode_gives_with_what_is_below(mode):
    background, colour, alpha = noise(1, 9, 11, 3), noise(2, 9, 11, 3), noise(3, 9, 11)
    layer = Layer(colour, alpha, opacity=0.6, blend_mode=mode)
    share = (alpha / 255 * layer.opacity)[..., None]
    below, above = background / 255, colour / 255
    exact = 255 * ((1 - share) * below + share * w3c(mode, below, above))
    found = LayeredImage(background, (layer,)).composite
    assert np.abs(found - exact).max() <= 1.5  # alpha, mode and composite are rounded


def test_a_mode_sees_the_layers_below_and_leaves_what_it_does_not_cover():
    background = np.full((4, 6, 3), 200, np.uint8)
    red = Layer(np.full((4, 3, 3), 100, np.uint8), np.full((4, 3), 255, np.uint8), "red")
    shade = Layer(np.full((2, 6, 3), 51, np.uint8), np.full((2, 6), 255, np.uint8), "shade",
                  (0, 1), blend_mode="multiply")  # fmt: skip
    found = LayeredImage(background, (red, shade)).composite[..., 0]
    assert found[0].tolist() == [100] * 3 + [200] * 3
    assert found[1].tolist() == [20] * 3 + [40] * 3
    assert (LayeredImage(background, (shade.replace(visible=False),)).composite == 200).all()


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_the_two_layer_view_is_the_composite_whatever_the_modes(mode):
    background = noise(4, 12, 15, 3)
    layer = Layer(noise(5, 9, 8, 3), noise(6, 9, 8), "one", (3, -2), 0.7, blend_mode=mode)
    one = LayeredImage(background, (layer,))
    np.testing.assert_array_equal(
        blend.composite_over(background, one.foreground, one.mask), one.composite
    )
    upper = Layer(noise(7, 12, 15, 3), noise(8, 12, 15), "two", blend_mode="screen")
    two = one.add(upper)
    merged = blend.composite_over(background, two.foreground, two.mask)
    assert np.abs(merged.astype(int) - two.composite).max() <= 2


def test_an_unknown_mode_is_refused_and_another_mode_makes_another_layer():
    layer = Layer(noise(1, 2, 2, 3), noise(2, 2, 2))
    assert layer.blend_mode == "normal"
    for wrong in ("dissolve", None, 3):
        with pytest.raises(InputError, match="one of normal, multiply, screen, overlay, darken,"):
            layer.replace(blend_mode=wrong)
    multiplied = layer.replace(blend_mode="multiply")
    assert multiplied != layer
    assert multiplied.scaled(2).moved(1, 1).blend_mode == "multiply"
