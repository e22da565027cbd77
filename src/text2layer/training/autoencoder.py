"""Training of the composition-aware autoencoder (Text2Layer, section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from text2layer.models import plain_autoencoder
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.frozen import Held
from text2layer.models.losses import (
    CompositionLoss,
    kl_loss,
    perceptual_losses,
    reconstruction_losses,
)
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.parts import Parts
from text2layer.tensors import composite
from text2layer.training import processes
from text2layer.training.checkpoints import load_autoencoder, load_weights
from text2layer.training.latents import measure_latent_statistics
from text2layer.training.loop import TrainingResult, train
from text2layer.training.objective import Batch, Objective, fast_inference, step_generator
from text2layer.training.outputs import reconstruction_sheet, save_model
from text2layer.training.settings import AutoencoderSettings

if TYPE_CHECKING:
    from text2layer.data.source import SampleSource
    from text2layer.models.lpips import LPIPS
    from text2layer.training.adversary import Adversary

EQUIVARIANCE_SCALES = (0.5, 0.75)
VALIDATION_SAMPLES = 64
PREVIEW_SAMPLES = 6


class AutoencoderObjective(Objective):
    """Reconstruction, KL and adversarial losses of one batch.

    Args:
        settings: weights of the terms and shares of augmented samples.
        source: training samples.
        validation: samples of unseen concepts, for `validate` and `preview`.
        device: where the networks live.
    """

    settings: AutoencoderSettings
    source: SampleSource

    def __init__(
        self,
        settings: AutoencoderSettings,
        source: SampleSource,
        validation: SampleSource,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.source = source
        self.network = build_autoencoder(settings).to(device, memory_format=torch.channels_last)
        if settings.freeze_encoder:
            for part in encoder_parts(self.network):
                part.requires_grad_(False)
        self.validation = validation.compose(VALIDATION_SAMPLES, step_generator(1, 0))
        self.perceptual: Held[LPIPS] | None = None
        if settings.lpips_weight:
            from text2layer.models.lpips import LPIPS

            self.perceptual = Held(LPIPS().to(device))
        self.adversary: Adversary | None = None
        if settings.adversarial_weight:
            from text2layer.training.adversary import Adversary

            self.adversary = Adversary(settings, device)

    def train(self, mode: bool = True) -> AutoencoderObjective:
        """As ever; beside a frozen encoder the heads' batch norms keep the statistics they have.

        Those of a few samples are far from them: eight took the background's l1 of a trained
        model from .18 to .76 (docs/log.md).
        """
        super().train(mode)
        if self.settings.freeze_encoder:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()
        return self

    def load_init(self, network: ModelMixin) -> None:
        """Give a network the weights of `settings.init`.

        Beside a frozen encoder a decoder of another kind than init's starts untrained.
        """
        folder, network = Path(self.settings.init), cast(CaT2IAutoencoder, network)
        init = load_autoencoder(folder)
        mine, theirs = (getattr(n.config, "decoder_channels", ()) for n in (network, init))
        if not self.settings.freeze_encoder or list(mine) == list(theirs):
            load_weights(network, folder)
            return
        pairs = zip(encoder_parts(network), encoder_parts(init), strict=True)
        for part, trained in pairs:
            part.load_state_dict(trained.state_dict())
        if mine and init.config.latent_shift:
            network.decoder.standardise(init.config.latent_shift, init.config.latent_scale)

    def draw(self, generator: torch.Generator) -> Batch:
        """The pictures to reconstruct, and what is drawn for their latents and for LPIPS.

        Of tensors the `target`'s components by their names; with latent noise `shares` (B,); with a
        window for LPIPS its `corner` (2,). The kind is the index of the latents' scale, or None.
        """
        settings = self.settings
        own = processes.rows(settings.batch_size)
        target: Parts = self.source.compose(settings.batch_size, generator, own)
        if settings.crop:
            seen = window(target, settings.crop, generator)
            target = target.each(lambda tensor: tensor[seen])
        target = neutralise_parts(target, settings.partial, generator)
        tensors = target.tensors()
        device = target.mask.device
        if settings.latent_noise:
            shares = settings.latent_noise * processes.uniform(len(target.mask), generator)
            tensors["shares"] = shares.to(device)
        sides = target.mask.shape[-2:]
        scale = None
        if torch.rand((), generator=generator) < settings.equivariance:
            scale = int(torch.randint(len(EQUIVARIANCE_SCALES), (), generator=generator))
            factor = self.network.latent_factor
            sides = torch.Size(factor * side for side in scaled_sides(sides, factor, scale))
        if self.perceptual and 0 < settings.lpips_crop < min(sides):
            tensors["corner"] = corner(sides, settings.lpips_crop, generator).to(device)
        return Batch(tensors, scale)

    def fits_a_graph(self) -> bool:
        """Without a discriminator; every scale of the latents is a graph of its own."""
        return not self.adversary

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Reconstruct a batch; return every term and the weighted `loss`."""
        settings = self.settings
        tensors = dict(batch.tensors)
        shares, place = tensors.pop("shares", None), tensors.pop("corner", None)
        target = Parts(**tensors)
        posterior = self.network.encode(target.foreground, target.background, target.mask)
        posterior.mean, posterior.logvar = posterior.mean.float(), posterior.logvar.float()
        posterior.std, posterior.var = posterior.std.float(), posterior.var.float()
        kl = kl_loss(posterior, target.mask.shape[-2] * target.mask.shape[-1])
        latents = posterior.mean + posterior.std * processes.normal_like(posterior.mean)
        if shares is not None:
            latents = noisy(latents, shares)
        if batch.kind is not None:
            latents, target = scaled(latents, target, cast(int, batch.kind))
        prediction = in_float32(self.network.decode(latents, clamp=False))
        lpips = {}
        if self.perceptual:  # in the network's own precision
            seen = slice(max(1, round(settings.lpips_share * len(target.mask))))
            ours, true = prediction.rows(seen), target.rows(seen)
            if place is not None:
                ours, true = (cut(part, place, settings.lpips_crop) for part in (ours, true))
            lpips = perceptual_losses(ours, true, self.perceptual.network)
        with torch.autocast(latents.device.type, enabled=False):
            composition = cast(CompositionLoss, settings.composition)
            losses = lpips | reconstruction_losses(prediction, target, composition)
            losses["kl"] = kl
            losses["loss"] = weighted_sum(losses, settings)
            if self.adversary and step >= settings.adversarial_start:
                term, weight = self.adversary.generator_term(
                    prediction, target, losses["loss"], self.network
                )
                losses["adversarial"] = term
                losses["loss"] = losses["loss"] + settings.adversarial_weight * weight * term
        return losses

    def after_update(self, step: int) -> dict[str, float]:
        """Train the discriminator on the batch just seen."""
        if self.adversary and step >= self.settings.adversarial_start:
            return {"discriminator": self.adversary.update()}
        return {}

    def validate(self, network: ModelMixin) -> dict[str, float]:
        """Unweighted terms on unseen concepts, with the posterior's mean as latent."""
        totals: dict[str, float] = {}
        autoencoder = cast(CaT2IAutoencoder, network)
        batches = self.validation
        chunks = range(0, VALIDATION_SAMPLES, 16)
        for index in chunks:
            target = batches.rows(slice(index, index + 16))
            with fast_inference(target.mask.device):
                latents = autoencoder.encode(target.foreground, target.background, target.mask)
                prediction = autoencoder.decode(latents.mode(), clamp=False)
            for key, value in reconstruction_losses(in_float32(prediction), target).items():
                totals[f"val_{key}"] = totals.get(f"val_{key}", 0.0) + float(value) / len(chunks)
        return totals

    def preview(self, network: ModelMixin) -> Image.Image:
        """Originals above reconstructions, unseen concepts."""
        target = self.validation.rows(slice(PREVIEW_SAMPLES))
        output = cast(CaT2IAutoencoder, network)(target.foreground, target.background, target.mask)
        return reconstruction_sheet(target, output)

    def extra_state(self) -> dict[str, Any]:
        """The discriminator and its optimiser."""
        return self.adversary.state_dict() if self.adversary else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back the discriminator."""
        if self.adversary and state:
            self.adversary.load_state_dict(state)


def build_autoencoder(settings: AutoencoderSettings) -> CaT2IAutoencoder | PlainAutoencoder:
    """The untrained network that the settings name."""
    layers = {"num_foregrounds": settings.num_foregrounds}
    if settings.preset in plain_autoencoder.PRESETS:
        return PlainAutoencoder.from_preset(settings.preset, **layers)
    heads = {"auxiliary_head": settings.auxiliary_head, "mask_block": settings.mask_block}
    return CaT2IAutoencoder.from_preset(settings.preset, **layers, **heads)


def train_autoencoder(
    settings: AutoencoderSettings, source: SampleSource, validation: SampleSource
) -> TrainingResult:
    """Train, then write the averaged model with its latent statistics to `settings.out`/model.

    Args:
        settings: of the run.
        source: training samples.
        validation: samples of other concepts.

    See `loop.train` for what is raised.
    """
    result = train(
        lambda device: AutoencoderObjective(settings, source, validation, device),
        settings,
        source.fingerprint,
    )
    if not processes.is_main():
        return result
    autoencoder = load_autoencoder(result.checkpoint / "ema")
    known = load_autoencoder(Path(settings.init)).config if settings.freeze_encoder else None
    if known and known.latent_shift:  # a checkpoint of init's run has none yet
        autoencoder.set_latent_statistics(known.latent_shift, known.latent_scale)
    else:
        autoencoder.set_latent_statistics(*measure_latent_statistics(autoencoder, source))
    save_model(autoencoder, Path(settings.out) / "model")
    return result


def in_float32(prediction: Parts) -> Parts:
    """Lift the decoder's output out of autocast before losses are computed."""
    return prediction.each(torch.Tensor.float)


