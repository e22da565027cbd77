"""The adversary: what it sees, whom each of its losses teaches, how it is balanced."""

import pytest
import torch

from tests.training.toy_source import DiscSource
from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.losses import reconstruction_losses
from text2layer.parts import Parts
from text2layer.training.adversary import Adversary, stacked_pictures


@pytest.fixture
def adversary(autoencoder_settings) -> Adversary:
    torch.manual_seed(0)
    return Adversary(autoencoder_settings(size=64), torch.device("cpu"))


@pytest.fixture
def target() -> Parts:
    return DiscSource(64).compose(2, torch.Generator().manual_seed(0))


def reconstruct(target: Parts, **overrides):
    """(network, prediction, reconstruction loss) of an untrained autoencoder."""
    torch.manual_seed(1)
    network = CaT2IAutoencoder.from_preset("tiny", **overrides).train()
    latents = network.encode(target.foreground, target.background, target.mask).mode()
    prediction = network.decode(latents, clamp=False)
    return network, prediction, sum(reconstruction_losses(prediction, target).values())


def test_pictures_are_stacked_foregrounds_background_image(target):
    stacked = stacked_pictures(target)
    assert stacked.shape == (6, 3, 64, 64)
    expected = (target.foreground, target.background, target.image)
    for part, picture in zip(stacked.chunk(3), expected, strict=True):
        assert torch.equal(part, picture)
    assert stacked_pictures(target, with_image=False).shape == (4, 3, 64, 64)


def test_the_weight_balances_both_gradients_at_the_ends_of_the_heads(adversary, target):
    network, prediction, loss = reconstruct(target)
    term, weight = adversary.generator_term(prediction, target, loss, network)
    assert term.requires_grad
    assert not weight.requires_grad
    heads = [network.heads[name][3].weight for name in ("foreground", "background", "image")]
    norms = []
    for value in (loss, term):
        for parameter in network.parameters():
            parameter.grad = None
        value.backward(retain_graph=True)
        norms.append(sum(float((w.grad**2).sum()) for w in heads) ** 0.5)
    assert float(weight) == pytest.approx(norms[0] / (norms[1] + 1e-4), rel=1e-4)


def test_the_autoencoders_term_reaches_pictures_only_and_leaves_the_discriminator(
    adversary, target
):
    network, prediction, loss = reconstruct(target)
    term, _ = adversary.generator_term(prediction, target, loss, network)
    term.backward()
    assert network.encoder.conv_in.weight.grad.abs().sum() > 0
    assert network.heads["image"][3].weight.grad.abs().sum() > 0
    assert network.heads["mask"][3].weight.grad is None
    assert all(parameter.grad is None for parameter in adversary.discriminator.parameters())
    assert all(parameter.requires_grad for parameter in adversary.discriminator.parameters())


def test_updates_teach_the_discriminator_alone(adversary, target):
    network, prediction, loss = reconstruct(target)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    losses = []
    for _ in range(8):
        adversary.generator_term(prediction, target, loss, network)
        losses.append(adversary.update())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    real = adversary.discriminator(stacked_pictures(target)).mean()
    made = adversary.discriminator(stacked_pictures(prediction)).mean()
    assert real > made


def test_an_update_without_a_batch_changes_nothing(adversary):
    before = {k: v.clone() for k, v in adversary.discriminator.state_dict().items()}
    assert adversary.update() == 0.0
    assert all(torch.equal(before[k], v) for k, v in adversary.discriminator.state_dict().items())


def test_no_sup_is_judged_by_its_two_pictures(adversary, target):
    network, prediction, loss = reconstruct(target, auxiliary_head=False)
    term, weight = adversary.generator_term(prediction, target, loss, network)
    assert torch.isfinite(term)
    assert weight > 0
    assert adversary.update() > 0


def test_several_foregrounds_are_all_judged(adversary, target):
    several = Parts(
        foreground=target.foreground[:, None].repeat(1, 2, 1, 1, 1),
        background=target.background,
        mask=target.mask[:, None].repeat(1, 2, 1, 1, 1),
        image=target.image,
    )
    network, prediction, loss = reconstruct(several, num_foregrounds=2)
    adversary.generator_term(prediction, several, loss, network)[0].backward()
    gradient = network.heads["foreground"][3].weight.grad.flatten(1).abs().sum(1)
    assert (gradient > 0).all()


def test_state_makes_the_next_update_the_same(adversary, target, autoencoder_settings, tmp_path):
    network, prediction, loss = reconstruct(target)
    adversary.generator_term(prediction, target, loss, network)
    adversary.update()
    torch.save(adversary.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(99)
    other = Adversary(autoencoder_settings(size=64), torch.device("cpu"))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    results = []
    for one in (adversary, other):
        one.generator_term(prediction, target, loss, network)
        one.update()
        results.append(one.generator_term(prediction, target, loss, network))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_adam_takes_the_settings_rates(autoencoder_settings):
    settings = autoencoder_settings(size=64, learning_rate=1e-4, beta1=0.5, beta2=0.9)
    (group,) = Adversary(settings, torch.device("cpu")).optimizer.param_groups
    assert (group["lr"], group["betas"]) == (1e-4, (0.5, 0.9))


def test_pictures_too_small_for_its_patches_are_refused(autoencoder_settings):
    with pytest.raises(InputError, match="48 pixels or more, size is 32"):
        Adversary(autoencoder_settings(size=32), torch.device("cpu"))
