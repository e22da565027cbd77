"""The adversary of the autoencoder: one PatchGAN that judges F, B and I (Text2Layer, section 4.2).

As in latent diffusion: hinge losses, the adaptive weight of VQGAN, Adam at a constant rate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.losses import (
    PatchDiscriminator,
    adaptive_weight,
    generator_loss,
    hinge_discriminator_loss,
)
from text2layer.parts import Parts
from text2layer.training import processes
from text2layer.training.settings import AutoencoderSettings

PICTURE_HEADS = ("foreground", "background", "image")
SMALLEST_SIZE = 48  # PatchDiscriminator needs 24 pixels, and EQ-VAE halves pictures


class Adversary:
    """Discriminator and its optimiser.

    Args:
        settings: learning rate and betas; the discriminator uses the autoencoder's.
        device: where the autoencoder trains.

    Raises:
        InputError: when training pictures are too small for the discriminator.
    """

    def __init__(self, settings: AutoencoderSettings, device: torch.device) -> None:
        if settings.size < SMALLEST_SIZE:
            raise InputError(
                f"The adversarial loss needs pictures of {SMALLEST_SIZE} pixels or more, size is "
                f"{settings.size}; use a larger size or adversarial_weight 0."
            )
        self.discriminator = PatchDiscriminator().to(device)
        processes.share_batch_norm(self.discriminator, device)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
        )
        self._batch: tuple[Tensor, Tensor] | None = None  # real and made pictures

    def generator_term(
        self,
        prediction: Parts,
        target: Parts,
        reconstruction_loss: Tensor,
        network: CaT2IAutoencoder,
    ) -> tuple[Tensor, Tensor]:
        """Loss of the autoencoder against the discriminator, and the weight it should have.

        Args:
            prediction: unclamped output of the decoder; remembered for `update`.
            target: ground truth, likewise.
            reconstruction_loss: what the adversarial gradient is balanced against.
            network: whose picture heads end in the layers where both gradients are compared.

        Returns:
            The negative mean logit and its adaptive weight, both scalar.
        """
        has_image = prediction.image is not None
        made, real = stacked_pictures(prediction), stacked_pictures(target, has_image)
        self._batch = (real, made.detach())
        self.discriminator.requires_grad_(False)  # this term teaches the autoencoder alone
        term = generator_loss(self.discriminator(made))
        self.discriminator.requires_grad_(True)
        heads = [name for name in PICTURE_HEADS if name in network.heads]
        last_layers = [network.heads.get_parameter(f"{name}.3.weight") for name in heads]
        return term, adaptive_weight(reconstruction_loss, term, last_layers, processes.mean)

    def update(self) -> float:
        """Teach the discriminator on the batch of the last `generator_term`; return its loss."""
        if self._batch is None:
            return 0.0
        real, made = self._batch
        loss = hinge_discriminator_loss(self.discriminator(real), self.discriminator(made))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(self.discriminator.parameters())
        self.optimizer.step()
        self._batch = None
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser state, tensors and plain values only."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


def stacked_pictures(parts: Parts, with_image: bool = True) -> Tensor:
    """Foregrounds, background and, where there is one, the whole picture I along the batch.

    Returns:
        ((L + 2) N, 3, H, W), or ((L + 1) N, 3, H, W) without I.
    """
    pictures = [parts.foreground, parts.background]
    if with_image and parts.image is not None:
        pictures.append(parts.image)
    return torch.cat([picture.reshape(-1, 3, *picture.shape[-2:]) for picture in pictures])
