"""An update as a graph: on a CPU the same code runs as it is and gives an ordinary update's run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.runs import assert_same_checkpoint, metrics, weights
from tests.training.toy_source import DiscSource, stop_at
from text2layer.errors import DivergenceError
from text2layer.models.adapter import add_adapter
from text2layer.models.denoiser import build_denoiser, denoise
from text2layer.models.frozen import Held
from text2layer.models.lpips import LPIPS
from text2layer.training import graph
from text2layer.training.autoencoder import AutoencoderObjective, corner, cut, train_autoencoder
from text2layer.training.denoiser import DenoiserObjective, train_denoiser
from text2layer.training.graph import GraphUpdate
from text2layer.training.latent_cache import CachedLatents, cumulative, weighted
from text2layer.training.loop import make_ema, parameter_groups, train
from text2layer.training.matting import MattingObjective, train_matting
from text2layer.training.objective import step_generator


@pytest.fixture
def one_text_length(monkeypatch):
    """Ordinary updates pad their texts as a graph must, so that nothing else differs."""
    opened = CachedLatents.__init__

    def padded(self, settings, device, tensors):
        opened(self, replace(settings, graph=True), device, tensors)

    monkeypatch.setattr(CachedLatents, "__init__", padded)


def folder(settings, name: str) -> str:
    return str(Path(settings.out).with_name(name))


def both(run, settings) -> list[Path]:
    """Newest checkpoints of one run with ordinary updates and of one with a graph's."""
    source = DiscSource(settings.size)
    runs = [
        replace(settings, out=folder(settings, "as-ever")),
        replace(settings, out=folder(settings, "graph"), graph=True),
    ]
    return [run(each, source, source).checkpoint for each in runs]