def encoder_parts(network: CaT2IAutoencoder | PlainAutoencoder) -> list[nn.Module]:
    """What decides the latents of an autoencoder."""
    parts: list[nn.Module] = [network.encoder, network.quant_conv]
    if "encoder" in getattr(network, "shortcuts", {}):
        parts.append(network.shortcuts["encoder"])
    return parts


def noisy(latents: Tensor, shares: Tensor) -> Tensor:
    """Add noise of `shares` (N,) times each channel's deviation to latents (N, C, h, w).

    A denoiser's latents are not quite an encoder's; the decoder should not mind (noise-augmented
    decoding, arXiv 2510.11690, section 4.3).
    """
    deviation = latents.detach().std(dim=(0, 2, 3), keepdim=True)
    return latents + shares.view(-1, 1, 1, 1) * deviation * processes.normal_like(latents)


def corner(sides: tuple[int, ...], side: int, generator: torch.Generator) -> Tensor:
    """Top and left (2,) of a random window of side x side in pictures of these sides, pixels."""
    drawn = [torch.randint(whole - side + 1, (), generator=generator) for whole in sides]
    return torch.stack(drawn)


def window(target: Parts, side: int, generator: torch.Generator) -> tuple[Any, ...]:
    """Index of a random window of side x side pixels, the same in every picture of a batch."""
    top, left = corner(target.mask.shape[-2:], side, generator).tolist()
    return ..., slice(top, top + side), slice(left, left + side)


