"""Reading a model folder: its index, hash, text encoder, and the things it was taught.

    {"things": [{"name": "a fox", "style": "3d icon", "concept": "fox", "top1": 3, "seeds": 3}]}

is MODEL/concepts.json: `name` is what a prompt says, `top1` how many of `seeds` pictures were
nearest to the thing that was asked for (`text2layer evaluate --protocols objects`). "grounds",
where it is there, lists what is seen in the backgrounds of training ("pine trees"). The list is
made by recipes/learnt_things.py. Errors come as one sentence.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from text2layer.errors import Text2LayerError, WeightsError
from text2layer.files import verify_weights, writing

if TYPE_CHECKING:
    from torch import nn

    from text2layer.models.autoencoder import CaT2IAutoencoder
    from text2layer.models.matting import MattingNetwork
    from text2layer.models.plain_autoencoder import PlainAutoencoder

PIPELINE_CLASS = "Text2LayerPipeline"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
COMPONENTS = ("autoencoder", "denoiser", "scheduler")
LOADER_ERRORS = (
    AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError,
    SafetensorError,
)  # fmt: skip


def find_folder(name: str | os.PathLike[str], options: dict[str, Any]) -> Path:
    """The folder of a model: on this machine, or of a hub id, fetched if it is not in the cache.

    Args:
        name: a path, or "owner/name".
        options: of `from_pretrained`; those of the hub are used and taken out.

    Raises:
        WeightsError: the hub cannot be reached, or has no such model.
    """
    folder = Path(name)
    hub = {key: options.pop(key) for key in HUB_OPTIONS if key in options}
    if folder.exists() or not HUB_ID.fullmatch(str(name)) or folder.parent.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "SHA256SUMS"]  # never a pickle, never code
    try:
        return Path(snapshot_download(str(name), allow_patterns=patterns, **hub))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"There is no folder {str(name)!r}, and no model of that name could be fetched from "
            f"the hub ({reason[:200]}); check the name and the network."
        ) from error


def trained_with_flow(folder: Path) -> bool:
    """Whether a model's own scheduler is one of rectified flow."""
    with one_sentence(folder):
        file = folder / "scheduler" / "scheduler_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        named = str(config["_class_name"]).startswith("FlowMatch")
        return named or config.get("prediction_type") == "flow_prediction"


def read_index(folder: Path) -> dict[str, Any]:
    """Return model_index.json of a text2layer model.

    Raises:
        WeightsError: when the folder is missing, unreadable or another kind of model.
    """
    if not folder.is_dir():
        raise WeightsError(f"There is no model folder {str(folder)!r}; check the path.")
    file = folder / "model_index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{str(folder)!r} holds no readable model_index.json; give a folder that "
            "save_pretrained or the trainer wrote."
        ) from error
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind != PIPELINE_CLASS:
        raise WeightsError(
            f"{str(folder)!r} is a {kind or 'folder of unknown kind'}, not a {PIPELINE_CLASS}; "
            "give a text2layer model."
        )
    for name in COMPONENTS:
        if not (folder / name).is_dir():
            raise WeightsError(f"{str(folder)!r} has no {name} folder; the copy is incomplete.")
    return index


def text_encoder_components(
    folder: Path, index: dict[str, Any], overrides: dict[str, Any]
) -> dict[str, Any]:
    """Return text encoder and tokenizer for folders that do not carry their own."""
    if "text_encoder" in overrides or (folder / "text_encoder").is_dir():
        return {}
    from text2layer.models.text_encoder import load_text_encoder

    tokenizer, encoder = load_text_encoder(index.get("text_encoder_name", "minilm"))
    return {"tokenizer": tokenizer, "text_encoder": encoder}


