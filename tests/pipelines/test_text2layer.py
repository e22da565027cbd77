"""The pipeline on tiny random networks: seeds, batches, sizes, guidance, given layers."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toy_model import build_pipeline
from text2layer import Layer, LayeredImage
from text2layer.errors import InputError, WeightsError
from text2layer.parts import Parts
from text2layer.pipelines.assemble import MASK_FLOOR, assemble
from text2layer.pipelines.frame import Frame
from text2layer.pipelines.inputs import Given
from text2layer.tensors import tensor_to_colour, tensor_to_mask

PROMPT = "a red apple in front of a snowy mountain"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(pipeline, prompt=PROMPT, seed: int = 0, **options) -> LayeredImage:
    """The first picture of a call."""
    return pipeline(prompt, generator=seeded(seed), **options).layers[0]


def largest_difference(one: LayeredImage, other: LayeredImage) -> int:
    """Over background, colour and alpha, in levels of 255."""
    pairs = [(one.background, other.background)]
    for ours, theirs in zip(one.foregrounds, other.foregrounds, strict=True):
        pairs += [(ours.colour, theirs.colour), (ours.alpha, theirs.alpha)]
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Seeds and batches


def test_the_same_seed_gives_the_same_picture_to_the_bit(pipeline):
    first, second = make(pipeline, seed=5), make(pipeline, seed=5)
    assert first == second
    assert first != make(pipeline, seed=6)
    assert first.size == (64, 64)
    assert len(first.foregrounds) == 1
    assert first.foregrounds[0].size == (64, 64)


def test_another_prompt_gives_another_picture(pipeline):
    assert largest_difference(make(pipeline), make(pipeline, "a blue ball on a green meadow")) > 1


def test_metadata_says_how_the_picture_was_made(pipeline):
    from text2layer import __version__

    made = make(pipeline, seed=5, num_inference_steps=2, negative_prompt="a blurred photo")
    assert made.metadata == {
        "prompt": PROMPT,
        "negative_prompt": "a blurred photo",
        "seed": 5,
        "steps": 2,
        "guidance_scale": 2.0,
        "given": None,
        "model": "",
        "model_hash": "",
        "generator": f"text2layer {__version__}",
    }


def test_a_batch_of_prompts_equals_single_runs(pipeline):
    prompts = ["a red apple", "a blue bicycle in front of a snowy mountain by a lake", "a dog"]
    batch = pipeline(prompts, generator=[seeded(i) for i in range(3)]).layers
    for index, prompt in enumerate(prompts):
        assert batch[index].metadata["prompt"] == prompt
        assert largest_difference(batch[index], make(pipeline, prompt, index)) <= 1


def test_the_first_picture_of_a_batch_is_the_one_made_alone(pipeline):
    batch = pipeline([PROMPT, "a dog"], generator=seeded(3)).layers
    assert largest_difference(batch[0], make(pipeline, seed=3)) <= 1
    assert batch[0].metadata["seed"] == 3


@pytest.mark.parametrize("generator", [7, None])
def test_pictures_per_prompt_stand_together_and_each_can_be_made_alone(pipeline, generator):
    prompts = ["a red apple", "a blue ball"]
    batch = pipeline(
        prompts,
        num_images_per_prompt=2,
        negative_prompt=["a dog", "a cat"],
        generator=None if generator is None else seeded(generator),
    ).layers
    assert [made.metadata["prompt"] for made in batch] == [prompts[0]] * 2 + [prompts[1]] * 2
    assert [made.metadata["negative_prompt"] for made in batch] == ["a dog"] * 2 + ["a cat"] * 2
    seeds = [made.metadata["seed"] for made in batch]
    assert len(set(seeds)) == 4
    for made in batch:
        prompt, negative = made.metadata["prompt"], made.metadata["negative_prompt"]
        alone = make(pipeline, prompt, made.metadata["seed"], negative_prompt=negative)
        assert largest_difference(made, alone) <= 1


def test_given_noise_replaces_the_generators(pipeline):
    latents = torch.randn(1, 4, 8, 8, generator=seeded(11))
    first = make(pipeline, seed=0, latents=latents)
    assert largest_difference(first, make(pipeline, seed=1, latents=latents)) == 0
    assert largest_difference(first, make(pipeline, seed=11)) == 0  # it is that seed's noise
    with pytest.raises(InputError, match=r"must have shape \(1, 4, 8, 8\), got \(1, 4, 8, 9\)"):
        make(pipeline, latents=torch.zeros(1, 4, 8, 9))


# Sizes and outputs


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 120), (72, 104)])
def test_other_shapes_and_odd_multiples_of_the_latent_factor(pipeline, width, height):
    made = pipeline(PROMPT, width=width, height=height, generator=seeded())
    assert made.layers[0].size == (width, height)
    assert made.layers[0].foregrounds[0].size == (width, height)
    assert made.predicted_images[0].shape == (height, width, 3)


def test_tensors_and_latents_are_what_the_picture_was_made_of(pipeline):
    layered = make(pipeline, seed=4)
    parts = pipeline(PROMPT, generator=seeded(4), output_type="pt").layers
    assert parts.foreground.shape == parts.image.shape == (1, 3, 64, 64)
    assert parts.mask.min() >= 0
    assert parts.mask.max() <= 1
    assert np.array_equal(tensor_to_colour(parts.background)[0], layered.background)
    assert np.array_equal(tensor_to_colour(parts.foreground)[0], layered.foregrounds[0].colour)
    mask = ((parts.mask - MASK_FLOOR) / (1 - 2 * MASK_FLOOR)).clamp(0, 1)
    assert np.array_equal(tensor_to_mask(mask)[0], layered.foregrounds[0].alpha)

    latents = pipeline(PROMPT, generator=seeded(4), output_type="latent").layers
    assert latents.shape == (1, 4, 8, 8)
    with torch.no_grad():
        decoded = pipeline.autoencoder.decode(pipeline.autoencoder.unscale_latents(latents))
    torch.testing.assert_close(decoded.background, parts.background)


def test_predicted_images_are_the_auxiliary_heads(pipeline, toy_text_encoder):
    output = pipeline(PROMPT, generator=seeded(4))
    parts = pipeline(PROMPT, generator=seeded(4), output_type="pt").layers
    assert np.array_equal(output.predicted_images[0], tensor_to_colour(parts.image)[0])
    without = build_pipeline(toy_text_encoder, auxiliary_head=False)
    assert without(PROMPT, generator=seeded()).predicted_images == []


def test_a_model_of_three_layers_names_them(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder, num_foregrounds=3)
    layered = make(pipeline)
    names = [layer.name for layer in layered.foregrounds]
    assert names == ["Foreground 1", "Foreground 2", "Foreground 3"]


@pytest.fixture(scope="module")
def of_two(toy_text_encoder):
    """A model of two foregrounds."""
    return build_pipeline(toy_text_encoder, num_foregrounds=2)


def two_cutouts(count: int = 2) -> LayeredImage:
    """Layers that do not fill their canvas of 80 x 64."""
    layers = [Layer(noise(40, 50, 3, seed=i), noise(40, 50, seed=i + 9), f"cut {i}", (5 * i, 3))
              for i in range(count)]  # fmt: skip
    return LayeredImage(noise(64, 80, 3), tuple(layers))


def test_a_model_of_two_foregrounds_takes_the_foregrounds_of_a_stack(of_two):
    stack = two_cutouts()
    made = make(of_two, "a quiet forest", foreground=stack)
    assert made.foregrounds == stack.foregrounds
    assert made.size == (80, 64)
    assert made.metadata["given"] == "foreground"
    swapped = stack.replace(foregrounds=stack.foregrounds[::-1])  # seen one by one, in order
    other = make(of_two, "a quiet forest", foreground=swapped)
    assert not np.array_equal(other.background, made.background)


def test_given_foregrounds_are_coded_apart_and_missing_ones_are_empty(of_two):
    from text2layer.pipelines.frame import Frame
    from text2layer.pipelines.inputs import check_given

    frame = Frame((80, 64), (80, 64), (80, 64))
    for count in (1, 2):
        stack = two_cutouts(count)
        tensors = check_given(stack, num_foregrounds=2).as_tensors(frame, 2)
        assert tensors["foreground"].shape == (1, 2, 3, 64, 80)
        assert tensors["mask"].shape == (1, 2, 1, 64, 80)
        for index, layer in enumerate(stack.foregrounds):
            alone = stack.replace(foregrounds=(layer,))
            colour, mask = tensors["foreground"][:, index], tensors["mask"][:, index]
            assert np.array_equal(tensor_to_colour(colour)[0], alone.foreground)
            assert np.array_equal(tensor_to_mask(mask)[0], alone.mask)
        assert (tensors["foreground"][:, count:] == 0).all()
        assert (tensors["mask"][:, count:] == 0).all()
    made = make(of_two, "a quiet forest", foreground=two_cutouts(1).foregrounds[0])
    assert len(made.foregrounds) == 1


def test_more_foregrounds_than_the_model_draws_are_one_sentence(of_two):
    with pytest.raises(InputError, match="draws 2 foregrounds and 3 were given; merge some"):
        make(of_two, foreground=two_cutouts(3))


def test_a_model_of_two_foregrounds_keeps_a_given_background_and_takes_pictures_apart(of_two):
    picture = noise(64, 64, 3)
    made = make(of_two, background=picture)
    assert np.array_equal(made.background, picture)
    assert len(made.foregrounds) == 2
    apart = make(of_two, image=picture)
    assert len(apart.foregrounds) == 2
    assert np.array_equal(apart.composite, picture)
    with pytest.raises(InputError, match="draws 2 foregrounds at once"):
        of_two.add_layer(made, "a blue ball")


def test_the_papers_objective_samples_too(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder, preset="tiny-paper")
    layered = make(pipeline, seed=2, width=72)
    assert layered.size == (72, 64)
    assert layered == make(pipeline, seed=2, width=72)


def test_defaults_come_from_the_model(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder)
    pipeline.register_to_config(default_size=72, default_steps=2, default_guidance_scale=1.5)
    made = make(pipeline)
    assert made.size == (72, 72)
    assert (made.metadata["steps"], made.metadata["guidance_scale"]) == (2, 1.5)


# Guidance


def test_guidance_mixes_the_prompt_with_the_negative_prompt(pipeline):
    """One step of Euler is linear in the network's answer, so guidance is a plain mixture."""
    options = {"num_inference_steps": 1, "output_type": "latent"}

    def latents(prompt: str, **more) -> torch.Tensor:
        return pipeline(prompt, generator=seeded(), **options, **more).layers

    wanted, unwanted = (latents(text, guidance_scale=1.0) for text in (PROMPT, "a blurred photo"))
    guided = latents(PROMPT, guidance_scale=4.0, negative_prompt="a blurred photo")
    assert not torch.allclose(wanted, unwanted, atol=1e-3)
    torch.testing.assert_close(guided, unwanted + 4.0 * (wanted - unwanted), atol=1e-4, rtol=1e-4)


