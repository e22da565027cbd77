"""The protocol `reconstruct`: rows against hand-computed values, and whole runs."""

import pytest
import torch

from tests.evaluation.toy_samples import known_samples
from tests.toy_model import build_autoencoder
from text2layer.errors import InputError
from text2layer.evaluation.known_layers import reconstruct, reconstruction_rows
from text2layer.evaluation.picture_similarity import psnr
from text2layer.evaluation.run import Networks, Run
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.parts import Parts

CEILING = float(psnr(torch.tensor(0.0)))


def parts(seed: int, count: int = 3) -> Parts:
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(2, count, 3, 16, 16, generator=generator) * 2 - 1
    return Parts(colour[0], colour[1], torch.rand(count, 1, 16, 16, generator=generator))


def test_a_perfect_prediction_scores_the_ceiling():
    rows = reconstruction_rows(parts(0), parts(0))
    assert rows["soft_iou"].tolist() == [1] * 3
    assert rows["psnr_composite"].tolist() == pytest.approx([CEILING] * 3)
    assert rows["mean_absolute_error"].tolist() == rows["halo"].tolist() == [0] * 3
    assert "psnr_predicted" not in rows  # no auxiliary head
    assert "lpips_composite" not in rows  # no network


def test_the_foreground_counts_inside_the_mask_alone():
    true, made = parts(0, 1), parts(0, 1)
    true.mask.zero_()
    true.mask[..., :8, :] = 1
    made.mask.copy_(true.mask)
    made.foreground[..., 8:, :] = -1  # outside: must not count
    assert float(reconstruction_rows(true, made)["psnr_foreground"]) == pytest.approx(CEILING)


def test_figures_are_means_over_samples_whatever_the_batches(library):
    autoencoder, known = build_autoencoder(), known_samples(library, 5)
    whole = reconstruct(autoencoder, known, Networks.of(), Run(batch_size=5))
    parted = reconstruct(autoencoder, known, Networks.of(), Run(batch_size=2))
    assert whole.metrics["psnr_composite"].samples == 5
    for name, figure in whole.metrics.items():
        assert parted.metrics[name].value == pytest.approx(figure.value, rel=1e-3), name
    assert whole.metrics["psnr_predicted"].value > 0
    assert whole.about["data"] == known.fingerprint


def test_of_a_flat_autoencoder_only_the_picture_is_scored(library):
    flat = PlainAutoencoder.from_preset("tiny-plain", parts=("image",))
    result = reconstruct(flat, known_samples(library, 2), Networks.of(), Run())
    assert set(result.metrics) == {"psnr_composite", "ssim_composite"}


def test_models_of_several_foregrounds_are_refused(library):
    several = build_autoencoder(num_foregrounds=2)
    with pytest.raises(InputError, match="one foreground"):
        reconstruct(several, known_samples(library, 2), Networks.of(), Run())