def assert_same_run(checkpoints: list[Path]) -> None:
    """Losses, weights and optimiser are equal to the bit; averages up to their formula's order."""
    ours, theirs = checkpoints
    assert metrics(ours.parent) == metrics(theirs.parent)
    one, other = weights(ours / "model"), weights(theirs / "model")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    one, other = weights(ours / "ema"), weights(theirs / "ema")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-7)
    first, second = (torch.load(each / "optimizer.pt", weights_only=True) for each in checkpoints)
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]
    assert first["averaged"] == second["averaged"]
    for number, state in first["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["optimizer"]["state"][number][name])


def test_a_denoiser_learns_what_it_learns_from_ordinary_updates(denoiser_settings, one_text_length):
    assert_same_run(both(train_denoiser, denoiser_settings(steps=6, cache_samples=16)))


def test_texts_of_one_length_change_nothing_but_rounding(denoiser_settings):
    ours, theirs = both(train_denoiser, denoiser_settings(steps=10, cache_samples=16))
    one, other = metrics(ours.parent)[0], metrics(theirs.parent)[0]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_an_autoencoder_learns_what_it_learns_from_ordinary_updates(
    autoencoder_settings, monkeypatch
):
    def make(settings, source):
        def objective(device):
            made = AutoencoderObjective(settings, source, source, device)
            torch.manual_seed(3)
            made.perceptual = Held(LPIPS("alex", pretrained=False))
            return made

        return objective

    settings = autoencoder_settings(
        steps=6, size=64, equivariance=0.6, latent_noise=0.2, lpips_crop=36, batch_size=2
    )
    kinds = set()
    draw = AutoencoderObjective.draw

    def noting(self, generator):
        batch = draw(self, generator)
        kinds.add((batch.kind, "corner" in batch.tensors))
        return batch

    monkeypatch.setattr(AutoencoderObjective, "draw", noting)
    run = lambda each, source, _: train(make(each, source), each, source.fingerprint)  # noqa: E731
    assert_same_run(both(run, settings))
    assert {kind for kind, _ in kinds} == {None, 0, 1}
    assert {seen for _, seen in kinds} == {True, False}  # pictures of 32 px have no such window


def test_a_matting_network_learns_what_it_learns_from_ordinary_updates(matting_settings):
    assert_same_run(both(train_matting, matting_settings(steps=4)))


def test_parts_of_a_network_may_have_a_rate_of_their_own(autoencoder_settings, monkeypatch):
    monkeypatch.setattr(
        AutoencoderObjective, "rate_of", lambda self, name: 7.0 if "heads" in name else 1.0
    )
    assert_same_run(both(train_autoencoder, autoencoder_settings(steps=3)))


def test_a_stopped_graph_goes_on_as_if_it_had_not_been(denoiser_settings, autoencoder_settings):
    whole = train_denoiser(
        denoiser_settings(steps=4, cache_samples=16, graph=True), DiscSource(), DiscSource()
    )
    parts = denoiser_settings(
        steps=4, cache_samples=16, graph=True, out=str(whole.checkpoint.parent) + "-parts",
        max_minutes=1e-9,
    )  # fmt: skip
    while (result := train_denoiser(parts, DiscSource(), DiscSource())).step != 4:
        parts = replace(parts, max_minutes=0.0)
    assert_same_checkpoint(whole.checkpoint, result.checkpoint)
    assert metrics(whole.checkpoint.parent) == metrics(result.checkpoint.parent)


def test_ordinary_updates_go_on_where_a_graph_stopped(autoencoder_settings):
    settings = autoencoder_settings(steps=6)
    ever = train_autoencoder(settings, DiscSource(), DiscSource())
    mixed = replace(settings, out=settings.out + "-mixed", graph=True)
    begun = train_autoencoder(mixed, DiscSource(on_compose=stop_at(2)), DiscSource())
    assert begun.interrupted
    ended = train_autoencoder(replace(mixed, graph=False), DiscSource(), DiscSource())
    assert_same_run([ever.checkpoint, ended.checkpoint])


def test_losses_are_read_in_order_when_the_ring_is_full(autoencoder_settings, monkeypatch):
    monkeypatch.setattr(graph, "READ_EVERY", 4)
    monkeypatch.setattr(GraphUpdate, "read_every", 4)
    ours, theirs = both(train_autoencoder, autoencoder_settings(steps=23))
    assert len(metrics(ours.parent)) == 3
    assert metrics(ours.parent) == metrics(theirs.parent)


def test_a_loss_that_is_not_finite_is_told_and_never_saved(autoencoder_settings):
    class Broken(AutoencoderObjective):
        def losses(self, batch, step):
            losses = super().losses(batch, step)
            return {**losses, "loss": losses["loss"] * (float("nan") if step == 5 else 1.0)}

    settings = autoencoder_settings(steps=9, checkpoint_every=4, graph=True)
    with pytest.raises(DivergenceError, match="The loss became nan at step 5"):
        train(lambda device: Broken(settings, DiscSource(), DiscSource(), device), settings, "data")
    assert [path.name for path in Path(settings.out).glob("checkpoint-*")] == [
        "checkpoint-00000004"
    ]


def test_what_no_graph_can_hold_is_updated_as_ever(denoiser_settings, autoencoder_settings):
    source = DiscSource()
    device = torch.device("cpu")
    live = DenoiserObjective(denoiser_settings(graph=True), source, source, device)
    assert not live.fits_a_graph()  # texts of any length
    adversary = autoencoder_settings(
        adversarial_weight=0.5, adversarial_start=0, size=48, graph=True
    )
    result = train_autoencoder(replace(adversary, steps=1), DiscSource(48), DiscSource(48))
    assert "discriminator" in metrics(result.checkpoint.parent)[0]


class Waits(TorchDispatchMode):
    """Notes operations that wait for a GPU or bring numbers to it."""

    NAMES = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        boolean = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in self.NAMES or boolean:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def graph_of(objective, settings) -> GraphUpdate:
    optimizer = torch.optim.AdamW(parameter_groups(objective.network, 0.01), fused=True)
    capture = objective.network.device.type == "cuda"
    ema = make_ema(objective.network, 0.99)
    return GraphUpdate(objective, optimizer, ema, settings, "no", capture)


@pytest.mark.parametrize("kind", ["denoiser", "distillation", "paper", "autoencoder", "matting"])
def test_an_update_waits_for_nothing(
    kind, denoiser_settings, autoencoder_settings, matting_settings, request
):
    source, device = DiscSource(), torch.device("cpu")
    if kind == "autoencoder":
        settings = autoencoder_settings(graph=True, latent_noise=0.1, equivariance=1.0)
        objective = AutoencoderObjective(settings, source, source, device)
    elif kind == "matting":
        settings = matting_settings(graph=True)
        objective = MattingObjective(settings, source, source, device)
    else:
        more = {"preset": "tiny-paper"} if kind == "paper" else {}
        settings = denoiser_settings(graph=True, cache_samples=8, **more)
        objective = DenoiserObjective(settings, source, source, device)
    if kind == "distillation":
        from text2layer.training.distillation import DistillationObjective

        objective.network.save_pretrained(Path(settings.out) / "teacher")
        settings = replace(settings, distil_steps=2, init=str(Path(settings.out) / "teacher"))
        objective = DistillationObjective(settings, source, source, device)
    update = graph_of(objective, settings)
    batch = None if objective.draws_on_device else objective.draw(step_generator(0, 0))
    update.generator = step_generator(0, 0)
    update._work(batch, 0)  # sets up what is set up once
    with Waits() as waits:
        update._work(batch, 0)
    seeds = ["_local_scalar_dense"] if objective.draws_on_device else []  # a CPU generator's only
    assert waits.seen == seeds


@pytest.mark.parametrize("adapted", [False, True])
def test_the_whole_network_is_one_graph_of_torch_compile(adapted):
    torch.manual_seed(0)
    network = build_denoiser("tiny-pooled", 4, 16)
    if adapted:
        add_adapter(network, 2)
    inputs = (
        torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16), torch.zeros(2, 4),
        torch.tensor([3.0, 900.0]), torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool),
    )  # fmt: skip
    expected = denoise(network, *inputs)
    network.compile(backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(denoise(network, *inputs), expected)


def test_weights_of_a_list_are_kept_by_draws_on_the_device():
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 4.0, 0.0])
    drawn = weighted(cumulative(weights), 40_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=6) / 40_000
    torch.testing.assert_close(shares, weights / 8, atol=0.01, rtol=0)
    assert shares[[0, 2, 5]].sum() == 0
    rare = torch.tensor([1.0, *[1e-12] * 9])
    assert weighted(cumulative(rare), 1000, torch.Generator().manual_seed(0)).max() < 10


