"""Training of the autoencoder: what it learns, logs, resumes and leaves behind."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tests.toy_library import build_toy_library
from tests.training.runs import assert_same_checkpoint, metrics
from tests.training.toy_source import DiscSource, TwoDiscs, stop_at
from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.errors import InputError, WeightsError
from text2layer.models.autoencoder import PRESETS, CaT2IAutoencoder
from text2layer.parts import Parts
from text2layer.tensors import composite
from text2layer.training import checkpoints
from text2layer.training.autoencoder import (
    AutoencoderObjective,
    neutralise_parts,
    noisy,
    scaled,
    train_autoencoder,
    weighted_sum,
    window,
)
from text2layer.training.checkpoints import load_autoencoder
from text2layer.training.loop import step_generator

TERMS = {
    "l1_foreground", "l1_background", "l1_image", "mask_l1", "composition", "laplacian", "kl",
    "loss", "grad_norm", "learning_rate",
}  # fmt: skip
LPIPS_TERMS = {"lpips_foreground", "lpips_background", "lpips_image"}


def test_a_short_run_learns_and_leaves_a_ready_model(autoencoder_settings, source):
    settings = autoencoder_settings(
        steps=80, batch_size=8, learning_rate=4e-3, validate_every=40, preview_every=80
    )
    result = train_autoencoder(settings, source, DiscSource(name="others"))
    run = Path(settings.out)
    assert (result.step, result.interrupted) == (80, False)
    assert result.checkpoint == run / "checkpoint-00000080"
    lines = [line for line in metrics(run) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(10, 90, 10))
    assert set(lines[0]) == TERMS | {"step"}
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    held_out = [line for line in metrics(run) if "val_composition" in line]
    assert [line["step"] for line in held_out] == [40, 80]
    assert held_out[1]["val_l1_background"] < held_out[0]["val_l1_background"]
    with Image.open(run / "previews" / "step-00000080.png") as sheet:
        assert sheet.width > 4 * 32

    autoencoder = CaT2IAutoencoder.from_pretrained(run / "model")
    batch = source.compose(64, torch.Generator().manual_seed(9))
    with torch.no_grad():
        latents = autoencoder.encode(batch.foreground, batch.background, batch.mask).mode()
    scaled_latents = autoencoder.scale_latents(latents)
    torch.testing.assert_close(scaled_latents.mean((0, 2, 3)), torch.zeros(4), atol=0.2, rtol=0)
    torch.testing.assert_close(scaled_latents.std((0, 2, 3)), torch.ones(4), atol=0.2, rtol=0)


def test_several_foregrounds_are_a_setting(autoencoder_settings):
    settings = autoencoder_settings(
        num_foregrounds=2, steps=30, batch_size=6, learning_rate=4e-3, equivariance=0.3,
        validate_every=30, preview_every=30,
    )  # fmt: skip
    train_autoencoder(settings, TwoDiscs(32), TwoDiscs(32))
    run = Path(settings.out)
    lines = [line for line in metrics(run) if "loss" in line]
    assert set(lines[0]) == TERMS | {"step"}
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    with Image.open(run / "previews" / "step-00000030.png") as sheet:
        assert sheet.width > 7 * 32  # two foregrounds, background, two masks, composite, image
    autoencoder = CaT2IAutoencoder.from_pretrained(run / "model")
    assert autoencoder.config.num_foregrounds == 2
    batch = TwoDiscs(32).take(range(6))
    with torch.no_grad():
        latents = autoencoder.encode(batch.foreground, batch.background, batch.mask).mode()
    deviations = autoencoder.scale_latents(latents).std((0, 2, 3))
    torch.testing.assert_close(deviations, torch.ones(4), atol=0.3, rtol=0)


def test_a_source_of_another_number_of_foregrounds_is_one_sentence(autoencoder_settings, source):
    settings = autoencoder_settings(num_foregrounds=2, steps=1)
    with pytest.raises(InputError, match=r"takes 11 channels .* got 7"):
        train_autoencoder(settings, source, source)


def test_bfloat16_learns_too(autoencoder_settings, source):
    settings = autoencoder_settings(steps=20, batch_size=8, mixed_precision="bf16")
    train_autoencoder(settings, source, source)
    first, last = metrics(Path(settings.out))
    assert last["loss"] < first["loss"]


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"auxiliary_head": False, "composition": "dim", "equivariance": 0.5},
        {
            "adversarial_weight": 0.5,
            "adversarial_start": 2,
            "size": 64,
            "equivariance": 0.5,
            "mask_block": True,
        },
    ],
    ids=["plain", "no-sup", "adversarial and mask block"],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    features, autoencoder_settings, tmp_path
):
    size = features.get("size", 32)
    settings = autoencoder_settings(steps=13, batch_size=2, checkpoint_every=4, **features)
    whole = train_autoencoder(settings, DiscSource(size), DiscSource(size))

    again = replace(settings, out=str(tmp_path / "again"))
    stopping = DiscSource(size, on_compose=stop_at(5))  # in the middle of a line's ten updates
    first = train_autoencoder(again, stopping, DiscSource(size))
    assert (first.step, first.interrupted) == (6, True)
    assert first.checkpoint.name == "checkpoint-00000006"
    resumed = train_autoencoder(again, DiscSource(size), DiscSource(size))
    assert (resumed.step, resumed.interrupted) == (13, False)

    assert metrics(tmp_path / "again") == metrics(Path(settings.out))
    assert_same_checkpoint(resumed.checkpoint, whole.checkpoint)


def test_no_sup_has_no_image_term(autoencoder_settings, source):
    settings = autoencoder_settings(steps=1, auxiliary_head=False)
    train_autoencoder(settings, source, source)
    assert set(metrics(Path(settings.out))[0]) == TERMS - {"l1_image"} | {"step"}


def test_a_block_for_the_mask_is_a_setting_of_the_saved_model(autoencoder_settings, source):
    settings = autoencoder_settings(steps=1, mask_block=True)
    train_autoencoder(settings, source, source)
    assert load_autoencoder(Path(settings.out) / "model").config.mask_block


def test_the_discriminator_joins_at_its_step_and_is_logged(autoencoder_settings):
    settings = autoencoder_settings(
        steps=4, batch_size=2, size=64, adversarial_weight=0.5, adversarial_start=3
    )
    objective = AutoencoderObjective(
        settings, DiscSource(64), DiscSource(64), torch.device("cpu")
    ).train()
    assert "adversarial" not in objective(2, step_generator(0, 2))
    assert objective.after_update(2) == {}
    losses = objective(3, step_generator(0, 3))
    plain = weighted_sum(losses, settings)
    assert losses["adversarial"].item() != 0
    assert losses["loss"].item() != pytest.approx(plain.item(), rel=1e-6)
    losses["loss"].backward()
    assert objective.after_update(3)["discriminator"] > 0


@pytest.mark.parametrize(
    ("setting", "terms"),
    [
        ("l1_weight", ["l1_foreground", "l1_background", "l1_image"]),
        ("lpips_weight", ["lpips_foreground", "lpips_background", "lpips_image"]),
        ("image_weight", ["l1_image", "lpips_image"]),
        ("mask_l1_weight", ["mask_l1"]),
        ("composition_weight", ["composition"]),
        ("laplacian_weight", ["laplacian"]),
        ("kl_weight", ["kl"]),
        ("mask_weight", ["mask_l1", "composition", "laplacian"]),
    ],
)
def test_every_term_can_be_switched_off(setting, terms, autoencoder_settings):
    values = {name: torch.tensor(2.0**i) for i, name in enumerate(sorted(TERMS | LPIPS_TERMS))}
    settings = autoencoder_settings(kl_weight=0.5, mask_weight=1.5, lpips_weight=0.25)
    factors = {"composition": 2 * 1.5, "laplacian": 3 * 1.5, "mask_l1": 1.5, "kl": 0.5}
    factors |= dict.fromkeys(LPIPS_TERMS, 0.25)
    lost = sum(float(values[term]) * factors.get(term, 1.0) for term in terms)
    with_term = float(weighted_sum(values, settings))
    without = float(weighted_sum(values, replace(settings, **{setting: 0.0})))
    assert with_term - without == pytest.approx(lost)


def test_the_picture_heads_losses_can_weigh_less(autoencoder_settings):
    settings = autoencoder_settings(lpips_weight=0.5, kl_weight=1.0)
    values = {name: torch.tensor(1.0) for name in TERMS | LPIPS_TERMS}
    less = replace(settings, image_weight=0.25)
    fewer = float(weighted_sum(values, settings)) - float(weighted_sum(values, less))
    assert fewer == pytest.approx(0.75 * (1 + 0.5))
    without = {name: value for name, value in values.items() if not name.endswith("_image")}
    assert float(weighted_sum(without, settings)) == float(weighted_sum(without, less))


def test_a_crop_is_one_window_of_all_parts():
    target = DiscSource().compose(3, torch.Generator().manual_seed(0))
    index = window(target, 16, torch.Generator().manual_seed(4))
    seen = target.each(lambda tensor: tensor[index])
    assert seen.mask.shape == (3, 1, 16, 16)
    torch.testing.assert_close(composite(seen.foreground, seen.background, seen.mask),
                               seen.image, atol=2 / 255, rtol=0)  # fmt: skip
    places = {str(window(target, 16, torch.Generator().manual_seed(i))) for i in range(8)}
    assert len(places) > 1


def test_latent_noise_is_measured_in_deviations_of_a_channel():
    torch.manual_seed(0)
    deviations = torch.tensor([1.0, 5.0])
    latents = torch.randn(40, 2, 32, 32) * deviations[:, None, None]
    shares = torch.linspace(0, 0.2, 40)
    added = (noisy(latents, shares) - latents).std(dim=(2, 3)) / deviations
    torch.testing.assert_close(added, shares[:, None].expand(-1, 2), rtol=0.12, atol=1e-3)


def test_a_frozen_encoder_keeps_latents_and_their_statistics(autoencoder_settings, tmp_path):
    source = DiscSource()
    train_autoencoder(autoencoder_settings(out=str(tmp_path / "a"), steps=2), source, source)
    first = load_autoencoder(tmp_path / "a" / "model")
    settings = autoencoder_settings(
        out=str(tmp_path / "b"), steps=2, init=str(tmp_path / "a" / "model"), freeze_encoder=True
    )
    train_autoencoder(settings, source, source)
    second = load_autoencoder(tmp_path / "b" / "model")
    parts = source.compose(2, torch.Generator().manual_seed(0))
    given = (parts.foreground, parts.background, parts.mask)
    assert torch.equal(first.encode(*given).parameters, second.encode(*given).parameters)
    assert first.config.latent_scale == pytest.approx(second.config.latent_scale)
    assert not torch.equal(first(*given).mask, second(*given).mask)
    norms = [model.heads["mask"][1].running_mean for model in (first, second)]
    assert torch.equal(*norms)


def test_a_frozen_encoder_of_a_checkpoint_gets_its_statistics_measured(
    autoencoder_settings, tmp_path
):
    source = DiscSource()
    first = train_autoencoder(
        autoencoder_settings(out=str(tmp_path / "a"), steps=2), source, source
    )
    settings = autoencoder_settings(
        out=str(tmp_path / "b"), steps=2, init=str(first.checkpoint / "ema"), freeze_encoder=True
    )
    train_autoencoder(settings, source, source)
    scales = [load_autoencoder(tmp_path / run / "model").config.latent_scale for run in ("a", "b")]
    assert scales[1] == pytest.approx(scales[0])  # the same encoder, measured on the same samples


@pytest.fixture
def tiny_of_twice_the_size(monkeypatch):
    """The preset `tiny-twice`: the encoder of `tiny` at half the size, a decoder for the whole."""
    larger = {"doublings": 1, "decoder_channels": (32, 16)}
    monkeypatch.setitem(PRESETS, "tiny-twice", {**PRESETS["tiny"], **larger})


@pytest.mark.usefixtures("tiny_of_twice_the_size")
def test_a_decoder_of_twice_the_size_is_trained_beside_a_frozen_encoder(
    autoencoder_settings, tmp_path
):
    source, larger = DiscSource(), DiscSource(64)
    train_autoencoder(autoencoder_settings(out=str(tmp_path / "a"), steps=2), source, source)

    def further(run, init):
        settings = autoencoder_settings(
            out=str(tmp_path / run), preset="tiny-twice", size=64, steps=3, batch_size=4,
            warmup_steps=0, init=str(tmp_path / init / "model"), freeze_encoder=True,
        )  # fmt: skip
        train_autoencoder(settings, larger, larger)
        return load_autoencoder(tmp_path / run / "model")

    first, second = load_autoencoder(tmp_path / "a" / "model"), further("b", "a")
    assert second.config.latent_scale == pytest.approx(first.config.latent_scale)
    parts = larger.compose(2, torch.Generator().manual_seed(0))
    given = (parts.foreground, parts.background, parts.mask)
    smaller = [functional.avg_pool2d(part, 2) for part in given]
    torch.testing.assert_close(second.encode(*given).parameters, first.encode(*smaller).parameters)
    assert second(*given).mask.shape == (2, 1, 64, 64)
    third = further("c", "b")  # from a decoder of its kind: what that has learnt is taken over
    moved = third.decoder.conv_in.weight - second.decoder.conv_in.weight
    assert 0 < moved.abs().max() < 0.01
    assert torch.equal(third.encode(*given).parameters, second.encode(*given).parameters)


@pytest.mark.usefixtures("tiny_of_twice_the_size")
def test_another_decoder_is_refused_when_the_encoder_is_trained_too(autoencoder_settings, tmp_path):
    source = DiscSource()
    train_autoencoder(autoencoder_settings(out=str(tmp_path / "a"), steps=2), source, source)
    settings = autoencoder_settings(
        init=str(tmp_path / "a" / "model"), preset="tiny-twice", size=64
    )
    objective = AutoencoderObjective(settings, source, source, torch.device("cpu"))
    with pytest.raises(WeightsError, match="does not fit this architecture"):
        objective.load_init(objective.network)


class LPIPSSpy(torch.nn.Module):
    """Measures a mean difference and remembers what it was shown, prediction and target."""

    shown: ClassVar[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def forward(self, a, b):
        self.shown.append((a.detach(), b))
        return (a - b).abs().mean(dim=(1, 2, 3))


@pytest.fixture
def what_lpips_sees(autoencoder_settings, monkeypatch):
    """Function of settings: the (prediction, target) pairs of an update's LPIPS, and its losses."""
    monkeypatch.setattr("text2layer.models.lpips.LPIPS", LPIPSSpy)

    def look(source, **options):
        monkeypatch.setattr(LPIPSSpy, "shown", [])
        settings = autoencoder_settings(lpips_weight=0.5, batch_size=4, **options)
        torch.manual_seed(0)
        objective = AutoencoderObjective(settings, source, source, torch.device("cpu"))
        losses = objective(0, torch.Generator().manual_seed(0))
        assert losses["loss"].item() == pytest.approx(weighted_sum(losses, settings).item())
        return LPIPSSpy.shown, losses

    return look