def test_guidance_of_one_or_less_calls_the_network_for_the_prompt_alone(pipeline):
    sizes = []
    hook = pipeline.denoiser.register_forward_pre_hook(
        lambda module, arguments: sizes.append(arguments[0].shape[0])
    )
    try:
        plain = make(pipeline, guidance_scale=1.0)
        assert plain.background.tolist() == make(pipeline, guidance_scale=0.0).background.tolist()
        assert set(sizes) == {1}
        sizes.clear()
        make(pipeline, guidance_scale=3.0)
        assert sizes == [2, 2, 2]
    finally:
        hook.remove()


def test_a_negative_prompt_changes_the_picture_and_an_empty_one_is_the_default(pipeline):
    plain = make(pipeline)
    assert largest_difference(plain, make(pipeline, negative_prompt="a yellow dog")) > 1
    assert largest_difference(plain, make(pipeline, negative_prompt="")) == 0


def test_timesteps_reach_the_network_unrounded_in_half_precision(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder, preset="tiny-paper").to(torch.bfloat16)
    seen = []
    pipeline.denoiser.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(float(named["timestep"][0])), with_kwargs=True
    )
    make(pipeline, num_inference_steps=5)
    assert seen == [801, 601, 401, 201, 1]


# Callbacks


def test_the_callback_sees_every_step_in_order(pipeline):
    seen = []

    def look(pipe, index, timestep, tensors):
        assert pipe is pipeline
        assert set(tensors) == {"latents", "prompt_embeds"}
        seen.append((index, float(timestep), tensors["latents"].clone()))

    output = pipeline(
        PROMPT, generator=seeded(), num_inference_steps=4, output_type="latent",
        callback_on_step_end=look, callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
    )  # fmt: skip
    assert [index for index, _, _ in seen] == [0, 1, 2, 3]
    timesteps = [timestep for _, timestep, _ in seen]
    assert timesteps == sorted(timesteps, reverse=True)
    assert torch.equal(seen[-1][2], output.layers)
    assert largest_difference(make(pipeline), make(pipeline, callback_on_step_end=look_away)) == 0