def test_a_window_of_a_tensor_corner_is_that_window():
    batch = DiscSource(40).compose(2, step_generator(0, 0))

    place = corner((40, 40), 16, step_generator(0, 1))
    top, left = place.tolist()
    assert (top, left) != (0, 0)
    for name, part in cut(batch, place, 16).tensors().items():
        whole = getattr(batch, name)
        assert torch.equal(part, whole[..., top : top + 16, left : left + 16])


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_captured_updates_equal_those_that_run_as_they_are(denoiser_settings, compiled):
    """On a GPU: 12 updates, 9 of them replayed, against 12 that are not recorded."""
    source, device = DiscSource(), torch.device("cuda")
    settings = denoiser_settings(graph=True, cache_samples=24, device="cuda", preset="tiny-pooled")
    results = []
    for capture in (True, False):
        torch.manual_seed(0)
        objective = DenoiserObjective(settings, source, source, device)
        if compiled:
            objective.compile_network()
        update = graph_of(objective, settings)
        update.capture = capture
        for step in range(12):
            update.update(step, 1e-3)
        losses = [values["loss"] for _, values, _, _ in update.read()]
        results.append((losses, objective.network.state_dict(), update.ema.module.state_dict()))
        assert len(update.recorded) == capture
    (ours, *our_weights), (theirs, *their_weights) = results
    assert ours == pytest.approx(theirs, rel=1e-4)
    for one, other in zip(our_weights, their_weights, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
def test_captured_updates_of_an_autoencoder_equal_those_that_run_as_they_are(autoencoder_settings):
    source, device = DiscSource(), torch.device("cuda")
    settings = autoencoder_settings(graph=True, device="cuda", equivariance=0.6, latent_noise=0.1)
    losses = []
    for capture in (True, False):
        torch.manual_seed(0)
        objective = AutoencoderObjective(settings, source, source, device)
        draw = objective.draw

        def on_gpu(generator, draw=draw):
            batch = draw(generator)
            return replace(batch, tensors={k: v.cuda() for k, v in batch.tensors.items()})

        objective.draw = on_gpu  # the toy source renders on the CPU
        update = graph_of(objective, settings)
        update.capture = capture
        for step in range(24):
            update.update(step, 1e-3)
        losses.append([values["loss"] for _, values, _, _ in update.read()])
        assert len(update.recorded) == 3 * capture
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
