"""Text encoders: a prompt becomes a sequence of token states for the denoiser's cross-attention.

Two families are used: a sentence transformer (`base`, 384-d states of all-MiniLM-L6-v2) and the
text half of CLIP (`paper`, as in Stable Diffusion). Any other encoder that transformers'
`AutoModel` knows works too, as long as its output has a `last_hidden_state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from text2layer.errors import InputError, WeightsError
from text2layer.models.frozen import quiet_transformers
from text2layer.pretrained import WEIGHTS, resolve

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

MAX_PROMPT_TOKENS = 64
"""Default limit of a prompt, with its start and end tokens; enough for about 45 English words."""


def load_text_encoder(
    name_or_path: str | Path = "minilm",
) -> tuple[PreTrainedTokenizerBase, nn.Module]:
    """Load a frozen text encoder and its tokenizer. Nothing is downloaded except by weights name.

    Args:
        name_or_path: A name from `text2layer.pretrained.WEIGHTS` ("minilm", "mpnet"), a folder
            with a transformers model and its tokenizer, or a hub id that is already in the hub's
            cache. Of a whole CLIP only the text half is loaded.

    Returns:
        The tokenizer and the model (float32, CPU, eval mode, no parameter needs a gradient).

    Raises:
        WeightsError: the name is unknown, or the folder holds no readable model.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = str(resolve(str(name_or_path)) if str(name_or_path) in WEIGHTS else name_or_path)
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        check_tokenizer(tokenizer)
        with quiet_transformers():
            encoder = _model_class(config.model_type).from_pretrained(
                source, local_files_only=True, dtype=torch.float32, use_safetensors=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"No text encoder could be read from {source!r} ({_first_line(error)}); give a weights "
            f"name ({', '.join(_encoder_names())}) or a folder that holds a transformers model in "
            "safetensors form and its tokenizer."
        ) from error
    return tokenizer, encoder.eval().requires_grad_(False)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError for a vocabulary of special tokens alone.

    Transformers gives such a tokenizer, and no error, where a folder lacks its tokenizer files.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ValueError("the tokenizer's files are missing")


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    encoder: nn.Module,
    prompts: list[str],
    max_length: int = MAX_PROMPT_TOKENS,
    *,
    cut: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode prompts into token states, padded to the longest prompt of the batch.

    Args:
        tokenizer: The encoder's tokenizer.
        encoder: A model whose output has a `last_hidden_state`.
        prompts: N texts; the empty text is the unconditional prompt of classifier-free guidance.
        max_length: Most tokens a prompt may have, start and end tokens included. The limits of
            the tokenizer and of the encoder's position table hold as well.
        cut: Cut longer prompts off before their end token, as captions of training data are.

    Returns:
        states (N, L, D) float32, zero behind the end of a prompt, and mask (N, L) bool, true where
        a token stands. Both are on the encoder's device.

    Raises:
        InputError: there is no prompt, one is not text, or one is longer than the limit.
    """
    if isinstance(prompts, str) or not prompts:
        raise InputError(f"Prompts must be a list of at least one text, got {prompts!r}.")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise InputError(f"A prompt must be text, got {type(prompt).__name__}: {prompt!r}.")
    limit = _token_limit(tokenizer, encoder, max_length)
    tokens = tokenizer(list(prompts), padding=False, truncation=False, verbose=False)["input_ids"]
    if cut:
        tokens = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in tokens]
    for prompt, ids in zip(prompts, tokens, strict=True):
        if len(ids) > limit:
            raise InputError(
                f"The prompt {_shorten(prompt)!r} has {len(ids)} tokens and the limit is {limit}; "
                "shorten it."
            )

    longest = max(len(ids) for ids in tokens)
    device = next(encoder.parameters()).device
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    input_ids = torch.full((len(tokens), longest), padding, dtype=torch.long)  # (N, L)
    mask = torch.zeros((len(tokens), longest), dtype=torch.bool)  # (N, L)
    for row, ids in enumerate(tokens):
        input_ids[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        mask[row, : len(ids)] = True
    mask = mask.to(device)
    with torch.no_grad():
        output = encoder(input_ids=input_ids.to(device), attention_mask=mask.long())
    states = output.last_hidden_state.float()  # (N, L, D)
    return states.masked_fill(~mask[..., None], 0.0), mask


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


def _model_class(model_type: str) -> Any:
    """Class that reads a model of this type; of a whole CLIP only the text half."""
    if model_type in ("clip", "clip_text_model"):
        from transformers import CLIPTextModel

        return CLIPTextModel
    from transformers import AutoModel

    return AutoModel


def _token_limit(tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, max_length: int) -> int:
    positions = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    limits = [max_length, tokenizer.model_max_length, positions or max_length]
    return min(int(limit) for limit in limits)


def _encoder_names() -> list[str]:
    return [name for name, entry in WEIGHTS.items() if entry.is_folder]


def _shorten(prompt: str, length: int = 40) -> str:
    return prompt if len(prompt) <= length else prompt[: length - 3] + "..."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
