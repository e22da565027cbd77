"""Token states of prompts on their way through the steps of a call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from text2layer.errors import InputError


@dataclass(frozen=True)
class Texts:
    """Token states of N prompts, and of what guidance steers away from, if it does.

    Attributes:
        states: (N, L, D), or (2 N, L, D) with the negative prompts first.
        mask: (N, L) or (2 N, L), true where a token stands.
    """

    states: Tensor
    mask: Tensor

    def against(self, states: Tensor, mask: Tensor) -> Texts:
        """With negative prompts, (N, L', D) and (N, L'), all padded to the longest."""
        longest = max(self.states.shape[1], states.shape[1])
        pairs = ((states, mask), (self.states, self.mask))
        return Texts(
            torch.cat([functional.pad(s, (0, 0, 0, longest - s.shape[1])) for s, _ in pairs]),
            torch.cat([functional.pad(m, (0, longest - m.shape[1])) for _, m in pairs]),
        )

    def repeated(self, times: int) -> Texts:
        """Each prompt so many times, side by side."""
        return Texts(self.states.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def to(self, device: torch.device, dtype: torch.dtype) -> Texts:
        """On a device, the states in a dtype."""
        return Texts(self.states.to(device, dtype), self.mask.to(device))

    def rows(self, guided: bool, pictures: int) -> tuple[Tensor, Tensor]:
        """States and mask of one call of the network for so many pictures.

        Raises:
            InputError: guidance is wanted and there are no negative prompts.
        """
        if guided and len(self.states) < 2 * pictures:
            raise InputError(
                "A callback raised the guidance scale above 1, but there are no negative prompts "
                "any more, or never were; begin with a scale above 1 and keep prompt_embeds whole."
            )
        first = 0 if guided else -pictures
        return self.states[first:], self.mask[first:]

    def replaced(self, states: Tensor, pictures: int) -> Texts:
        """With the states that a callback gave: all, or those of the prompts alone.

        diffusers' SDCFGCutoffCallback gives the last row of a batch; then the prompts keep theirs.

        Raises:
            InputError: the states have another shape.
        """
        if states is self.states:
            return self
        if states.shape[1:] != self.states.shape[1:] or len(states) > len(self.states):
            raise InputError(
                f"A callback gave prompt_embeds of shape {tuple(states.shape)} for "
                f"{tuple(self.states.shape)}."
            )
        if len(states) < pictures:
            states = self.states[-pictures:]
        return Texts(states, self.mask[-len(states) :])
