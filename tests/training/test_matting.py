"""Training of the matting network: what it is shown, that it learns, and what it leaves behind."""

from pathlib import Path

import pytest
import torch

from tests.toy_model import build_pipeline
from tests.training.runs import metrics
from tests.training.toy_source import DiscSource
from text2layer.checksums import verify_checksums
from text2layer.errors import InputError
from text2layer.evaluation.mask_overlap import soft_iou
from text2layer.models.conditioning import condition_latents
from text2layer.models.denoiser import denoise, flag_tensor
from text2layer.models.matting import MattingNetwork
from text2layer.models.text_encoder import encode_prompts
from text2layer.pipelines.loading import load_matting
from text2layer.training import processes
from text2layer.training.loop import step_generator
from text2layer.training.matting import MattingObjective, overlap, train_matting

STEPS = 320


@pytest.fixture
def build(matting_settings):
    def make(**overrides: object) -> MattingObjective:
        source = DiscSource()
        settings = matting_settings(**overrides)
        return MattingObjective(settings, source, source, torch.device("cpu"))

    return make


def test_it_learns_the_mask(matting_settings, source: DiscSource, tmp_path: Path):
    settings = matting_settings(
        steps=STEPS, batch_size=8, validate_every=1000, ema_decay=0.9, learning_rate=1e-2
    )
    result = train_matting(settings, source, DiscSource())
    assert (result.step, result.interrupted) == (STEPS, False)
    scores = metrics(tmp_path / "run")[-1]
    assert scores["val_soft_iou"] > 0.7
    assert scores["val_soft_iou_unanswered"] > 0.6
    folder = tmp_path / "run" / "matting"
    assert verify_checksums(folder) == 2
    network = load_matting(folder, Path(settings.model))
    batch = DiscSource().compose(4, torch.Generator().manual_seed(9))
    with torch.no_grad():
        mask = network(batch.image, torch.zeros(4, 4, 4, 4))
    assert float(soft_iou(mask, batch.mask).mean()) > 0.6
    assert network.dtype == torch.float32
    half = MattingNetwork.from_pretrained(folder, torch_dtype=torch.float16)
    stored = network.state_dict()
    assert all(torch.equal(v.float(), stored[k].float()) for k, v in half.state_dict().items())


def test_an_answer_is_the_first_step_to_the_end(build):
    """Noise minus velocity, with the picture as condition and its caption as words."""
    objective = build()
    batch = objective.source.compose(2, torch.Generator().manual_seed(0))
    noise = objective.noise(batch.image, 2, torch.Generator().manual_seed(1))
    words = ["a red ball", ""]
    (pipeline,) = objective.frozen
    states, mask = encode_prompts(pipeline.tokenizer, pipeline.text_encoder, words)
    with torch.no_grad():
        velocity = denoise(
            pipeline.denoiser, noise, condition_latents(pipeline.autoencoder, image=batch.image),
            flag_tensor(["image", "image"], noise), torch.tensor(1000.0), states, mask,
        )  # fmt: skip
    answer = objective.answers(batch.image, words, noise)
    torch.testing.assert_close(answer, noise - velocity, rtol=0.05, atol=0.05)  # may be bfloat16
    assert not torch.allclose(answer[:1], objective.answers(batch.image[:1], [""], noise[:1]))


def test_silence_of_the_denoiser_is_a_latent_of_zeros(build, monkeypatch: pytest.MonkeyPatch):
    seen = []
    for share in (1.0, 0.5, 0.0):
        objective = build(answer_dropout=share, batch_size=8)
        monkeypatch.setattr(
            objective.network, "logits",
            lambda picture, latents: seen.append(latents) or picture[:, :1],
        )  # fmt: skip
        objective(0, step_generator(0, 0))
    silent = [(one.flatten(1) == 0).all(1).sum().item() for one in seen]
    assert silent[0] == 8
    assert 0 < silent[1] < 8
    assert silent[2] == 0


def test_every_process_works_on_its_own_rows(build, monkeypatch: pytest.MonkeyPatch):
    """What it sees and what the denoiser answers are the whole batch's, cut into rows."""
    objective = build(batch_size=4)
    shown = []
    monkeypatch.setattr(
        objective.network, "logits",
        lambda picture, latents: shown.append((picture, latents)) or picture[:, :1],
    )  # fmt: skip
    objective(3, step_generator(0, 3))
    for rank in range(2):
        monkeypatch.setattr(processes, "rows", lambda size, rank=rank: slice(rank, size, 2))
        objective(3, step_generator(0, 3))
    whole = shown[0]
    for rank, part in enumerate(shown[1:]):
        for one, own in zip(whole, part, strict=True):
            torch.testing.assert_close(own, one[rank::2], rtol=0.02, atol=0.02)


def test_overlap_is_the_soft_iou_and_can_be_learnt_from():
    generator = torch.Generator().manual_seed(0)
    mask, truth = (torch.rand(3, 1, 8, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(overlap(mask, truth).double(), soft_iou(mask, truth))
    mask.requires_grad_()
    overlap(mask, truth).sum().backward()
    assert mask.grad is not None
    assert (
        float((mask.grad * (truth - mask.detach()).sign()).min()) >= 0
    )  # towards the truth everywhere
    assert float(overlap(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))) == 0


@pytest.mark.parametrize("model", [{"preset": "tiny-paper"}, {"num_foregrounds": 2}])
def test_models_it_is_not_made_for_are_refused(
    matting_settings, toy_text_encoder: Path, tmp_path: Path, model: dict
):
    build_pipeline(toy_text_encoder, **model).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="no rectified flow of one foreground"):
        train_matting(matting_settings(model=str(tmp_path / "other")), DiscSource(), DiscSource())


def test_it_needs_a_model(matting_settings):
    with pytest.raises(InputError, match="name its folder"):
        train_matting(matting_settings(model=""), DiscSource(), DiscSource())