def check_weights(folder: Path, model: nn.Module) -> None:
    """Raise WeightsError unless the folder's weights are the model's, all and no others.

    Loaders only warn of weights that are missing, and leave them random.
    """
    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            stored.update(weights.keys())
    different = sorted(stored ^ set(model.state_dict()))
    if different:
        raise WeightsError(
            f"The weights in {str(folder)!r} are of another architecture ({different[0]} and "
            f"{len(different) - 1} more do not match); the copy is damaged or from another version."
        )


def folder_beside(folder: Path, kind: str) -> Path:
    """Where what belongs to a model folder lies: MODEL-fast, MODEL-matting, beside it."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}-{kind}")


def matting_folder(model: Path) -> Path | None:
    """Where the matting network of a model folder lies: in it, or beside it, or nowhere."""
    found = [model / "matting", folder_beside(model, "matting")]
    return next((folder for folder in found if folder.is_dir()), None)


def load_matting(folder: Path, dtype: torch.dtype | None = None) -> MattingNetwork:
    """Load the matting network of a folder.

    Raises:
        WeightsError: it is damaged, or no matting network.
    """
    from text2layer.models.matting import MattingNetwork

    verify_weights(folder)
    with one_sentence(folder):
        matting = MattingNetwork.from_pretrained(folder, torch_dtype=dtype or torch.float32)
        check_weights(folder, matting)
    return matting


def model_hash(folder: Path, adapter: Path | None = None) -> str:
    """`tensors_hash` of the model's own networks, and of the adapter that is merged into them."""
    return tensors_hash(*(folder / name for name in COMPONENTS[:2]), *filter(None, [adapter]))


def tensors_hash(*folders: Path) -> str:
    """Name the weights of folders by what they are, however they are stored.

    A model that is loaded and saved again has the same hash, though its files differ: in their
    headers, in how many there are, in half or full precision.

    Returns:
        The first 16 hexadecimal digits of the SHA-256 over the name, shape and float32 values of
        every tensor, by folder and name.
    """
    digest = hashlib.sha256()
    for folder in folders:
        places = {}
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                places.update(dict.fromkeys(weights.keys(), file))
        opened = {file: safe_open(file, framework="pt") for file in set(places.values())}
        for name in sorted(places):
            tensor = opened[places[name]].get_tensor(name).float().contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def one_sentence(folder: Path) -> Iterator[None]:
    """Turn what loaders raise for damaged folders into one WeightsError."""
    try:
        yield
    except Text2LayerError:
        raise
    except LOADER_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"The model in {str(folder)!r} cannot be loaded ({reason[:200]}); the copy is damaged "
            "or from another version."
        ) from error