def cut(parts: Parts, place: Tensor, side: int) -> Parts:
    """Windows of side x side whose `corner` is a tensor, which no graph need wait for."""
    rows, columns = place[:, None] + torch.arange(side, device=place.device)

    def part(tensor: Tensor) -> Tensor:
        return tensor.index_select(-2, rows).index_select(-1, columns)

    return parts.each(part)


def neutralise_parts(target: Parts, share: float, generator: torch.Generator) -> Parts:
    """Empty the foregrounds (colour 0, mask 0) or grey the background of a share of samples.

    A condition latent encodes what is given and leaves the rest neutral, so the autoencoder must
    know such inputs. Half of the share goes to either part. Of these samples the picture I is
    composed again; the others keep theirs, which need not equal their composite.
    """
    draw = processes.uniform(target.mask.shape[0], generator).to(target.mask.device)
    draw = draw[:, None, None, None]
    keep_foreground = (draw >= share / 2).float()
    keep_background = ((draw < share / 2) | (draw >= share)).float()
    several = (1,) * (target.foreground.ndim - 4)
    parts = {
        "foreground": target.foreground * keep_foreground.view(-1, *several, 1, 1, 1),
        "background": target.background * keep_background,
        "mask": target.mask * keep_foreground.view(-1, *several, 1, 1, 1),
    }
    image = target.image
    if image is not None:
        image = torch.where(draw >= share, image, composite(**parts))
    return Parts(**parts, image=image)


def scaled(latents: Tensor, target: Parts, scale: int) -> tuple[Tensor, Parts]:
    """Scale latent and target alike (EQ-VAE, arXiv 2502.09509, equation 5)."""
    factor = target.mask.shape[-1] // latents.shape[-1]
    height, width = scaled_sides(target.mask.shape[-2:], factor, scale)

    def resize(tensor: Tensor, size: tuple[int, int]) -> Tensor:
        flat = tensor.flatten(0, -4) if tensor.ndim > 4 else tensor
        small = functional.interpolate(flat, size=size, mode="bilinear", antialias=True)
        return small.view(*tensor.shape[:-2], *size)

    picture = (height * factor, width * factor)
    resized = target.each(lambda tensor: resize(tensor, picture))
    return resize(latents, (height, width)), resized


def scaled_sides(sides: tuple[int, ...], factor: int, scale: int) -> tuple[int, int]:
    """Sides of scaled latents of pictures of these sides, a latent cell `factor` pixels wide."""
    height, width = (max(1, round(side // factor * EQUIVARIANCE_SCALES[scale])) for side in sides)
    return height, width


def weighted_sum(losses: dict[str, Tensor], settings: AutoencoderSettings) -> Tensor:
    """L = L_img + lambda L_mask + KL with the weights of the settings."""
    kinds = {"l1": settings.l1_weight, "lpips": settings.lpips_weight}
    shares = {"foreground": 1.0, "background": 1.0, "image": settings.image_weight}
    pictures = sum(
        weight * share * losses[f"{kind}_{name}"]
        for kind, weight in kinds.items()
        for name, share in shares.items()
        if f"{kind}_{name}" in losses
    )
    mask = (
        settings.mask_l1_weight * losses["mask_l1"]
        + settings.composition_weight * losses["composition"]
        + settings.laplacian_weight * losses["laplacian"]
    )
    return pictures + settings.mask_weight * mask + settings.kl_weight * losses["kl"]
