"""Layered pictures to write: one that has everything, and hypothesis' own."""

import numpy as np
from hypothesis import strategies as st

from text2layer.blend_modes import BLEND_MODES
from text2layer.layers import Layer, LayeredImage

METADATA = {
    "prompt": "<b>\"red\"</b> & 'big' apple 🍎 \u202e\u0633\u0644\u0627\u0645\u202c ]]> \x01\ud800",
    "negative_prompt": "",
    "seed": 2**63 - 1,
    "steps": 20,
    "guidance_scale": 3.5,
    "model": "base",
    "model_hash": "ab" * 32,
    "generator": "text2layer 0.1.0",
    "nested": {"list": [1, None, True, 1e-9]},
}


def pixels(seed, height, width):
    """Random colour and alpha, some of it fully hidden and some fully opaque."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = rng.integers(-99, 355, (height, width)).clip(0, 255).astype(np.uint8)
    return colour, alpha


def rich():
    """Names of several scripts, all kinds of offsets, opacity, modes, a hidden layer, metadata."""
    layers = (
        Layer(*pixels(1, 20, 30), "Vordergrund", (-5, 7), 0.5, True, {"prompt": "x", "n": [1]}),
        Layer(*pixels(2, 60, 70), "苹果 🍎 ض", (-20, -20), 1.0, True, blend_mode="multiply"),
        Layer(*pixels(3, 5, 4), "<layer & 'co'>", (900, -900), 77 / 255, False, {"a": "b"}, "add"),
        Layer(*pixels(4, 1, 1), "Vordergrund", (3, 3), 0.0, True),
    )
    return LayeredImage(pixels(5, 40, 50)[0], layers, "Himmel", METADATA)


names = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=30,
).filter(str.strip)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
metadata = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


@st.composite
def layers(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return Layer(
        *pixels(draw(st.integers(0, 2**32)), height, width),
        draw(names),
        (draw(st.integers(-1_000_000, 1_000_000)), draw(st.integers(-12, 12))),
        draw(st.floats(0, 1)),
        draw(st.booleans()),
        draw(metadata),
        draw(st.sampled_from(BLEND_MODES)),
    )


@st.composite
def stacks(draw):
    background = pixels(draw(st.integers(0, 99)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    return LayeredImage(
        background[0],
        tuple(draw(st.lists(layers(), max_size=4))),
        draw(names),
        draw(metadata),
    )