def autoencoder_config(folder: Path) -> dict[str, Any]:
    """Settings of a trained autoencoder, without its weights.

    Raises:
        WeightsError: when the folder is missing or its config cannot be read.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise WeightsError(f"There is no autoencoder in {str(folder)!r}; give its folder.")
    with one_sentence(folder):
        return dict(json.loads(file.read_text(encoding="utf-8")))


def size_multiple(model: Path) -> int:
    """What widths and heights of a model folder must be a multiple of, before it is loaded.

    Raises:
        WeightsError: its autoencoder's settings cannot be read.
    """
    config = autoencoder_config(model / "autoencoder")
    with one_sentence(model):
        halvings = len(config["block_out_channels"]) - 1 + config.get("doublings", 0)
        return int(config["patch_size"] * 2**halvings)


def load_autoencoder(folder: Path) -> CaT2IAutoencoder | PlainAutoencoder:
    """Load a trained autoencoder from a folder of `save_pretrained` in float32.

    Raises:
        WeightsError: when the folder is missing, damaged or holds another kind of model.
    """
    from text2layer.models.autoencoder import CaT2IAutoencoder
    from text2layer.models.plain_autoencoder import PlainAutoencoder

    plain = autoencoder_config(folder).get("_class_name") == PlainAutoencoder.__name__
    network = PlainAutoencoder if plain else CaT2IAutoencoder
    with one_sentence(folder):
        return network.from_pretrained(folder, torch_dtype=torch.float32)


CONCEPTS = "concepts.json"
T = TypeVar("T")
COUNTS = ("top1", "seeds")
SHARE = 2 / 3  # of a thing's pictures that must be right for it to be learnt


@dataclass(frozen=True)
class LearntThing:
    """One thing in one style.

    Attributes:
        name: what a prompt says, with its article, and its style where the name means another.
        style: of the drawings that it was learnt from.
        concept: head noun.
        top1: pictures that were nearest to it.
        seeds: pictures that it was asked for in.
    """

    name: str
    style: str
    concept: str
    top1: int
    seeds: int

    @property
    def is_learnt(self) -> bool:
        """Whether at least two of three pictures are right."""
        return self.top1 >= SHARE * self.seeds - 1e-9


def write_learnt(model: Path, things: Iterable[LearntThing], grounds: Iterable[str] = ()) -> Path:
    """Write the things that a model was taught beside it, by style and name.

    Args:
        model: folder of the model.
        things: what it was asked for.
        grounds: what is seen in the backgrounds that it was trained on, such as "pine trees".
    """
    taught = sorted(things, key=lambda thing: (thing.style, thing.name))
    lines = ",\n".join(f"  {json.dumps(asdict(thing))}" for thing in taught)
    seen = sorted(set(grounds))
    more = f',\n"grounds": {json.dumps(seen)}' if seen else ""
    with writing(model / CONCEPTS) as file:
        file.write(f'{{"things": [\n{lines}\n]{more}}}\n'.encode())
    return model / CONCEPTS


def read_learnt(model: Path) -> list[LearntThing] | None:
    """What a model was taught, learnt or not, or None where its folder does not say.

    Raises:
        WeightsError: the list cannot be read.
    """
    return _read_concepts(model, lambda stored: [_thing(item) for item in stored["things"]])


def read_grounds(model: Path) -> list[str]:
    """What is seen in the backgrounds that a model was trained on, as far as its folder says it.

    Raises:
        WeightsError: the list cannot be read.
    """
    return (
        _read_concepts(model, lambda stored: [str(text) for text in stored.get("grounds", [])])
        or []
    )


def _read_concepts(model: Path, part: Callable[[dict[str, Any]], list[T]]) -> list[T] | None:
    """A part of the list beside a model, or None where there is no list."""
    file = model / CONCEPTS
    if not file.is_file():
        return None
    try:
        return part(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{str(file)!r} is no list of things that can be read ({reason}); copy the model again."
        ) from error


def unknown_pieces(
    prompts: Iterable[str], known: Iterable[str], tokenizer: Any
) -> list[tuple[list[str], int]]:
    """For each prompt its word pieces that none of the known texts has, and how many it has in all.

    Args:
        prompts: what is asked for.
        known: texts such as those that a model was trained on.
        tokenizer: that of the model's text encoder.
    """
    vocabulary = {piece for pieces in _pieces(known, tokenizer) for piece in pieces}
    vocabulary.discard(tokenizer.unk_token_id)
    found = []
    for pieces in _pieces(prompts, tokenizer):
        unknown = [piece for piece in pieces if piece not in vocabulary]
        found.append((tokenizer.convert_ids_to_tokens(unknown), len(pieces)))
    return found


def _pieces(texts: Iterable[str], tokenizer: Any) -> list[list[int]]:
    """Word pieces of each text, by number, without special tokens."""
    given = list(texts)
    if not given:
        return []
    ids: list[list[int]] = tokenizer(given, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _thing(item: dict[str, Any]) -> LearntThing:
    """Build one; KeyError or TypeError says what is wrong."""
    values = {field.name: item[field.name] for field in fields(LearntThing)}
    for name, value in values.items():
        if not isinstance(value, int if name in COUNTS else str):
            raise TypeError(f"{name} is {value!r}")
    return LearntThing(**values)
