"""A low-rank adapter of a denoiser: a few megabytes that make it draw in few steps.

LoRA (arXiv 2106.09685) in peft's own file format. A folder of an adapter holds
`adapter_config.json`, `adapter_model.safetensors`, and `few_steps.json`: how many steps it was
taught, and the SHA-256 of the denoiser that it belongs to.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from torch import nn

from text2layer.errors import InputError, WeightsError
from text2layer.files import file_sha256

if TYPE_CHECKING:
    from diffusers import ModelMixin

NOTE = "few_steps.json"
TRANSFORMER_LAYERS = (
    r"(transformer_blocks\..*(to_[qkv]|to_out\.0|ff\.net\.0\.proj|ff\.net\.2)"
    r"|proj_out|adaln_single\.linear|caption_projection\.linear_[12])"
)  # every matrix but those of the timestep and of the patches


@dataclass(frozen=True)
class FewSteps:
    """What an adapter was taught.

    Attributes:
        steps: of sampling, without guidance.
        denoiser: SHA-256 of the file of the denoiser that it changes.
    """

    steps: int
    denoiser: str


def add_adapter(network: ModelMixin, rank: int) -> None:
    """Freeze a transformer denoiser and give its matrices trainable corrections of low rank.

    Args:
        network: changed in place; its outputs stay what they are until the adapter is trained.
        rank: of each correction.

    Raises:
        InputError: the network is no transformer of blocks.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if not hasattr(network, "transformer_blocks"):
        raise InputError(
            f"A {type(network).__name__} takes no adapter; distil a transformer denoiser."
        )
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TRANSFORMER_LAYERS)
    inject_adapter_in_model(config, network)


def save_adapter(network: ModelMixin, folder: Path, note: FewSteps) -> None:
    """Write the adapter of a network of `add_adapter`, in half precision, to an existing folder."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config: Any = network.peft_config["default"]
    tensors = {
        f"base_model.model.{name}": tensor.detach().half().contiguous()
        for name, tensor in get_peft_model_state_dict(network).items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_model.safetensors").chmod(0o644)
    config.inference_mode = True
    config.save_pretrained(folder)
    (folder / NOTE).write_text(json.dumps(asdict(note), indent=2) + "\n", encoding="utf-8")


def read_note(folder: Path, denoiser: Path) -> FewSteps:
    """What the adapter in `folder` was taught, once it is clear that it fits.

    Args:
        folder: of the adapter.
        denoiser: folder of the denoiser that it shall change.

    Raises:
        WeightsError: there is no adapter, or it was made for another denoiser.
    """
    try:
        note = FewSteps(**json.loads((folder / NOTE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise WeightsError(
            f"There is no adapter for few steps in {str(folder)!r}; draw without --fast, or train "
            "one: text2layer train denoiser --distil-steps 6."
        ) from error
    if file_sha256(denoiser / SAFETENSORS_WEIGHTS_NAME) != note.denoiser:
        raise WeightsError(
            f"The adapter in {str(folder)!r} was made for another denoiser than {str(denoiser)!r}; "
            "train it anew, or draw without --fast."
        )
    return note


def merge_adapter(network: ModelMixin, folder: Path) -> None:
    """Add the adapter of a folder to the weights of a plain network, in place.

    Raises:
        WeightsError: the adapter is damaged or of another architecture.
    """
    from peft import PeftModel

    try:
        PeftModel.from_pretrained(network, folder)
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"The adapter in {str(folder)!r} cannot be loaded ({reason[:200]}); copy it again."
        ) from error
    merge(network)


def merge(network: nn.Module) -> None:
    """Turn a network with adapters into a plain one of the same outputs, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            with torch.no_grad():
                module.merge()
            network.set_submodule(name, module.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config