def test_lpips_looks_at_a_share_of_the_batch(what_lpips_sees, source):
    shown, losses = what_lpips_sees(source, lpips_share=0.5)
    assert [len(prediction) for prediction, _ in shown] == [2, 2, 2]
    assert losses["lpips_background"].item() > 0


@pytest.mark.parametrize("layers", [1, 2])
def test_lpips_can_look_at_one_window_of_prediction_and_target(what_lpips_sees, layers):
    source = DiscSource() if layers == 1 else TwoDiscs(32)
    options = {"num_foregrounds": layers, "lpips_share": 0.5}
    whole, losses = what_lpips_sees(source, **options)
    cut, others = what_lpips_sees(source, **options, lpips_crop=16)
    places = [
        (slice(top, top + 16), slice(left, left + 16)) for top in range(17) for left in range(17)
    ]
    found = [
        place
        for place in places
        if all(
            torch.equal(all_of_it[..., *place], part)
            for pair, parts in zip(whole, cut, strict=True)
            for all_of_it, part in zip(pair, parts, strict=True)
        )
    ]
    assert len(found) == 1
    assert [len(prediction) for prediction, _ in cut] == [2 * layers, 2, 2]
    same = [name for name in losses if name not in LPIPS_TERMS | {"loss"}]
    assert all(torch.equal(losses[name], others[name]) for name in same)  # of whole pictures


