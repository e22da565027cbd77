"""The pipeline in diffusers' habits: generators, callbacks, outputs, loading, threads."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import SDCFGCutoffCallback

from tests.toy_model import build_pipeline
from text2layer import Text2LayerPipeline
from text2layer.errors import InputError, WeightsError

PROMPT = "a red apple in front of a snowy mountain"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def own(toy_text_encoder):
    """A pipeline whose parts a test may change."""
    return build_pipeline(toy_text_encoder)


def seed_of(made) -> int:
    return made.metadata["seed"]


# Generators and metadata


def test_a_generator_that_is_used_again_draws_another_picture_that_its_seed_makes_again(pipeline):
    generator = seeded(5)
    made = [pipeline(PROMPT, generator=generator).layers[0] for _ in range(3)]
    assert seed_of(made[0]) == 5
    assert len({seed_of(one) for one in made}) == 3
    assert made[0] != made[1] != made[2]
    for one in made:
        assert pipeline(PROMPT, generator=seeded(seed_of(one))).layers[0] == one


def test_a_generators_state_is_read(pipeline):
    generator = seeded(5)
    torch.randn(3, generator=generator)
    made = pipeline(PROMPT, generator=generator).layers[0]
    assert made != pipeline(PROMPT, generator=seeded(5)).layers[0]
    assert made == pipeline(PROMPT, generator=seeded(seed_of(made))).layers[0]


def test_lists_of_generators_mean_one_each_also_used_ones_and_one_twice(pipeline):
    twice = seeded(3)
    for generators in ([seeded(1), seeded(2)], [twice, twice], [twice, seeded(2)]):
        made = pipeline([PROMPT, PROMPT], generator=generators).layers
        assert made[0] != made[1]
        for one in made:
            alone = pipeline(PROMPT, generator=seeded(seed_of(one))).layers[0]
            assert np.abs(alone.composite.astype(int) - one.composite).max() <= 1
    with pytest.raises(InputError, match=r"must be a torch\.Generator, got 7"):
        pipeline([PROMPT, PROMPT], generator=[seeded(), 7])


def test_what_no_seed_makes_again_has_none_in_its_metadata(pipeline):
    latents = torch.randn(1, 4, 8, 8, generator=seeded(11))
    states, mask = pipeline.encode_prompt(PROMPT)

    def half(pipe, index, timestep, tensors):
        return {"latents": tensors["latents"] / 2}

    for options in (
        {"prompt": PROMPT, "latents": latents},
        {"prompt_embeds": states, "prompt_attention_mask": mask},
        {"prompt": PROMPT, "callback_on_step_end": half},
    ):
        assert "seed" not in pipeline(generator=seeded(), **options).layers[0].metadata


def test_an_interrupted_run_says_how_many_steps_it_took(pipeline):
    def stop(pipe, index, timestep, tensors):
        pipe._interrupt = index == 1

    made = pipeline(PROMPT, num_inference_steps=5, callback_on_step_end=stop).layers[0]
    assert (made.metadata["steps"], made.metadata["steps_done"]) == (5, 2)
    assert "steps_done" not in pipeline(PROMPT, num_inference_steps=2).layers[0].metadata


def test_a_negative_prompt_without_effect_is_not_recorded(pipeline):
    options = {"negative_prompt": "a dog", "generator": seeded(1)}
    made = pipeline(PROMPT, guidance_scale=1.0, **options).layers[0]
    assert made.metadata["negative_prompt"] == ""


def test_a_scheduler_that_draws_noise_takes_it_from_the_generator(own):
    own.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    made = [own(PROMPT, generator=seeded(seed)).layers[0] for seed in (5, 5, 6)]
    assert made[0] == made[1]
    assert made[0] != made[2]
    pair = own([PROMPT] * 2, generator=[seeded(5), seeded(6)]).layers
    assert np.abs(pair[1].composite.astype(int) - made[2].composite).max() <= 1


def test_a_model_that_is_saved_again_keeps_its_hash(own, tmp_path):
    own.save_pretrained(tmp_path / "first")
    first = Text2LayerPipeline.from_pretrained(tmp_path / "first")
    first.save_pretrained(tmp_path / "second", max_shard_size="20KB")
    second = Text2LayerPipeline.from_pretrained(tmp_path / "second")
    assert len(list((tmp_path / "second" / "denoiser").glob("*.safetensors"))) > 1
    assert first.model_hash == second.model_hash
    with torch.no_grad():
        first.denoiser.proj_out.bias += 1
    first.save_pretrained(tmp_path / "third")
    assert Text2LayerPipeline.from_pretrained(tmp_path / "third").model_hash != first.model_hash


# Callbacks


@pytest.mark.parametrize("prompts", [PROMPT, [PROMPT, "a dog"]])
def test_diffusers_cut_off_of_guidance_works(pipeline, prompts):
    rows = []
    hook = pipeline.denoiser.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    try:
        made = pipeline(
            prompts, num_inference_steps=4, generator=seeded(),
            callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.5),
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )  # fmt: skip
    finally:
        hook.remove()
    count = len(made.layers)
    assert rows == [2 * count] * 3 + [count]
    assert made.layers[0] != pipeline(prompts, num_inference_steps=4, generator=seeded()).layers[0]


def test_a_callback_sees_and_changes_the_guidance_scale(pipeline):
    seen = []

    def look(pipe, index, timestep, tensors):
        seen.append((pipe.num_timesteps, pipe.guidance_scale, pipe.do_classifier_free_guidance))
        pipe._guidance_scale = 4.0 if index == 0 else 1.0
        return {}

    made = pipeline(PROMPT, generator=seeded(), callback_on_step_end=look).layers[0]
    assert seen == [(3, 2.0, True), (3, 4.0, True), (3, 1.0, False)]
    assert "seed" not in made.metadata
    assert pipeline(PROMPT, generator=seeded()).layers[0].metadata["guidance_scale"] == 2.0

    def raise_it(pipe, index, timestep, tensors):
        pipe._guidance_scale = 4.0

    with pytest.raises(InputError, match="raised the guidance scale above 1"):
        pipeline(PROMPT, guidance_scale=1.0, callback_on_step_end=raise_it)


# Inputs and outputs


def test_pictures_and_arrays_as_diffusers_gives_them(pipeline):
    layered = pipeline(PROMPT, generator=seeded(4)).layers[0]
    for output_type in ("pil", "np"):
        output = pipeline([PROMPT], generator=seeded(4), output_type=output_type)
        assert output.layers == [layered]
        whole = np.asarray(output.images[0], np.float64) * (255 if output_type == "np" else 1)
        assert np.allclose(whole, layered.composite, atol=1e-3)
    assert output.images.shape == (1, 64, 64, 3)
    wide = np.zeros((64, 200, 3), np.uint8)  # drawn in a window
    assert pipeline(PROMPT, background=wide, output_type="pil").images[0].size == (200, 64)


def test_a_tuple_instead_of_an_output(pipeline):
    layers, predicted = pipeline(PROMPT, generator=seeded(4), return_dict=False)
    assert layers == pipeline(PROMPT, generator=seeded(4)).layers
    assert predicted[0].shape == (64, 64, 3)
    latents, _ = pipeline(PROMPT, output_type="latent", return_dict=False)
    assert latents.shape == (1, 4, 8, 8)


def test_token_states_instead_of_prompts(pipeline):
    prompts = [PROMPT, "a dog"]
    states, mask = pipeline.encode_prompt(prompts)
    negative, negative_mask = pipeline.encode_prompt("a yellow cat in a forest")
    given = pipeline(
        prompt_embeds=states, prompt_attention_mask=mask, negative_prompt_embeds=negative,
        negative_prompt_attention_mask=negative_mask, generator=[seeded(1), seeded(2)],
        num_images_per_prompt=1,
    ).layers  # fmt: skip
    said = pipeline(
        prompts, negative_prompt="a yellow cat in a forest", generator=[seeded(1), seeded(2)]
    ).layers
    for one, other in zip(given, said, strict=True):
        assert np.abs(one.composite.astype(int) - other.composite).max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": PROMPT, "num_images_per_prompt": 2.0}, "must be a whole number, got 2.0"),
        ({"prompt": PROMPT, "prompt_embeds": torch.zeros(1, 3, 16)}, "not both"),
        ({"prompt_embeds": torch.zeros(3, 16)}, r"must be a tensor \(N, L, D\)"),
        ({"prompt_embeds": torch.zeros(1, 3, 9)}, r"shape \(1, L, 16\), got \(1, 3, 9\)"),
        (
            {"prompt_embeds": torch.zeros(1, 3, 16), "prompt_attention_mask": torch.ones(1, 4)},
            r"must have shape \(1, 3\), got \(1, 4\)",
        ),
        ({"prompt": PROMPT, "prompt_attention_mask": torch.ones(1, 4)}, "give both or none"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(pipeline, options, words):
    with pytest.raises(InputError, match=words):
        pipeline(**options)


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler]
)
def test_a_scheduler_that_wants_noise_is_refused_for_a_flow(own, scheduler):
    own.scheduler = scheduler.from_config(own.scheduler.config)
    with pytest.raises(InputError, match=f"{scheduler.__name__} wants noise: use FlowMatchEuler"):
        own(PROMPT)


def test_a_flow_scheduler_is_refused_for_a_model_of_noise(toy_text_encoder):
    own = build_pipeline(toy_text_encoder, preset="tiny-paper")
    own.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(InputError, match="wants a flow's velocity: use DDIM"):
        own(PROMPT)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchHeunDiscreteScheduler(),
        DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    ],
)
def test_other_schedulers_of_flow_end_where_euler_ends(own, scheduler):
    options = {"num_inference_steps": 40, "guidance_scale": 1.0, "output_type": "latent"}
    euler = own(PROMPT, generator=seeded(), **options).layers
    own.scheduler = scheduler
    other = own(PROMPT, generator=seeded(), **options).layers
    apart = own(PROMPT, generator=seeded(1), **options).layers
    assert (other - euler).std() < 0.5 * (other - apart).std()


# Loading and copies


def test_diffusers_own_class_loads_a_saved_model(own, tmp_path):
    own.save_pretrained(tmp_path / "mine")
    loaded = DiffusionPipeline.from_pretrained(tmp_path / "mine")
    assert type(loaded) is Text2LayerPipeline
    ours, theirs = (pipe(PROMPT, generator=seeded()).layers[0] for pipe in (own, loaded))
    assert np.array_equal(ours.composite, theirs.composite)


def test_a_pipeline_from_another_shares_its_parts(own):
    other = Text2LayerPipeline.from_pipe(own)
    assert other.denoiser is own.denoiser
    assert other(PROMPT, generator=seeded()).layers == own(PROMPT, generator=seeded()).layers
    with pytest.raises(InputError, match="wants noise"):
        Text2LayerPipeline.from_pipe(own, scheduler=DDIMScheduler())(PROMPT)


def test_another_scheduler_at_loading_does_not_change_what_the_model_gives(own, tmp_path):
    own.save_pretrained(tmp_path / "mine")
    loaded = Text2LayerPipeline.from_pretrained(tmp_path / "mine", scheduler=DDIMScheduler())
    with pytest.raises(InputError, match="wants noise"):
        loaded(PROMPT)


def test_a_model_of_the_hubs_cache_is_found_by_its_id(own, tmp_path):
    commit = "a" * 40
    place = tmp_path / "models--somebody--layers"
    own.save_pretrained(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    options = {"cache_dir": tmp_path, "local_files_only": True}
    loaded = Text2LayerPipeline.from_pretrained("somebody/layers", **options)
    ours, theirs = (pipe(PROMPT, generator=seeded()).layers[0] for pipe in (own, loaded))
    assert np.array_equal(ours.composite, theirs.composite)
    with pytest.raises(WeightsError, match=r"no folder 'nobody/nothing', .* from the hub") as error:
        Text2LayerPipeline.from_pretrained("nobody/nothing", **options)
    assert "\n" not in str(error.value)


# Threads


def test_threads_that_share_a_pipeline_get_their_own_pictures(own):
    alone = [own(PROMPT, generator=seeded(seed)).layers[0] for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        made = threads.map(lambda seed: own(PROMPT, generator=seeded(seed)).layers[0], range(4))
        assert list(made) == alone


def test_a_pipeline_can_be_copied(own):
    other = copy.deepcopy(own)
    assert other(PROMPT, generator=seeded()).layers == own(PROMPT, generator=seeded()).layers
