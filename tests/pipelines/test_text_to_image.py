"""Pictures of tiny random diffusers pipelines, drawn and taken apart."""

import numpy as np
import pytest
import torch

from tests import toy_diffusers, toy_onnx
from text2layer import LayeredImage
from text2layer.errors import InputError, WeightsError
from text2layer.pipelines import PhotoLayers, TextToImageLayers
from text2layer.pipelines.opening import open_pipeline

SMALL = {"num_inference_steps": 2, "width": 64, "height": 48}


@pytest.fixture(scope="module")
def take_apart(tmp_path_factory: pytest.TempPathFactory) -> PhotoLayers:
    network = toy_onnx.middle_network(tmp_path_factory.mktemp("network") / "middle.onnx")
    return PhotoLayers(str(network), "opencv", max_layers=4)


@pytest.fixture(params=toy_diffusers.PIPELINES)
def layers(request, toy_pipelines, take_apart) -> TextToImageLayers:
    return TextToImageLayers.from_pretrained(str(toy_pipelines[request.param]), take_apart)


def fixed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_picture_is_what_diffusers_draws(layers: TextToImageLayers) -> None:
    """The same pipeline, called without us, gives the same pixels."""
    drawn = layers.draw("a red fox", guidance_scale=2.0, generator=fixed(5), **SMALL)
    images = layers.pipeline("a red fox", guidance_scale=2.0, generator=fixed(5), **SMALL).images
    assert np.array_equal(drawn.background, np.asarray(images[0]))
    assert drawn.size == (64, 48)
    assert drawn.background.std() > 5


def test_layers_make_the_picture_and_say_who_drew_it(layers: TextToImageLayers) -> None:
    made = layers("a red fox", generator=fixed(5), **SMALL)
    (layered,), (image,) = made.layers, made.images
    assert [layer.name for layer in layered.foregrounds] == ["Subject 1"]
    opaque = layered.mask == 255
    assert opaque.mean() > 0.1
    assert np.array_equal(layered.composite[opaque], np.asarray(image)[opaque])
    said = layered.metadata
    assert (said["prompt"], said["seed"], said["steps"]) == ("a red fox", 5, 2)
    own = {"StableDiffusionPipeline": 7.5, "StableDiffusionXLPipeline": 5.0, "FluxPipeline": 3.5}
    assert said["guidance_scale"] == own[said["pipeline"]]
    assert said["saliency"].endswith("middle.onnx")
    assert said["digital_source_type"].endswith("/trainedAlgorithmicMedia")


def test_each_picture_can_be_drawn_again_from_its_seed(layers: TextToImageLayers) -> None:
    made = layers(["a fox", "a dog"], num_images_per_prompt=2, generator=fixed(1), **SMALL).layers
    assert [one.metadata["prompt"] for one in made] == ["a fox", "a fox", "a dog", "a dog"]
    last = made[3].metadata
    again = layers(last["prompt"], generator=fixed(last["seed"]), **SMALL).layers[0]
    assert np.array_equal(again.composite, made[3].composite)
    assert not np.array_equal(made[2].composite, made[3].composite)


def test_words_steer_the_picture(layers: TextToImageLayers) -> None:
    one, other = (
        layers.draw(words, generator=fixed(1), **SMALL).background for words in ("fox", "zebra")
    )
    assert not np.array_equal(one, other)


def test_a_callback_is_called_after_each_step(layers: TextToImageLayers) -> None:
    steps = []

    def seen(pipeline, step, timestep, tensors):
        steps.append(step)
        return tensors

    layers.draw("a fox", generator=fixed(1), callback_on_step_end=seen, **SMALL)
    assert steps == [0, 1]


def test_weights_are_named_by_what_they_are_not_by_where_they_lie(toy_pipelines, tmp_path) -> None:
    moved = toy_diffusers.saved("stable-diffusion", tmp_path)
    named = [open_pipeline(str(toy_pipelines[name]))[1] for name in ("stable-diffusion", "flux")]
    again = open_pipeline(str(moved))[1]
    assert again["model_hash"] == named[0]["model_hash"] != named[1]["model_hash"]
    assert named[0]["model"] == str(toy_pipelines["stable-diffusion"])
    assert "model_revision" not in again


def test_networks_get_the_dtype_that_is_asked_for(toy_pipelines, take_apart) -> None:
    folder = str(toy_pipelines["stable-diffusion"])
    half = TextToImageLayers.from_pretrained(folder, take_apart, dtype="bfloat16")
    assert {half.pipeline.unet.dtype, half.pipeline.text_encoder.dtype} == {torch.bfloat16}
    assert half.draw("a fox", generator=fixed(0), **SMALL).size == (64, 48)
    assert open_pipeline(folder)[0].unet.dtype == torch.float32


def test_numbers_that_are_not_finite_are_no_picture(take_apart) -> None:
    pipeline = toy_diffusers.stable_diffusion()
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite; try the dtype float32"):
        TextToImageLayers(pipeline, take_apart).draw("a fox", **SMALL)


def test_options_that_a_pipeline_does_not_have_are_refused_before_it_draws(toy_pipelines) -> None:
    flux = TextToImageLayers.from_pretrained(str(toy_pipelines["flux"]))
    with pytest.raises(InputError, match="true_cfg_scale above 1 alone, and its own is 1"):
        flux.check(negative_prompt="blur")
    with pytest.raises(InputError, match="width of FluxPipeline must be a multiple of 4"):
        flux.check(width=66)
    with pytest.raises(InputError, match=r"1\.\.1000"):
        flux.check(num_inference_steps=0)
    plain = TextToImageLayers(_Plain())
    with pytest.raises(InputError, match="_Plain takes no guidance scale; leave it out"):
        plain.check(guidance_scale=3.0)
    assert not plain.takes_seed
    assert "seed" not in plain.draw("a fox").metadata


class _Plain:
    """A pipeline that takes nothing but words."""

    name_or_path = "plain"
    vae_scale_factor = 1

    def __call__(self, prompt: str) -> object:
        from diffusers import ImagePipelineOutput

        return ImagePipelineOutput(images=np.full((1, 8, 8, 3), len(prompt) / 10))


def test_pipelines_for_other_jobs_are_refused() -> None:
    from diffusers import StableDiffusionInpaintPipeline

    made = toy_diffusers.stable_diffusion()
    inpainting = StableDiffusionInpaintPipeline(**made.components, requires_safety_checker=False)
    with pytest.raises(InputError, match="StableDiffusionInpaintPipeline is for inpainting"):
        TextToImageLayers(inpainting)


def test_a_photo_taken_apart_does_not_count_as_drawn() -> None:
    from text2layer.pipelines.photo_layers import with_provenance

    photo = LayeredImage(np.zeros((4, 4, 3), np.uint8), metadata={"description": "a cat"})
    made = with_provenance(photo.replace(metadata={"saliency": "u2net"}), photo).metadata
    assert made["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert (made["description"], made["saliency"]) == ("a cat", "u2net")