@pytest.mark.parametrize("side", [32, 64])
def test_a_window_that_is_not_smaller_is_the_whole_picture(what_lpips_sees, source, side):
    shown, _ = what_lpips_sees(source, lpips_crop=side)
    assert {tuple(picture.shape) for pair in shown for picture in pair} == {(4, 3, 32, 32)}


def test_neutralised_samples_are_what_a_condition_encodes():
    target = DiscSource().compose(400, torch.Generator().manual_seed(0))
    result = neutralise_parts(target, 0.5, torch.Generator().manual_seed(1))
    flat_mask = result.mask.flatten(1)
    emptied = (flat_mask == 0).all(1)
    greyed = (result.background.flatten(1) == 0).all(1)
    assert 0.15 < emptied.float().mean() < 0.35
    assert 0.15 < greyed.float().mean() < 0.35
    assert not (emptied & greyed).any()
    assert (result.foreground[emptied] == 0).all()
    assert torch.equal(result.image[emptied], target.background[emptied])
    expected = target.mask * target.foreground
    torch.testing.assert_close(result.image[greyed], expected[greyed])
    kept = ~(emptied | greyed)
    for part, tensor in target.tensors().items():
        assert torch.equal(getattr(result, part)[kept], tensor[kept])


def test_an_untouched_sample_keeps_a_photo_that_is_not_its_composite():
    target = DiscSource().compose(8, torch.Generator().manual_seed(0))
    target = replace(target, image=target.image * 0.5)
    result = neutralise_parts(target, 0.0, torch.Generator().manual_seed(1))
    for part, tensor in target.tensors().items():
        assert torch.equal(getattr(result, part), tensor)


