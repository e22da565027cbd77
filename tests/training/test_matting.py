"""Training of the matting network: what it is shown, that it learns, and what it leaves behind."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.runs import metrics
from tests.training.toy_source import DiscSource
from text2layer.evaluation.mask_overlap import soft_iou
from text2layer.files import verify_checksums
from text2layer.models.losses import overlap
from text2layer.models.matting import MattingNetwork
from text2layer.pipelines.loading import load_matting
from text2layer.training import processes
from text2layer.training.loop import step_generator
from text2layer.training.matting import MattingObjective, train_matting

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
    assert metrics(tmp_path / "run")[-1]["val_soft_iou"] > 0.7
    folder = tmp_path / "run" / "matting"
    assert verify_checksums(folder) == 2
    network = load_matting(folder)
    batch = DiscSource().compose(8, torch.Generator().manual_seed(9))
    with torch.no_grad():
        mask = network(batch.image)
    assert float(soft_iou(mask, batch.mask).mean()) > 0.6
    assert network.dtype == torch.float32
    half = MattingNetwork.from_pretrained(folder, torch_dtype=torch.float16)
    stored = network.state_dict()
    assert all(torch.equal(v.float(), stored[k].float()) for k, v in half.state_dict().items())


def shown(objective: MattingObjective, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The pictures that the network is asked about from now on."""
    pictures: list[Tensor] = []
    monkeypatch.setattr(
        objective.network, "logits", lambda picture: pictures.append(picture) or picture[:, :1]
    )
    return pictures


def test_every_process_works_on_its_own_rows(build, monkeypatch: pytest.MonkeyPatch):
    objective = build(batch_size=4, imperfect=0.5)
    pictures = shown(objective, monkeypatch)
    objective(3, step_generator(0, 3))
    for rank in range(2):
        monkeypatch.setattr(processes, "rows", lambda size, rank=rank: slice(rank, size, 2))
        objective(3, step_generator(0, 3))
    whole, *parts = pictures
    for rank, part in enumerate(parts):
        torch.testing.assert_close(part, whole[rank::2])


def test_pictures_are_varied_and_masks_are_not(build, monkeypatch: pytest.MonkeyPatch):
    objective = build(batch_size=4, imperfect=0.0)
    pictures = shown(objective, monkeypatch)
    losses = objective(3, step_generator(0, 3))
    plain = objective.source.compose(4, step_generator(0, 3))
    assert not torch.allclose(pictures[0], plain.image, atol=0.05)
    assert float(pictures[0].abs().max()) <= 1
    mask = torch.sigmoid(pictures[0][:, :1])
    torch.testing.assert_close(
        losses["overlap"], 1 - overlap(mask.flatten(1), plain.mask.flatten(1)).mean()
    )
    parts = losses["entropy"] + losses["overlap"] + losses["laplacian"]
    torch.testing.assert_close(losses["loss"], parts)


def test_some_are_blurred_or_jpeg(build, monkeypatch: pytest.MonkeyPatch):
    perfect, damaged = build(batch_size=4, imperfect=0.0), build(batch_size=4, imperfect=1.0)
    pictures = [shown(objective, monkeypatch) for objective in (perfect, damaged)]
    for objective in (perfect, damaged):
        objective(3, step_generator(0, 3))
    difference = (pictures[0][0] - pictures[1][0]).abs().flatten(1).amax(1)
    assert float(difference.min()) > 0


def test_the_preview_shows_both_masks(build):
    sheet = build().preview(build().network.eval())
    assert sheet.width > 3 * 32
    assert sheet.height > 8 * 32


def test_overlap_is_the_soft_iou_and_can_be_learnt_from():
    generator = torch.Generator().manual_seed(0)
    mask, truth = (torch.rand(3, 1, 8, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(overlap(mask.flatten(1), truth.flatten(1)).double(),
                               soft_iou(mask, truth))  # fmt: skip
    mask.requires_grad_()
    overlap(mask.flatten(1), truth.flatten(1)).sum().backward()
    assert mask.grad is not None
    assert float((mask.grad * (truth - mask.detach()).sign()).min()) >= 0  # towards the truth
    assert float(overlap(torch.zeros(1, 4), torch.zeros(1, 4))) == 0
