"""The protocols on a tiny untrained model: every figure real, whatever it is worth."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.toy_samples import ToyFeatures, known_samples, toy_judge
from tests.toy_model import build_pipeline
from text2layer.blend import composite_over
from text2layer.data.known_samples import KnownSamples
from text2layer.errors import InputError
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.features import References
from text2layer.evaluation.fid import frechet_distance
from text2layer.evaluation.generate import changed, generate, given
from text2layer.evaluation.known_layers import decompose, truth_rows
from text2layer.evaluation.run import Networks, Run
from text2layer.layers import Layer, LayeredImage
from text2layer.models.inpainting import OpencvInpainter
from text2layer.models.matting import MattingNetwork
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.parts import Parts
from text2layer.pipelines.photo_layers import PhotoLayers

COUNT = 6


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Networks:
    judge = toy_judge(tmp_path_factory.mktemp("judge"))
    return Networks.of(inception=ToyFeatures(), judge=judge)


@pytest.fixture(scope="module")
def drawer(toy_text_encoder) -> Drawer:
    return Drawer(build_pipeline(toy_text_encoder), size=64, steps=2)


def flat_drawer(text_encoder: Path, folder: Path) -> Drawer:
    pipeline = build_pipeline(text_encoder)
    torch.manual_seed(5)
    flat = PlainAutoencoder.from_preset("tiny-plain", parts=("image",), latent_channels=4)
    flat.set_latent_statistics(torch.zeros(4), torch.ones(4))
    pipeline.register_modules(autoencoder=flat.eval())
    return Drawer(pipeline, 64, 2, take_apart=PhotoLayers(toy_judge(folder), OpencvInpainter()))


def test_generate_scores_every_prompt_once(drawer, networks, library):
    known, run = known_samples(library, COUNT), Run(batch_size=4)
    result = generate(drawer, known, networks, run)
    assert result.samples == COUNT
    assert all(len(values) == COUNT for values in result.per_sample.values())
    wanted = {
        "fid_composite", "fid_foreground", "fid_background", "kid_composite", "precision",
        "coverage", "hard_iou_judge", "soft_iou_judge", "psnr_predicted", "mask_share",
    }  # fmt: skip
    assert wanted <= set(result.metrics)
    assert not {"relevance", "clip_cosine", "lpips_predicted"} & set(result.metrics)
    assert result.absent["network clip"] == "it was not asked for"
    assert result.metrics["recomposition_max"].value == 0  # layers are what is delivered
    assert run.sheets["generate"].width > 64
    assert result.about["model"] == drawer.pipeline.model_name
    assert result.about["networks"]["inception"] == ToyFeatures.sha256


def test_generate_gives_the_fid_of_its_own_pictures(drawer, networks, library):
    known, features = known_samples(library, COUNT), ToyFeatures()
    result = generate(drawer, known, networks, Run(batch_size=4))
    batch = known.batch(range(COUNT))
    drawn = drawer(batch.captions["whole"], range(COUNT))
    real, made = (features(pictures).numpy() for pictures in (batch.image, drawn.composite))
    expected = frechet_distance(real, made)
    assert result.metrics["fid_composite"].value == pytest.approx(expected, rel=1e-3)


def test_known_features_are_computed_once(drawer, networks, library, tmp_path):
    known, features = known_samples(library, COUNT), networks.get("inception")
    references = References(tmp_path / "kept")
    first = generate(drawer, known, networks, Run(4, references=references))
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 3
    seen: list[int] = []

    class Counting(ToyFeatures):
        def __call__(self, pictures):
            seen.append(len(pictures))
            return features(pictures)

    counted = Networks.of(inception=Counting(), judge=networks.get("judge"))
    again = generate(drawer, known, counted, Run(4, references=References(tmp_path / "kept")))
    assert sum(seen) == 3 * COUNT  # drawn pictures alone
    for name in ("fid_composite", "kid_background", "coverage"):
        assert again.metrics[name] == first.metrics[name]
    other = KnownSamples(known.source, COUNT, seed=1)
    generate(drawer, other, counted, Run(4, references=references))
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 6


def test_the_judge_may_look_at_the_first_samples_alone(drawer, networks, library):
    known = known_samples(library, COUNT)
    result = generate(drawer, known, networks, Run(batch_size=4, judge_samples=2))
    figure = result.metrics["soft_iou_judge"]
    assert (figure.samples, figure.ignored) == (2, COUNT - 2)


def test_a_flat_model_is_taken_apart_by_others(toy_text_encoder, networks, library, tmp_path):
    drawer = flat_drawer(toy_text_encoder, tmp_path)
    result = generate(drawer, known_samples(library, 3), networks, Run())
    assert "psnr_predicted" not in result.metrics
    assert result.metrics["recomposition_mean"].value >= 0
    assert "opencv" in result.about["taken_apart_by"]
    assert "needs at least 6 samples" in result.absent["coverage"]  # absent, not wrong
    assert "fid_composite" in result.metrics
    result = decompose(drawer, known_samples(library, 2), networks, Run())
    assert 0 <= result.metrics["soft_iou"].value <= 1
    with pytest.raises(InputError, match="flat model needs networks"):
        Drawer(drawer.pipeline, 64)


def test_decompose_knows_a_perfect_answer(library):
    batch = known_samples(library, 3).batch(range(3))
    pictures = [
        LayeredImage(background, (Layer(colour, mask),))
        for background, colour, mask in zip(
            *(part.permute(0, 2, 3, 1).contiguous().numpy()
              for part in (batch.background, batch.foreground)),
            batch.mask[:, 0].numpy(), strict=True,
        )
    ]  # fmt: skip
    rows = truth_rows(batch, Parts.from_layered(pictures))
    for name in ("hard_iou", "soft_iou", "layerd_alpha_iou", "edits_alpha_iou"):
        assert rows[name].tolist() == pytest.approx([1] * 3), name
    for name in ("mean_absolute_error", "gradient_error", "halo", "recomposition_max",
                 "layerd_rgb_l1", "edits_rgb_l1", "connectivity_error"):  # fmt: skip
        assert rows[name].tolist() == pytest.approx([0] * 3), name
    assert np.array_equal(
        composite_over(batch.background, batch.foreground, batch.mask).numpy(), batch.image.numpy()
    )


def test_decompose_runs_for_a_model_and_for_networks_of_others(drawer, networks, library, tmp_path):
    known = known_samples(library, 2)
    by_model = decompose(drawer, known, networks, Run())
    by_others = decompose(
        PhotoLayers(toy_judge(tmp_path), OpencvInpainter()), known, networks, Run()
    )
    assert set(by_model.metrics) == set(by_others.metrics)
    assert "matting_hash" not in by_model.about
    assert all(math.isfinite(figure.value) for figure in by_model.metrics.values())


def test_decompose_says_what_gave_the_masks(toy_text_encoder, networks, library):
    pipeline = build_pipeline(toy_text_encoder)
    pipeline.matting, pipeline.matting_hash = MattingNetwork.from_preset("tiny").eval(), "f" * 16
    matted = decompose(Drawer(pipeline, 64, 2), known_samples(library, 2), networks, Run())
    assert matted.about["matting_hash"] == "f" * 16


@pytest.mark.parametrize("part", ["background", "foreground"])
def test_what_is_given_comes_back_unchanged(drawer, networks, library, part):
    result = given(part, drawer, known_samples(library, 3), networks, Run())
    assert result.protocol == f"given-{part}"
    assert result.metrics["given_changed"].value == 0
    assert "psnr_predicted" not in result.metrics
    assert "fid_composite" in result.metrics


def test_a_changed_part_is_seen(drawer, library):
    batch = known_samples(library, 2).batch(range(2))
    drawn = drawer(batch.captions["whole"], [0, 1])  # nothing given
    assert (changed("background", batch, drawn) > 0).all()
    assert (changed("foreground", batch, drawn) > 0).all()
