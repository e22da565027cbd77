"""A CLIP of the user's choice: pictures and texts as points of one unit sphere.

    >>> clip = load_clip("openai/clip-vit-large-patch14")        # or a folder
    >>> clip.embed_pictures(pictures) @ clip.embed_texts(["a red bicycle"]).T     # cosines

No CLIP comes with text2layer, and none is taken in the place of the one that was named: a score
means nothing without the network that gave it. SigLIP and other two-towered networks that
transformers' `AutoModel` knows work too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from text2layer.errors import InputError, WeightsError
from text2layer.models.frozen import module_sha256, quiet_transformers
from text2layer.models.text_encoder import check_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 32  # pictures or texts in the network at once
MASKLESS = "siglip"  # these networks were trained with padding in full view of the text tower


class Clip:
    """A frozen network with a picture and a text tower, and its own preprocessing.

    Args:
        name: as the user gave it.
        network: has `get_image_features` and `get_text_features`.
        tokenizer: of the text tower.
        processor: makes the picture tower's input from (H, W, 3) uint8 pictures.

    Attributes:
        sha256: of the names, shapes and values of all weights.
    """

    def __init__(
        self, name: str, network: Any, tokenizer: PreTrainedTokenizerBase, processor: Any
    ) -> None:
        self.name = name
        self.sha256 = module_sha256(network)
        self._network = network.eval().requires_grad_(False)
        self._tokenizer, self._processor = tokenizer, processor
        positions = getattr(network.config.text_config, "max_position_embeddings", None)
        self._max_tokens = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)

    def to(self, device: str | torch.device) -> Clip:
        """Move the network to a device; embeddings are given on the CPU all the same."""
        self._network.to(device)
        return self

    @torch.no_grad()
    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """Embed uint8 pictures (N, 3, H, W) as unit vectors (N, D) float32.

        The network's own preprocessing resizes, crops and normalises them.

        Raises:
            InputError: the pictures are of another type or shape, or there are none.
        """
        check_pictures(pictures)
        rows = []
        for part in pictures.cpu().split(BATCH):
            views = list(part.permute(0, 2, 3, 1).numpy())  # (H, W, 3) each
            given = self._processor(images=views, return_tensors="pt", **_CHANNELS_LAST)
            output = self._network.get_image_features(given["pixel_values"].to(self._device))
            rows.append(_unit(output))
        return torch.cat(rows)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as unit vectors (N, D) float32; what exceeds the text tower is cut off.

        CLIP reads 77 tokens, about 60 words; cutting is what every published CLIP score does.

        Raises:
            InputError: there is no text, or one is not text.
        """
        check_texts(texts)
        rows = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokenizer(
                list(texts[start : start + BATCH]), padding="max_length", truncation=True,
                max_length=self._max_tokens, return_tensors="pt",
            )  # fmt: skip
            given = {"input_ids": tokens["input_ids"].to(self._device)}
            if "attention_mask" in tokens and not self._model_type.startswith(MASKLESS):
                given["attention_mask"] = tokens["attention_mask"].to(self._device)
            rows.append(_unit(self._network.get_text_features(**given)))
        return torch.cat(rows)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._network.parameters()).device
        return device

    @property
    def _model_type(self) -> str:
        return str(self._network.config.model_type)


_CHANNELS_LAST = {"input_data_format": "channels_last"}  # not to be guessed from a tiny picture


def load_clip(name: str | Path) -> Clip:
    """Load a CLIP with its tokenizer and its picture preprocessing (float32, CPU, frozen).

    Args:
        name: A folder with a transformers model in safetensors form, its tokenizer and its
            `preprocessor_config.json`, or a hub id, which the hub's client fetches if it has to.

    Raises:
        WeightsError: it cannot be had, a part of it is missing or damaged, or it has no towers
            for pictures and texts. Nothing else is loaded in its place.
    """
    name = str(name)
    if not name:
        raise WeightsError("The CLIP has no name; give a folder or a hub id such as owner/name.")
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        with quiet_transformers():
            network, report = AutoModel.from_pretrained(
                name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            for tower in ("get_image_features", "get_text_features"):
                if not hasattr(network, tower):
                    raise ValueError(f"a {type(network).__name__} has no {tower}")
            if missing := sorted(report["missing_keys"]):  # transformers would leave them random
                raise ValueError(f"{len(missing)} of its weights are missing, {missing[0]} first")
            tokenizer = AutoTokenizer.from_pretrained(name)
            check_tokenizer(tokenizer)
            processor = AutoImageProcessor.from_pretrained(name)
    except Exception as error:  # the hub's client, safetensors or transformers
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"The CLIP {name!r} cannot be loaded ({reason}); give a folder or hub id of a "
            "transformers CLIP in safetensors form with its tokenizer and preprocessor_config.json."
        ) from None
    return Clip(name, network, tokenizer, processor)


def check_pictures(pictures: Tensor) -> None:
    """Raise InputError for what is not a batch of uint8 pictures (N, 3, H, W)."""
    fits = pictures.ndim == 4 and pictures.shape[1] == 3 and pictures.dtype == torch.uint8
    if not fits or not pictures.numel():
        raise InputError(
            "Pictures must be a uint8 tensor (N, 3, H, W) with at least one picture, got "
            f"{pictures.dtype} {tuple(pictures.shape)}."
        )


def check_texts(texts: Sequence[str]) -> None:
    """Raise InputError for what is not a list of at least one text."""
    if isinstance(texts, str) or not texts:
        raise InputError(f"Texts must be a list of at least one text, got {texts!r}.")
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"A text must be text, got {type(text).__name__}: {text!r}.")


def _unit(output: Any) -> Tensor:
    """Unit rows of what a tower gives: a tensor, or since transformers 5 an output around it."""
    features: Tensor = getattr(output, "pooler_output", output)
    return F.normalize(features.float(), dim=-1).cpu()