def test_neutralising_several_layers_takes_all_of_them():
    target = DiscSource(16).compose(6, torch.Generator().manual_seed(0))
    several = Parts(
        foreground=target.foreground[:, None].repeat(1, 2, 1, 1, 1),
        background=target.background,
        mask=target.mask[:, None].repeat(1, 2, 1, 1, 1),
        image=target.image,
    )
    result = neutralise_parts(several, 2.0, torch.Generator().manual_seed(0))  # all foregrounds
    assert (result.mask == 0).all()
    assert (result.foreground == 0).all()
    assert torch.equal(result.image, target.background)


def test_scaling_moves_latent_and_pictures_alike():
    batch = DiscSource(64).compose(3, torch.Generator().manual_seed(0))
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    seen = set()
    for scale in range(2):
        small, target = scaled(latents, batch, scale)
        side = small.shape[-1]
        seen.add(side)
        assert small.shape == (3, 4, side, side)
        assert target.foreground.shape == (3, 3, 8 * side, 8 * side)
        assert target.mask.shape == (3, 1, 8 * side, 8 * side)
        if side == 4:
            halved = Image.fromarray((batch.mask[0, 0].numpy() * 255).astype(np.float32), "F")
            expected = np.asarray(halved.resize((32, 32), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(target.mask[0, 0].numpy() * 255, expected, atol=1e-2)
    assert seen == {4, 6}
    error = (target.image - composite(
        target.foreground, target.background, target.mask)).abs()  # fmt: skip
    assert error.mean() < 0.02


def test_scaling_does_not_change_the_kl_term(autoencoder_settings, source):
    values = []
    for share in (0.0, 1.0):
        settings = autoencoder_settings(equivariance=share, partial=0.0)
        torch.manual_seed(0)
        objective = AutoencoderObjective(settings, source, source, torch.device("cpu"))
        values.append(objective(0, step_generator(0, 0)))
    assert values[0]["l1_image"].item() != pytest.approx(values[1]["l1_image"].item(), rel=1e-3)
    assert values[0]["kl"].item() == pytest.approx(values[1]["kl"].item(), rel=1e-5)


def test_a_missing_picture_is_counted_and_training_goes_on(autoencoder_settings, tmp_path):
    root = build_toy_library(tmp_path / "library")
    files = sorted((root / "foregrounds").iterdir())
    files[0].unlink()
    files[3].write_bytes(files[3].read_bytes()[:40])  # cut short
    library = Library(root)
    sources = [Composer(library, split, size=32, progress=False) for split in ("train", "val")]
    assert sum(library.skipped.values()) == 2
    settings = autoencoder_settings(steps=2, validate_every=2)
    result = train_autoencoder(settings, *sources)
    assert (result.step, result.interrupted) == (2, False)
    assert checkpoints.read_state(result.checkpoint)["data_hash"] == library.fingerprint