def look_away(pipe, index, timestep, tensors):
    """A callback that returns nothing."""


def test_a_callback_can_stop_the_call_early(pipeline):
    steps = []

    def stop(pipe, index, timestep, tensors):
        steps.append(tensors["latents"])
        pipe._interrupt = index == 1

    options = {"generator": seeded(), "num_inference_steps": 5, "output_type": "latent"}
    output = pipeline(PROMPT, callback_on_step_end=stop, **options)
    assert len(steps) == 2
    assert torch.equal(output.layers, steps[1])
    full = pipeline(PROMPT, **{**options, "generator": seeded()})  # the next call is not stopped
    assert not torch.equal(full.layers, output.layers)


def test_a_callback_can_replace_latents_and_prompts(pipeline):
    other = torch.randn(1, 4, 8, 8, generator=seeded(9))

    def replace(pipe, index, timestep, tensors):
        return {"latents": other} if index == 2 else {}

    output = pipeline(
        PROMPT, generator=seeded(), output_type="latent", callback_on_step_end=replace
    )
    assert torch.equal(output.layers, other)

    def forget(pipe, index, timestep, tensors):
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])}

    changed = make(
        pipeline, callback_on_step_end=forget, callback_on_step_end_tensor_inputs=["prompt_embeds"]
    )
    assert largest_difference(changed, make(pipeline)) > 0


