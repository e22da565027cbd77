"""A model of three layers, background and two foregrounds, that learns six pictures by heart.

The bounds are out of reach of an untrained network (9 dB, no overlap of masks), of one that puts
both discs into one layer, and of one that confuses which disc lies above: the first test says so.
Trained as below, the pictures come within 30 dB or more and the masks overlap by .95 or more.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import COMMON
from tests.training.toy_source import TwoDiscs
from text2layer import Layer, LayeredImage
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.pipelines import Text2LayerPipeline, frame
from text2layer.tensors import composite, tensor_to_colour, tensor_to_mask
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.denoiser import train_denoiser
from text2layer.training.settings import settings_from

pytestmark = pytest.mark.slow  # the two trainings take about a minute of one core

SIZE = 32
LEAST_IOU = 0.85
LEAST_PSNR = 24.0  # decibels

SOURCE = TwoDiscs(SIZE)
TRUTH = SOURCE.take(range(6))
PROMPTS = SOURCE.precise_captions(TRUTH)
PICTURES = tensor_to_colour(TRUTH.image)
BACKGROUNDS = tensor_to_colour(TRUTH.background)
MASKS = tensor_to_mask(TRUTH.mask.flatten(0, 1)).reshape(6, 2, SIZE, SIZE)
COLOURS = tensor_to_colour(TRUTH.foreground.flatten(0, 1)).reshape(6, 2, SIZE, SIZE, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("three layers")


@pytest.fixture(scope="module")
def autoencoder(folder: Path) -> CaT2IAutoencoder:
    settings = settings_from(
        "autoencoder", "tiny", **COMMON, out=str(folder / "autoencoder"), num_foregrounds=2,
        size=SIZE, steps=600, batch_size=6, learning_rate=1e-2, ema_decay=0.98, partial=0.1,
    )  # fmt: skip
    train_autoencoder(settings, SOURCE, SOURCE)
    return CaT2IAutoencoder.from_pretrained(folder / "autoencoder" / "model")


@pytest.fixture(scope="module")
def trained(
    autoencoder: CaT2IAutoencoder, folder: Path, toy_text_encoder: Path
) -> Text2LayerPipeline:
    settings = settings_from(
        "denoiser", "tiny", **COMMON, out=str(folder / "denoiser"), size=SIZE,
        autoencoder=str(folder / "autoencoder" / "model"), text_encoder=str(toy_text_encoder),
        steps=1400, batch_size=48, learning_rate=5e-3, ema_decay=0.98, cache_samples=288,
        job_text=0.3, job_image=0.4, job_foreground=0.3, job_background=0.0,
        timestep_mean=0.8, caption_dropout=0.0, imperfect=0.0, preview_guidance=1.0,
    )  # fmt: skip
    train_denoiser(settings, SOURCE, SOURCE)
    pipeline = Text2LayerPipeline.from_pretrained(folder / "denoiser" / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(autouse=True)
def small_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pictures be as small as those that a test can train on."""
    monkeypatch.setattr(frame, "MIN_SIDE", SIZE)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given_stack(number: int) -> LayeredImage:
    """The two discs of a picture without what lies behind them."""
    discs = zip(COLOURS[number], MASKS[number], strict=True)
    return LayeredImage(np.zeros((SIZE, SIZE, 3), np.uint8), tuple(Layer(*disc) for disc in discs))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of two 8-bit pictures, in decibels."""
    error = np.square(one.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two 8-bit masks at half."""
    ours, theirs = one > 127, other > 127
    return float((ours & theirs).sum() / max((ours | theirs).sum(), 1))


def test_one_layer_for_both_discs_or_the_wrong_one_above_would_not_pass():
    for number in range(6):
        merged = MASKS[number].max(0)
        assert max(iou(merged, mask) for mask in MASKS[number]) < LEAST_IOU - 0.1
        assert iou(*MASKS[number]) < LEAST_IOU - 0.1
        assert psnr(PICTURES[number], BACKGROUNDS[number]) < LEAST_PSNR - 3
        neighbour = number ^ 1  # the same discs, the other one above
        assert psnr(PICTURES[number], PICTURES[neighbour]) < LEAST_PSNR - 3


def test_the_autoencoder_holds_both_discs_in_one_latent(autoencoder):
    with torch.no_grad():
        output = autoencoder(TRUTH.foreground, TRUTH.background, TRUTH.mask)
    pictures = tensor_to_colour(composite(output.foreground, output.background, output.mask))
    predicted = tensor_to_colour(output.image)
    masks = tensor_to_mask(output.mask.flatten(0, 1)).reshape(6, 2, SIZE, SIZE)
    for number in range(6):
        assert psnr(pictures[number], PICTURES[number]) > LEAST_PSNR
        assert psnr(predicted[number], PICTURES[number]) > LEAST_PSNR
        assert min(map(iou, masks[number], MASKS[number])) > LEAST_IOU


def test_a_prompt_is_drawn_as_three_layers_in_the_order_it_says(trained):
    made = trained(PROMPTS, generator=[seeded(number) for number in range(6)]).layers
    for number, layered in enumerate(made):
        assert [layer.name for layer in layered.foregrounds] == ["Foreground 1", "Foreground 2"]
        assert psnr(layered.composite, PICTURES[number]) > LEAST_PSNR
        assert psnr(layered.background, BACKGROUNDS[number]) > LEAST_PSNR
        lower, upper = layered.foregrounds
        assert iou(lower.alpha, MASKS[number, 0]) > LEAST_IOU  # whole, also where it is hidden
        assert iou(upper.alpha, MASKS[number, 1]) > LEAST_IOU
        shared = (MASKS[number] == 255).all(0)
        shown = layered.composite[shared].astype(int)
        to_lower, to_upper = (np.abs(shown - COLOURS[number, layer][shared]).mean()
                              for layer in range(2))  # fmt: skip
        assert to_upper < to_lower / 3


def test_a_picture_is_taken_apart_into_three_layers(trained):
    for number, picture in enumerate(PICTURES):
        made = trained(TwoDiscs.VAGUE, image=picture, generator=seeded(number)).layers[0]
        assert np.array_equal(made.composite, picture)
        assert psnr(made.background, BACKGROUNDS[number]) > LEAST_PSNR
        alphas = [layer.alpha for layer in made.foregrounds]
        assert min(map(iou, alphas, MASKS[number])) > LEAST_IOU


def test_a_background_is_drawn_behind_two_given_foregrounds(trained):
    for number in range(6):
        stack = given_stack(number)
        made = trained(TwoDiscs.VAGUE, foreground=stack, generator=seeded(number)).layers[0]
        assert made.foregrounds == stack.foregrounds
        assert psnr(made.background, BACKGROUNDS[number]) > LEAST_PSNR