def test_a_callback_cannot_ask_for_what_is_not_there(pipeline):
    with pytest.raises(InputError, match="latents and prompt_embeds, not 'noise'"):
        make(pipeline, callback_on_step_end=look_away, callback_on_step_end_tensor_inputs=["noise"])


# Given layers


def test_a_given_background_is_kept_exactly(pipeline):
    background = noise(64, 64, 3)
    made = make(pipeline, background=background)
    assert np.array_equal(made.background, background)
    assert made.metadata["given"] == "background"
    plain = make(pipeline)
    assert largest_difference(made.replace(background=plain.background), plain) > 0
    for same in (Image.fromarray(background), LayeredImage(background)):
        assert make(pipeline, background=same) == made


def test_a_given_foreground_is_kept_exactly(pipeline):
    cutout = Layer(noise(64, 64, 3), noise(64, 64, seed=1))
    made = make(pipeline, "a quiet forest", foreground=cutout)
    assert np.array_equal(made.foregrounds[0].colour, cutout.colour)
    assert np.array_equal(made.foregrounds[0].alpha, cutout.alpha)
    assert made.metadata["given"] == "foreground"
    other = make(pipeline, "a quiet forest", foreground=cutout.replace(alpha=cutout.alpha // 2))
    assert not np.array_equal(other.background, made.background)


def test_a_given_rgba_picture_gets_its_edge_colours_continued(pipeline):
    rgba = noise(64, 64, 4)
    rgba[:, 32:, 3] = 0
    for value in (rgba, Image.fromarray(rgba)):
        (layer,) = make(pipeline, foreground=value).foregrounds
        assert np.array_equal(layer.alpha, rgba[..., 3])
        covered = rgba[..., 3] > 0
        assert np.array_equal(layer.colour[covered], rgba[covered][:, :3])
        assert np.array_equal(layer.colour, Layer.from_rgba(rgba).colour)


def test_the_layers_of_a_given_picture_make_it_again(pipeline):
    picture = noise(64, 64, 3)
    made = make(pipeline, image=picture)
    assert made.metadata["given"] == "image"
    assert made.metadata["guidance_scale"] == 1.0
    alpha = made.foregrounds[0].alpha
    assert ((alpha > 0) & (alpha < 255)).any()
    assert np.array_equal(made.composite, picture)
    assert np.array_equal(made.background[alpha == 0], picture[alpha == 0])
    assert np.array_equal(made.foregrounds[0].colour[alpha == 255], picture[alpha == 255])
    assert make(pipeline, image=picture, guidance_scale=3.0).metadata["guidance_scale"] == 3.0


def test_a_given_picture_needs_no_prompt(pipeline):
    picture = noise(64, 64, 3)
    assert make(pipeline, "", image=picture).metadata["prompt"] == ""
    with pytest.raises(InputError, match="The prompt is empty"):
        make(pipeline, "", background=picture)


def decoded_parts(mask: np.ndarray, layers: int = 1) -> Parts:
    generator = seeded(1)
    height, width = mask.shape[-2:]
    lead = (layers,) if layers > 1 else ()
    tensor = torch.from_numpy(mask.astype(np.float32))
    return Parts(
        foreground=torch.rand(1, *lead, 3, height, width, generator=generator) * 2 - 1,
        background=torch.rand(1, 3, height, width, generator=generator) * 2 - 1,
        mask=tensor[None, :, None] if layers > 1 else tensor[None, None],
    )


def frame(side: int) -> Frame:
    return Frame((side, side), (side, side), (side, side))


def test_assembling_a_picture_taken_apart_by_the_formula():
    mask = np.linspace(0, 1, 16).reshape(4, 4)
    parts = decoded_parts(mask)
    colour = tensor_to_colour(parts.foreground)[0]
    background = tensor_to_colour(parts.background)[0]
    shown = torch.lerp(parts.background, parts.foreground, parts.mask)
    picture = tensor_to_colour(shown)[0]  # what the decoded layers show, so they fit
    (made,) = assemble(parts, Given("image", picture), frame(4), [{}])
    alpha = made.foregrounds[0].alpha
    assert (alpha.min(), alpha.max()) == (0, 255)
    assert np.array_equal(made.composite, picture)
    share = alpha[..., None] / 255
    expected = share * picture + (1 - share) * colour  # the picture, the more the surer the mask
    sure = alpha >= 250
    assert np.abs(made.foregrounds[0].colour - expected)[sure].max() <= 6
    expected = share * background + (1 - share) * picture
    assert np.abs(made.background - expected)[alpha <= 5].max() <= 6


def test_assembling_several_layers_makes_the_picture_again():
    masks = np.random.default_rng(0).random((2, 4, 4))
    masks[0, :2], masks[1, :, 3] = 1, 1
    masks[:, 3, 0] = 0
    picture = noise(4, 4, 3)
    (made,) = assemble(decoded_parts(masks, layers=2), Given("image", picture), frame(4), [{}])
    assert len(made.foregrounds) == 2
    assert np.array_equal(made.composite, picture)
    assert np.array_equal(made.background[3, 0], picture[3, 0])
    assert np.array_equal(made.foregrounds[1].colour[:, 3], picture[:, 3])


def test_faint_veils_and_pinholes_are_cleaned():
    mask = np.array([[0.0, MASK_FLOOR], [1 - MASK_FLOOR, 1.0]])
    (made,) = assemble(decoded_parts(mask), Given(), frame(2), [{}])
    assert made.foregrounds[0].alpha.tolist() == [[0, 0], [255, 255]]


SHAPES = [(64, 64), (300, 200), (37, 53), (640, 40), (1, 1), (90, 900)]  # width, height


@pytest.mark.parametrize("size", SHAPES)
def test_a_picture_of_any_size_comes_back_to_the_bit_at_that_size(pipeline, size):
    picture = noise(size[1], size[0], 3)
    made = make(pipeline, background=picture)
    assert made.size == made.foregrounds[0].size == size
    assert np.array_equal(made.background, picture)
    apart = make(pipeline, image=picture)
    assert apart.size == apart.foregrounds[0].size == size
    assert np.array_equal(apart.composite, picture)


@pytest.mark.parametrize("size", SHAPES)
def test_a_cut_out_of_any_size_comes_back_to_the_bit_at_that_size(pipeline, size):
    cutout = Layer(noise(*size[::-1], 3), np.minimum(noise(*size[::-1], seed=1), 250) + 1, "Cat")
    made = make(pipeline, foreground=cutout)
    assert made.size == size
    assert made.foregrounds == (cutout,)


def test_all_foregrounds_of_a_layered_picture_come_back(pipeline):
    layers = tuple(
        Layer(noise(20, 30, 3, seed=i), noise(20, 30, seed=i), f"Part {i}", (15 * i - 9, 20), 0.5)
        for i in range(3)
    )
    given = LayeredImage(noise(64, 64, 3), (*layers, layers[0].replace(visible=False)))
    made = make(pipeline, foreground=given)
    assert made.foregrounds == given.foregrounds
    other = given.replace_layer(1, layers[1].moved(10, 10))
    assert not np.array_equal(make(pipeline, foreground=other).background, made.background)


def test_who_asks_for_a_canvas_gets_the_given_size_all_the_same(pipeline):
    sizes = []
    hook = pipeline.denoiser.register_forward_pre_hook(
        lambda module, arguments: sizes.append(tuple(arguments[0].shape[-2:]))
    )
    try:
        wide = noise(50, 100, 3)
        assert make(pipeline, background=LayeredImage(wide), width=128, height=64).size == (100, 50)
        assert make(pipeline, image=Image.fromarray(wide), width=160).size == (100, 50)
        parts = pipeline(PROMPT, background=wide, width=64, height=96, output_type="pt").layers
    finally:
        hook.remove()
    assert parts.mask.shape[-2:] == (96, 64)
    assert list(dict.fromkeys(sizes)) == [(8, 16), (10, 20), (12, 8)]


def test_pictures_with_transparency_are_laid_over_white(pipeline):
    rgba = noise(64, 64, 4)
    made = make(pipeline, background=Image.fromarray(rgba))
    white = LayeredImage(np.full((64, 64, 3), 255, np.uint8), (Layer.from_rgba(rgba),))
    assert np.array_equal(made.background, white.composite)


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": " \n"}, "The prompt is empty"),
        ({"prompt": []}, "list of prompts is empty"),
        ({"prompt": None}, "must be text or a list of texts, got None"),
        ({"prompt": ["a dog", 3]}, r"The prompt is empty \(3\)"),
        ({"prompt": "caf\udce9"}, "holds bytes that are no text"),
        ({"prompt": "a \0 dog"}, "holds bytes that are no text"),
        ({"negative_prompt": "caf\udce9"}, "holds bytes that are no text"),
        ({"prompt": "red " * 100}, "has 102 tokens and the limit is 96; shorten it"),
        ({"negative_prompt": "red " * 100}, "the limit is 96"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts were given for 1 prompts"),
        ({"width": 60}, "The width must be a multiple of 8 from 64 to 1024 pixels, got 60"),
        ({"height": 0}, "The height must be a multiple of 8 .* got 0; 64 would do"),
        ({"height": 70}, "got 70; 72 would do"),
        ({"width": 4096}, "got 4096; 1024 would do"),
        ({"width": 64.0}, "must be a whole number of pixels, got 64.0"),
        ({"num_inference_steps": 0}, r"must lie in 1\.\.1000, got 0"),
        ({"num_inference_steps": 2.5}, "must be a whole number, got 2.5"),
        ({"guidance_scale": float("nan")}, r"must lie in 0\.\.100, got nan"),
        ({"guidance_scale": -1}, r"must lie in 0\.\.100"),
        ({"num_images_per_prompt": 0}, "makes 1 to 64 pictures, 0 were asked for"),
        ({"num_images_per_prompt": 65}, "65 were asked for"),
        ({"output_type": "jpg"}, "must be layered, pil, np, pt or latent, got 'jpg'"),
        ({"generator": [torch.Generator(), torch.Generator()]}, "2 generators .* for 1 pictures"),
        ({"background": "forest.png"}, "A given background must be a picture .* got str"),
        ({"background": np.zeros((64, 64), np.uint8)}, "must be a picture"),
        ({"image": np.zeros((64, 64, 3))}, "must be a picture"),
        ({"image": np.zeros((0, 64, 3), np.uint8)}, "must be a picture"),
        ({"foreground": np.zeros((64, 64, 3), np.uint8)}, r"RGBA .* got ndarray of shape"),
        ({"foreground": Image.new("RGB", (64, 64))}, r"RGBA .* got Image of shape"),
        ({"foreground": np.zeros((64, 64, 4), np.uint8)}, "is empty: its alpha is 0 everywhere"),
        ({"foreground": np.full((64, 64, 4), 255, np.uint8)}, "has no transparency"),
        ({"foreground": LayeredImage(np.zeros((64, 64, 3), np.uint8))}, "has no foreground layer"),
        (
            {"background": np.zeros((64, 64, 3), np.uint8),
             "image": np.zeros((64, 64, 3), np.uint8)},
            "only one of background and image",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(pipeline, options, words):
    with pytest.raises(InputError, match=words) as error:
        pipeline(**{"prompt": PROMPT, **options})
    assert "\n" not in str(error.value)


def test_a_network_that_gives_no_numbers_is_said_and_not_drawn(toy_text_encoder):
    broken = build_pipeline(toy_text_encoder)
    with torch.no_grad():
        next(iter(broken.denoiser.transformer_blocks)).ff.net[2].weight.fill_(float("nan"))
    with pytest.raises(WeightsError, match="are no numbers"):
        broken("a red apple", num_inference_steps=2)
